"""Cross entropy over hard pixels (online hard example mining), in its plain form and in that of CCNet."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..arguments import check_inputs, check_integer, check_number
from ..probabilities import full_precision, valid_probabilities


def check_ohem_arguments(threshold: float, min_kept: int, factor: int) -> None:
    """Raise ValueError for a setting out of range."""
    check_number("threshold", threshold, lambda x: 0 <= x <= 1, "a number in [0, 1]")
    check_integer("min_kept", min_kept, minimum=0)
    check_integer("factor", factor, minimum=1)


def ohem_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    threshold: float = 0.7,
    min_kept: int = 100000,
    factor: int = 8,
    ignore_value: int = 255,
) -> Tensor:
    """Mean cross entropy of the pixels whose true class has a probability of at most ``threshold``.

    Where those are fewer than ``min_kept`` of the batch, the threshold is raised to the probability of the pixel of
    that rank. With a ``factor`` above 1 the rank is estimated as in CCNet, on probabilities and labels resized to
    1/factor (bilinear and nearest, corners on corners), where it is min_kept // factor^2; if that is 0 the
    threshold stays. Unlike there, ignored pixels have no part in the interpolation.

    Args:
        logits: ``[N, K, H, W]``, any floating-point type. Computed in float32 (float64 for float64), autocast off.
        labels: ``[N, H, W]``, any integer type, values 0..K-1 or ``ignore_value``.
        threshold: in [0, 1].
        min_kept: pixels of the batch, at least 0. More than there are: all of them are kept.
        factor: 1 for the exact rank, 8 for CCNet.
        ignore_value: the label of pixels that take no part.

    Returns:
        Scalar, float32 (float64 for float64 logits). An exact 0 if no pixel is kept.

    Raises:
        ValueError: a setting is out of range, or labels do not fit the logits.

    Example:
        >>> logits = torch.tensor([[[[9.0, 0.0]], [[0.0, 0.0]]]])
        >>> round(ohem_cross_entropy(logits, torch.zeros(1, 1, 2, dtype=torch.long), min_kept=1, factor=1).item(), 4)
        0.6931
    """
    check_ohem_arguments(threshold, min_kept, factor)
    labels = check_inputs(logits, labels, ignore_value)
    with full_precision(logits) as logits:
        if labels.numel() == 0:
            return logits.sum()
        valid = labels != ignore_value
        logits = torch.where(valid.unsqueeze(1), logits, 0)
        cost = F.cross_entropy(logits, labels, ignore_index=ignore_value, reduction="none")
        probability = torch.where(valid, (-cost.detach()).exp(), torch.inf)
        rank = int(min_kept) // int(factor) ** 2
        ranked = probability if factor == 1 else zoomed_probability(logits.detach(), labels, factor, ignore_value)
        kept = valid & (probability <= raised_threshold(ranked, threshold, rank))
        return torch.where(kept, cost, 0.0).sum() / kept.sum().clamp(min=1)


def raised_threshold(probability: Tensor, threshold: float, rank: int) -> Tensor:
    """The greater of the threshold and the probability of a rank (from 1; 0 leaves the threshold as it is).

    Args:
        probability: of the true class, any shape; inf where a pixel is ignored, so that a rank beyond them gives inf.
        threshold, rank: see above.
    """
    bound = probability.new_tensor(threshold)
    if rank == 0:
        return bound
    if rank > probability.numel():
        return bound.new_tensor(torch.inf)
    return bound.maximum(probability.flatten().topk(rank, largest=False, sorted=False).values.amax())


def zoomed_probability(logits: Tensor, labels: Tensor, factor: int, ignore_value: int) -> Tensor:
    """Probability of the true class on a grid of 1/factor of the size, corners on corners; inf where ignored.

    The interpolation leaves out ignored pixels.
    """
    p, valid = valid_probabilities(logits, labels, ignore_value)
    size = tuple(max(1, round(length / factor)) for length in labels.shape[-2:])
    p, weight = (F.interpolate(x, size, mode="bilinear", align_corners=True) for x in (p, valid.to(p.dtype)))
    rows, columns = (
        # Half a pixel is rounded up.
        torch.linspace(0, full - 1, cells, device=labels.device, dtype=torch.float64).add(0.5).floor().long()
        for full, cells in zip(labels.shape[-2:], size, strict=True)
    )
    labels = labels[:, rows[:, None], columns]
    valid = labels != ignore_value
    found = p.gather(1, torch.where(valid, labels, 0).unsqueeze(1))[:, 0]
    # The pixel that a valid label comes from has at least a quarter of the weight.
    return torch.where(valid, found / weight[:, 0].clamp(min=0.1), torch.inf)
