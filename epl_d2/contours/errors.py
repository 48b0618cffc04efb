"""Which contours of the target a prediction finds, misses or invents."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .distances import within
from .lines import check_label_map, class_line, complete_blocks

__all__ = ["BoundaryErrors", "boundary_errors"]


class BoundaryErrors(NamedTuple):
    """Three boolean maps [H, W] that compare the contours of a prediction with those of its target."""

    matched: np.ndarray
    """Target contour that the prediction follows within the tolerance."""
    missed: np.ndarray
    """Target contour of a class without a predicted contour of that class nearby."""
    extra: np.ndarray
    """Predicted contour of a class without a target contour of that class nearby."""


def boundary_errors(
    target: np.ndarray, prediction: np.ndarray, tolerance: int = 2, ignore_value: int = 255
) -> BoundaryErrors:
    """Compare contours class by class, as the boundary F-measure does.

    A contour pixel of a class is right if the other map has a contour pixel of the *same* class within
    `tolerance` pixels (Euclidean); so two contours at the same place between other classes do not match.

    Args:
        target: label map [H, W]; pixels of `ignore_value` take no part in either map.
        prediction: label map [H, W].
        tolerance: matching distance in pixels, at least 0.
        ignore_value: label of the target that takes no part.
    """
    check_label_map("target", target)
    check_label_map("prediction", prediction)
    if target.shape != prediction.shape:
        raise ValueError(f"target and prediction differ in shape: {target.shape} and {prediction.shape}")
    if tolerance < 0:
        raise ValueError(f"tolerance must be at least 0 pixels, got {tolerance}")
    blocks = complete_blocks(target != ignore_value)
    on_target, missed, extra = (np.zeros(target.shape, dtype=bool) for _ in range(3))
    for class_id in np.union1d(np.unique(target), np.unique(prediction)):
        if class_id == ignore_value:
            continue
        target_line = class_line(target, class_id) & blocks
        predicted_line = class_line(prediction, class_id) & blocks
        on_target |= target_line
        missed |= target_line & ~within(predicted_line, tolerance)
        extra |= predicted_line & ~within(target_line, tolerance)
    return BoundaryErrors(matched=on_target & ~missed, missed=missed, extra=extra)
