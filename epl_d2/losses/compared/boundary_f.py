"""Surrogate of the boundary F-measure (Bokhovkin and Burnaev 2019, arXiv 1905.07852)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..arguments import check_inputs, check_integer
from ..probabilities import class_masks, full_precision, valid_probabilities


def check_boundary_f_arguments(tolerance: int) -> None:
    """Raise ValueError for a setting out of range."""
    check_integer("tolerance", tolerance, minimum=0)


def boundary_f_loss(logits: Tensor, labels: Tensor, *, tolerance: int = 3, ignore_value: int = 255) -> Tensor:
    """One minus a differentiable boundary F-measure, mean over the classes of the images that have a contour.

    The boundary of a map m, labels y or probabilities p of a class, is b(m) = max of (1 - m) over 3 x 3 pixels, minus
    (1 - m): pixels of the class beside others. Grown by ``tolerance``, it is e(m) = max of b(m) over a square. Then
    P = sum b(p) e(y) / sum b(p), R = sum b(y) e(p) / sum b(y), and F = 2 P R / (P + R). Ignored pixels are part of no
    square, as if the image ended there.

    Args:
        logits: ``[N, K, H, W]``, any floating-point type. Computed in float32 (float64 for float64), autocast off.
        labels: ``[N, H, W]``, any integer type, values 0..K-1 or ``ignore_value``.
        tolerance: in pixels, at least 0: the square has 2 tolerance + 1. The paper has 2 (a square of 5).
        ignore_value: the label of pixels that take no part.

    Returns:
        Scalar in [0, 1], float32 (float64 for float64 logits). An exact 0 if no class has a contour.

    Raises:
        ValueError: tolerance is out of range, or labels do not fit the logits.

    Example:
        >>> labels = torch.tensor([[[0, 0, 0, 1, 1, 1]]])
        >>> round(boundary_f_loss(100.0 * torch.stack((1 - labels, labels), dim=1), labels).item(), 4)
        0.0
    """
    check_boundary_f_arguments(tolerance)
    labels = check_inputs(logits, labels, ignore_value)
    with full_precision(logits) as logits:
        if labels.numel() == 0:
            return logits.sum()
        p, valid = valid_probabilities(logits, labels, ignore_value)
        predicted = _boundary(p, valid)
        true = _boundary(class_masks(labels, logits.shape[1], ignore_value).to(p.dtype), valid)
        hits, found = (
            (predicted * _largest(true, tolerance)).sum((2, 3)),
            (true * _largest(predicted, tolerance)).sum((2, 3)),
        )
        length, true_length = predicted.sum((2, 3)), true.sum((2, 3))
        # 2 P R / (P + R) without a division by a length of 0.
        denominator = hits * true_length + found * length
        f = 2 * hits * found / torch.where(denominator > 0, denominator, 1.0)
        rows = true_length > 0
        return torch.where(rows, 1 - f, 0.0).sum() / rows.sum().clamp(min=1)


def _boundary(m: Tensor, valid: Tensor) -> Tensor:
    """b(m) of maps ``[N, K, H, W]``, 0 where not valid ``[N, 1, H, W]``."""
    # -1 is below every 1 - m.
    others = torch.where(valid, 1 - m, -1.0)
    return torch.where(valid, _largest(others, 1) - others, 0.0)


def _largest(x: Tensor, radius: int) -> Tensor:
    """Maximum over squares of 2 radius + 1 pixels, one axis after the other."""
    return _largest_of_rows(_largest_of_rows(x, radius).transpose(2, 3), radius).transpose(2, 3).contiguous()


def _largest_of_rows(x: Tensor, radius: int) -> Tensor:
    """Maximum over 2 radius + 1 rows.

    Columns are the channels of the pooling, and channels come last: only then is PyTorch's CPU kernel vectorized.
    """
    n, k, h, w = x.shape
    columns = x.contiguous().view(n * k, h, 1, w).permute(0, 3, 1, 2)
    return F.max_pool2d(columns, (2 * radius + 1, 1), 1, (radius, 0)).permute(0, 2, 3, 1).reshape(n, k, h, w)
