"""Cross entropy on the band around the contours: what any emphasis of contours is to be measured against."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..arguments import check_inputs, check_number
from ..probabilities import full_precision
from .active_boundary import check_distances


def check_band_arguments(width: float) -> None:
    """Raise ValueError for a setting out of range."""
    check_number("width", width, lambda x: x > 0, "a number above 0")


def band_cross_entropy(
    logits: Tensor, labels: Tensor, distances: Tensor, *, width: float = 3.0, ignore_value: int = 255
) -> Tensor:
    """Mean cross entropy of the pixels nearer than ``width`` to the contour of the labels.

    Args:
        logits: ``[N, K, H, W]``, any floating-point type. Computed in float32 (float64 for float64), autocast off.
        labels: ``[N, H, W]``, any integer type, values 0..K-1 or ``ignore_value``.
        distances: ``[N, H, W]``, floating point, of each pixel to the contour of the labels in pixels, 0 on both of its
            sides and 0 everywhere in an image without one, see `epl_d2.contours.contour_distance`.
        width: of the band on either side of a contour, in pixels, above 0.
        ignore_value: the label of pixels that take no part.

    Returns:
        Scalar, float32 (float64 for float64 logits). An exact 0 if no pixel takes part; images without a contour have
        none.

    Raises:
        ValueError: width is out of range, or labels or distances do not fit the logits.

    Example:
        >>> logits, labels = torch.zeros(1, 2, 1, 4), torch.tensor([[[0, 0, 1, 1]]])
        >>> round(band_cross_entropy(logits, labels, torch.tensor([[[1.0, 0.0, 0.0, 1.0]]]), width=1).item(), 4)
        0.6931
    """
    check_band_arguments(width)
    labels = check_inputs(logits, labels, ignore_value)
    check_distances(distances, labels)
    with full_precision(logits) as logits:
        if labels.numel() == 0:
            return logits.sum()
        valid = labels != ignore_value
        with_contour = (distances > 0).flatten(1).any(1)[:, None, None]
        band = valid & with_contour & (distances < width)
        cost = F.cross_entropy(torch.where(valid.unsqueeze(1), logits, 0), labels.where(valid, 0), reduction="none")
        return torch.where(band, cost, 0.0).sum() / band.sum().clamp(min=1)
