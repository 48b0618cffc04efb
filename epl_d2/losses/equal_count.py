"""Which pixels of a row have their energy at given ranks, without sorting the row.

A sorted sample of a row brackets the order statistics that bound the ranks; only what lies in the bracket is sorted.
The counts on both sides of it prove the bracket right; if it fails it is widened, and at last rows are sorted as a
whole. The result is thus always that of a full stable sort.

Two opposite rays see the same windows, shifted: a *view* is where the H x W pixels of one direction lie in the field
of windows. The bracket serves all views of a field.

Shape shorthand in this module: B rows (one class of one image each), H x W pixels, V views, M pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_SAMPLE = 2048
# Standard deviations by which a rank in the sample may be off: at the first attempt, and if that fails.
_MARGINS = (3.0, 12.0)


@dataclass
class Candidates:
    """Pixels of one view among which the wanted ranks are.

    Attributes:
        place, energy: flat index into the field and energy, ``[M]``; ordered by place, thus by row and pixel.
        count: number of candidates of each row, ``[B]``.
        low, high: the wanted ranks among the candidates of each row, ``[B]``.
    """

    place: Tensor
    energy: Tensor
    count: Tensor
    low: Tensor
    high: Tensor


def pick(parts: Sequence[Candidates]) -> tuple[Tensor, Tensor, Tensor]:
    """The candidates with low <= rank < high in their row; equal energies rank in pixel order.

    Args:
        parts: candidates of the same view in consecutive blocks of rows.

    Returns:
        Row, over all blocks, place within its block, and energy, ``[M]`` each, ordered by row and place.
    """
    energy = torch.cat([part.energy for part in parts])
    count = torch.cat([part.count for part in parts])
    low = torch.cat([part.low for part in parts])
    wanted = (torch.cat([part.high for part in parts]) - low).clamp(min=0)
    rows = torch.arange(len(count), dtype=torch.int32)
    # Floats of at least 0 sort like their bits, and PyTorch sorts long lists of integers by radix, which is fast.
    order = _stable_order(energy.view(torch.int32) if energy.dtype == torch.float32 else energy)
    order = order[_stable_order(rows.repeat_interleave(count)[order])]
    skipped = count.cumsum(0) - count + low - (wanted.cumsum(0) - wanted)
    chosen = torch.zeros(len(energy), dtype=torch.bool)
    chosen[order[torch.arange(int(wanted.sum())) + skipped.repeat_interleave(wanted)]] = True
    # Back in the order of pixels, in which memory is visited faster.
    chosen = nonzero_flat(chosen)
    place = torch.cat([part.place for part in parts])[chosen]
    return rows.repeat_interleave(wanted), place, energy[chosen]


def _stable_order(keys: Tensor) -> Tensor:
    order = keys.sort(stable=True).indices
    return order.int() if len(keys) < 2**31 else order


def find_candidates(
    field: Tensor,
    size: tuple[int, int],
    origins: Sequence[tuple[int, int]],
    valid: Tensor | None,
    low: Tensor,
    high: Tensor,
) -> list[Candidates]:
    """Candidates for low <= rank < high among the valid pixels of each row, in each view of a field.

    Rank 0 is the lowest energy.

    Args:
        field: energies of at least 0, contiguous, ``[B, h, w]`` with h >= H and w >= W.
        size: H and W.
        origins: row and column of the first pixel of each view, V of them.
        valid: which pixels have a rank, boolean, ``[B, H, W]``; None for all.
        low, high: integers in 0..(number of valid pixels), ``[V, B]``.
    """
    height, width = size
    y, x = origins[0]
    for margin in _MARGINS:
        lower, upper = _bracket(field[:, y : y + height, x : x + width], valid, low, high, margin)
        found, wrong = _within(field, size, origins, valid, low, high, lower, upper)
        if not bool(wrong.any()):
            return found
    lower, upper = lower.masked_fill(wrong, 0.0), upper.masked_fill(wrong, torch.inf)
    return _within(field, size, origins, valid, low, high, lower, upper)[0]


def _within(
    field: Tensor,
    size: tuple[int, int],
    origins: Sequence[tuple[int, int]],
    valid: Tensor | None,
    low: Tensor,
    high: Tensor,
    lower: Tensor,
    upper: Tensor,
) -> tuple[list[Candidates], Tensor]:
    """Pixels with lower <= energy <= upper (``[B]``), and in which rows ``[B]`` those miss a wanted rank."""
    rows, (height, width) = len(field), size
    plane, line = field[0].numel(), field.shape[2]
    above = field > upper[:, None, None]
    index = nonzero_flat((field >= lower[:, None, None]) ^ above)
    energy = field.view(-1)[index]
    place = index.int() if field.numel() < 2**31 else index
    starts = torch.arange(rows + 1, dtype=place.dtype) * plane
    pixels = height * width if valid is None else row_sums(valid)
    found = []
    wrong = torch.zeros(rows, dtype=torch.bool)
    for (top, left), first, last in zip(origins, low, high, strict=True):
        part_place, part_energy = place, energy
        view = above[:, top : top + height, left : left + width]
        if valid is not None:
            view = view & valid
        if valid is not None or field.shape[1:] != size:
            kept = _ranked(place, plane, line, top, left, height, width, valid)
            part_place, part_energy = place[kept], energy[kept]
        count = torch.searchsorted(part_place, starts).diff()
        below = pixels - row_sums(view) - count
        wrong |= (first < last) & ((below > first) | (last > below + count))
        found.append(Candidates(part_place, part_energy, count, first - below, last - below))
    return found, wrong


def _ranked(
    place: Tensor, plane: int, line: int, top: int, left: int, height: int, width: int, valid: Tensor | None
) -> Tensor:
    """Positions in ``place`` of the pixels that lie in a view and are valid."""
    kept = torch.ones_like(place, dtype=torch.bool)
    if line > width:
        column = place % line
        kept &= (column >= left) & (column < left + width)
    if plane > line * height:
        inner = place % plane
        kept &= (inner >= top * line) & (inner < (top + height) * line)
    kept = kept.nonzero()[:, 0]
    if valid is not None:
        place = place[kept].long()
        row = place // plane
        inner = place - row * plane
        y = inner // line
        pixel = (row * height + y - top) * width + inner - y * line - left
        kept = kept[valid.view(-1)[pixel]]
    return kept


def _bracket(energy: Tensor, valid: Tensor | None, low: Tensor, high: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Bounds ``[B]`` that most likely enclose the ranks low..high - 1 of all views; infinite where none is wanted."""
    height, width = energy.shape[1:]
    size = height * width
    step = max(1, size // _SAMPLE)
    while math.gcd(step, width) > 1:
        step -= 1  # so that the samples of successive lines do not lie below each other
    place = torch.arange(step // 2, size, step)
    y = place // width
    x = place - y * width
    sample, offset = energy[:, y, x], torch.zeros((), dtype=torch.long)
    if valid is not None:
        # Pixels without a rank count as the lowest.
        sample, offset = torch.where(valid[:, y, x], sample, -1.0), size - row_sums(valid)
    ordered = sample.sort(dim=1).values
    length = sample.shape[1]
    wanted = low < high

    def bound(rank: Tensor, sign: int) -> tuple[Tensor, Tensor]:
        position = (rank + offset) * (length / size)
        if step > 1:
            near = ordered.gather(1, position.long().clamp(0, length - 1)[:, None])
            # Of independent pixels, changes / 2 is the variance of how many lie above; smooth fields change less.
            changes = (sample > near).diff(dim=1).sum(dim=1)
            position = position + sign * (margin * (changes / 2).sqrt() + 2)
        position = (position.floor() if sign < 0 else position.ceil()).long()
        return position, ordered.gather(1, position.clamp(0, length - 1)[:, None])[:, 0]

    position, lower = bound(torch.where(wanted, low, size).amin(0), -1)
    lower = torch.where(position < 0, 0.0, lower.clamp(min=0))
    position, upper = bound(torch.where(wanted, high - 1, 0).amax(0), 1)
    upper = torch.where(position >= length, torch.inf, upper)
    empty = ~wanted.any(0)
    return lower.masked_fill(empty, torch.inf), upper.masked_fill(empty, torch.inf)


def row_sums(mask: Tensor) -> Tensor:
    """Number of true elements of each row of a boolean ``[B, H, W]``, as ``[B]``."""
    flat = mask.contiguous().view(torch.uint8).flatten(1)
    if flat.storage_offset() % 8:
        flat = flat.clone()
    # PyTorch would widen every byte to sum it. 8 bytes are added at once here: 128 words cannot overflow a byte.
    length = flat.shape[1] // 1024 * 1024
    total = flat[:, length:].sum(dim=1)
    if length:
        words = flat[:, :length].reshape(-1).view(torch.int64).view(len(flat), -1, 128)
        total = total + words.sum(dim=2).view(torch.uint8).flatten(1).sum(dim=1)
    return total


def nonzero_flat(mask: Tensor) -> Tensor:
    """Flat indices of the true elements of a contiguous boolean tensor, in order; meant for few of them."""
    flat = mask.view(torch.uint8).flatten()
    length = len(flat) // 8 * 8
    word = flat[:length].view(torch.int64).nonzero()[:, 0]
    where, offset = flat[:length].view(-1, 8)[word].nonzero().unbind(1)
    head = word[where] * 8 + offset
    tail = flat[length:].nonzero()[:, 0] + length
    return torch.cat((head, tail)) if len(tail) else head
