"""The line loss and its gradient on a CPU.

Only rows (a class in an image) whose class occurs in the target have lines. Compiled kernels find the predicted lines
of each and sum over them (`line_rows.measure`). From the sums, small tables, follow the value and the slope of the
loss by each energy, with which a second sweep forms the gradient. It replaces p: the extra memory is that of the rows
whose class occurs.

Shape shorthand in this module: N images, K classes, H x W pixels, J rows whose class occurs, A axes, D directions of an
axis, C possible counts of pixels in a window, r lines, T threads.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...formulas import activation
from . import line_rows
from .strips import geometry, strip_rows
from .threads import count_threads, run_jobs

# Pixels of an image below which it takes the smaller histogram, and of a job of `line_rows.through_softmax`.
_SMALL, _JOB = 2**16, 2**12


@dataclass
class _Lines:
    """What the counts of pixels in a window mean.

    Attributes:
        energies, on_line: energy that a count stands for, and whether it lies on a line, ``[C]``.
        g, rest: activation of a count by line, ``[C, r]``, and of a pixel that is on no line, ``[r]``; in the band
            around them a pixel off the lines has the activation of its own count.
    """

    energies: Tensor
    on_line: Tensor
    g: Tensor
    rest: Tensor


def value_and_gradient(p: Tensor, seen: np.ndarray, position: np.ndarray, term: Any, need_gradient: bool) -> Tensor:
    """Value of `reference.line_loss`; its gradient by the logits replaces ``p`` if wanted.

    Args:
        p: probabilities as rays see them, ``[N, K, H, W]``, contiguous.
        seen, position: class + 1 of a pixel, or 0 where a ray finds none, or where it is no position, ``[N, H, W]``.
        term: a `LineTerm`.
        need_gradient: whether ``p`` is replaced.
    """
    n, k, h, w = p.shape
    radius, box, official = term.radius, term.convolution == "standard", term.formulation == "official"
    ranked = term.formulation != "band"
    occurring = np.zeros((n, k + 1), np.int64)
    for image in range(n):
        occurring[image] = np.bincount(position[image].ravel(), minlength=k + 1)[: k + 1]  # behind: outside of a field
    occurring = torch.from_numpy(occurring[:, 1:])
    rows = occurring.flatten().nonzero()[:, 0]
    if len(rows) == 0 or radius == 0:
        if need_gradient:
            p.zero_()
        return p.new_zeros(())

    axes, origins, taps = geometry(radius, term.splitter, box)
    lines = _lines(radius, taps**2 if box else taps, term.mu, term.formulation)
    windows = axes, origins, taps, not official
    first = int(lines.on_line.int().argmax())
    tables = lines.g.numpy(), term.mu, first, len(lines.energies) - 1
    threads = count_threads(len(rows))
    pitch = w + 2 * radius
    length = (strip_rows(pitch, taps, h) + taps + 1) * pitch + 2 * taps
    energies = p.new_zeros(threads, 6, length).numpy()
    bits = energies.view(np.int32 if p.dtype == torch.float32 else np.int64)
    counts = torch.zeros(threads, 5, length, dtype=torch.uint8 if len(lines.energies) <= 256 else torch.int32).numpy()
    scene = p.numpy(), seen, position
    inputs = rows.numpy(), scene, windows, tables, (energies, bits, counts)

    shape = *origins.shape[:2], len(rows)
    ranks, broken = np.zeros((*shape, 4), np.int64), np.zeros(len(rows), bool)
    histograms = np.zeros((2, *shape, len(lines.energies)), np.int64)
    sums = np.zeros((2, *shape, radius))
    # The pixels of the band around the target's lines, a bit a direction; none where ranks choose.
    band = np.zeros((0 if ranked else len(rows), h, w), np.uint8)
    if ranked:
        # What is not a number has its own bin: the first above the energy of a full window, however it was rounded.
        shift = 8 * bits.itemsize - _prefix(h * w, p.dtype)
        last_bin = (int(np.array(1.001 * (radius + 1), energies.dtype).view(bits.dtype)) >> shift) + 1
        bins = torch.empty(threads, shape[1], last_bin + 1, dtype=torch.int32).numpy()
        run_jobs(line_rows.measure, len(rows), *inputs, shift, bins, ranks, broken, histograms, sums)
        del bins
    else:
        on_target = np.zeros((threads, h, w), np.uint8)
        run_jobs(line_rows.find_band, len(rows), *inputs, on_target, band)
        run_jobs(line_rows.measure_band, len(rows), *inputs, band, broken, histograms, sums)
        histograms[0] = histograms[1]
    if broken.any():  # infinite or NaN logits
        if need_gradient:
            p.fill_(torch.nan)
        return p.new_full((), torch.nan)

    pool = np.count_nonzero(position) * k if official else None
    value, factors, quotients = _compare(torch.from_numpy(histograms), torch.from_numpy(sums), lines, term.mu, pool)
    value = value.to(p.dtype)
    if not need_gradient:
        return value
    shares = p.new_empty(len(rows), h, w)
    slopes = (table.expand(*shape, radius).contiguous().numpy() for table in (factors, quotients))
    run_jobs(line_rows.differentiate, len(rows), *inputs, ranks, band, *slopes, shares.numpy())
    places = torch.full((n * k,), -1).index_copy(0, rows, torch.arange(len(rows))).view(n, k)
    inner = p.new_empty(torch.get_num_threads(), w)
    rows = max(1, _JOB // w)
    run_jobs(line_rows.through_softmax, n * -(-h // rows), rows, scene, shares.numpy(), places.numpy(), inner.numpy())
    return value


def _prefix(pixels: int, dtype: torch.dtype) -> int:
    """How many upper bits of an energy tell its bin: few where the bins would cost more than the pixels."""
    return 12 if dtype == torch.float32 and pixels < _SMALL else 16


def _lines(radius: int, full: int, mu: int, formulation: str) -> _Lines:
    """``full`` is the count of a window deep inside its class."""
    energies = torch.arange(full + 1, dtype=torch.float64) * (radius + 1) / full
    on_line = (energies >= 1) & (energies < radius + 1)
    taus = range(1, radius + 1)
    g = torch.stack([activation(energies, tau, mu) for tau in taus], dim=1)
    rest = torch.stack([activation(energies[0], tau, mu) for tau in taus])
    rest = rest if formulation == "official" else torch.zeros_like(rest)
    return _Lines(energies, on_line, g if formulation == "band" else torch.where(on_line[:, None], g, rest), rest)


def _compare(
    histograms: Tensor, sums: Tensor, lines: _Lines, mu: int, pool: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Value of the loss, and the tables that `line_rows.differentiate` needs, of ``[A, D, J or 1, r]``.

    With a ``pool`` (the number of pixels of all rows) this is the official formulation, whose sums also take the
    pixels off the lines, with energy 0; without, the sums are those of each row, on the lines or the band alone.
    """
    official = pool is not None
    if official:
        histograms, sums = histograms.sum(dim=3, keepdim=True), sums.sum(dim=3, keepdim=True)
    target, selected = histograms.double()
    on_line = target * lines.on_line
    sum_h, sum_gh = sums
    near = (lines.energies[:, None] - torch.arange(1, len(lines.rest) + 1)).abs() <= 0.5
    present = (on_line @ near.double()) > 0
    sum_g, sum_gg = target @ lines.g, target @ lines.g.square()
    smooth = 0
    if official:
        sum_g, sum_gg = on_line @ lines.g, on_line @ lines.g.square()
        others = pool - on_line.sum(dim=3, keepdim=True)
        sum_g, sum_gg = sum_g + others * lines.rest, sum_gg + others * lines.rest.square()
        sum_h, sum_gh = sum_h + others * lines.rest, sum_gh + lines.rest * (sum_g - selected @ lines.g)
        smooth = 1
    constant = 2 * sum_g / torch.where(present, sum_gg, 1.0)
    total = torch.where(present, sum_g + sum_h + smooth, 1.0)
    quotient = (sum_gh + smooth) / total
    similarity = constant * quotient
    if official:
        terms = histograms.shape[1] * histograms.shape[2]
        sloping = present
    else:
        terms = max(1, int(present.sum()))
        sloping = present & (similarity < 1)
        similarity = similarity.clamp(max=1)
    value = torch.where(present, 1 - similarity, 0.0).sum() / terms
    return value, torch.where(sloping, constant / total * mu / terms, 0.0), quotient
