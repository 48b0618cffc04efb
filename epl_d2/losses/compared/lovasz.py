"""Lovász-Softmax loss (Berman et al. 2018, arXiv 1705.08790)."""

import torch
from torch import Tensor

from ..arguments import check_flag, check_inputs
from ..probabilities import full_precision


def check_lovasz_arguments(per_image: bool) -> None:
    """Raise ValueError unless the setting is True or False."""
    check_flag("per_image", per_image)


def lovasz_softmax_loss(logits: Tensor, labels: Tensor, *, per_image: bool = False, ignore_value: int = 255) -> Tensor:
    """Mean over the classes present of the Lovász extension of the Jaccard loss, at the errors |y_k - p_k|.

    y are the one-hot labels, p = softmax(logits). Equal errors are ranked in the order of pixels, which decides the
    gradient but not the value.

    Args:
        logits: ``[N, K, H, W]``, any floating-point type. Computed in float32 (float64 for float64), autocast off.
        labels: ``[N, H, W]``, any integer type, values 0..K-1 or ``ignore_value``.
        per_image: True: the mean over the images that have a pixel that takes part, of their own losses. False: one
            loss over the pixels of the batch.
        ignore_value: the label of pixels that take no part.

    Returns:
        Scalar in [0, 1], float32 (float64 for float64 logits). An exact 0 if no pixel takes part.

    Raises:
        ValueError: per_image is no bool, or labels do not fit the logits.

    Example:
        >>> lovasz_softmax_loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long)).item()
        0.5
    """
    check_lovasz_arguments(per_image)
    labels = check_inputs(logits, labels, ignore_value)
    with full_precision(logits) as logits:
        groups = list(zip(logits.split(1), labels.split(1), strict=True)) if per_image else [(logits, labels)]
        pixels = [_valid_pixels(scores, ids, ignore_value) for scores, ids in groups if len(ids)]
        losses = [loss for loss in (_of_pixels(p, ids) for p, ids in pixels) if loss is not None]
        return torch.stack(losses).mean() if losses else logits.flatten()[:0].sum()


def _valid_pixels(logits: Tensor, labels: Tensor, ignore_value: int) -> tuple[Tensor, Tensor]:
    """Probabilities ``[K, P]`` and class ids ``[P]`` of the P pixels that take part."""
    valid = labels != ignore_value
    return logits.movedim(1, 0)[:, valid].softmax(dim=0), labels[valid]


def _of_pixels(p: Tensor, labels: Tensor) -> Tensor | None:
    """The loss of probabilities ``[K, P]`` and class ids ``[P]``; None if there are no pixels."""
    losses = []
    for category in labels.unique().tolist():
        target = labels == category
        errors, order = (target.to(p.dtype) - p[category]).abs().sort(descending=True, stable=True)
        losses.append((errors * _jaccard_steps(target[order]).to(p.dtype)).sum())
    return torch.stack(losses).mean() if losses else None


def _jaccard_steps(target: Tensor) -> Tensor:
    """How much each pixel adds to the Jaccard loss when the pixels become wrong one after the other.

    In float64: at a million pixels the steps are of the size of float32's rounding.

    Args:
        target: bool ``[P]``, whether a pixel belongs to the class, in the order of falling errors; not all False.
    """
    found = target.cumsum(0)
    intersection = found[-1] - found
    union = found[-1] + (~target).cumsum(0)
    jaccard = 1 - intersection.double() / union
    return torch.diff(jaccard, prepend=jaccard.new_zeros(1))
