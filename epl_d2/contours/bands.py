"""The inner band along the contour of one mask, as Boundary IoU counts it (Cheng et al. 2021, arXiv 2103.16562).

Shape shorthand in this module:

    H, W: height and width of the picture, in pixels
"""

from __future__ import annotations

import math
from numbers import Real

import cv2
import numpy as np

__all__ = ["DILATION_RATIO", "band_width", "check_dilation_ratio", "inner_band"]

# Width of the band as a part of the image's diagonal, as published.
DILATION_RATIO = 0.02


def check_dilation_ratio(ratio: float) -> float:
    """Raise ValueError unless it is a part of a diagonal; returns it."""
    if isinstance(ratio, bool) or not isinstance(ratio, Real) or not 0 < ratio <= 1:
        raise ValueError(f"dilation_ratio is {ratio!r}, expected a part of the diagonal in (0, 1]")
    return float(ratio)


def band_width(height: int, width: int, dilation_ratio: float = DILATION_RATIO) -> int:
    """Pixels of a band: `dilation_ratio` of the image's diagonal, rounded (halves to even), at least 1."""
    return max(1, round(dilation_ratio * math.hypot(height, width)))


def inner_band(mask: np.ndarray, distance: int) -> np.ndarray:
    """The pixels of a mask within Chebyshev `distance` of a pixel outside of it; outside the image is outside.

    Args:
        mask: bool or uint8 [H, W], a whole image or any part of it that the mask does not leave.
        distance: pixels, at least 1.

    Returns:
        bool [H, W].
    """
    mask = np.ascontiguousarray(mask, dtype=np.uint8)
    side = 2 * distance + 1
    # Zeros all around: OpenCV's own frame for erosions counts as inside.
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    inside = cv2.erode(padded, np.ones((side, side), dtype=np.uint8))[1:-1, 1:-1]
    return (mask != 0) & (inside == 0)
