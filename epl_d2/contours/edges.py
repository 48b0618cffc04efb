"""The two edge maps of GSCNN (arXiv 1907.05740), in pure NumPy and OpenCV: contours of the labels and of the picture.

They are computed in the loader's workers (`epl_d2/data/maps.py`) or, where the loader computed none, by the head.
"""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["canny_edges", "canny_of_normalized", "label_edges"]

_EDGE_RADIUS = 2
_CANNY_THRESHOLDS = (10, 100)
# One offset (dy, dx) of each pair of opposite ones within the radius.
_OFFSETS = [
    (dy, dx)
    for dy in range(_EDGE_RADIUS + 1)
    for dx in range(-_EDGE_RADIUS, _EDGE_RADIUS + 1)
    if (dy > 0 or dx > 0) and dy * dy + dx * dx <= _EDGE_RADIUS**2
]


def label_edges(labels: np.ndarray, *, ignore_value: int = 255, all_classes: bool = False) -> np.ndarray:
    """Pixels within a Euclidean distance of 2 pixels of the contour of a class, on both of its sides.

    A pixel of class c is one if a pixel outside of c is that near, and a pixel outside of c if one of c is. What
    lies outside of the image belongs to no class, so that the image border is a contour; ignored pixels belong to none
    either.

    Args:
        labels: [H, W] class ids or `ignore_value`.
        ignore_value: see above.
        all_classes: False: class 0 has no contour of its own, as in the reference implementation.

    Returns:
        uint8 [H, W]: 1 on edges, else 0.
    """
    height, width = labels.shape
    radius = _EDGE_RADIUS
    labels = np.pad(labels, radius, constant_values=ignore_value)
    has_contour = labels != ignore_value
    if not all_classes:
        has_contour &= labels != 0
    edges = np.zeros(labels.shape, bool)
    for dy, dx in _OFFSETS:
        here = slice(0, height + 2 * radius - dy), slice(max(0, -dx), width + 2 * radius - max(0, dx))
        there = slice(dy, None), slice(max(0, dx), width + 2 * radius - max(0, -dx))
        near = (labels[here] != labels[there]) & (has_contour[here] | has_contour[there])
        edges[here] |= near
        edges[there] |= near
    return edges[radius:-radius, radius:-radius].astype(np.uint8)


def canny_edges(image: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Canny's edges of a picture as the model sees it, see :func:`canny_of_normalized`.

    Args:
        image: uint8 [H, W, 3].
        mean, std: [3], those of the model.

    Returns:
        uint8 [1, H, W], 0 or 255.
    """
    mean, std = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    return canny_of_normalized((image.astype(np.float32) - mean) / std)


def canny_of_normalized(image: np.ndarray) -> np.ndarray:
    """Canny's edges (thresholds 10 and 100) of a normalized picture that is cast to bytes.

    The cast is the reference implementation's: with ImageNet's statistics, it leaves the values 0, 1, 2, 254 and 255,
    since fractions are cut off and negative numbers wrap around, so that the edges are the places where the picture
    crosses -1. Trained GSCNNs expect these edges.

    Args:
        image: float [H, W, 3].

    Returns:
        uint8 [1, H, W], 0 or 255.
    """
    as_bytes = np.ascontiguousarray(image.astype(np.int64).astype(np.uint8))  # by way of integers, to wrap everywhere
    return cv2.Canny(as_bytes, *_CANNY_THRESHOLDS)[None]
