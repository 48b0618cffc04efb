"""The target's side of the line loss on a CPU: how many pixels lie on which line, and the energy of a given pixel.

Energies of one-hot fields are counts of pixels. On a ray only the few classes whose pixels it meets have an energy
above 0, so the rays are looked at where they meet more than one label, whatever the number of classes.

Shape shorthand in this module: N images, K classes, H x W pixels, R = N * K rows, C possible counts, M pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from .equal_count import nonzero_flat, row_sums
from .potential import Axis, box_sums, pad


class TargetLines(ABC):
    """Lines of the target in one direction.

    Attributes:
        full: number of pixels of each row deep inside their class, ``[R]``.
        histogram: number of line pixels (1 <= E < r + 1) of each row by their count, ``[R, C]``.
    """

    full: Tensor
    histogram: Tensor

    @abstractmethod
    def counts(self, row: Tensor, pixel: Tensor) -> Tensor:
        """Counts ``[M]`` of the rows ``[M]`` at the pixels ``[M]`` (0..H*W-1)."""


class RayTarget(TargetLines):
    """For rays of ``radius + 1`` pixels; made by `ray_targets`."""

    def __init__(self, rays: _Rays, origin: tuple[int, int], step: Axis) -> None:
        n, h, w = rays.codes.shape
        self.classes, self.width, self.image = rays.classes, w, h * w
        self.padded = rays.padded.flatten()
        self.stride = rays.padded.shape[1] * rays.padded.shape[2], rays.padded.shape[2]
        taps = torch.arange(rays.taps)
        self.offsets = rays.margin[0] * self.stride[1] + rays.margin[1] + taps * (step[0] * self.stride[1] + step[1])

        view = (slice(None), slice(origin[0], origin[0] + h), slice(origin[1], origin[1] + w))
        images = torch.arange(n)[:, None, None] * (self.classes + 1)
        deep = torch.bincount((rays.deep[view] + images).flatten(), minlength=n * (self.classes + 1))
        self.full = deep.view(n, self.classes + 1)[:, 1:].reshape(-1)
        ranked = torch.zeros_like(rays.deep, dtype=torch.bool)
        ranked[view] = rays.codes > 0
        bins = rays.taps + 1
        entries = rays.entries[ranked.flatten()[rays.places]]
        self.histogram = torch.bincount(entries, minlength=n * self.classes * bins).view(-1, bins)

    def counts(self, row: Tensor, pixel: Tensor) -> Tensor:
        image = row // self.classes
        y = pixel // self.width
        start = image * self.stride[0] + y * (self.stride[1] - self.width) + pixel
        code = (row - image * self.classes + 1).to(self.padded.dtype)
        return (self.padded[start[:, None] + self.offsets] == code[:, None]).sum(dim=1)


class _Rays:
    """What the two opposite rays of an axis share: the labels in every window of ``radius + 1`` pixels.

    Attributes:
        deep: the code of windows with only one, else 0, ``[N, h, w]`` (h x w windows, as `potential.windows` has them).
        places, entries: for each class in each other window, the window and row * (radius + 2) + count, ``[M]``.
    """

    def __init__(self, codes: Tensor, classes: int, axis: Axis, radius: int, padding: str) -> None:
        n, h, w = codes.shape
        dy, dx = axis
        self.codes, self.classes, self.taps = codes, classes, radius + 1
        self.margin = dy * radius, abs(dx) * radius
        self.padded = pad(codes, *self.margin, padding)
        height, width = h + self.margin[0], w + self.margin[1]
        left = max(0, -dx) * radius
        seen = [
            self.padded[:, tap * dy : tap * dy + height, left + tap * dx : left + tap * dx + width]
            for tap in range(self.taps)
        ]
        uniform = torch.ones(n, height, width, dtype=torch.bool)
        for other in seen[1:]:
            uniform &= other == seen[0]
        self.deep = torch.where(uniform, seen[0].long(), 0)

        index = nonzero_flat(~uniform)
        image = index // (height * width)
        ray = torch.stack([other.flatten()[index] for other in seen], dim=1)
        equal = ray[:, :, None] == ray[:, None, :]
        # Of a class that is met several times only the first pixel speaks.
        earlier = torch.ones(self.taps, self.taps, dtype=torch.bool).tril(-1)
        window, tap = ((ray > 0) & ~(equal & earlier).any(dim=2)).nonzero().unbind(1)
        self.places = index[window]
        row = image[window] * classes + ray[window, tap].long() - 1
        self.entries = row * (self.taps + 1) + equal[window, tap].sum(dim=1)


def ray_targets(codes: Tensor, classes: int, axis: Axis, radius: int, padding: str) -> list[TargetLines]:
    """The lines along an axis and against it; ``codes`` ``[N, H, W]``: 1 + class, or 0 for pixels that take no part."""
    rays = _Rays(codes, classes, axis, radius, padding)
    dy, dx = axis
    # A window is the ray of its first pixel, and the opposite ray of its last.
    forward = RayTarget(rays, (dy * radius, max(0, dx) * radius), axis)
    return [forward, RayTarget(rays, (0, max(0, -dx) * radius), (-dy, -dx))]


class BoxTarget(TargetLines):
    """For the standard convolution: counts of all pixels in the square, for the given rows only."""

    def __init__(self, codes: Tensor, classes: int, rows: Tensor, radius: int, padding: str) -> None:
        n, h, w = codes.shape
        image, category = rows // classes, (rows % classes + 1).to(codes.dtype)
        size = (2 * radius + 1) ** 2
        narrow = torch.uint8 if size < 2**8 else torch.int16 if size < 2**15 else torch.int32
        one_hot = (codes[image] == category[:, None, None]).to(narrow)
        count = box_sums(one_hot, radius, padding).masked_fill_(codes[image] == 0, 0)
        self.field = count.flatten(1)
        self.place = torch.zeros(n * classes, dtype=torch.long)
        self.place[rows] = torch.arange(len(rows))
        self.full = torch.zeros(n * classes, dtype=torch.long)
        self.full[rows] = row_sums(count == size)
        # 1 <= E = count (r + 1) / size
        index = nonzero_flat((count >= -(-size // (radius + 1))) & (count < size))
        code = rows[index // (h * w)] * (size + 1) + count.flatten()[index]
        self.histogram = torch.bincount(code, minlength=n * classes * (size + 1)).view(-1, size + 1)

    def counts(self, row: Tensor, pixel: Tensor) -> Tensor:
        return self.field[self.place[row], pixel].long()
