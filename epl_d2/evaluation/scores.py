"""All scores of one prediction in one call."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..contours.nearest import MAX_DISTANCE
from .boundary_statistics import DEFAULT_WIDTHS, BoundaryStatistics

__all__ = ["boundary_scores"]


def boundary_scores(
    prediction: np.ndarray,
    target: np.ndarray,
    num_classes: int,
    *,
    widths: Iterable[int] = DEFAULT_WIDTHS,
    ignore_value: int = 255,
    ignore_mode: str = "ignore",
    trimap: str = "label-change",
    ignore_distance: int = MAX_DISTANCE,
) -> dict[str, float | np.ndarray]:
    """Every score of a prediction, or of a batch as if it were a data set.

    For more images than fit into memory, feed a :class:`BoundaryStatistics`, which adds up counts.

    Args:
        prediction: [H,W] or [N,H,W] integers 0..K-1; where the target is ignored, anything.
        target: of the same shape, integers 0..K-1 or ``ignore_value``.
        num_classes: K.
        widths, ignore_value, ignore_mode, trimap, ignore_distance: see :class:`BoundaryStatistics`.

    Returns:
        What :meth:`BoundaryStatistics.compute` gives: fractions in [0, 1], NaN where undefined.

    Raises:
        ValueError: an argument is none of these; the message names it.

    Example:
        >>> import numpy as np
        >>> target = np.zeros((8, 8), np.uint8)
        >>> target[2:6, 2:6] = 1
        >>> prediction = np.roll(target, 1, axis=1)  # the square is one pixel too far to the right
        >>> scores = boundary_scores(prediction, target, num_classes=2, widths=[1, 2])
        >>> round(scores["mIoU"], 3)
        0.723
        >>> scores["boundary_f"]
        array([1., 1.])
    """
    statistics = BoundaryStatistics(num_classes, widths, ignore_value, ignore_mode, trimap, ignore_distance)
    statistics.update(prediction, target)
    return statistics.compute()
