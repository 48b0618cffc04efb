"""Which windows have their energy at given ranks of a row: a radix select in Triton kernels, without sorting.

A row is a class of an image in a direction; its ranks run over the valid pixels. Energies are at least 0, so they rank
like their bits. Equal energies rank in the order of pixels: the place of a window is the low part of its key. The
31 bits of the energy are found in three levels, and where a tie lies across a rank, those of the place in two or three
more. A level counts, in a histogram of each row, the next bits of the keys that agree so far. Counts are
integers, so the order in which programs add them does not matter.

Two ranks of a row are wanted, *cuts*: where the lines begin, and where they end.

Shape shorthand in this module: N images, K classes, S directions, B = N K S rows, H x W pixels, R = kernel_size // 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import windows as common
from .windows import Statistics, fill, is_position, step_of, target_window, window

# Bits found by each level, energy first, place last: 11 + 10 + 10 each.
_ENERGY_BINS, _BINS = 2048, 1024
# With so few places the first level of the place has nothing to find.
_FEW_PLACES = _BINS**2
# Bins for the energies of the target, 0..R + 1.
TARGET_BINS = 16


@dataclass
class Selection:
    """The windows on the lines of the prediction: those from one cut on and before the other.

    Attributes:
        target: how many positions have the target energy e, ``[N, K, S, 16]``, int32; 0 for absent classes.
        keys: bits of the energy at the two cuts, ``[N, K, S, 2]``, int32; -1 for rows without a line.
        places: of the windows with this energy, the place of the first that lies behind the cut, ``[N, K, S, 2]``;
            -1 if all do.
    """

    target: Tensor
    keys: Tensor
    places: Tensor


def select(logits: Tensor, found: Statistics, radius: int, splitter: str, zero: bool) -> Selection:
    """Find the cuts of all rows of contiguous logits ``[N, K, H, W]``; ``zero``: what lies outside the image is 0."""
    n, k, h, w = logits.shape
    first, axes = common.AXES[splitter]
    rows = (n, k, 2 * axes)
    device = logits.device
    target = torch.zeros((*rows, TARGET_BINS), dtype=torch.int32, device=device)
    keys, places, rest = (torch.empty((*rows, 2), dtype=torch.int32, device=device) for _ in range(3))
    grid, across, scratch = common.window_tiles(logits, radius)
    for level in range(6):
        if level == 3 and (h + radius) * (w + 2 * radius) <= _FEW_PLACES:
            continue
        counts = torch.zeros((*rows, _ENERGY_BINS), dtype=torch.int32, device=device)
        count_kernel[grid](
            logits,
            found.shift,
            found.scale,
            found.seen,
            found.position,
            found.counts,
            scratch,
            target,
            counts,
            keys,
            places,
            k,
            h,
            w,
            across,
            first,
            AXES=axes,
            R=radius,
            ZERO=zero,
            LEVEL=level,
            ENERGY_BINS=_ENERGY_BINS,
            BINS=_BINS,
            TARGET_BINS=TARGET_BINS,
            **common.tile_options(),
        )
        narrow_kernel[(counts[..., 0].numel(),)](
            target,
            counts,
            keys,
            places,
            rest,
            R=radius,
            LEVEL=level,
            ENERGY_BINS=_ENERGY_BINS,
            BINS=_BINS,
            TARGET_BINS=TARGET_BINS,
        )
    return Selection(target, keys, places)


@triton.jit
def count_kernel(
    logits,
    shift,
    scale,
    seen,
    position,
    present,
    scratch,
    target,
    counts,
    keys,
    places,
    K,
    H,
    W,
    across,
    first,
    AXES: tl.constexpr,
    R: tl.constexpr,
    ZERO: tl.constexpr,
    LEVEL: tl.constexpr,
    ENERGY_BINS: tl.constexpr,
    BINS: tl.constexpr,
    TARGET_BINS: tl.constexpr,
    BH: tl.constexpr,
    BW: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Count the next bits of the keys of a tile of windows, for all rows of an image; at first the target as well."""
    ROWS: tl.constexpr = BH + R
    COLUMNS: tl.constexpr = BW + 2 * R
    # How many bits of the key are still unknown behind those of this level.
    BITS: tl.constexpr = (5 - LEVEL) % 3 * 10
    tile = tl.program_id(0)
    image = tl.program_id(1)
    scratch += (image * tl.num_programs(0) + tile) * ROWS * COLUMNS
    shift += image * H * W
    scale += image * H * W
    seen += image * H * W
    position += image * H * W
    y0 = tile // across * BH - R
    x0 = tile % across * BW - R
    index = tl.arange(0, BH * BW)
    i = index // BW
    j = index % BW
    everywhere = index >= 0
    place = (y0 + i + R) * (W + 2 * R) + x0 + j + R
    cut = tl.arange(0, 4 * AXES)
    for k in range(K):
        row0 = (image * K + k) * 2 * AXES
        if LEVEL == 0:
            wanted = tl.load(present + image * K + k) > 0
        elif LEVEL < 3:
            wanted = tl.max(tl.load(keys + row0 * 2 + cut)) >= 0
        else:
            wanted = tl.max(tl.load(places + row0 * 2 + cut)) >= 0
        if wanted:
            plane = logits + (image * K + k) * H * W
            fill(scratch, plane, shift, scale, seen, k, y0, x0 - R, H, W, ROWS, COLUMNS, False, ZERO, CHUNK)
            for axis in range(first, first + AXES):
                dy, dx = step_of(axis)
                energy = window(scratch + i * COLUMNS + j + R, dy * COLUMNS + dx, everywhere, R)
                key = energy.to(tl.int32, bitcast=True)
                if LEVEL == 0:
                    hits = target_window(seen, k, y0 + i, x0 + j, dy, dx, everywhere, H, W, R, ZERO)
                for side in range(2):
                    row = row0 + 2 * (axis - first) + side
                    valid = is_position(position, y0 + i + side * R * dy, x0 + j + side * R * dx, everywhere, H, W)
                    if LEVEL == 0:
                        number = tl.histogram(hits, TARGET_BINS, mask=valid)
                        at = target + row * TARGET_BINS + tl.arange(0, TARGET_BINS)
                        tl.atomic_add(at, number, mask=number > 0)
                        number = tl.histogram((key >> BITS) & (ENERGY_BINS - 1), ENERGY_BINS, mask=valid)
                        tl.atomic_add(counts + row * ENERGY_BINS + tl.arange(0, ENERGY_BINS), number, mask=number > 0)
                    else:
                        for which in range(2):
                            known = tl.load(keys + row * 2 + which)
                            if LEVEL < 3:
                                value = key
                                match = valid & (key >> (BITS + 10) == known)
                            else:
                                value = place
                                higher = tl.load(places + row * 2 + which)
                                match = valid & (key == known) & (place >> (BITS + 10) == higher)
                            if tl.max(match.to(tl.int32)) > 0:
                                number = tl.histogram((value >> BITS) & (BINS - 1), BINS, mask=match)
                                at = counts + row * ENERGY_BINS + which * BINS + tl.arange(0, BINS)
                                tl.atomic_add(at, number, mask=number > 0)


@triton.jit
def narrow_kernel(
    target,
    counts,
    keys,
    places,
    rest,
    R: tl.constexpr,
    LEVEL: tl.constexpr,
    ENERGY_BINS: tl.constexpr,
    BINS: tl.constexpr,
    TARGET_BINS: tl.constexpr,
):
    """Append the bits of a level to the keys or places at the cuts of a row.

    ``rest`` is the rank of the cut among the windows that agree with it so far.
    """
    row = tl.program_id(0)
    for which in range(2):
        at = row * 2 + which
        if LEVEL == 0:
            e = tl.arange(0, TARGET_BINS)
            number = tl.load(target + row * TARGET_BINS + e)
            lines = tl.sum(tl.where((e >= 1) & (e <= R), number, 0))
            rank = tl.sum(tl.where(e == 0, number, 0)) + which * lines
            searched = lines > 0
            bins = tl.arange(0, ENERGY_BINS)
            number = tl.load(counts + row * ENERGY_BINS + bins)
        else:
            rank = tl.load(rest + at)
            searched = tl.load(keys + at) >= 0
            if LEVEL >= 3:
                searched = tl.load(places + at) >= 0
            bins = tl.arange(0, BINS)
            number = tl.load(counts + row * ENERGY_BINS + which * BINS + bins)
        # A rank behind the last window ends in the last bin, above every energy there is.
        before = tl.cumsum(number, 0) <= rank
        bits = tl.minimum(tl.sum(before.to(tl.int32)), bins.shape[0] - 1)
        rank -= tl.sum(tl.where(bins < bits, number, 0))
        tl.store(rest + at, tl.where(searched, rank, 0))
        if LEVEL == 0:
            tl.store(keys + at, tl.where(searched, bits, -1))
            tl.store(places + at, -1)
        elif LEVEL < 3:
            tl.store(keys + at, tl.where(searched, tl.load(keys + at) * BINS + bits, -1))
            if LEVEL == 2:
                # Only a tie across the cut needs more.
                tl.store(places + at, tl.where(searched & (rank > 0), 0, -1))
        else:
            tl.store(places + at, tl.where(searched, tl.load(places + at) * BINS + bits, -1))


@triton.jit
def is_chosen(key, place, keys, places, row):
    """Whether windows with these keys and places lie between the cuts of a row."""
    low = tl.load(keys + row * 2)
    high = tl.load(keys + row * 2 + 1)
    from_low = (key > low) | ((key == low) & (place >= tl.load(places + row * 2)))
    return from_low & ((key < high) | ((key == high) & (place < tl.load(places + row * 2 + 1))))
