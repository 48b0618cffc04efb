"""Euclidean distances to contours and classes, in pixels."""

from __future__ import annotations

import cv2
import numpy as np

from .lines import contour_sides

__all__ = ["contour_distance", "distance_to", "signed_distance", "within"]


def distance_to(mask: np.ndarray) -> np.ndarray:
    """Exact distance of every pixel to the nearest True of a boolean map, float32 [H, W]; infinite if there is none."""
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def within(mask: np.ndarray, distance: int) -> np.ndarray:
    """Boolean map [H, W] of the pixels within a distance of some pixels of a boolean map.

    The same as ``distance_to(mask) <= distance``, and faster where the distance is small.
    """
    if distance == 0:
        return mask.copy()
    offsets = np.arange(-distance, distance + 1)
    disc = (offsets[:, None] ** 2 + offsets[None, :] ** 2 <= distance**2).astype(np.uint8)
    return cv2.dilate(mask.astype(np.uint8), disc).astype(bool)


def contour_distance(labels: np.ndarray, ignore_value: int = 255) -> np.ndarray:
    """Distance to the nearest pixel beside a contour, for the active boundary loss.

    Args:
        labels: integer label map [H, W].
        ignore_value: the label of pixels that belong to no class and make no contour.

    Returns:
        float32 [H, W], exact; 0 beside the contours, and everywhere if there are none.
    """
    sides = contour_sides(labels, ignore_value)
    return distance_to(sides) if sides.any() else np.zeros(labels.shape, dtype=np.float32)


def signed_distance(labels: np.ndarray, num_classes: int, ignore_value: int = 255) -> np.ndarray:
    """Distance of every pixel to the contour of every class, negative inside, for the boundary loss of Kervadec et al.
    (2019).

    Outside class k: the distance to its nearest pixel, at least 1. Inside: minus the distance to the nearest pixel of
    another class, plus 1, so that the outermost pixels of the class have 0. That is the convention of the paper's
    code. Ignored pixels belong to no class: they end neither a class nor its outside.

    Args:
        labels: integer label map [H, W], 0..num_classes-1 or `ignore_value`.
        num_classes: K.
        ignore_value: the label of pixels that belong to no class.

    Returns:
        float16 [K, H, W] (exact distances, rounded to 11 bits). 0 everywhere for a class that is absent, and for one
        beside which there is no other.
    """
    maps = np.zeros((num_classes, *labels.shape), dtype=np.float16)
    valid = labels != ignore_value
    present = np.unique(labels[valid])
    if len(present) < 2:
        return maps
    for class_id in present:
        inside = labels == class_id
        maps[class_id] = np.where(inside, 1 - distance_to(valid & ~inside), distance_to(inside))
    return maps
