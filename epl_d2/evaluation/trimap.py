"""Counts of right and wrong pixels in bands around the target's contours (trimap IoU).

Shape shorthand in this module:

    H, W: image size
    K: number of classes
    D: number of widths
"""

from __future__ import annotations

import cv2
import numpy as np

from ..compilation import compiled
from .distances import far_seeds, spread_square_distances


@compiled
def _seed_label_changes(target, void, seeds):  # pragma: no cover - compiled
    """Set ``seeds`` [H,W] to 0 at valid pixels that have a valid 4-neighbor of another label."""
    height, width = target.shape
    kind = seeds.dtype.type
    zero, void = kind(0), target.dtype.type(void)
    for y in range(height):
        row, above, below, out = target[y], target[max(y - 1, 0)], target[min(y + 1, height - 1)], seeds[y]
        for x in range(width):
            vertical = ((above[x] != row[x]) & (above[x] != void)) | ((below[x] != row[x]) & (below[x] != void))
            out[x] = zero if vertical & (row[x] != void) else out[x]
        for x in range(width - 1):
            if (row[x] != row[x + 1]) & (row[x] != void) & (row[x + 1] != void):
                out[x] = zero
                out[x + 1] = zero


@compiled
def _count_bands(prediction, target, void, distances, band_of_distance, counts):  # pragma: no cover - compiled
    """Count pixels by the first band that holds them: [3,D,K] right, missed (target), wrong (prediction)."""
    height, width = target.shape
    outside = counts.shape[1]
    for y in range(height):
        for x in range(width):
            band = band_of_distance[distances[y, x]]
            label = target[y, x]
            if band == outside or label == void:
                continue
            predicted = prediction[y, x]
            if predicted == label:
                counts[0, band, label] += 1
            else:
                counts[1, band, label] += 1
                counts[2, band, predicted] += 1


def _void_distances(target: np.ndarray, void: int, far: int) -> np.ndarray:
    """Chebyshev distance [H,W] to the nearest void pixel, at most ``far``."""
    labeled = (target != void).astype(np.uint8)
    if labeled.all():
        return np.full(target.shape, far, np.int32)
    return np.minimum(cv2.distanceTransform(labeled, cv2.DIST_C, 3), far).astype(np.int32)


def count_trimap(
    prediction: np.ndarray, target: np.ndarray, num_classes: int, widths: np.ndarray, void: int, trimap: str
) -> np.ndarray:
    """Count, for each band, the pixels of each class that prediction and target share, and all that each has.

    Args:
        prediction, target: [H,W] of the same unsigned dtype, C-contiguous, values 0..K-1 or ``void``.
        num_classes: K.
        widths: [D] int64, ascending and unique, pixels.
        void: the value that marks ignored pixels in both maps; they are in no band.
        trimap: ``"label-change"``: the band at d holds the pixels nearer than d (Euclidean) to a valid
            target pixel that has a valid 4-neighbor of another label. ``"void"``: the pixels within a
            (2d+1)-square of an ignored pixel, as the void rims of PASCAL VOC are used.

    Returns:
        counts [3,K,D] int64: shared pixels, target pixels, predicted pixels.
    """
    if trimap == "void":
        far = int(widths[-1]) + 1
        distances = _void_distances(target, void, far)
        band_of_distance = np.searchsorted(widths, np.arange(far + 1))
    else:
        far = int(widths[-1])
        distances = far_seeds(target.shape, far)
        _seed_label_changes(target, void, distances)
        spread_square_distances(distances, far)
        band_of_distance = np.searchsorted(widths * widths, np.arange(far * far + 1), side="right")
    counts = np.zeros((3, widths.size, num_classes), np.int64)
    _count_bands(prediction, target, void, distances, band_of_distance, counts)
    right, missed, wrong = counts.cumsum(axis=1).transpose(0, 2, 1)
    return np.stack([right, right + missed, right + wrong])
