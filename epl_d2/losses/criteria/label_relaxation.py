"""Cross entropy with relaxed labels at the contours (Zhu et al. 2019, arXiv 1812.01593)."""

import torch
from torch import Tensor

from ..arguments import check_inputs, check_integer
from ..probabilities import class_masks, full_precision


def check_label_relaxation_arguments(border: int) -> None:
    """Raise ValueError for a setting out of range."""
    check_integer("border", border, minimum=0)


def label_relaxation_loss(logits: Tensor, labels: Tensor, *, border: int = 1, ignore_value: int = 255) -> Tensor:
    """Mean over pixels of -log(sum of p_k over the classes k within ``border`` pixels), p = softmax(logits).

    Away from contours that is cross entropy; at a contour any class of the (2 border + 1)^2 square around the pixel
    is right. Ignored pixels in the square add no class.

    Args:
        logits: ``[N, K, H, W]``, any floating-point type. Computed in float32 (float64 for float64), autocast off.
        labels: ``[N, H, W]``, any integer type, values 0..K-1 or ``ignore_value``.
        border: in pixels, at least 0; 0 is plain cross entropy.
        ignore_value: the label of pixels that take no part.

    Returns:
        Scalar, float32 (float64 for float64 logits). An exact 0 if no pixel takes part.

    Raises:
        ValueError: border is out of range, or labels do not fit the logits.

    Example:
        >>> logits = torch.tensor([[[[0.0, 0.0]], [[9.0, 0.0]]]])
        >>> label_relaxation_loss(logits, torch.tensor([[[0, 1]]])).item()  # both pixels lie on the contour
        0.0
    """
    check_label_relaxation_arguments(border)
    labels = check_inputs(logits, labels, ignore_value)
    with full_precision(logits) as logits:
        if labels.numel() == 0:
            return logits.sum()
        valid = labels != ignore_value
        near = dilated(class_masks(labels, logits.shape[1], ignore_value), border)
        # Ignored pixels get every class: their cost is 0, where no class at all would make it infinite.
        near = near | ~valid.unsqueeze(1)
        logits = torch.where(valid.unsqueeze(1), logits, 0)
        cost = logits.logsumexp(dim=1) - logits.masked_fill(~near, -torch.inf).logsumexp(dim=1)
        return torch.where(valid, cost, 0.0).sum() / valid.sum().clamp(min=1)


def dilated(masks: Tensor, border: int) -> Tensor:
    """Masks ``[N, K, H, W]`` grown by a square of 2 border + 1 pixels; on a CPU far faster than max pooling."""
    for axis in (2, 3):
        steps = masks.shape[axis] - 1
        for _ in range(border):
            grown = masks.clone()
            grown.narrow(axis, 1, steps).logical_or_(masks.narrow(axis, 0, steps))
            grown.narrow(axis, 0, steps).logical_or_(masks.narrow(axis, 1, steps))
            masks = grown
    return masks
