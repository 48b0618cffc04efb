"""What the rays of EPL see at ignored pixels (`ignore_mode`).

Shape shorthand in this module: N images, K classes, H x W pixels, M pixels that are filled.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from . import kernels


@dataclass(frozen=True)
class Fill:
    """Pixels that show another one instead of themselves, as indices of the flattened ``[N, H, W]``.

    Attributes:
        places: the pixels, ``[M]``, int64, ascending. None: all of them, most of which show themselves (on devices
            that would have to be waited for to know M).
        sources: the pixels that they show, ``[M]``, int64.
    """

    places: Tensor | None
    sources: Tensor

    def everywhere(self, field: Tensor) -> Tensor:
        """The pixel that each pixel shows, as an index of its image, ``[N, 1, H W]``, for a field ``[N, K, H, W]``."""
        n, pixels = field.shape[0], field[0, 0].numel()
        sources = self.sources
        if self.places is not None:
            sources = torch.arange(n * pixels, device=field.device).index_copy(0, self.places, sources)
        return sources.view(n, 1, pixels) % pixels

    def gather(self, field: Tensor) -> Tensor:
        """A field ``[N, K, H, W]`` as rays see it. Autograd's derivative is not deterministic on CUDA; `adjoint` is."""
        sources = self.everywhere(field).expand(-1, field.shape[1], -1)
        return field.flatten(2).gather(2, sources).view_as(field)

    def adjoint(self, gradient: Tensor) -> Tensor:
        """Adjoint of `gather`: what is at a filled pixel goes to the one that it shows, in a fixed order."""
        n, k, h, w = gradient.shape
        sources = self.everywhere(gradient)
        filled = sources != torch.arange(h * w, device=gradient.device)
        flat = gradient.flatten(2)
        moved = torch.where(filled, flat, 0).movedim(1, 2).reshape(-1, k)
        rows = (sources + h * w * torch.arange(n, device=gradient.device)[:, None, None]).flatten()
        total = torch.zeros_like(moved)
        # Of the two, one has a fixed order on a CPU, and the other one on CUDA.
        if gradient.device.type == "cpu":
            total.index_add_(0, rows, moved)
        else:
            total.index_put_((rows,), moved, accumulate=True)
        return (torch.where(filled, 0, flat) + total.view(n, h * w, k).movedim(1, 2)).view_as(gradient)


@dataclass(frozen=True)
class Target:
    """The labels as the losses take them.

    Attributes:
        seen: class that a ray finds at a pixel, -1 for none, ``[N, H, W]``, integers.
        position: the same, but -1 wherever a pixel is no position: it is in no mean, no rank and no count.
        fill: where the logits of another pixel are seen; None: nowhere.
        sigmoid: the logits have one class, 0, and go through a sigmoid; a pixel outside of it has the class 1.
    """

    seen: Tensor
    position: Tensor
    fill: Fill | None = None
    sigmoid: bool = False


def make_target(labels: Tensor, ignore_value: int, ignore_mode: str, reach: int, background: int = 0) -> Target:
    """The target of checked labels.

    Args:
        labels: ``[N, H, W]``, integers of a type that holds ``ignore_value`` and -1: classes or ``ignore_value``.
        ignore_value: the label of ignored pixels.
        ignore_mode: "nearest": a ray sees, at an ignored pixel, label and logits of the nearest valid one (by
            Euclidean distance, then the upper one, then the left one), as it sees the nearest pixel of the image
            beyond its edge. "exclude": it sees nothing there, 0 for every class. In both ignored pixels are no
            positions. "background": they are pixels of the background like any other, as in the authors' code.
        reach: how far a ray reaches along an axis, in pixels. What lies further than it from all valid pixels is seen
            by no ray and left unfilled: so nothing can be invented deep inside an unlabeled area.
        background: the class of the background.
    """
    ignored = labels == ignore_value
    if ignore_mode == "background":
        filled = labels.masked_fill(ignored, background)
        return Target(filled, filled)
    position = labels.masked_fill(ignored, -1)
    if ignore_mode == "exclude" or labels.numel() == 0:
        return Target(position, position)
    if labels.device.type == "cpu" and kernels.cpu is not None:
        if not bool(ignored.any()):
            return Target(position, position)
        places, sources = kernels.cpu.find_nearest(~ignored, reach)
        if len(places) == 0:
            return Target(position, position)
    else:
        places, sources = None, nearest_valid(~ignored, reach)
    flat = position.flatten()
    seen = flat[sources] if places is None else flat.index_copy(0, places, flat[sources])
    return Target(seen.view_as(position), position, Fill(places, sources))


def nearest_valid(valid: Tensor, reach: int) -> Tensor:
    """The nearest valid pixel of each pixel of a mask ``[N, H, W]``, itself where there is none, ``[N H W]``.

    Indices of the flattened mask. Valid pixels further away than the end of a diagonal ray of ``reach`` steps are not
    looked for. Written in operations that wait for no device.
    """
    n, h, w = valid.shape
    bound = int(reach * 2**0.5)
    columns = torch.arange(w, device=valid.device).expand(n, h, w)
    far = 2 * bound + 1
    # The nearest in the same row: the left one is looked for first.
    source_column, distance = columns.clone(), torch.where(valid, 0, far)
    for step in range(1, min(bound, w - 1) + 1):
        for shift in (step, -step):
            there = shifted(valid, shift, dim=2)
            better = there & (distance > step)
            source_column = torch.where(better, columns - shift, source_column)
            distance = torch.where(better, step, distance)
    # The nearest of these: the upper one is looked for first.
    best = torch.full_like(distance, far**2 + 1)
    rows = torch.arange(h, device=valid.device)[:, None].expand(n, h, w)
    source = rows * w + columns
    for shift in range(min(bound, h - 1), -min(bound, h - 1) - 1, -1):
        there = shifted(distance, shift, dim=1, outside=far)
        square = there.square() + shift**2
        better = (there < far) & (square < best)
        best = torch.where(better, square, best)
        source = torch.where(better, (rows - shift) * w + shifted(source_column, shift, dim=1), source)
    images = torch.arange(n, device=valid.device)[:, None, None] * (h * w)
    return (source + images).flatten()


def shifted(field: Tensor, shift: int, dim: int, outside: int = 0) -> Tensor:
    """``out[i] = field[i - shift]`` along a dimension, and ``outside`` where there is none."""
    out = torch.full_like(field, outside)
    length = field.shape[dim] - abs(shift)
    out.narrow(dim, max(shift, 0), length).copy_(field.narrow(dim, max(-shift, 0), length))
    return out
