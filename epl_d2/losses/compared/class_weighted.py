"""Cross entropy with a weight for each class: what any gain of rare classes is to be measured against."""

import math
from collections.abc import Collection, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..arguments import check_inputs, check_number
from ..probabilities import full_precision


def check_class_weights(class_weights: Sequence[float]) -> None:
    """Raise ValueError unless there are weights, all of them finite and above 0."""
    if not isinstance(class_weights, Collection) or len(class_weights) == 0:
        raise ValueError(f"class_weights must hold a number for each class, got {class_weights!r}")
    for weight in class_weights.tolist() if isinstance(class_weights, Tensor) else class_weights:
        check_number("class_weights", weight, lambda x: 0 < x < math.inf, "finite and above 0")


def class_weighted_cross_entropy(
    logits: Tensor, labels: Tensor, *, class_weights: Sequence[float] = (), ignore_value: int = 255
) -> Tensor:
    """Mean over pixels of w_k times the cross entropy, k the pixel's class.

    The sum is divided by the pixels that take part, not by their weights as in PyTorch: a batch with rare classes pulls
    harder. `tools/find_class_weights.py` gives weights whose mean over the training pixels is 1.

    Args:
        logits: ``[N, K, H, W]``, any floating-point type. Computed in float32 (float64 for float64), autocast off.
        labels: ``[N, H, W]``, any integer type, values 0..K-1 or ``ignore_value``.
        class_weights: K numbers, finite and above 0.
        ignore_value: the label of pixels that take no part.

    Returns:
        Scalar, float32 (float64 for float64 logits). An exact 0 if no pixel takes part.

    Raises:
        ValueError: there is not one weight for each class, or labels do not fit the logits.

    Example:
        >>> logits, labels = torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]])
        >>> round(class_weighted_cross_entropy(logits, labels, class_weights=(0.5, 2.5)).item(), 4)  # 1.5 log(2)
        1.0397
    """
    check_class_weights(class_weights)
    labels = check_inputs(logits, labels, ignore_value)
    if len(class_weights) != logits.shape[1]:
        raise ValueError(f"class_weights must hold {logits.shape[1]} numbers, one for each class, got {class_weights}")
    with full_precision(logits) as logits:
        if labels.numel() == 0:
            return logits.sum()
        valid = labels != ignore_value
        weights = torch.tensor(class_weights, dtype=logits.dtype, device=logits.device)
        logits, labels = torch.where(valid.unsqueeze(1), logits, 0), labels.where(valid, 0)
        cost = F.cross_entropy(logits, labels, reduction="none") * weights[labels]
        return torch.where(valid, cost, 0.0).sum() / valid.sum().clamp(min=1)
