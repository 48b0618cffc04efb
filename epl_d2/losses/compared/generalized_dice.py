"""Generalized Dice loss (Sudre et al. 2017, arXiv 1707.03237)."""

from torch import Tensor

from ..arguments import check_inputs
from ..probabilities import class_masks, full_precision, valid_probabilities


def generalized_dice_loss(logits: Tensor, labels: Tensor, *, ignore_value: int = 255) -> Tensor:
    """1 - 2 sum_k w_k sum_x y_k p_k / sum_k w_k sum_x (y_k + p_k), with w_k = 1 / (sum_x y_k)^2.

    y are the one-hot labels, p = softmax(logits). The inner sums run over all pixels of the batch that take part, the
    outer ones over the classes that occur among them: the weight of an absent class would be infinite.

    Args:
        logits: ``[N, K, H, W]``, any floating-point type. Computed in float32 (float64 for float64), autocast off.
        labels: ``[N, H, W]``, any integer type, values 0..K-1 or ``ignore_value``.
        ignore_value: the label of pixels that take no part.

    Returns:
        Scalar in [0, 1], float32 (float64 for float64 logits). 0 for a perfect prediction, and if no pixel takes part.

    Raises:
        ValueError: labels do not fit the logits.

    Example:
        >>> labels = torch.eye(4, dtype=torch.long)[None]
        >>> generalized_dice_loss(100.0 * torch.stack((1 - labels, labels), dim=1), labels).item()
        0.0
    """
    labels = check_inputs(logits, labels, ignore_value)
    with full_precision(logits) as logits:
        p, _ = valid_probabilities(logits, labels, ignore_value)
        y = class_masks(labels, logits.shape[1], ignore_value)
        volume = y.sum(dim=(0, 2, 3)).to(p.dtype)
        # Relative to the rarest class, the largest weight is 1: no underflow, and the quotient is the same.
        rarest = volume.masked_fill(volume == 0, float("inf")).amin()
        weight = (rarest / volume).square().masked_fill(volume == 0, 0.0)
        total = volume + p.sum(dim=(0, 2, 3))
        common = (p * y).sum(dim=(0, 2, 3))
        # The denominator is at least the volume of the rarest class, so 1 is only met where there is nothing.
        return (weight * (total - 2 * common)).sum() / (weight * total).sum().clamp(min=1)
