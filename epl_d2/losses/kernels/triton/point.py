"""The point loss in fused Triton kernels, for CUDA.

The forward pass reads the logits once, besides the statistics of the softmax. The backward pass reads them once more
from memory and forms the gradient, already multiplied by the incoming one.

Shape shorthand in this module: N images, K classes, H x W pixels, R = kernel_size // 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import windows as common
from .windows import Statistics, collect, fill, is_position, probability, softmax_slopes, step_of, window


def value(logits: Tensor, found: Statistics, term: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Value of `reference.point_loss` with rays as kernels, and what `gradient` needs besides.

    Args:
        logits: ``[N, K, H, W]``, contiguous, float16, bfloat16 or float32, as the rays see them.
        found: their statistics.
        term: a `PointTerm` with a kernel size below 31.
    """
    k, h, w = logits.shape[1:]
    radius = term.radius
    grid, across, scratch = common.window_tiles(logits, radius)
    parts = torch.empty(grid, dtype=torch.float64, device=logits.device)
    first, axes = common.AXES[term.splitter]
    tensors = (logits, found.shift, found.scale, found.seen, found.position, scratch, parts)
    point_value_kernel[grid](
        *tensors, k, h, w, across, first, AXES=axes, R=radius, L1=term.norm == "l1", **common.tile_options()
    )
    factor = 1 / (found.positions * (2 * axes * k)).clamp(min=1).double()
    return (parts.sum() * factor).float(), (factor,)


def gradient(logits: Tensor, found: Statistics, saved: Sequence[Tensor], grad_output: Tensor, term: Any) -> Tensor:
    """Gradient by the logits, times ``grad_output``."""
    k, h, w = logits.shape[1:]
    radius = term.radius
    factor = (grad_output * saved[0]).float()
    result, slopes = common.gradient_buffers(logits)
    grid, across, scratch, windows = common.pixel_tiles(logits, radius)
    first, axes = common.AXES[term.splitter]
    tensors = (logits, found.shift, found.scale, found.seen, found.position, scratch, windows, slopes, result, factor)
    point_gradient_kernel[grid](
        *tensors, k, h, w, across, first, AXES=axes, R=radius, L1=term.norm == "l1", **common.tile_options()
    )
    return result


@triton.jit
def point_value_kernel(
    logits,
    shift,
    scale,
    seen,
    position,
    scratch,
    parts,
    K,
    H,
    W,
    across,
    first,
    AXES: tl.constexpr,
    R: tl.constexpr,
    L1: tl.constexpr,
    BH: tl.constexpr,
    BW: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Sum of the costs of a tile of windows, for all classes and axes of an image."""
    ROWS: tl.constexpr = BH + R
    COLUMNS: tl.constexpr = BW + 2 * R
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
    total = tl.zeros((), tl.float64)
    for k in range(K):
        plane = logits + (image * K + k) * H * W
        fill(scratch, plane, shift, scale, seen, k, y0, x0 - R, H, W, ROWS, COLUMNS, True, False, CHUNK)
        cost = tl.zeros((BH * BW,), tl.float32)
        for axis in range(first, first + AXES):
            dy, dx = step_of(axis)
            residual = window(scratch + i * COLUMNS + j + R, dy * COLUMNS + dx, everywhere, R)
            origins = is_position(position, y0 + i, x0 + j, everywhere, H, W).to(tl.float32)
            origins += is_position(position, y0 + i + R * dy, x0 + j + R * dx, everywhere, H, W).to(tl.float32)
            # Not a product: windows that do not count may lie behind what is known here.
            if L1:
                cost += tl.where(origins > 0, tl.abs(residual) * origins, 0.0)
            else:
                cost += tl.where(origins > 0, residual * residual * origins, 0.0)
        total += tl.sum(cost).to(tl.float64)
    tl.store(parts + tile * tl.num_programs(1) + image, total)


@triton.jit
def point_gradient_kernel(
    logits,
    shift,
    scale,
    seen,
    position,
    scratch,
    windows,
    slopes,
    gradient,
    factor,
    K,
    H,
    W,
    across,
    first,
    AXES: tl.constexpr,
    R: tl.constexpr,
    L1: tl.constexpr,
    BH: tl.constexpr,
    BW: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Gradient by the logits of all classes in a tile of pixels of an image."""
    ROWS: tl.constexpr = BH + 2 * R
    COLUMNS: tl.constexpr = BW + 2 * R
    tile = tl.program_id(0)
    image = tl.program_id(1)
    program = image * tl.num_programs(0) + tile
    scratch += program * ROWS * COLUMNS
    windows += program * (BH + R) * (BW + R)
    shift += image * H * W
    scale += image * H * W
    seen += image * H * W
    position += image * H * W
    logits += image * K * H * W
    slopes += image * K * H * W
    gradient += image * K * H * W
    y0 = tile // across * BH
    x0 = tile % across * BW
    index = tl.arange(0, BH * BW)
    i = index // BW
    j = index % BW
    inside = (y0 + i < H) & (x0 + j < W)
    place = (y0 + i) * W + x0 + j
    inner = tl.zeros((BH * BW,), tl.float32)
    for k in range(K):
        plane = logits + k * H * W
        fill(scratch, plane, shift, scale, seen, k, y0 - R, x0 - R, H, W, ROWS, COLUMNS, True, False, CHUNK)
        slope = tl.zeros((BH * BW,), tl.float32)
        for axis in range(first, first + AXES):
            dy, dx = step_of(axis)
            # Windows towards the left that touch the tile start in it or to its right.
            before = tl.where(dx < 0, 0, R)
            for start in range(0, (BH + R) * (BW + R), CHUNK):
                at = start + tl.arange(0, CHUNK)
                mask = at < (BH + R) * (BW + R)
                row = at // (BW + R)
                column = at % (BW + R) + R - before
                y = y0 - R + row
                x = x0 - R + column
                residual = window(scratch + row * COLUMNS + column, dy * COLUMNS + dx, mask, R)
                origins = is_position(position, y, x, mask, H, W).to(tl.float32)
                origins += is_position(position, y + R * dy, x + R * dx, mask, H, W).to(tl.float32)
                sign = tl.where(residual > 0, 1.0, tl.where(residual < 0, -1.0, 0.0))
                change = sign if L1 else 2 * residual
                tl.store(windows + at, tl.where(origins > 0, change * origins, 0.0), mask=mask)
            tl.debug_barrier()
            slope += collect(windows, y0, x0, i, j, dy, dx, H, W, R, False, BH, BW)
            tl.debug_barrier()
        # The residual is y - p.
        p = probability(plane, shift, scale, place, inside)
        inner -= tl.where(p > 0, p * slope, 0.0)
        tl.store(slopes + k * H * W + place, -slope, mask=inside)
    softmax_slopes(gradient, slopes, logits, shift, scale, inner, tl.load(factor), place, inside, K, H * W)
