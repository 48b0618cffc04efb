"""The point loss and its gradient on a CPU, in one sweep over the image.

The energy is linear, E(y) - E(p) = E(y - p), so one residual field D = y - p is convolved. The two opposite rays of
an axis see the same windows, each window W(u) once from its first pixel u and once from its last: with c(u) the
number of those two that take part, the cost is sum c |W|^q, and its gradient by D is the adjoint window sum of
q c |W|^(q-1) sign(W). The cost is homogeneous of degree q, thus <D, gradient> / q: no other sum is needed.

The sweep goes over tiles of image rows, and within a tile over blocks of classes that stay in the cache, and replaces
p by the gradient in place: the extra memory is one tensor like the logits and about one tile.

Shape shorthand in this module: N images, K classes, H x W pixels, R rows of a tile, B classes of a block, halo: how
many pixels around a tile its gradient depends on.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .potential import Axis, along, axes_of, crop, fold, replicate, windows

# For each thread. About ten tensors of a block are in use at a time, and should fit the cache of a core.
_BLOCK_BYTES = 1 << 18


def point_loss_and_gradient(
    logits: Tensor,
    labels: Tensor,
    kernel_size: int,
    splitter: str,
    convolution: str,
    norm: str,
    ignore_value: int,
    need_gradient: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """Value and gradient by the logits ``[N, K, H, W]`` of `reference.point_loss`, in its precision."""
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    n, k, h, w = logits.shape
    valid = labels != ignore_value
    count = int(valid.sum())
    if count == 0:
        return logits.new_zeros((), dtype=dtype), torch.zeros_like(logits) if need_gradient else None
    classes = torch.where(valid, labels.long(), 0).unsqueeze(1)
    weight = valid.to(dtype).unsqueeze(1)
    p = logits.softmax(dim=1, dtype=dtype).contiguous()
    if count < valid.numel():
        p *= weight

    slope = _Slope(kernel_size // 2, splitter, convolution, norm, terms=count * k)
    halo = slope.halo
    room = _BLOCK_BYTES * torch.get_num_threads() // (n * w * p.element_size())
    rows = max(4 * halo, 16, min(room, -(-h // 4)))
    block = max(1, room // rows)
    codes = torch.where(valid, labels.long(), k).unsqueeze(1).to(torch.int32)
    codes = F.pad(codes, (0, 0, halo, halo), value=k)
    padded_weight = F.pad(weight, (halo, halo, halo, halo))
    value = torch.zeros((), dtype=torch.float64)
    above = p[:, :, :0]
    for top in range(0, h, rows):
        bottom = min(top + rows, h)
        end = min(bottom + halo, h)
        tile = p[:, :, top:bottom]
        gradient = torch.empty_like(tile)
        inner = weight.new_zeros(n, 1, bottom - top, w)
        slope.prepare(padded_weight[:, :, top : bottom + 2 * halo], first=top == 0, last=bottom == h)
        slab_rows = bottom - top + 2 * halo
        missing = halo - above.shape[2], bottom + halo - end
        for begin in range(0, k, block):
            # The residual y - p of a block, its halo, and replicas of the edge of the image beyond it.
            ids = torch.arange(begin, min(begin + block, k), dtype=torch.int32)[:, None, None]
            slab = p.new_empty(n, len(ids), slab_rows, w + 2 * halo)
            known = slab[:, :, missing[0] : slab_rows - missing[1], halo : halo + w]
            torch.eq(codes[:, :, top + missing[0] : top + slab_rows - missing[1]], ids, out=known)
            part = slice(begin, begin + len(ids))
            known[:, :, : above.shape[2]] -= above[:, part]
            known[:, :, above.shape[2] :] -= p[:, part, top:end]
            replicate(slab, halo, *missing)
            slope(slab, out=gradient[:, part])
            inner += (crop(slab, halo, halo) * gradient[:, part]).sum(dim=1, keepdim=True)
        value -= inner.sum(dtype=torch.float64) / slope.power
        if need_gradient:
            above = p[:, :, max(0, bottom - halo) : bottom].clone()
            # Back through softmax, p (G - <p, G>), where <p, G> = <y, G> - <y - p, G>.
            rest = slice(top, bottom)
            inner -= gradient.gather(1, classes[:, :, rest]).mul_(weight[:, :, rest])
            tile *= gradient.add_(inner)
        else:
            above = p[:, :, max(0, bottom - halo) : bottom]
    return value.to(dtype), p.to(logits.dtype) if need_gradient else None


class _Slope:
    """The gradient G of the cost by the probabilities, for one block of a tile at a time."""

    def __init__(self, radius: int, splitter: str, convolution: str, norm: str, terms: int) -> None:
        self.radius = radius
        self.power = 1 if norm == "l1" else 2
        self.standard = convolution == "standard"
        self.axes = axes_of(splitter)
        self.halo = 2 * radius if self.standard else radius
        directions = 1 if self.standard else 2 * len(self.axes)
        unit = (radius + 1) / (2 * radius + 1) ** 2 if self.standard else 1.0
        self.scale = -self.power * unit**self.power / (terms * directions)
        self.margined: dict[tuple, Tensor] = {}

    def prepare(self, valid: Tensor, first: bool, last: bool) -> None:
        """Set the tile.

        Args:
            valid: ``[N, 1, R + 2 halo, W + 2 halo]``: 1 for pixels that take part, 0 for others and beyond the image.
            first, last: whether the tile holds the first, the last row of the image.
        """
        self.edges = first, last
        valid = valid * self.scale
        if self.standard:
            self.weights = [crop(valid, self.radius, self.radius)]
        else:
            parts = (along(crop(valid, *self._unused(axis)), axis, self.radius) for axis in self.axes)
            self.weights = [near + far for near, far in parts]

    def __call__(self, slab: Tensor, out: Tensor) -> None:
        """Write the gradient by the probabilities in the middle of a slab.

        Args:
            slab: the residual, ``[N, B, R + 2 halo, W + 2 halo]``, replicated beyond the image.
            out: ``[N, B, R, W]``.
        """
        halo, radius = self.halo, self.radius
        if self.standard:
            field = self._through(slab, ((0, 1), (1, 0)), 2 * radius + 1, self.weights[0])
            out.copy_(fold(field, halo, halo, *self.edges))
            return
        total = None
        for axis, weight in zip(self.axes, self.weights, strict=True):
            field = self._through(crop(slab, *self._unused(axis)), (axis,), radius + 1, weight)
            field = fold(field, abs(axis[0]) * halo, abs(axis[1]) * halo, *self.edges)
            total = field if total is None else torch.add(total, field, out=out)

    def _unused(self, axis: Axis) -> tuple[int, int]:
        """Rows and columns of the halo that an axis does not reach."""
        return self.halo * (1 - abs(axis[0])), self.halo * (1 - abs(axis[1]))

    def _through(self, field: Tensor, axes: tuple[Axis, ...], taps: int, weight: Tensor) -> Tensor:
        """Window sums along the axes, the cost's slope there, and the adjoint window sums back to the field."""
        for axis in axes:
            field = windows(field, axis, taps)
        if self.power == 1:
            field = field.sign()
        rows = (taps - 1) * any(dy for dy, _ in axes)
        columns = (taps - 1) * any(dx for _, dx in axes)
        key = (axes, field.shape)
        if key not in self.margined:
            n, k, h, w = field.shape
            self.margined[key] = field.new_zeros(n, k, h + 2 * rows, w + 2 * columns)
        padded = self.margined[key]
        torch.mul(field, weight, out=crop(padded, rows, columns))
        for axis in axes:
            padded = windows(padded, axis, taps)
        return padded
