"""The point loss of the whole image and its gradient on a CPU, in one compiled sweep.

The energy is linear, E(y) - E(p) = E(y - p), so one residual field D = y - p is convolved. The two opposite rays of
an axis see the same windows, each window W(u) once from its first pixel u and once from its last: with c(u) the
number of those two that take part, the cost is sum c |W|^q, and its gradient G by D is the adjoint window sum of
q c |W|^(q-1) sign(W). The cost is homogeneous of degree q, thus <D, G> / q: no other sum is needed.

A job is a strip of rows of one image with all its classes, so that the way back through softmax, p (G - <p, G>), is
part of it and the gradient can replace p. The rows that neighboring strips share are copied before the start. The
extra memory is the gradient of one strip a thread.

Shape shorthand in this module: N images, K classes, H x W pixels, A axes, R rows of a strip, T threads, r radius, q
reach of a window (its taps - 1).
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from epl_d2.compilation import compiled

from .strips import add, clear, copy, field_sums, fill_margins, fold_margins, geometry, strip_rows
from .threads import count_threads, run_jobs


def value_and_gradient(p: Tensor, seen: np.ndarray, position: np.ndarray, term: Any, need_gradient: bool) -> Tensor:
    """Value of `reference.point_loss`; its gradient by the logits replaces ``p`` if wanted.

    Args:
        p: probabilities as rays see them, ``[N, K, H, W]``, contiguous.
        seen, position: class + 1 of a pixel, or 0 where a ray finds none, or where it is no position, ``[N, H, W]``.
        term: a `PointTerm`.
        need_gradient: whether ``p`` is replaced.
    """
    n, k, h, w = p.shape
    count = np.count_nonzero(position)
    if count == 0:
        if need_gradient:
            p.zero_()
        return p.new_zeros(())
    radius, box = term.radius, term.convolution == "standard"
    axes, origins, taps = geometry(radius, term.splitter, box)
    power = 1 if term.norm == "l1" else 2
    unit = (radius + 1) / taps**2 if box else 1.0
    scale = -power * unit**power / (count * k * origins.shape[0] * origins.shape[1])

    reach, pitch = taps - 1, w + 2 * radius
    rows = strip_rows(pitch, taps, h)
    tops = torch.arange(0, h, rows)[:, None]
    shared = torch.cat((tops - reach + torch.arange(reach), tops + rows + torch.arange(reach)), dim=1)
    edges = p.index_select(2, shared.clamp(0, h - 1).flatten())
    jobs = n * len(tops)
    threads = count_threads(jobs)
    strips = p.new_zeros(threads, 7 + len(axes), (rows + 2 * (reach + radius)) * pitch + 2 * taps).numpy()
    gradients = p.new_empty(threads, k + 2, rows, w).numpy()
    values = np.zeros(jobs)
    arrays = p.numpy(), edges.numpy(), (seen, position), strips, gradients, values, (axes, origins, taps)
    run_jobs(_sweep, jobs, *arrays, power, strips.dtype.type(scale), rows, need_gradient)
    return torch.tensor(-values.sum() / power, dtype=p.dtype)


@compiled
def _sweep(slot, job, p, edges, target, strips, gradients, values, windows, power, scale, rows, need_gradient):
    """Add up the cost of one strip, and replace p by the gradient there.

    Args:
        p: ``[N, K, H, W]``. edges: the q rows above and the q rows below each strip, ``[N, K, strips * 2 q, W]``.
        target: seen and position, see `value_and_gradient`.
        strips, gradients: scratch, ``[T, 7 + A, ...]`` and ``[T, K + 2, R, W]``; the former zeros.
        values: <D, G> of each job.
        windows: see `strips.geometry`.
        scale: factor of the gradient by D; negative, to make it the gradient by p.
    """
    seen, position = target
    axes, origins, taps = windows
    classes, height, width = p.shape[1:]
    box = origins.shape[1] == 1
    reach = taps - 1
    radius = reach // 2 if box else reach
    pitch = width + 2 * radius
    image, strip = divmod(job, -(-height // rows))
    top = strip * rows
    deep = min(rows, height - top)
    above = radius if top == 0 else 0
    below = radius if top + deep == height else 0
    own, seen = strips[slot], seen[image]
    residual, field, slope, total = own[0], own[1], own[2], own[3]
    spares, weights = (own[4], own[5], own[6]), own[7:]
    origin = taps + (reach + radius) * pitch  # of the row ``top`` in ``slope``
    clear(slope)
    for a in range(len(axes)):
        _weigh(position[image], origins[a], top - reach, deep + reach, radius, scale, weights[a])

    gradient, dot, inner = gradients[slot], gradients[slot, classes], gradients[slot, classes + 1]
    for i in range(deep):
        clear(dot[i])
        clear(inner[i])
    for k in range(classes):
        plane, edge = p[image, k], edges[image, k, 2 * reach * strip : 2 * reach * (strip + 1)]
        for i in range(deep + 2 * reach):
            y = min(max(top - reach + i, 0), height - 1)
            near = plane[y]
            if i < reach:
                near = edge[i]
            elif i >= reach + deep:
                near = edge[i - deep]
            row = residual[i * pitch : (i + 1) * pitch]
            _subtract(seen[y], k + 1, near, row[radius : radius + width])
            fill_margins(row, radius, width, True)

        clear(total)
        for a in range(len(axes)):
            down = axes[a, 0] > 0
            skipped = 0 if down else reach
            number = (deep + reach - skipped) * pitch
            field_sums(residual[skipped * pitch :], number // pitch, pitch, axes[a], taps, box, field, spares)
            weight = weights[a, skipped * pitch :]
            _differentiate(field, weight, number, power, slope[origin + (skipped - reach) * pitch :])
            higher, lower = (above, below) if down else (0, 0)
            if not down:
                clear(slope[origin - reach : origin])
            number = deep + higher + lower
            start = origin - higher * pitch - reach * (axes[a, 0] * pitch + axes[a, 1])
            field_sums(slope[start:], number, pitch, axes[a], taps, box, field, spares)
            add(total[(radius - higher) * pitch :], field, number * pitch)
        for i in range(radius - above, radius + deep + below):
            fold_margins(total[i * pitch : (i + 1) * pitch], radius, width)
        for i in range(above):
            add(total[radius * pitch :], total[i * pitch :], pitch)
        for i in range(below):
            add(total[(radius + deep - 1) * pitch :], total[(radius + deep + i) * pitch :], pitch)

        for i in range(deep):
            start = (radius + i) * pitch + radius
            mine = total[start : start + width]
            copy(mine, width, gradient[k, i])
            start = (reach + i) * pitch + radius
            _multiply_add(dot[i], residual[start : start + width], mine)
            _multiply_add(inner[i], plane[top + i], mine)

    value = 0.0
    for i in range(deep):
        for x in range(width):
            value += dot[i, x]
    values[job] = value
    if need_gradient:
        for k in range(classes):
            for i in range(deep):
                through_softmax(p[image, k, top + i], gradient[k, i], inner[i], seen[top + i])


@compiled
def _weigh(position, origins, first, number, radius, scale, out):
    """``scale`` times how many positions have each window as their ray; ``first``: row of windows."""
    height, width = position.shape
    pitch = width + 2 * radius
    clear(out)
    for i in range(number):
        for d in range(len(origins)):
            y = first + i - origins[d, 0]
            if 0 <= y < height:
                start = i * pitch + radius + origins[d, 1]
                row, here = out[start : start + width], position[y]
                for x in range(width):
                    row[x] += scale if here[x] else 0 * scale


@compiled
def _subtract(seen, label, p, out):
    for x in range(len(out)):
        y = p[x] * 0 if seen[x] != label else p[x] * 0 + 1
        out[x] = y - p[x] if seen[x] else 0


@compiled
def _differentiate(field, weight, number, power, out):
    if power == 2:
        for i in range(number):
            out[i] = field[i] * weight[i]
    else:
        for i in range(number):
            out[i] = weight[i] if field[i] > 0 else -weight[i] if field[i] < 0 else field[i] * 0


@compiled
def _multiply_add(total, first, second):
    for x in range(len(total)):
        total[x] += first[x] * second[x]


@compiled
def through_softmax(p, gradient, inner, seen):
    """Replace p by p (G - <p, G>), or 0 where no ray sees it."""
    for x in range(len(p)):
        p[x] = p[x] * (gradient[x] - inner[x]) if seen[x] else 0
