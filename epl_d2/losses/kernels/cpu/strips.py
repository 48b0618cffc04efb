"""Compiled window sums over strips of image rows, which stay in the cache of a core.

A strip is a flat array of rows of W + 2 r numbers: the W pixels of a row with a margin of r on both sides. A step along
an axis (dy, dx) is then an offset of dy (W + 2 r) + dx, and a window sum is a sum of shifted arrays, whatever the
axis. Sums that run over the end of a row are wrong, but no pixel of the image uses them.

Shape shorthand in this module: H x W pixels, r radius.
"""

import numpy as np

from epl_d2.compilation import compiled

from ...potential import axes_of

# Numbers in a strip: half a dozen such arrays are in use at a time, and should fit the cache of a core.
STRIP_SIZE = 16384


@compiled
def window_sums(source, step, taps, count, out, spare, other):
    """``out[i] = source[i] + source[i + step] + ...`` (``taps`` terms) for i < ``count``.

    In the order of additions of `potential.windows`, so that energies, and with them ranks, agree bit by bit with the
    plain losses. ``spare`` and ``other`` are scratch, ``count + taps * step`` long.
    """
    if taps == 1:
        copy(source, count, out)
        return
    power, size, done = source, 1, 0
    in_spare = False
    while True:
        if taps & size:
            shifted = power[done * step : done * step + count]
            if done == 0:
                if size > 1:
                    copy(shifted, count, out)
            elif done == 1:
                _join(source, shifted, count, out)
            else:
                add(out, shifted, count)
            done += size
        if 2 * size > taps:
            return
        length = count + (taps - 2 * size) * step
        shifted = power[size * step : size * step + length]
        if 2 * size == taps:
            _join(power, shifted, length, out)
            return
        target = other if in_spare else spare
        _join(power, shifted, length, target)
        power, in_spare = target, not in_spare
        size *= 2


@compiled
def _join(first, second, count, out):
    for i in range(count):
        out[i] = first[i] + second[i]


@compiled
def copy(source, count, out):
    """``out[i] = source[i]`` for i < ``count`` (an assignment to a slice takes seconds to compile)."""
    for i in range(count):
        out[i] = source[i]


@compiled
def clear(array):
    """Set all numbers of a flat array to 0."""
    for i in range(len(array)):
        array[i] = 0


@compiled
def field_sums(source, rows, pitch, axis, taps, box, out, spares):
    """Window sums of ``rows`` rows of windows, each at the place of its window's first pixel.

    The adjoint, for each pixel the sum over the windows that it lies in, is the same with a source that begins
    taps - 1 steps of the axis earlier.

    Args:
        source: a strip with the rows of all windows, and ``taps`` more numbers behind it.
        pitch: W + 2 r.
        axis: (dy, dx). For a ``box``, whose window is ``taps`` x ``taps``, (1, 1).
        spares: three arrays of scratch, as long as ``source``.
    """
    spare, other, middle = spares
    step, count = axis[0] * pitch + axis[1], rows * pitch
    if box:
        step, count = 1, (rows + taps - 1) * pitch
    for left in range(box, -1, -1):
        target = middle if left else out
        window_sums(source, step, taps, count, target, spare, other)
        source, step, count = middle, pitch, rows * pitch


@compiled
def fill_margins(row, radius, width, replicate):
    """Write the margins of one row of a strip: copies of its first and last pixel, or zeros."""
    left, right = row[radius], row[radius + width - 1]
    for i in range(radius):
        row[i] = left if replicate else 0
        row[radius + width + i] = right if replicate else 0


@compiled
def fold_margins(row, radius, width):
    """Adjoint of `fill_margins` with copies: add the margins to the pixels that they were copies of."""
    for i in range(radius):
        row[radius] += row[i]
        row[radius + width - 1] += row[radius + width + i]


@compiled
def add(total, more, count):
    """``total[i] += more[i]`` for i < ``count``."""
    for i in range(count):
        total[i] += more[i]


def geometry(radius: int, splitter: str, box: bool) -> tuple[np.ndarray, np.ndarray, int]:
    """The windows of a splitter, or of the square around a pixel (``box``).

    Returns:
        The axes (dy, dx), ``[A, 2]``; where the first pixel of its window lies as seen from a pixel, for each direction
        of an axis, (dy, dx), ``[A, 2, 2]``, for a box ``[1, 1, 2]``; and the taps of a window.
    """
    if box:
        return np.array([(1, 1)]), np.array([[(-radius, -radius)]]), 2 * radius + 1
    # A window is the ray of its first pixel, and the opposite ray of its last.
    origins = [[(0, 0), (-dy * radius, -dx * radius)] for dy, dx in axes_of(splitter)]
    return np.array(axes_of(splitter)), np.array(origins), radius + 1


def strip_rows(pitch: int, taps: int, height: int) -> int:
    """Rows of a strip: few enough for the cache, but many compared with those that two strips share."""
    return min(max(4 * (taps - 1), 8, STRIP_SIZE // pitch), max(1, height))
