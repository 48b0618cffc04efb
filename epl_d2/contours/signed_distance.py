"""The signed distance maps of a label map's classes, for the boundary loss."""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["distance_to", "signed_distance"]


def signed_distance(label: np.ndarray, num_classes: int, ignore_value: int = 255) -> np.ndarray:
    """Euclidean distance of every pixel to the contour of every class, negative inside (Kervadec et al. 2019).

    Outside class k: the distance to its nearest pixel, at least 1. Inside: minus the distance to the nearest pixel of
    another class, plus 1, so that the outermost pixels of the class have 0. That is the convention of the paper's
    code. Ignored pixels belong to no class: they end neither a class nor its outside.

    Args:
        label: integers [h, w], 0..num_classes-1 or `ignore_value`.
        num_classes: K.
        ignore_value: the label of pixels that belong to no class.

    Returns:
        float16 [K, h, w] in pixels (exact distances, rounded to 11 bits). 0 everywhere for a class that is absent, and
        for one beside which there is no other.
    """
    maps = np.zeros((num_classes, *label.shape), dtype=np.float16)
    valid = label != ignore_value
    present = np.unique(label[valid])
    if len(present) < 2:
        return maps
    for category in present:
        inside = label == category
        maps[category] = np.where(inside, 1 - distance_to(valid & ~inside), distance_to(inside))
    return maps


def distance_to(mask: np.ndarray) -> np.ndarray:
    """Exact distance of every pixel to the nearest True, float32 [h, w]."""
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
