"""The contours of a label map as pixels: lines of one pixel, and the pixels on both sides."""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["check_label_map", "class_line", "complete_blocks", "contour_line", "contour_sides"]


def contour_line(labels: np.ndarray, width: int = 1, ignore_value: int = 255) -> np.ndarray:
    """Pixels at which the label changes.

    A pixel is on the line where its label differs from that of its east, south or south-east neighbor
    inside the picture (the rule of the DAVIS benchmark), and none of the four is ignored: the frame of the
    picture and the rim of an ignored area are no contours.

    Args:
        labels: integer label map [H, W].
        width: width of the line in pixels; above 1 the line is dilated, but never onto ignored pixels.
        ignore_value: label that takes no part.

    Returns:
        Boolean map [H, W].
    """
    check_label_map("labels", labels)
    if width < 1:
        raise ValueError(f"width must be at least 1 pixel, got {width}")
    valid = labels != ignore_value
    changed = _changes(labels) & complete_blocks(valid)
    if width == 1:
        return changed
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    return cv2.dilate(changed.astype(np.uint8), brush).astype(bool) & valid


def class_line(labels: np.ndarray, class_id: int) -> np.ndarray:
    """Pixels [H, W] at which membership in a class changes, by the rule of :func:`contour_line`; ignores nothing."""
    return _changes(labels == class_id)


def complete_blocks(valid: np.ndarray) -> np.ndarray:
    """Pixels [H, W] that are valid together with their east, south and south-east neighbors."""
    east, south, south_east = _forward_neighbors(valid)
    return valid & east & south & south_east


def contour_sides(labels: np.ndarray, ignore_value: int = 255) -> np.ndarray:
    """Pixels with a 4-neighbor of another class, on both sides of each contour.

    Ignored pixels belong to no class and make no contour.

    Args:
        labels: integer label map [H, W].
        ignore_value: label that takes no part.

    Returns:
        Boolean map [H, W].
    """
    sides = np.zeros(labels.shape, dtype=bool)
    for here, beside in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        first, second = labels[here], labels[beside]
        differ = (first != second) & (first != ignore_value) & (second != ignore_value)
        sides[here] |= differ
        sides[beside] |= differ
    return sides


def check_label_map(name: str, labels: np.ndarray) -> None:
    """Raise a ValueError that names the argument unless it is a non-empty integer map [H, W]."""
    if labels.ndim != 2 or labels.size == 0 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{name} must be an integer map [H, W], got {labels.dtype} of shape {labels.shape}")


def _forward_neighbors(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """East, south and south-east neighbors; beyond the frame the last row or column stands for itself."""
    padded = np.pad(values, ((0, 1), (0, 1)), mode="edge")
    return padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]


def _changes(values: np.ndarray) -> np.ndarray:
    east, south, south_east = _forward_neighbors(values)
    return (values != east) | (values != south) | (values != south_east)
