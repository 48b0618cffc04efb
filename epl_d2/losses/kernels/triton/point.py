"""The point loss in fused Triton kernels, for CUDA.

The forward pass reads the logits once, besides the statistics of the softmax. The backward pass reads them once more
from memory and forms the gradient, already multiplied by the incoming one. In the region "lines" one more kernel, over
the labels, counts the pixels on the lines of each row; their reciprocals weigh the windows, and classes without lines
are left out.

Shape shorthand in this module: N images, K classes, S directions, H x W pixels, R = kernel_size // 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import windows as common
from .windows import Statistics, collect, fill, is_position, probability, softmax_slopes, step_of, target_window, window


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
    if term.region == "lines":
        sizes = torch.zeros((len(logits), k, 2 * axes), dtype=torch.int32, device=logits.device)
        tensors = (found.seen, found.position, found.counts, sizes)
        line_sizes_kernel[grid](*tensors, k, h, w, across, first, AXES=axes, R=radius, **common.tile_options())
        weights = torch.where(sizes > 0, 1 / sizes.clamp(min=1).float(), 0.0)
        terms = (sizes > 0).sum()
    else:
        weights = torch.ones((), device=logits.device)
        terms = found.positions * (2 * axes * k)
    tensors = (logits, found.shift, found.scale, found.seen, found.position, weights, scratch, parts)
    point_value_kernel[grid](*tensors, k, h, w, across, first, AXES=axes, R=radius, **_options(term))
    factor = 1 / terms.clamp(min=1).double()
    return (parts.sum() * factor).float(), (factor, weights)


def gradient(logits: Tensor, found: Statistics, saved: Sequence[Tensor], grad_output: Tensor, term: Any) -> Tensor:
    """Gradient by the logits, times ``grad_output``."""
    k, h, w = logits.shape[1:]
    radius = term.radius
    factor, weights = (grad_output * saved[0]).float(), saved[1]
    result, slopes = common.gradient_buffers(logits)
    grid, across, scratch, windows = common.pixel_tiles(logits, radius)
    first, axes = common.AXES[term.splitter]
    tensors = (logits, found.shift, found.scale, found.seen, found.position, weights, scratch, windows, slopes, result)
    point_gradient_kernel[grid](*tensors, factor, k, h, w, across, first, AXES=axes, R=radius, **_options(term))
    return result


def _options(term: Any) -> dict[str, Any]:
    return {"L1": term.norm == "l1", "LINES": term.region == "lines", **common.tile_options()}


@triton.jit
def share(seen, position, weights, row, k, y, x, dy, dx, mask, H, W, R: tl.constexpr, LINES: tl.constexpr):
    """Sum of the weights of the two pixels whose ray is the window from (y, x) on; row: of the first's direction."""
    near = is_position(position, y, x, mask, H, W)
    far = is_position(position, y + R * dy, x + R * dx, mask, H, W)
    if LINES:
        hits = target_window(seen, k, y, x, dy, dx, near | far, H, W, R, False)
        on_line = (hits >= 1) & (hits <= R)
        near_weight = tl.load(weights + row)
        far_weight = tl.load(weights + row + 1)
        return tl.where(near & on_line, near_weight, 0.0) + tl.where(far & on_line, far_weight, 0.0)
    else:
        return near.to(tl.float32) + far.to(tl.float32)


@triton.jit
def line_sizes_kernel(
    seen,
    position,
    present,
    sizes,
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
    """Count the positions on the target's lines, ``[N, K, S]``, in a tile of windows."""
    tile = tl.program_id(0)
    image = tl.program_id(1)
    seen += image * H * W
    position += image * H * W
    y0 = tile // across * BH - R
    x0 = tile % across * BW - R
    index = tl.arange(0, BH * BW)
    y = y0 + index // BW
    x = x0 + index % BW
    everywhere = index >= 0
    for k in range(K):
        if tl.load(present + image * K + k) > 0:
            for axis in range(first, first + AXES):
                dy, dx = step_of(axis)
                hits = target_window(seen, k, y, x, dy, dx, everywhere, H, W, R, False)
                on_line = (hits >= 1) & (hits <= R)
                for side in range(2):
                    line = is_position(position, y + side * R * dy, x + side * R * dx, on_line, H, W)
                    number = tl.sum(line.to(tl.int32))
                    if number > 0:
                        tl.atomic_add(sizes + (image * K + k) * 2 * AXES + 2 * (axis - first) + side, number)


@triton.jit
def point_value_kernel(
    logits,
    shift,
    scale,
    seen,
    position,
    weights,
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
    LINES: tl.constexpr,
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
    cut = tl.arange(0, 2 * AXES)
    total = tl.zeros((), tl.float64)
    for k in range(K):
        row0 = (image * K + k) * 2 * AXES
        wanted = k >= 0
        if LINES:
            wanted = tl.max(tl.load(weights + row0 + cut)) > 0
        if wanted:
            plane = logits + (image * K + k) * H * W
            fill(scratch, plane, shift, scale, seen, k, y0, x0 - R, H, W, ROWS, COLUMNS, True, False, CHUNK)
            cost = tl.zeros((BH * BW,), tl.float32)
            for axis in range(first, first + AXES):
                dy, dx = step_of(axis)
                residual = window(scratch + i * COLUMNS + j + R, dy * COLUMNS + dx, everywhere, R)
                row = row0 + 2 * (axis - first)
                rays = share(seen, position, weights, row, k, y0 + i, x0 + j, dy, dx, everywhere, H, W, R, LINES)
                # Not a product: windows that do not count may lie behind what is known here.
                if L1:
                    cost += tl.where(rays > 0, tl.abs(residual) * rays, 0.0)
                else:
                    cost += tl.where(rays > 0, residual * residual * rays, 0.0)
            total += tl.sum(cost).to(tl.float64)
    tl.store(parts + tile * tl.num_programs(1) + image, total)


@triton.jit
def point_gradient_kernel(
    logits,
    shift,
    scale,
    seen,
    position,
    weights,
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
    LINES: tl.constexpr,
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
    cut = tl.arange(0, 2 * AXES)
    inner = tl.zeros((BH * BW,), tl.float32)
    for k in range(K):
        row0 = (image * K + k) * 2 * AXES
        slope = tl.zeros((BH * BW,), tl.float32)
        wanted = k >= 0
        if LINES:
            wanted = tl.max(tl.load(weights + row0 + cut)) > 0
        if wanted:
            plane = logits + k * H * W
            fill(scratch, plane, shift, scale, seen, k, y0 - R, x0 - R, H, W, ROWS, COLUMNS, True, False, CHUNK)
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
                    line = row0 + 2 * (axis - first)
                    rays = share(seen, position, weights, line, k, y, x, dy, dx, mask, H, W, R, LINES)
                    sign = tl.where(residual > 0, 1.0, tl.where(residual < 0, -1.0, 0.0))
                    change = sign if L1 else 2 * residual
                    tl.store(windows + at, tl.where(rays > 0, change * rays, 0.0), mask=mask)
                tl.debug_barrier()
                slope += collect(windows, y0, x0, i, j, dy, dx, H, W, R, False, BH, BW)
                tl.debug_barrier()
            # The residual is y - p.
            p = probability(plane, shift, scale, place, inside)
            inner -= tl.where(p > 0, p * slope, 0.0)
        tl.store(slopes + k * H * W + place, -slope, mask=inside)
    softmax_slopes(gradient, slopes, logits, shift, scale, inner, tl.load(factor), place, inside, K, H * W)
