"""The plain losses: EPL as written in the paper, in readable differentiable PyTorch.

Slow, and hungry for memory (every direction of every class is stored and sorted). The fast losses are tested
against these. Sums over pixels are taken in float64: terms cancel, and float32 sums would cost four digits.

Shape shorthand in this module: N images, K classes, S directions, H x W pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .potential import potential_field


def one_hot_and_probabilities(logits: Tensor, labels: Tensor, ignore_value: int) -> tuple[Tensor, Tensor, Tensor]:
    """Targets y and probabilities p, ``[N, K, H, W]``, both 0 at ignored pixels, and valid ``[N, 1, H, W]``.

    Half precision becomes float32; float64 stays.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    valid = (labels != ignore_value).unsqueeze(1)
    classes = torch.where(valid[:, 0], labels.long(), 0)
    y = F.one_hot(classes, logits.shape[1]).permute(0, 3, 1, 2).to(logits.dtype) * valid
    # A product would leave the gradient of softmax at ignored pixels to cancel; `where` makes it exactly 0.
    p = torch.where(valid, logits.softmax(dim=1), 0.0)
    return y, p, valid


def point_loss(
    logits: Tensor, labels: Tensor, kernel_size: int, splitter: str, convolution: str, norm: str, ignore_value: int
) -> Tensor:
    """Mean over directions, classes and valid pixels of |E(y) - E(p)|^q (eq. 3). Arguments are not checked."""
    y, p, valid = one_hot_and_probabilities(logits, labels, ignore_value)
    residual = potential_field(y - p, kernel_size, splitter, "replicate", convolution)
    total, terms = point_terms(residual, valid, norm)
    return (total / terms.clamp(min=1)).to(p.dtype)


def point_terms(residual: Tensor, valid: Tensor, norm: str) -> tuple[Tensor, Tensor]:
    """Sum of |E(y) - E(p)|^q over the valid pixels of ``[N, S, K, H, W]``, in float64, and how many terms it has."""
    cost = (residual.abs() if norm == "l1" else residual.square()) * valid.unsqueeze(1)
    return cost.sum(dtype=torch.float64), valid.sum() * (residual.shape[1] * residual.shape[2])


def predicted_region(energy_y: Tensor, energy_p: Tensor, valid: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Line regions of the target and of the prediction (Algorithm 1, lines 3 to 8).

    The target's is where 1 <= E(y) < r + 1. The prediction's has as many pixels in each (image, direction, class)
    row: those whose rank in E(p) lies in [#{E(y) < 1}, #{E(y) < r + 1}). Equal energies rank in the order of pixels.

    Args:
        energy_y, energy_p: ``[N, S, K, H, W]``.
        valid: ``[N, 1, H, W]``, pixels that take part.
        radius: r.

    Returns:
        Two boolean tensors ``[N, S, K, H, W]``.
    """
    valid = valid.unsqueeze(1).expand_as(energy_y)
    first = ((energy_y < 1) & valid).flatten(-2).sum(-1, keepdim=True)
    last = ((energy_y < radius + 1) & valid).flatten(-2).sum(-1, keepdim=True)
    order = energy_p.detach().masked_fill(~valid, torch.inf).flatten(-2).sort(dim=-1, stable=True).indices
    rank = torch.arange(order.shape[-1], device=order.device)
    chosen = torch.zeros_like(order, dtype=torch.bool).scatter(-1, order, (rank >= first) & (rank < last))
    return (energy_y >= 1) & (energy_y < radius + 1) & valid, chosen.view_as(energy_p)


def line_loss(
    logits: Tensor,
    labels: Tensor,
    kernel_size: int,
    splitter: str,
    convolution: str,
    mu: int,
    formulation: str,
    ignore_value: int,
) -> Tensor:
    """Equipotential line loss (eq. 4, Algorithm 1). Arguments are not checked."""
    y, p, valid = one_hot_and_probabilities(logits, labels, ignore_value)
    radius = kernel_size // 2
    padding = "zero" if formulation == "official" else "replicate"
    energy_y = potential_field(y, kernel_size, splitter, padding, convolution)
    energy_p = potential_field(p, kernel_size, splitter, padding, convolution)
    total, terms = line_terms(energy_y, energy_p, valid, radius, mu, formulation)
    return (total / terms.clamp(min=1)).to(p.dtype)


def line_terms(
    energy_y: Tensor, energy_p: Tensor, valid: Tensor, radius: int, mu: int, formulation: str
) -> tuple[Tensor, Tensor]:
    """Sum of the distances between the lines of ``[N, S, K, H, W]``, in float64, and what to divide it by.

    Official: a term for each direction and line, divided by the directions. Contour: a term for each direction, line
    and (image, class) row that has the line, divided by their number.
    """
    official = formulation == "official"
    target, predicted = predicted_region(energy_y, energy_p, valid, radius)
    t = torch.where(target, energy_y, 0.0)
    q = torch.where(predicted, energy_p, 0.0)
    if official:
        domain_t = domain_q = valid.unsqueeze(1).expand_as(t)
        pooled = (0, 2, 3, 4)
    else:
        domain_t, domain_q = target, predicted
        pooled = (3, 4)
    total = energy_p[..., :0].sum(dtype=torch.float64)
    terms = torch.zeros((), dtype=torch.long, device=energy_p.device)
    for tau in range(1, radius + 1):
        g = activation(t, tau, mu) * domain_t
        h = activation(q, tau, mu) * domain_q
        sum_g, sum_h, sum_gg, sum_gh = (x.sum(pooled, dtype=torch.float64) for x in (g, h, g * g, g * h))
        present = (target & ((energy_y - tau).abs() <= 0.5)).flatten(-2).any(-1)
        if official:
            present = present.any(2).any(0)
            similarity = 2 * (sum_gh + 1) * sum_g / ((sum_g + sum_h + 1) * torch.where(present, sum_gg, 1.0))
        else:
            quotient = 2 * sum_gh * sum_g / torch.where(present, sum_gg * (sum_g + sum_h), 1.0)
            similarity = quotient.clamp(max=1)
        total = total + torch.where(present, 1 - similarity, 0.0).sum()
        terms = terms + present.sum()
    if official:
        terms = torch.full_like(terms, energy_y.shape[1])
    return total, terms


def activation(energy: Tensor, tau: int, mu: int) -> Tensor:
    """exp(-(E - tau)^mu), with the distance bounded where the result has long become 0."""
    bound = 1000.0 ** (1 / mu)
    return torch.exp(-((energy - tau).clamp(-bound, bound) ** mu))
