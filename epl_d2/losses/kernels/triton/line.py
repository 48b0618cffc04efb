"""The line loss in fused Triton kernels, for CUDA.

The forward pass reads the logits of the classes that occur three times (five with ties) to find the lines of the
prediction (the formulation "band" needs the labels alone), and once for the sums over them. The backward pass reads
them once more.

Shape shorthand in this module: N images, K classes, S directions, H x W pixels, R = kernel_size // 2 lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import windows as common
from .band import find_band, is_in_band
from .select import is_chosen, select
from .windows import Statistics, collect, fill, is_position, probability, softmax_slopes, step_of, target_window, window


def value(logits: Tensor, found: Statistics, term: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Value of `reference.line_loss` with rays as kernels, and what `gradient` needs besides.

    Args:
        logits: ``[N, K, H, W]``, contiguous, float16, bfloat16 or float32, as the rays see them.
        found: their statistics.
        term: a `LineTerm` with a kernel size below 31.
    """
    n, k, h, w = logits.shape
    radius = term.radius
    official, banded = term.formulation == "official", term.formulation == "band"
    if banded:
        band, target = find_band(logits, found, radius, term.splitter)
        # Rows without a line are told by a key below 0, as where ranks choose.
        has_line = (target[..., 1 : radius + 1] > 0).any(-1, keepdim=True)
        keys = places = torch.where(has_line, 0, -1).int().expand(-1, -1, -1, 2).contiguous()
    else:
        chosen = select(logits, found, radius, term.splitter, official)
        keys, places, target = chosen.keys, chosen.places, chosen.target
        band = keys  # not read
    grid, across, scratch = common.window_tiles(logits, radius)
    first, axes = common.AXES[term.splitter]
    # For each row and line: sum of h, and of g (h - what h is elsewhere), over the chosen pixels of a tile.
    parts = torch.zeros((n, k, 2 * axes, radius, 2, grid[0]), dtype=torch.float32, device=logits.device)
    tensors = (logits, found.shift, found.scale, found.seen, found.position, keys, places, band, scratch, parts)
    line_sums_kernel[grid](*tensors, k, h, w, across, first, AXES=axes, **_options(term))
    sums = parts.sum(dim=-1, dtype=torch.float64)
    if official:
        lines = target[..., 1 : radius + 1]
        result, by_h, by_product = _official(sums[..., 0], sums[..., 1], lines, found.positions, term.mu)
    else:
        result, by_h, by_product = _contour(sums[..., 0], sums[..., 1], target, banded, term.mu)
    shape = (n, k, 2 * axes, radius)
    slopes = torch.stack((by_h.expand(shape), by_product.expand(shape)), dim=-1).float().contiguous()
    return result.float(), (keys, places, band, slopes)


def gradient(logits: Tensor, found: Statistics, saved: Sequence[Tensor], grad_output: Tensor, term: Any) -> Tensor:
    """Gradient by the logits, times ``grad_output``."""
    k, h, w = logits.shape[1:]
    radius = term.radius
    result, slopes = common.gradient_buffers(logits)
    grid, across, scratch, windows = common.pixel_tiles(logits, radius)
    first, axes = common.AXES[term.splitter]
    line_gradient_kernel[grid](
        logits,
        found.shift,
        found.scale,
        found.seen,
        found.position,
        *saved,
        scratch,
        windows,
        slopes,
        result,
        grad_output.float(),
        k,
        h,
        w,
        across,
        first,
        AXES=axes,
        **_options(term),
    )
    return result


def _options(term: Any) -> dict[str, Any]:
    flags = {"OFFICIAL": term.formulation == "official", "BAND": term.formulation == "band"}
    return {"R": term.radius, "MU": term.mu, **flags, **common.tile_options()}


def _target_activations(energies: Tensor, lines: int, mu: int) -> Tensor:
    """exp(-(e - tau)^mu) for energies e and tau = 1..lines, ``[E, lines]``, float64."""
    tau = torch.arange(1, lines + 1, dtype=torch.float64, device=energies.device)
    # Beyond a distance of 8 all of it is 0, and nothing overflows.
    return torch.exp(-((energies.double()[:, None] - tau) ** mu))


def _over_lines(lines: Tensor, activations: Tensor) -> Tensor:
    """Sums over e of counts ``[..., E]`` times activations ``[E, R]``. Matrix products may not be deterministic."""
    return (lines.unsqueeze(-1) * activations).sum(dim=-2)


def _official(h: Tensor, product: Tensor, lines: Tensor, positions: Tensor, mu: int) -> tuple[Tensor, Tensor, Tensor]:
    """Value and its slopes by the sums of h and of g h, ``[S, R]``, of the official formulation (eq. 4).

    Args:
        h, product: sums over the chosen pixels, ``[N, K, S, R]``: of h, and of g times what h exceeds exp(-tau^mu).
        lines: pixels on each line of the target, ``[N, K, S, R]``.
        positions: how many there are in all images, int64.
        mu: the exponent.
    """
    radius = lines.shape[-1]
    every = _target_activations(torch.arange(radius + 1, device=lines.device), radius, mu)
    far, near = every[0], every[1:]
    pooled = lines.sum(dim=(0, 1))
    everywhere = positions * lines.shape[1]
    elsewhere = (everywhere - pooled.sum(dim=-1, keepdim=True)) * far
    sum_g = _over_lines(pooled, near) + elsewhere
    sum_gg = _over_lines(pooled, near.square()) + elsewhere * far
    sum_h = h.sum(dim=(0, 1)) + elsewhere
    sum_gh = product.sum(dim=(0, 1)) + far * sum_g
    present = pooled > 0
    factor = torch.where(present, 2 * sum_g / ((sum_g + sum_h + 1) * torch.where(present, sum_gg, 1.0)), 0.0)
    similarity = factor * (sum_gh + 1)
    directions = lines.shape[2]
    value = torch.where(present, 1 - similarity, 0.0).sum() / directions
    return value, similarity / (sum_g + sum_h + 1) / directions, -factor / directions


def _contour(h: Tensor, product: Tensor, target: Tensor, banded: bool, mu: int) -> tuple[Tensor, Tensor, Tensor]:
    """As `_official` for the formulations contour and band; ``product`` is the sum of g h, the slopes are
    ``[N, K, S, R]``.

    Args:
        target: how many pixels (of all, or of the band) have the target energy e, ``[N, K, S, 16]``.
        banded: whether the pixels off the lines count as well.
    """
    radius = h.shape[-1]
    first, last = (0, radius + 1) if banded else (1, radius)
    energies = torch.arange(first, last + 1, device=target.device)
    near = _target_activations(energies, radius, mu)
    counts = target[..., first : first + len(energies)]
    sum_g, sum_gg = _over_lines(counts, near), _over_lines(counts, near.square())
    present = target[..., 1 : radius + 1] > 0
    factor = torch.where(present, 2 * sum_g / torch.where(present, sum_gg * (sum_g + h), 1.0), 0.0)
    similarity = factor * product
    terms = present.sum().clamp(min=1)
    value = torch.where(present, 1 - similarity.clamp(max=1), 0.0).sum() / terms
    counted = present & (similarity <= 1)
    by_h = torch.where(counted, similarity / torch.where(present, sum_g + h, 1.0), 0.0) / terms
    return value, by_h, torch.where(counted, -factor, 0.0) / terms


@triton.jit
def activation(energy, tau, MU: tl.constexpr, BOUND: tl.constexpr):
    """exp(-(E - tau)^MU), and its slope by E; the distance is bounded where both have long become 0."""
    distance = tl.minimum(tl.maximum(energy - tau, -BOUND), BOUND)
    odd = distance
    for _ in range(MU // 2 - 1):
        odd *= distance * distance
    result = tl.exp(-odd * distance)
    return result, -MU * odd * result


@triton.jit
def target_activation(
    hits, tau, R: tl.constexpr, MU: tl.constexpr, BOUND: tl.constexpr, OFFICIAL: tl.constexpr, BAND: tl.constexpr
):
    """Activation g of the target where ``hits`` of its R + 1 pixels are of the class."""
    on_line = (hits >= 1) & (hits <= R)
    energy = hits if BAND else tl.where(on_line, hits, 0)
    result, _ = activation(energy.to(tl.float32), tau, MU, BOUND)
    if not OFFICIAL and not BAND:
        result = tl.where(on_line, result, 0.0)
    return result


@triton.jit
def line_sums_kernel(
    logits,
    shift,
    scale,
    seen,
    position,
    keys,
    places,
    band,
    scratch,
    parts,
    K,
    H,
    W,
    across,
    first,
    AXES: tl.constexpr,
    R: tl.constexpr,
    MU: tl.constexpr,
    OFFICIAL: tl.constexpr,
    BAND: tl.constexpr,
    BH: tl.constexpr,
    BW: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Sums of h and of g (h - exp(-tau^MU)) (contour: g h) over the chosen windows of a tile, for each row and line."""
    ROWS: tl.constexpr = BH + R
    COLUMNS: tl.constexpr = BW + 2 * R
    BOUND: tl.constexpr = 1000.0 ** (1 / MU)
    tiles = tl.num_programs(0)
    tile = tl.program_id(0)
    image = tl.program_id(1)
    scratch += (image * tiles + tile) * ROWS * COLUMNS
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
        if tl.max(tl.load(keys + row0 * 2 + cut)) >= 0:
            plane = logits + (image * K + k) * H * W
            fill(scratch, plane, shift, scale, seen, k, y0, x0 - R, H, W, ROWS, COLUMNS, False, OFFICIAL, CHUNK)
            for axis in range(first, first + AXES):
                dy, dx = step_of(axis)
                energy = window(scratch + i * COLUMNS + j + R, dy * COLUMNS + dx, everywhere, R)
                key = energy.to(tl.int32, bitcast=True)
                for side in range(2):
                    row = row0 + 2 * (axis - first) + side
                    y = y0 + i + side * R * dy
                    x = x0 + j + side * R * dx
                    if BAND:
                        chosen = is_in_band(band + (image * K + k) * H * W, row - row0, y, x, everywhere, H, W)
                    else:
                        chosen = is_chosen(key, place, keys, places, row)
                        chosen &= is_position(position, y, x, chosen, H, W)
                    if tl.max(chosen.to(tl.int32)) > 0:
                        hits = target_window(seen, k, y0 + i, x0 + j, dy, dx, chosen, H, W, R, OFFICIAL)
                        for tau in range(1, R + 1):
                            h, _ = activation(energy, tau, MU, BOUND)
                            g = target_activation(hits, tau, R, MU, BOUND, OFFICIAL, BAND)
                            if OFFICIAL:
                                elsewhere, _ = activation(tl.zeros_like(energy), tau, MU, BOUND)
                                g *= h - elsewhere
                            else:
                                g *= h
                            at = parts + (row * R + tau - 1) * 2 * tiles + tile
                            tl.store(at, tl.sum(tl.where(chosen, h, 0.0)))
                            tl.store(at + tiles, tl.sum(tl.where(chosen, g, 0.0)))


@triton.jit
def line_gradient_kernel(
    logits,
    shift,
    scale,
    seen,
    position,
    keys,
    places,
    band,
    coefficients,
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
    MU: tl.constexpr,
    OFFICIAL: tl.constexpr,
    BAND: tl.constexpr,
    BH: tl.constexpr,
    BW: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Gradient by the logits of all classes in a tile of pixels of an image."""
    ROWS: tl.constexpr = BH + 2 * R
    COLUMNS: tl.constexpr = BW + 2 * R
    BOUND: tl.constexpr = 1000.0 ** (1 / MU)
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
    pixel = (y0 + i) * W + x0 + j
    cut = tl.arange(0, 4 * AXES)
    inner = tl.zeros((BH * BW,), tl.float32)
    for k in range(K):
        row0 = (image * K + k) * 2 * AXES
        slope = tl.zeros((BH * BW,), tl.float32)
        if tl.max(tl.load(keys + row0 * 2 + cut)) >= 0:
            plane = logits + k * H * W
            fill(scratch, plane, shift, scale, seen, k, y0 - R, x0 - R, H, W, ROWS, COLUMNS, False, OFFICIAL, CHUNK)
            for axis in range(first, first + AXES):
                dy, dx = step_of(axis)
                # Windows towards the left that touch the tile start in it or to its right.
                before = tl.where(dx < 0, 0, R)
                found = 0
                for start in range(0, (BH + R) * (BW + R), CHUNK):
                    at = start + tl.arange(0, CHUNK)
                    mask = at < (BH + R) * (BW + R)
                    row = at // (BW + R)
                    column = at % (BW + R) + R - before
                    y = y0 - R + row
                    x = x0 - R + column
                    energy = window(scratch + row * COLUMNS + column, dy * COLUMNS + dx, mask, R)
                    key = energy.to(tl.int32, bitcast=True)
                    place = (y + R) * (W + 2 * R) + x + R
                    change = tl.zeros((CHUNK,), tl.float32)
                    for side in range(2):
                        line = row0 + 2 * (axis - first) + side
                        y_side = y + side * R * dy
                        x_side = x + side * R * dx
                        if BAND:
                            plane_band = band + (image * K + k) * H * W
                            chosen = is_in_band(plane_band, line - row0, y_side, x_side, mask, H, W)
                        else:
                            chosen = is_chosen(key, place, keys, places, line)
                            chosen = is_position(position, y_side, x_side, mask & chosen, H, W)
                        if tl.max(chosen.to(tl.int32)) > 0:
                            found = 1
                            hits = target_window(seen, k, y, x, dy, dx, chosen, H, W, R, OFFICIAL)
                            for tau in range(1, R + 1):
                                _, by_energy = activation(energy, tau, MU, BOUND)
                                g = target_activation(hits, tau, R, MU, BOUND, OFFICIAL, BAND)
                                coefficient = coefficients + (line * R + tau - 1) * 2
                                by_h = tl.load(coefficient) + tl.load(coefficient + 1) * g
                                change += tl.where(chosen, by_energy * by_h, 0.0)
                    tl.store(windows + at, change, mask=mask)
                if found > 0:
                    tl.debug_barrier()
                    slope += collect(windows, y0, x0, i, j, dy, dx, H, W, R, OFFICIAL, BH, BW)
                    tl.debug_barrier()
            p = probability(plane, shift, scale, pixel, inside)
            inner += tl.where(p > 0, p * slope, 0.0)
        tl.store(slopes + k * H * W + pixel, slope, mask=inside)
    softmax_slopes(gradient, slopes, logits, shift, scale, inner, tl.load(factor), pixel, inside, K, H * W)
