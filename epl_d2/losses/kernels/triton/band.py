"""Which pixels lie in the band around the target's lines, in Triton kernels.

The formulation "band" of the line loss takes these in place of ranks.

Shape shorthand in this module: N images, K classes, S directions, H x W pixels, R = kernel_size // 2.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import windows as common
from .select import TARGET_BINS
from .windows import Statistics, is_position, step_of, target_window


class Band(NamedTuple):
    """The band of each row.

    Attributes:
        bits: the directions in whose band a pixel is, a bit each, ``[N, K, H, W]``, uint8.
        target: how many pixels of the band have the target energy e, ``[N, K, S, 16]``, int32.
    """

    bits: Tensor
    target: Tensor


def find_band(logits: Tensor, found: Statistics, radius: int, splitter: str) -> Band:
    """The pixels within R steps, both ways along their ray, of a line of the target; logits are ``[N, K, H, W]``."""
    n, k, h, w = logits.shape
    first, axes = common.AXES[splitter]
    lines, bits = (torch.zeros((n, k, h, w), dtype=torch.uint8, device=logits.device) for _ in range(2))
    target = torch.zeros((n, k, 2 * axes, TARGET_BINS), dtype=torch.int32, device=logits.device)
    rows, columns = common.TILE
    across = triton.cdiv(w, columns)
    grid = (across * triton.cdiv(h, rows), n)
    labels = found.seen, found.position, found.counts
    sizes = (k, h, w, across, first)
    mark_lines_kernel[grid](*labels, lines, *sizes, AXES=axes, R=radius, **common.tile_options())
    options = {"AXES": axes, "R": radius, "TARGET_BINS": TARGET_BINS, **common.tile_options()}
    widen_kernel[grid](*labels, lines, bits, target, *sizes, **options)
    return Band(bits, target)


@triton.jit
def mark_lines_kernel(
    seen,
    position,
    present,
    lines,
    K,
    H,
    W,
    across,
    first,
    AXES: tl.constexpr,
    R: tl.constexpr,
    BH: tl.constexpr,
    BW: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Set a bit for each direction in which a pixel of a tile is on a line of the target."""
    tile = tl.program_id(0)
    image = tl.program_id(1)
    seen += image * H * W
    position += image * H * W
    index = tl.arange(0, BH * BW)
    y = tile // across * BH + index // BW
    x = tile % across * BW + index % BW
    valid = is_position(position, y, x, index >= 0, H, W)
    for k in range(K):
        if tl.load(present + image * K + k) > 0:
            marks = tl.zeros((BH * BW,), tl.int32)
            for axis in range(first, first + AXES):
                dy, dx = step_of(axis)
                for side in range(2):
                    hits = target_window(seen, k, y - side * R * dy, x - side * R * dx, dy, dx, valid, H, W, R, False)
                    on_line = valid & (hits >= 1) & (hits <= R)
                    marks += tl.where(on_line, 1 << (2 * (axis - first) + side), 0)
            tl.store(lines + (image * K + k) * H * W + y * W + x, marks.to(tl.uint8), mask=valid)


@triton.jit
def widen_kernel(
    seen,
    position,
    present,
    lines,
    bits,
    target,
    K,
    H,
    W,
    across,
    first,
    AXES: tl.constexpr,
    R: tl.constexpr,
    TARGET_BINS: tl.constexpr,
    BH: tl.constexpr,
    BW: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Widen what `mark_lines_kernel` has marked by R steps both ways, and count the target's energies there."""
    tile = tl.program_id(0)
    image = tl.program_id(1)
    seen += image * H * W
    position += image * H * W
    index = tl.arange(0, BH * BW)
    y = tile // across * BH + index // BW
    x = tile % across * BW + index % BW
    valid = is_position(position, y, x, index >= 0, H, W)
    for k in range(K):
        if tl.load(present + image * K + k) > 0:
            plane = (image * K + k) * H * W
            marks = tl.zeros((BH * BW,), tl.int32)
            for axis in range(first, first + AXES):
                dy, dx = step_of(axis)
                near = tl.zeros((BH * BW,), tl.int32)
                for step in range(-R, R + 1):
                    row = y + step * dy
                    column = x + step * dx
                    inside = valid & (row >= 0) & (row < H) & (column >= 0) & (column < W)
                    near |= tl.load(lines + plane + row * W + column, mask=inside, other=0).to(tl.int32)
                for side in range(2):
                    bit = 1 << (2 * (axis - first) + side)
                    chosen = valid & ((near & bit) > 0)
                    marks += tl.where(chosen, bit, 0)
                    if tl.max(chosen.to(tl.int32)) > 0:
                        hits = target_window(
                            seen, k, y - side * R * dy, x - side * R * dx, dy, dx, chosen, H, W, R, False
                        )
                        number = tl.histogram(hits, TARGET_BINS, mask=chosen)
                        at = target + ((image * K + k) * 2 * AXES + 2 * (axis - first) + side) * TARGET_BINS
                        tl.atomic_add(at + tl.arange(0, TARGET_BINS), number, mask=number > 0)
            tl.store(bits + plane + y * W + x, marks.to(tl.uint8), mask=valid)


@triton.jit
def is_in_band(bits, direction, y, x, mask, H, W):
    """Whether (y, x) lies in the image and in the band of a direction; bits are those of a class of an image."""
    inside = mask & (y >= 0) & (y < H) & (x >= 0) & (x < W)
    return ((tl.load(bits + y * W + x, mask=inside, other=0).to(tl.int32) >> direction) & 1) > 0
