"""What the Triton kernels of the losses share: softmax statistics, and sums along rays.

A program owns a tile of an image and visits the classes one after the other. For each it writes the probabilities of
the tile and its surroundings into a scratch buffer of its own, small enough to stay in the cache, and reads the taps of
the windows from there. Two opposite rays see the same windows, so a *window* is what is computed: it starts at (y, x)
and has R + 1 taps along an axis. It is the ray of its first pixel (side 0) and the opposite ray of its last (side 1).

Shape shorthand in this module: K classes, H x W pixels, R = kernel_size // 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

if TYPE_CHECKING:
    from ...target import Target

# Rows and columns of a tile; pixels of the surroundings treated at once, and of the statistics; warps of a program.
TILE = (16, 128)
CHUNK = 1024
WARPS = 8
_PIXELS = 256

# First axis, of (0, 1), (1, 0), (1, 1), (1, -1), and number of axes of a splitter.
AXES = {"A": (0, 2), "B": (2, 2), "C": (0, 4)}


class Statistics(NamedTuple):
    """What a softmax needs besides the logits, p = exp(logit - shift) * scale, and the target.

    Attributes:
        shift: maximum of the logits of a pixel, ``[N, H, W]``, float32.
        scale: 1 / sum of exp(logit - shift), 0 for a pixel that no ray sees, ``[N, H, W]``, float32.
        seen: class that a ray sees at a pixel, -1 for none, ``[N, H, W]``, int32.
        position: the same, but -1 where a pixel is no position.
        counts: positions of each class in each image, ``[N, K]``, int32.
        positions: how many there are in all images, int64; more than of all classes where a field has an outside.
    """

    shift: Tensor
    scale: Tensor
    seen: Tensor
    position: Tensor
    counts: Tensor
    positions: Tensor


def statistics(logits: Tensor, target: Target) -> Statistics:
    """Softmax statistics of contiguous logits ``[N, K, H, W]``, gathered as the target says."""
    n, k, h, w = logits.shape
    shift, scale = (torch.empty((n, h, w), dtype=torch.float32, device=logits.device) for _ in range(2))
    seen = target.seen.int().contiguous()
    position = seen if target.position is target.seen else target.position.int().contiguous()
    counts = torch.zeros((n, k), dtype=torch.int32, device=logits.device)
    grid = (triton.cdiv(h * w, _PIXELS), n)
    bins = max(2, triton.next_power_of_2(k))
    tensors = logits, shift, scale, seen, position, counts
    statistics_kernel[grid](*tensors, k, h * w, SIGMOID=target.sigmoid, BINS=bins, BLOCK=_PIXELS)
    return Statistics(shift, scale, seen, position, counts, (position >= 0).sum())


@triton.jit
def statistics_kernel(
    logits,
    shift,
    scale,
    seen,
    position,
    counts,
    K,
    pixels,
    SIGMOID: tl.constexpr,
    BINS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Fill shift, scale and counts of `Statistics`; a program takes BLOCK pixels of an image."""
    image = tl.program_id(1)
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < pixels
    # A sigmoid is a softmax with one more class, whose logit is 0. Else it begins with the lowest finite number, as
    # -inf - -inf is not a number.
    top = tl.full((BLOCK,), 0.0 if SIGMOID else -3.4e38, tl.float32)
    total = tl.full((BLOCK,), 1.0 if SIGMOID else 0.0, tl.float32)
    for k in range(K):
        x = tl.load(logits + (image * K + k) * pixels + place, mask=inside, other=0.0).to(tl.float32)
        higher = tl.maximum(top, x)
        total = total * tl.exp(top - higher) + tl.exp(x - higher)
        top = higher
    visible = tl.load(seen + image * pixels + place, mask=inside, other=-1) >= 0
    tl.store(shift + image * pixels + place, top, mask=inside)
    tl.store(scale + image * pixels + place, tl.where(visible, tl.div_rn(1.0, total), 0.0), mask=inside)
    label = tl.load(position + image * pixels + place, mask=inside, other=-1)
    number = tl.histogram(tl.maximum(label, 0), BINS, mask=label >= 0)
    k = tl.arange(0, BINS)
    tl.atomic_add(counts + image * K + k, number, mask=(k < K) & (number > 0))


@triton.jit
def probability(logits, shift, scale, place, mask):
    """Probabilities at ``place`` of one class of one image; 0 where no ray sees it, whatever the logit."""
    weight = tl.load(scale + place, mask=mask, other=0.0)
    x = tl.load(logits + place, mask=mask, other=0.0).to(tl.float32)
    top = tl.load(shift + place, mask=mask, other=0.0)
    return tl.where(weight > 0, tl.exp(x - top) * weight, 0.0)


@triton.jit
def fill(
    scratch,
    logits,
    shift,
    scale,
    seen,
    k,
    top,
    left,
    H,
    W,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    RESIDUAL: tl.constexpr,
    ZERO: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write p, or y - p if RESIDUAL, of ROWS x COLUMNS pixels from (top, left) on, which may lie outside the image.

    Outside is 0 (ZERO) or the nearest pixel. All threads of the program see it when this returns.
    """
    # Some may still read the last class.
    tl.debug_barrier()
    for start in range(0, ROWS * COLUMNS, BLOCK):
        i = start + tl.arange(0, BLOCK)
        y = top + i // COLUMNS
        x = left + i % COLUMNS
        mask = i < ROWS * COLUMNS
        if ZERO:
            mask = mask & (y >= 0) & (y < H) & (x >= 0) & (x < W)
        place = tl.minimum(tl.maximum(y, 0), H - 1) * W + tl.minimum(tl.maximum(x, 0), W - 1)
        value = probability(logits, shift, scale, place, mask)
        if RESIDUAL:
            value = (tl.load(seen + place, mask=mask, other=-1) == k).to(tl.float32) - value
        tl.store(scratch + i, value, mask=i < ROWS * COLUMNS)
    tl.debug_barrier()


@triton.jit
def step_of(axis):
    """(dy, dx) of an axis."""
    dy = tl.minimum(axis, 1)
    dx = tl.where(axis < 2, 1 - axis, 5 - 2 * axis)
    return dy, dx


# The taps are added in the order of `potential.windows`, so that equal probabilities give equal energies, to the bit.
@triton.jit
def _sum2(pointer, step, mask):
    return tl.load(pointer, mask=mask, other=0.0) + tl.load(pointer + step, mask=mask, other=0.0)


@triton.jit
def _sum4(pointer, step, mask):
    return _sum2(pointer, step, mask) + _sum2(pointer + 2 * step, step, mask)


@triton.jit
def _sum8(pointer, step, mask):
    return _sum4(pointer, step, mask) + _sum4(pointer + 4 * step, step, mask)


@triton.jit
def window(pointer, step, mask, R: tl.constexpr):
    """Sum of R + 1 < 16 values of a scratch buffer, ``step`` apart, from ``pointer`` on."""
    total = tl.load(pointer, mask=mask, other=0.0) if R % 2 == 0 else tl.zeros(mask.shape, tl.float32)
    if (R + 1) % 4 >= 2:
        total += _sum2(pointer + (R + 1) % 2 * step, step, mask)
    if (R + 1) % 8 >= 4:
        total += _sum4(pointer + (R + 1) % 4 * step, step, mask)
    if R + 1 >= 8:
        total += _sum8(pointer + (R + 1) % 8 * step, step, mask)
    return total


@triton.jit
def target_window(seen, k, y, x, dy, dx, mask, H, W, R: tl.constexpr, ZERO: tl.constexpr):
    """How many of the R + 1 pixels from (y, x) on along (dy, dx) are of class k."""
    total = tl.zeros_like(y)
    for t in range(R + 1):
        row = y + t * dy
        column = x + t * dx
        inside = mask
        if ZERO:
            inside = mask & (row >= 0) & (row < H) & (column >= 0) & (column < W)
        place = tl.minimum(tl.maximum(row, 0), H - 1) * W + tl.minimum(tl.maximum(column, 0), W - 1)
        total += (tl.load(seen + place, mask=inside, other=-1) == k).to(tl.int32)
    return total


@triton.jit
def is_position(position, y, x, mask, H, W):
    """Whether (y, x) lies in the image and takes part."""
    inside = mask & (y >= 0) & (y < H) & (x >= 0) & (x < W)
    return tl.load(position + y * W + x, mask=inside, other=-1) >= 0


@triton.jit
def collect(
    slopes, y0, x0, i, j, dy, dx, H, W, R: tl.constexpr, ZERO: tl.constexpr, BH: tl.constexpr, BW: tl.constexpr
):
    """Adjoint of `window`: what the slopes of the windows give to the pixels (y0 + i, x0 + j) that they cover.

    ``slopes`` has BH + R rows and BW + R columns, those of the windows that touch the tile. Pixels outside the image
    are copies of its edge (unless ZERO), whose share goes to the edge: a window that starts i rows above a pixel
    on the edge takes it in more than one step.
    """
    y = y0 + i
    x = x0 + j
    # Where the steps before (near) or behind (far) the pixel fall on it as well.
    above = y == 0
    below = y == H - 1
    near = tl.where(dx > 0, x == 0, x == W - 1)
    far = tl.where(dx > 0, x == W - 1, x == 0)
    first = tl.where(dx < 0, 0, R)
    total = tl.zeros(i.shape, tl.float32)
    diagonal = (dy != 0) & (dx != 0)
    border = (y0 == 0) | (x0 == 0) | (y0 + BH >= H) | (x0 + BW >= W)
    if diagonal & border & (not ZERO):
        for a in range(R + 1):
            for b in range(R + 1):
                low = tl.maximum(tl.where(above, 0, a), tl.where(near, 0, b))
                high = tl.minimum(tl.where(below, R, a), tl.where(far, R, b))
                steps = tl.maximum(high - low + 1, 0)
                value = tl.load(slopes + (i + R - a) * (BW + R) + j + first - b * dx, mask=steps > 0, other=0.0)
                total += steps.to(tl.float32) * value
    else:
        for t in range(R + 1):
            value = tl.load(slopes + (i + R - t * dy) * (BW + R) + j + first - t * dx)
            if not ZERO:
                before = tl.where(dy != 0, above, near) & (not diagonal)
                behind = tl.where(dy != 0, below, far) & (not diagonal)
                value *= (1 + tl.where(before, t, 0) + tl.where(behind, R - t, 0)).to(tl.float32)
            total += value
    return total


@triton.jit
def softmax_slopes(gradient, slopes, logits, shift, scale, inner, factor, place, inside, K, pixels):
    """Turn slopes by the probabilities into slopes by the logits: p (slope - inner) factor, for all classes."""
    # Other threads may have written what this one reads.
    tl.debug_barrier()
    for k in range(K):
        p = probability(logits + k * pixels, shift, scale, place, inside)
        slope = tl.load(slopes + k * pixels + place, mask=inside, other=0.0)
        result = tl.where(p > 0, p * (slope - inner) * factor, 0.0)
        tl.store(gradient + k * pixels + place, result.to(gradient.dtype.element_ty), mask=inside)


def tile_options() -> dict[str, int]:
    """Keywords of the kernels that work in tiles."""
    return {"BH": TILE[0], "BW": TILE[1], "CHUNK": CHUNK, "num_warps": WARPS, "num_stages": 1}


def window_tiles(logits: Tensor, radius: int) -> tuple[tuple[int, int], int, Tensor]:
    """Grid (tiles, N) over the starts of all windows, the tiles in a row of it, and a scratch buffer for `fill`.

    A window starts at most ``radius`` pixels above the image or beside it.
    """
    n, _, h, w = logits.shape
    rows, columns = TILE
    across = triton.cdiv(w + 2 * radius, columns)
    grid = (across * triton.cdiv(h + radius, rows), n)
    size = grid[0] * n * (rows + radius) * (columns + 2 * radius)
    return grid, across, torch.empty(size, dtype=torch.float32, device=logits.device)


def pixel_tiles(logits: Tensor, radius: int) -> tuple[tuple[int, int], int, Tensor, Tensor]:
    """Grid (tiles, N) over the pixels, the tiles in a row of it, and scratch for `fill` and for `collect`."""
    n, _, h, w = logits.shape
    rows, columns = TILE
    across = triton.cdiv(w, columns)
    grid = (across * triton.cdiv(h, rows), n)
    programs = grid[0] * n
    sizes = (rows + 2 * radius) * (columns + 2 * radius), (rows + radius) * (columns + radius)
    scratch, windows = (torch.empty(programs * size, dtype=torch.float32, device=logits.device) for size in sizes)
    return grid, across, scratch, windows


def gradient_buffers(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient to be, and a float32 buffer for the slopes by the probabilities: the same one for float32."""
    result = torch.empty_like(logits)
    return result, result if logits.dtype == torch.float32 else torch.empty_like(logits, dtype=torch.float32)
