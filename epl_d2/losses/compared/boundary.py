"""Boundary loss (Kervadec et al. 2019, arXiv 1812.07032), for any number of classes."""

from torch import Tensor

from ..arguments import check_field, check_inputs
from ..probabilities import full_precision, valid_probabilities


def boundary_loss(logits: Tensor, labels: Tensor, distances: Tensor, *, ignore_value: int = 255) -> Tensor:
    """Mean over classes and pixels of p_k(x) phi_k(x), p = softmax(logits), phi_k the signed distance to class k.

    phi is computed beforehand, see `epl_d2.contours.signed_distance`: in pixels, at most 0 inside the class and at
    least 1 outside, 0 everywhere for absent classes. The loss is linear in p and not bounded below by 0: its smallest
    value is the mean of phi over the target itself. The pixels that take part, times K, are what the sum is divided by.

    Args:
        logits: ``[N, K, H, W]``, any floating-point type. Computed in float32 (float64 for float64), autocast off.
        labels: ``[N, H, W]``, any integer type, values 0..K-1 or ``ignore_value``.
        distances: ``[N, K, H, W]``, any floating-point type, finite.
        ignore_value: the label of pixels that take no part.

    Returns:
        Scalar, float32 (float64 for float64 logits). An exact 0 if no pixel takes part.

    Raises:
        ValueError: labels or distances do not fit the logits.

    Example:
        >>> labels = torch.tensor([[[0, 0, 1, 1]]])
        >>> distances = torch.tensor([[[[-1.0, 0, 1, 2]], [[2.0, 1, 0, -1]]]])
        >>> boundary_loss(100.0 * torch.stack((1 - labels, labels), dim=1), labels, distances).item()
        -0.25
    """
    labels = check_inputs(logits, labels, ignore_value)
    check_field("distances", distances)
    if distances.shape != logits.shape:
        raise ValueError(f"distances must have the shape of logits, {list(logits.shape)}, got {list(distances.shape)}")
    if distances.device != logits.device:
        raise ValueError(f"distances must be on the device of logits ({logits.device}), got {distances.device}")
    with full_precision(logits) as logits:
        p, valid = valid_probabilities(logits, labels, ignore_value)
        terms = valid.sum() * logits.shape[1]
        return (p * distances.to(p.dtype)).sum() / terms.clamp(min=1)
