"""The distance of every pixel to the contour of a label map, for the active boundary loss."""

from __future__ import annotations

import numpy as np

from .signed_distance import distance_to

__all__ = ["contour_distance"]


def contour_distance(label: np.ndarray, ignore_value: int = 255) -> np.ndarray:
    """Euclidean distance to the nearest contour pixel: one with a 4-neighbour of another class.

    Ignored pixels belong to no class and make no contour.

    Args:
        label: integers [h, w].
        ignore_value: the label of pixels that belong to no class.

    Returns:
        float32 [h, w] in pixels, exact; 0 on the contour, and everywhere if there is none.
    """
    contour = np.zeros(label.shape, dtype=bool)
    for here, beside in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        first, second = label[here], label[beside]
        differ = (first != second) & (first != ignore_value) & (second != ignore_value)
        contour[here] |= differ
        contour[beside] |= differ
    if not contour.any():
        return np.zeros(label.shape, dtype=np.float32)
    return distance_to(contour)
