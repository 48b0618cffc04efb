"""The point loss on the target's lines alone, and its gradient, on a CPU.

A window whose pixels are all of one class is on no line, and most are. So windows are looked at by their labels first,
one byte a pixel; only for those that hold a border are probabilities read, of the few classes that meet in it. The two
opposite rays of an axis see the same windows, each once from its first pixel and once from its last.

A job is a strip of rows of one image with all its classes, whose gradient is formed in scratch of its own and replaces
p. The rows that neighboring strips share are copied before the start. A first sweep, over the labels, counts the pixels
on the lines of each class and direction, by which the second one weighs them.

Shape shorthand in this module: N images, K classes, H x W pixels, A axes, D directions of an axis, P taps of a window,
C possible counts of pixels in a window, R rows of a strip, T threads, r radius, q reach of a window.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from epl_d2.compilation import compiled

from .point import through_softmax
from .strips import clear, fill_margins, geometry, strip_rows
from .threads import count_threads, run_jobs


def value_and_gradient(p: Tensor, seen: np.ndarray, position: np.ndarray, term: Any, need_gradient: bool) -> Tensor:
    """Value of `reference.point_loss` in the region "lines"; its gradient by the logits replaces ``p`` if wanted.

    Args:
        p: probabilities as rays see them, ``[N, K, H, W]``, contiguous.
        seen, position: class + 1 of a pixel, or 0 where a ray finds none, or where it is no position, ``[N, H, W]``.
        term: a `PointTerm`.
        need_gradient: whether ``p`` is replaced.
    """
    n, k, h, w = p.shape
    radius, box = term.radius, term.convolution == "standard"
    axes, origins, taps = geometry(radius, term.splitter, box)
    steps = np.arange(taps)
    offsets = np.stack(np.divmod(np.arange(taps**2), taps), 1)[None] if box else steps[:, None] * axes[:, None]
    energies = np.arange(offsets.shape[1] + 1) * (radius + 1) / offsets.shape[1]
    on_line = (energies >= 1) & (energies < radius + 1)

    reach, pitch = taps - 1, w + 2 * radius
    rows = strip_rows(pitch, taps, h)
    strips = -(-h // rows)
    jobs = n * strips
    threads = count_threads(jobs)
    labels = np.zeros((threads, rows + 2 * reach, pitch), seen.dtype)
    scratch = labels, np.zeros((threads, pitch), seen.dtype), np.zeros((threads, 2, k + 2), np.int64)
    scene, windows = (seen, position), (origins, offsets, on_line, rows)
    sizes = np.zeros((jobs, *origins.shape[:2], k), np.int64)
    run_jobs(_count, jobs, scene, windows, scratch, sizes)
    sizes = sizes.reshape(n, strips, *sizes.shape[1:]).sum(1)
    terms = np.count_nonzero(sizes)
    if terms == 0:
        if need_gradient:
            p.zero_()
        return p.new_zeros(())
    weights = np.divide(1 / terms, sizes, out=np.zeros(sizes.shape), where=sizes > 0)

    tops = torch.arange(0, h, rows)[:, None]
    shared = torch.cat((tops - reach + torch.arange(reach), tops + rows + torch.arange(reach)), dim=1)
    edges = p.index_select(2, shared.clamp(0, h - 1).flatten()).numpy()
    gradients = np.zeros((threads, k + 1, rows, w))  # float64: a square of w pixels lies in w * w windows
    values = np.zeros(jobs)
    unit = (radius + 1) / offsets.shape[1]
    power = 1 if term.norm == "l1" else 2
    fields = p.numpy(), edges, gradients
    run_jobs(_differentiate, jobs, fields, scene, windows, scratch, weights, unit, power, values, need_gradient)
    return torch.tensor(values.sum(), dtype=p.dtype)


@compiled
def _count(slot, job, scene, windows, scratch, sizes):
    """Count the pixels on the lines of each class whose windows start in one strip.

    Args:
        scene: seen and position, see `value_and_gradient`.
        windows: the first pixel of a window as seen from a pixel ``[A, D, 2]``, its taps as seen from the first
            ``[A, P, 2]``, whether a count is on a line ``[C]``, and the rows of a strip.
        scratch: labels ``[T, R + 2 q, W + 2 r]``, a row of them, and counts and list of the classes in a window.
        sizes: the result, ``[jobs, A, D, K]``.
    """
    origins, offsets, on_line, rows = windows
    labels, mixed, found = scratch[0][slot], scratch[1][slot], scratch[2][slot]
    position = scene[1]
    height, width = position.shape[1:]
    classes = sizes.shape[3]
    image, strip = divmod(job, -(-height // rows))
    top = strip * rows
    deep = min(rows, height - top)
    reach, radius = (labels.shape[0] - rows) // 2, (labels.shape[1] - width) // 2
    _gather(scene[0][image], top - reach, deep + 2 * reach, radius, labels)
    for a in range(len(offsets)):
        begin, left, right = _bounds(origins[a], width)
        for y in range(top if strip else begin, top + deep):
            _compare(labels, y - top + reach, radius, offsets[a], left, right, mixed)
            for x in range(left, right):
                if mixed[x + radius] == 0:
                    continue
                number = _meet(labels, y - top + reach, x + radius, offsets[a], classes, found)
                for m in range(number):
                    k = found[1, m]
                    if on_line[found[0, k]]:
                        for d in range(origins.shape[1]):
                            if _counts(position[image], y - origins[a, d, 0], x - origins[a, d, 1]):
                                sizes[job, a, d, k - 1] += 1
                    found[0, k] = 0


@compiled
def _differentiate(slot, job, fields, scene, windows, scratch, weights, unit, power, values, need_gradient):
    """Add up the cost of the windows that start in one strip, and replace p by the gradient there.

    Args:
        fields: p ``[N, K, H, W]``; the q rows above and the q rows below each strip, ``[N, K, strips * 2 q, W]``; and
            scratch, ``[T, K + 1, R, W]``.
        weights: of a pixel on a line, ``[N, A, D, K]``.
        unit: energy of a pixel.
        power: of the cost.
        values: cost of each job.
        The others: see `_count`.
    """
    p, edges, gradients = fields
    origins, offsets, on_line, rows = windows
    labels, mixed, found = scratch[0][slot], scratch[1][slot], scratch[2][slot]
    seen, position = scene
    classes, height, width = p.shape[1:]
    image, strip = divmod(job, -(-height // rows))
    top = strip * rows
    deep = min(rows, height - top)
    reach, radius = (labels.shape[0] - rows) // 2, (labels.shape[1] - width) // 2
    _gather(seen[image], top - reach, deep + 2 * reach, radius, labels)
    gradient = gradients[slot]
    for k in range(classes + 1):
        for i in range(deep):
            clear(gradient[k, i])
    value = 0.0
    for a in range(len(offsets)):
        begin, left, right = _bounds(origins[a], width)
        last = len(offsets[a]) - 1
        first = top - offsets[a, last, 0]
        if not need_gradient:
            first = top if strip else begin
        for y in range(max(first, begin), top + deep):
            _compare(labels, y - top + reach, radius, offsets[a], left, right, mixed)
            for x in range(left, right):
                if mixed[x + radius] == 0:
                    continue
                number = _meet(labels, y - top + reach, x + radius, offsets[a], classes, found)
                for m in range(number):
                    k = found[1, m]
                    count, found[0, k] = found[0, k], 0
                    if not on_line[count]:
                        continue
                    weight = 0.0
                    for d in range(origins.shape[1]):
                        if _counts(position[image], y - origins[a, d, 0], x - origins[a, d, 1]):
                            weight += weights[image, a, d, k - 1]
                    if weight == 0:
                        continue
                    plane, edge = p[image, k - 1], edges[image, k - 1, 2 * reach * strip : 2 * reach * (strip + 1)]
                    total = 0.0
                    for t in range(last + 1):
                        row = min(max(y + offsets[a, t, 0], 0), height - 1)
                        column = min(max(x + offsets[a, t, 1], 0), width - 1)
                        if seen[image, row, column] == 0:
                            continue
                        if row < top:
                            total += edge[row - top + reach, column]
                        elif row >= top + deep:
                            total += edge[row - top - rows + reach, column]
                        else:
                            total += plane[row, column]
                    residual = unit * (count - total)
                    if strip == 0 or y >= top:
                        value += weight * (residual * residual if power == 2 else abs(residual))
                    if need_gradient:
                        sign = 1.0 if residual > 0 else -1.0 if residual < 0 else residual * 0
                        slope = -unit * weight * (2 * residual if power == 2 else sign)
                        for t in range(last + 1):
                            row = min(max(y + offsets[a, t, 0], 0), height - 1) - top
                            if 0 <= row < deep:
                                column = min(max(x + offsets[a, t, 1], 0), width - 1)
                                gradient[k - 1, row, column] += slope
    values[job] = value
    if need_gradient:
        inner = gradient[classes]
        for k in range(classes):
            for i in range(deep):
                plane, mine = p[image, k, top + i], gradient[k, i]
                for x in range(width):
                    inner[i, x] += plane[x] * mine[x]
        for k in range(classes):
            for i in range(deep):
                through_softmax(p[image, k, top + i], gradient[k, i], inner[i], seen[image, top + i])


@compiled
def _gather(seen, first, number, radius, out):
    """The labels of ``number`` rows from ``first`` on with margins, as they are seen beyond the edge of the image."""
    height, width = seen.shape
    for i in range(number):
        near = seen[min(max(first + i, 0), height - 1)]
        for x in range(width):
            out[i, radius + x] = near[x]
        fill_margins(out[i], radius, width, True)


@compiled
def _bounds(origins, width):
    """First row and column of the windows that pixels of an image see, and the column behind the last."""
    begin, left, right = 0, 0, -width
    for d in range(len(origins)):
        begin, left = min(begin, origins[d, 0]), min(left, origins[d, 1])
        right = max(right, origins[d, 1])
    return begin, left, width + right


@compiled
def _compare(labels, row, radius, offsets, left, right, mixed):
    """Set to 0 what belongs to a window, of those that start in a row, that holds one label alone."""
    # Slices, not sums of indices, which may be negative for all that the compiler knows: it would not vectorize.
    start, number = left + radius, right - left
    out, near = mixed[start : start + number], labels[row, start : start + number]
    clear(out)
    for t in range(1, len(offsets)):
        first = start + offsets[t, 1]
        far = labels[row + offsets[t, 0], first : first + number]
        for x in range(number):
            out[x] |= near[x] ^ far[x]


@compiled
def _meet(labels, row, column, offsets, classes, found):
    """Count the classes in a window and list them; returns how many there are."""
    number = 0
    for t in range(len(offsets)):
        label = labels[row + offsets[t, 0], column + offsets[t, 1]]
        if label == 0 or label > classes:  # none, or outside of a field
            continue
        if found[0, label] == 0:
            found[1, number] = label
            number += 1
        found[0, label] += 1
    return number


@compiled
def _counts(position, y, x):
    """Whether a pixel lies in the image and is a position."""
    return 0 <= y < position.shape[0] and 0 <= x < position.shape[1] and position[y, x] != 0
