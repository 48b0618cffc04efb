"""Exact squared Euclidean distances up to a limit, for every pixel of an image.

First along the columns, then along the rows, as separable distance transforms do. Within a limit the second step needs
no lower envelope: trying every offset keeps the arithmetic in 16 bits and lets the compiler handle many pixels at once.
"""

from __future__ import annotations

import numpy as np

from ..compilation import compiled


def far_seeds(shape: tuple[int, int], limit: int) -> np.ndarray:
    """An image [H,W] without seeds (all ``limit``), of the narrowest dtype that the distances fit in."""
    dtype = np.uint16 if 2 * limit * limit < 1 << 16 else np.int32
    return np.full(shape, limit, dtype)


def spread_square_distances(seeds: np.ndarray, limit: int) -> None:
    """Replace ``seeds`` [H,W], 0 or ``limit``, by the squared distance to the nearest 0, at most ``limit`` squared."""
    _spread_along_columns(seeds)
    # A row with a margin on each side, so that no offset needs a test.
    _spread_along_rows(seeds, limit, np.full(seeds.shape[1] + 2 * limit, limit * limit, seeds.dtype))


@compiled
def _spread_along_columns(gaps):  # pragma: no cover - compiled
    height = gaps.shape[0]
    for y in range(1, height):
        _step(gaps[y - 1], gaps[y])
    for y in range(height - 2, -1, -1):
        _step(gaps[y + 1], gaps[y])


@compiled
def _step(previous, row):  # pragma: no cover - compiled
    kind = row.dtype.type
    one = kind(1)
    for x in range(row.size):
        value = kind(previous[x] + one)
        row[x] = value if value < row[x] else row[x]


@compiled
def _spread_along_rows(gaps, limit, squares):  # pragma: no cover - compiled
    height, width = gaps.shape
    kind = gaps.dtype.type
    for y in range(height):
        row = gaps[y]
        for x in range(width):
            row[x] = kind(row[x] * row[x])
            squares[limit + x] = row[x]
        for step in range(1, limit):
            left, right = squares[limit - step : limit - step + width], squares[limit + step : limit + step + width]
            rise = kind(step * step)
            for x in range(width):
                value = left[x] if left[x] < right[x] else right[x]
                value = kind(value + rise)
                row[x] = value if value < row[x] else row[x]
