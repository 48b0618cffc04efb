"""Ignored pixels as a continuation of what lies beside them: each takes the label of its nearest valid pixel.

A narrow ignored rim between two objects, as PASCAL VOC draws it, then holds a contour along its middle, and the edge of
an ignored area is none.

Shape shorthand in this module:

    H, W: image size
    F: invalid pixels that have a valid one within the distance
"""

from __future__ import annotations

import cv2
import numpy as np

from ..compilation import compiled

__all__ = ["MAX_DISTANCE", "nearest_valid", "nearest_valid_pixels"]

# VOC's rims are 5 pixels wide, so that 3 reach their middle from both sides; where rims meet they are wider, and 5 is
# the least that leaves less than 1% of VOC's contours out. What lies deeper in a wide area is anybody's guess, and a
# contour there would be an invention (docs/evaluation.md has figures).
MAX_DISTANCE = 5


def nearest_valid(labels: np.ndarray, ignore_value: int = 255, max_distance: int = MAX_DISTANCE) -> np.ndarray:
    """A copy of a label map in which ignored pixels near valid ones have the label of the nearest.

    Args:
        labels: integers [H,W].
        ignore_value: the label of ignored pixels.
        max_distance: Euclidean distance in pixels beyond which a pixel stays ignored, at least 0.

    Returns:
        [H,W] of the same dtype. Of valid pixels at one distance the first in row-major order counts.

    Raises:
        ValueError: `labels` is no integer map, or `max_distance` no such number.
    """
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be an integer map [H,W], got {labels.dtype} of shape {labels.shape}")
    filled = labels.copy(order="C")
    pixels, sources = nearest_valid_pixels(labels != ignore_value, max_distance)
    flat = filled.reshape(-1)
    flat[pixels] = flat[sources]
    return filled


def nearest_valid_pixels(valid: np.ndarray, max_distance: int = MAX_DISTANCE) -> tuple[np.ndarray, np.ndarray]:
    """For every invalid pixel near a valid one, the nearest valid pixel.

    Nearest is the valid pixel of the smallest squared distance; among those, of the smallest row; among those, of the
    smallest column.

    Args:
        valid: boolean [H,W].
        max_distance: Euclidean distance in pixels up to which a pixel is near, at least 0.

    Returns:
        Indices into the flattened map, int64 [F] each: the invalid pixels in ascending order, and their nearest valid
        pixels.

    Raises:
        ValueError: `valid` is no boolean map, or `max_distance` no such number.
    """
    if valid.ndim != 2 or valid.size == 0 or valid.dtype != bool:
        raise ValueError(f"valid must be a boolean map [H,W], got {valid.dtype} of shape {valid.shape}")
    if isinstance(max_distance, bool) or not isinstance(max_distance, (int, np.integer)) or max_distance < 0:
        raise ValueError(f"max_distance must be a whole number of pixels, at least 0, got {max_distance!r}")
    limit = min(int(max_distance), sum(valid.shape), np.iinfo(np.uint16).max - 1)  # no pixel is farther
    if valid.all():
        return np.empty(0, np.int64), np.empty(0, np.int64)
    valid = np.ascontiguousarray(valid).view(np.uint8)
    # The others cannot have a source, and would be most of the work in wide ignored areas.
    near = np.flatnonzero(cv2.dilate(valid, np.ones((2 * limit + 1, 2 * limit + 1), np.uint8)) > valid)
    # To the nearest valid pixel of the column, above and below each pixel; limit + 1 stands for any farther one.
    gaps = np.empty((2, *valid.shape), np.uint16)
    gaps[:] = np.multiply(1 - valid, limit + 1, dtype=gaps.dtype)
    sources = np.empty_like(near)
    _find_nearest(near, limit, gaps, np.empty(valid.shape[1], np.int64), sources)
    found = sources >= 0
    return near[found], sources[found]


@compiled
def _find_nearest(near, limit, gaps, steps, sources):  # pragma: no cover - compiled
    """Write the nearest valid pixel of each pixel of ``near`` [I] to ``sources`` [I], -1 if none is within ``limit``.

    ``gaps`` [2,H,W] are 0 on valid pixels and limit + 1 elsewhere, ``steps`` [W] is scratch.
    """
    _, height, width = gaps.shape
    kind = gaps.dtype.type
    above, below = gaps[0].reshape(-1), gaps[1].reshape(-1)
    for pixel in near:
        if pixel >= width:
            above[pixel] = kind(min(above[pixel - width] + 1, limit + 1))
    for pixel in near[::-1]:
        if pixel + width < height * width:
            below[pixel] = kind(min(below[pixel + width] + 1, limit + 1))
    first = 0
    while first < near.size:
        y, start = near[first] // width, near[first] % width
        most = min(width - start, near.size - first)
        count = 1
        while count < most and near[first + count] == near[first] + count:
            count += 1
        _search_run(y, start, start + count, limit, gaps[:, y], steps, sources[first : first + count])
        first += count


@compiled
def _search_run(y, start, stop, limit, gaps, steps, sources):  # pragma: no cover - compiled
    """The sources of the invalid pixels ``start`` to ``stop`` (exclusive) of row ``y``, whose ``gaps`` are [2,W].

    ``steps`` [W] is scratch: to the first column, on either side, that has a valid pixel within ``limit``.
    """
    width = steps.size
    step = 0 if start > 0 and gaps[0, start - 1] == 0 else limit
    for x in range(start, stop):
        step = 0 if min(gaps[0, x], gaps[1, x]) <= limit else step + 1
        steps[x] = step
    step = 0 if stop < width and gaps[0, stop] == 0 else limit
    for x in range(stop - 1, start - 1, -1):
        step = 0 if min(gaps[0, x], gaps[1, x]) <= limit else step + 1
        steps[x] = min(steps[x], step)
    for x in range(start, stop):
        square, best_row, best_column = limit * limit + 1, 0, 0
        step = steps[x]
        while step <= limit and step * step <= square:
            for column in (x - step, x + step):
                if column < 0 or column >= width:
                    continue
                up, down = np.int64(gaps[0, column]), np.int64(gaps[1, column])
                row, rise = (y - up, up) if up <= down else (y + down, down)
                reached = step * step + rise * rise
                nearer = reached < square
                first = reached == square and (row < best_row or (row == best_row and column < best_column))
                if rise <= limit and (nearer or first):
                    square, best_row, best_column = reached, row, column
            step += 1
        sources[x - start] = best_row * width + best_column if square <= limit * limit else -1
