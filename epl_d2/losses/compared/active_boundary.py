"""Active boundary loss (Wang et al. 2021, arXiv 2102.02696).

Shape shorthand in this module: N images, K classes, H x W pixels, B pixels of the predicted boundary.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..arguments import check_inputs, check_number
from ..probabilities import full_precision

# (down, right) to the 8 neighbors; of several that are equally near to the contour the first is the target.
NEIGHBORS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
# A divergence below this is no boundary, however few pixels have a greater one.
MIN_DIVERGENCE = 1e-5


def check_active_boundary_arguments(max_distance: float, max_fraction: float, label_smoothing: float) -> None:
    """Raise ValueError for a setting out of range."""
    check_number("max_distance", max_distance, lambda x: 0 < x < math.inf, "a finite number above 0")
    check_number("max_fraction", max_fraction, lambda x: 0 < x <= 1, "a number above 0 and at most 1")
    check_number("label_smoothing", label_smoothing, lambda x: 0 <= x < 1, "a number of at least 0 and below 1")


def check_distances(distances: object, labels: Tensor) -> None:
    """Raise ValueError unless ``distances``, at least 0, are floating-point, of the labels' shape, on their device."""
    if not isinstance(distances, Tensor) or not distances.is_floating_point():
        found = distances.dtype if isinstance(distances, Tensor) else type(distances).__name__
        raise ValueError(f"distances must be a floating-point tensor, got {found}")
    if distances.shape != labels.shape:
        raise ValueError(f"distances must have the shape of labels, {list(labels.shape)}, got {list(distances.shape)}")
    if distances.device != labels.device:
        raise ValueError(f"distances must be on the device of labels ({labels.device}), got {distances.device}")
    wrong = ~(distances >= 0)
    if distances.device.type != "cpu":  # as in `check_inputs`
        torch._assert_async(~wrong.any(), "distances must be at least 0")
    elif bool(wrong.any()):
        raise ValueError(f"distances must be at least 0, got {distances[wrong][0].item()}")


def active_boundary_loss(
    logits: Tensor,
    labels: Tensor,
    distances: Tensor,
    *,
    max_distance: float = 20.0,
    max_fraction: float = 0.01,
    label_smoothing: float = 0.2,
    ignore_value: int = 255,
) -> Tensor:
    """Pulls the predicted boundary towards the contour of the labels, one pixel at a time.

    The predicted boundary of an image are the pixels whose prediction diverges most (Kullback-Leibler) from the pixel
    to the right or below, at most ``max_fraction`` of the image, and the pixels beside those. At each, the
    divergences from its 8 neighbors, as logits, are the predicted direction; the neighbor nearest to the contour is
    the target of a cross entropy, weighted by min(d, max_distance) / max_distance with d the pixel's own distance.
    The neighbors' predictions are constants for the gradient, and so is the choice of pixels.

    A pixel takes no part where it is ignored, lies on the contour, is at least as near as each of its neighbors, or
    has no two neighbors that are inside the image and not ignored. Only such neighbors are directions.

    Args:
        logits: ``[N, K, H, W]``, any floating-point type. Computed in float32 (float64 for float64), autocast off.
        labels: ``[N, H, W]``, any integer type, values 0..K-1 or ``ignore_value``.
        distances: ``[N, H, W]``, floating point, of each pixel to the contour of the labels in pixels, 0 on it and 0
            everywhere in an image without one, see `epl_d2.contours.contour_distance`.
        max_distance: in pixels, above 0, finite; theta in the paper.
        max_fraction: share of an image's pixels, above 0 and at most 1.
        label_smoothing: share of the target that is spread over the other directions, at least 0 and below 1.
        ignore_value: the label of pixels that take no part.

    Returns:
        Scalar, float32 (float64 for float64 logits): the mean over the pixels that take part, or an exact 0.

    Raises:
        ValueError: a setting is out of range, or labels or distances do not fit the logits.

    Example:
        >>> labels = torch.tensor([[[0, 0, 0, 1, 1, 1]]])
        >>> distances = torch.tensor([[[2.0, 1, 0, 1, 2, 3]]])
        >>> active_boundary_loss(torch.zeros(1, 2, 1, 6), labels, distances).item()  # nothing predicted, no boundary
        0.0
    """
    check_active_boundary_arguments(max_distance, max_fraction, label_smoothing)
    labels = check_inputs(logits, labels, ignore_value)
    check_distances(distances, labels)
    with full_precision(logits) as logits:
        if labels.numel() == 0:
            return logits.sum()
        valid = labels != ignore_value
        log_p = torch.where(valid.unsqueeze(1), logits, 0).log_softmax(dim=1)
        at = predicted_boundary(log_p.detach(), valid, max_fraction).nonzero(as_tuple=True)
        allowed, towards = neighbor_distances(distances.to(log_p.dtype), valid, at)
        own = distances[at].to(log_p.dtype)
        nearest, direction = towards.min(dim=1)
        moving = (own > 0) & (nearest < own) & (allowed.sum(dim=1) > 1)
        at = tuple(index[moving] for index in at)
        scores = divergence_from_neighbors(log_p, at)
        cost = smoothed_cross_entropy(scores, direction[moving], allowed[moving], label_smoothing)
        weight = own[moving].clamp(max=max_distance) / max_distance
        return (weight * cost).sum() / max(1, len(weight))


def predicted_boundary(log_p: Tensor, valid: Tensor, max_fraction: float) -> Tensor:
    """The pixels that diverge most from their right or lower neighbor, and those beside them, bool ``[N, H, W]``.

    Args:
        log_p: ``[N, K, H, W]``.
        valid: bool ``[N, H, W]``, pixels that take part.
        max_fraction: share of an image's pixels to choose at most, before those beside them are added.
    """
    p = log_p.exp()
    divergence = torch.zeros_like(log_p[:, 0])
    everything, but_last, but_first = slice(None), slice(None, -1), slice(1, None)
    for here, beside in (
        ((..., but_last), (..., but_first)),
        ((..., but_last, everything), (..., but_first, everything)),
    ):
        step = (p[here] * (log_p[here] - log_p[beside])).sum(dim=1)
        step = torch.where(valid[here] & valid[beside], step, 0.0)
        divergence[here] = torch.maximum(divergence[here], step)
    divergence = divergence.flatten(1)
    count = max(1, int(max_fraction * divergence.shape[1]))
    greatest, places = divergence.topk(count, dim=1)
    chosen = torch.zeros_like(divergence).scatter_(1, places, (greatest > MIN_DIVERGENCE).to(divergence.dtype))
    chosen = chosen.view_as(valid).unsqueeze(1)
    return (F.max_pool2d(chosen, kernel_size=3, stride=1, padding=1)[:, 0] > 0) & valid


def neighbor_distances(distances: Tensor, valid: Tensor, at: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Which neighbors of B pixels are inside the image and valid, bool ``[B, 8]``, and their distances, else inf."""
    padded = F.pad(distances.masked_fill(~valid, torch.inf), (1, 1, 1, 1), value=torch.inf)
    n, y, x = at
    towards = torch.stack([padded[n, y + 1 + down, x + 1 + right] for down, right in NEIGHBORS], dim=1)
    return towards.isfinite(), towards


def divergence_from_neighbors(log_p: Tensor, at: tuple[Tensor, ...]) -> Tensor:
    """Kullback-Leibler divergence of B pixels from their neighbors, ``[B, 8]``; of no meaning outside the image.

    No gradient flows to the neighbors: a pixel would be pulled both ways where two boundary pixels are adjacent.
    """
    n, y, x = at
    height, width = log_p.shape[-2:]
    own, fixed = log_p[n, :, y, x], log_p.detach()
    p = own.exp()
    return torch.stack(
        [
            (p * (own - fixed[n, :, (y + down).clamp(0, height - 1), (x + right).clamp(0, width - 1)])).sum(dim=1)
            for down, right in NEIGHBORS
        ],
        dim=1,
    )


def smoothed_cross_entropy(scores: Tensor, target: Tensor, allowed: Tensor, smoothing: float) -> Tensor:
    """Cross entropy of softmax(scores) ``[B, 8]`` over the allowed columns, with smoothed targets ``[B]``."""
    log_q = scores.masked_fill(~allowed, -torch.inf).log_softmax(dim=1).masked_fill(~allowed, 0.0)
    others = allowed.sum(dim=1, keepdim=True).to(scores.dtype) - 1
    share = (smoothing / others).expand_as(log_q).scatter(1, target.unsqueeze(1), 1 - smoothing)
    return -(share * log_q).sum(dim=1)
