"""Contours of label maps, and which of them a prediction finds, misses or invents."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np


class BoundaryErrors(NamedTuple):
    """Three boolean maps [H, W] that compare the contours of a prediction with those of its target."""

    matched: np.ndarray
    """Target contour that the prediction follows within the tolerance."""
    missed: np.ndarray
    """Target contour of a class without a predicted contour of that class nearby."""
    extra: np.ndarray
    """Predicted contour of a class without a target contour of that class nearby."""


def contours(labels: np.ndarray, width: int = 1, ignore_value: int = 255) -> np.ndarray:
    """Pixels at which the label changes.

    A pixel is on a contour where its label differs from that of its east, south or south-east neighbour
    inside the picture (the rule of the DAVIS benchmark), and none of the four is ignored: the frame of the
    picture and the rim of an ignored area are no contours.

    Args:
        labels: integer label map [H, W].
        width: width of the contour in pixels; above 1 the contour is dilated, but never onto ignored pixels.
        ignore_value: label that takes no part.

    Returns:
        Boolean map [H, W].
    """
    check_label_map("labels", labels)
    if width < 1:
        raise ValueError(f"width must be at least 1 pixel, got {width}")
    valid = labels != ignore_value
    east, south, south_east = _forward_neighbours(labels)
    changed = (labels != east) | (labels != south) | (labels != south_east)
    changed &= _valid_blocks(valid)
    if width == 1:
        return changed
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    return cv2.dilate(changed.astype(np.uint8), brush).astype(bool) & valid


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
    blocks = _valid_blocks(target != ignore_value)
    on_target, missed, extra = (np.zeros(target.shape, dtype=bool) for _ in range(3))
    for label in np.union1d(np.unique(target), np.unique(prediction)):
        if label == ignore_value:
            continue
        true_contour = _mask_contour(target == label) & blocks
        predicted_contour = _mask_contour(prediction == label) & blocks
        on_target |= true_contour
        missed |= true_contour & ~within(predicted_contour, tolerance)
        extra |= predicted_contour & ~within(true_contour, tolerance)
    return BoundaryErrors(matched=on_target & ~missed, missed=missed, extra=extra)


def within(mask: np.ndarray, distance: int) -> np.ndarray:
    """Boolean map [H, W] of the pixels within a Euclidean distance (in pixels) of a boolean mask."""
    if distance == 0:
        return mask.copy()
    offsets = np.arange(-distance, distance + 1)
    disc = (offsets[:, None] ** 2 + offsets[None, :] ** 2 <= distance**2).astype(np.uint8)
    return cv2.dilate(mask.astype(np.uint8), disc).astype(bool)


def check_label_map(name: str, labels: np.ndarray) -> None:
    """Raise a ValueError that names the argument unless it is a non-empty integer map [H, W]."""
    if labels.ndim != 2 or labels.size == 0 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{name} must be an integer map [H, W], got {labels.dtype} of shape {labels.shape}")


def _forward_neighbours(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """East, south and south-east neighbours; beyond the frame the last row or column stands for itself."""
    padded = np.pad(values, ((0, 1), (0, 1)), mode="edge")
    return padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]


def _mask_contour(mask: np.ndarray) -> np.ndarray:
    east, south, south_east = _forward_neighbours(mask)
    return (mask ^ east) | (mask ^ south) | (mask ^ south_east)


def _valid_blocks(valid: np.ndarray) -> np.ndarray:
    east, south, south_east = _forward_neighbours(valid)
    return valid & east & south & south_east
