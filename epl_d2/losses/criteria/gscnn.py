"""The losses of GSCNN (arXiv 1907.05740), as its authors' implementation computes them.

Shape shorthand in this module:

    N, K: images of the batch, classes
    H, W: height and width of the labels

They run in float32 or better with autocast off, and are 0, connected to the graph, where no pixel takes part.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..arguments import check_field, check_inputs
from ..probabilities import full_precision

__all__ = [
    "dual_task_loss",
    "edge_attention_loss",
    "edge_loss",
    "image_weighted_cross_entropy",
]

_EPSILON = 1e-10  # of the Gumbel noise


def image_weighted_cross_entropy(logits: Tensor, labels: Tensor, *, ignore_value: int = 255) -> Tensor:
    """Cross entropy in which each image weights its classes by their rarity in it.

    Class c of an image has the weight ``2 - f``, with its share f of the image's valid pixels, and 1 where it is
    absent; the loss of an image is the weighted mean. The mean over the images is taken: the authors add them up, but
    train on one image a device.

    Args:
        logits: ``[N, K, H, W]``.
        labels: ``[N, H, W]`` class ids or ``ignore_value``.
        ignore_value: the label of pixels that take no part.

    Example:
        >>> logits, labels = torch.zeros(1, 2, 4, 4), torch.eye(4, dtype=torch.long)[None]
        >>> round(image_weighted_cross_entropy(logits, labels).item(), 4)
        0.6931
    """
    labels = check_inputs(logits, labels, ignore_value)
    with full_precision(logits) as logits:
        n, k = logits.shape[:2]
        valid = labels != ignore_value
        classes = labels.where(valid, 0)
        rows = torch.arange(n, device=labels.device)[:, None, None] * k
        counts = torch.bincount((rows + classes)[valid], minlength=n * k)
        share = counts.view(n, k).to(logits) / valid.sum((1, 2)).clamp(min=1)[:, None]
        class_weights = 1 + (1 - share) * (share > 0)
        weights = class_weights.gather(1, classes.flatten(1)).view_as(classes) * valid
        costs = F.cross_entropy(torch.where(valid.unsqueeze(1), logits, 0), classes, reduction="none")
        return ((weights * costs).sum((1, 2)) / weights.sum((1, 2)).clamp(min=1)).sum() / max(1, n)


def edge_loss(edges: Tensor, target: Tensor) -> Tensor:
    """Binary cross entropy of predicted edges, balanced over the batch, averaged over all pixels.

    Edge pixels have the weight of the share of the others and the other way round. The predictions, although
    probabilities, go through a sigmoid once more, as in the authors' implementation: the gradient never saturates, and
    the loss of a perfect prediction is not 0.

    Args:
        edges: ``[N, 1, H, W]`` predicted probabilities.
        target: ``[N, H, W]`` or ``[N, 1, H, W]``, 1 on edges, 0 elsewhere, more than 1 where ignored.
    """
    check_field("edges", edges)
    with full_precision(edges) as edges:
        if edges.numel() == 0:
            return edges.sum()
        target = target.view_as(edges)
        positive, negative = target == 1, target == 0
        share = positive.sum().to(edges) / (positive.sum() + negative.sum()).clamp(min=1)
        weight = (positive * (1 - share) + negative * share).to(edges)
        return F.binary_cross_entropy_with_logits(edges, positive.to(edges), weight)


def edge_attention_loss(
    logits: Tensor, labels: Tensor, edges: Tensor, *, threshold: float = 0.8, ignore_value: int = 255
) -> Tensor:
    """:func:`image_weighted_cross_entropy` over the pixels that are predicted to be edges.

    Args:
        logits: ``[N, K, H, W]``.
        labels: ``[N, H, W]`` class ids or ``ignore_value``.
        edges: ``[N, 1, H, W]`` predicted probabilities; they get no gradient from this loss.
        threshold: a pixel takes part where its probability is above.
        ignore_value: the label of pixels that take no part.
    """
    labels = check_inputs(logits, labels, ignore_value)
    on_edges = labels.where(edges[:, 0] > threshold, ignore_value)
    return image_weighted_cross_entropy(logits, on_edges, ignore_value=ignore_value)


def dual_task_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    temperature: float = 0.5,
    ignore_value: int = 255,
    uniform_noise: Tensor | None = None,
) -> Tensor:
    """Mean distance between the normalized "gradients" of a Gumbel-softmax prediction and of the labels.

    What is called a gradient in the authors' implementation is, after its padding and convolutions, the identity:
    ``g(e) = sqrt(2 e^2 + 1e-6)``, divided by its maximum over the batch. Ignored pixels count as class 0 with logits of
    0, so that they carry no gradient.

    Args:
        logits: ``[N, K, H, W]``.
        labels: ``[N, H, W]`` class ids or ``ignore_value``.
        temperature: of the Gumbel-softmax.
        uniform_noise: ``[N, K, H, W]`` in [0, 1); drawn from PyTorch's generator where it is not given.
    """
    labels = check_inputs(logits, labels, ignore_value)
    with full_precision(logits) as logits:
        if logits.numel() == 0:
            return logits.sum()
        valid = labels != ignore_value
        target = F.one_hot(labels.where(valid, 0), logits.shape[1]).movedim(-1, 1).to(logits)
        uniform = torch.rand(logits.shape, device=logits.device) if uniform_noise is None else uniform_noise
        gumbel = -torch.log(_EPSILON - torch.log(uniform + _EPSILON))
        logits = logits.where(valid[:, None], 0)
        probabilities = ((logits + gumbel) / temperature).softmax(dim=1)
        return (_normalized_gradient(probabilities) - _normalized_gradient(target)).abs().mean()


def _normalized_gradient(x: Tensor) -> Tensor:
    gradient = (2 * x.square() + 1e-6).sqrt()
    return gradient / gradient.max()
