"""What both losses are made of, in readable differentiable PyTorch.

Sums over pixels are taken in float64: terms cancel, and float32 sums would cost four digits.

Shape shorthand in this module: N images, K classes, S directions, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .potential import Axis, widen

if TYPE_CHECKING:
    from .target import Target


def fields(logits: Tensor, target: Target) -> tuple[Tensor, Tensor, Tensor]:
    """Target y and probabilities p as rays see them, ``[N, K, H, W]``, and the positions, bool ``[N, 1, H, W]``.

    Half precision becomes float32; float64 stays. What is ignored may hold anything, NaN as well.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    position, seen = (target.position >= 0).unsqueeze(1), (target.seen >= 0).unsqueeze(1)
    classes = torch.arange(logits.shape[1], device=logits.device).view(1, -1, 1, 1)
    y = (target.seen.unsqueeze(1) == classes).to(logits.dtype)
    p = probabilities(torch.where(position, logits, 0), target)
    if target.fill is not None:
        p = target.fill.gather(p)
    return y, torch.where(seen, p, 0), position


def probabilities(logits: Tensor, target: Target) -> Tensor:
    """Of each class or, for a field, of its inside, ``[N, K, H, W]``, in float32 or float64."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return logits.to(dtype).sigmoid() if target.sigmoid else logits.softmax(dim=1, dtype=dtype)


def point_sums(residual: Tensor, position: Tensor, norm: str) -> tuple[Tensor, Tensor]:
    """Sum of |E(y) - E(p)|^q over the positions of ``[N, S, K, H, W]``, in float64, and how many terms it has."""
    cost = (residual.abs() if norm == "l1" else residual.square()) * position.unsqueeze(1)
    return cost.sum(dtype=torch.float64), position.sum() * (residual.shape[1] * residual.shape[2])


def target_region(energy_y: Tensor, position: Tensor, radius: int) -> Tensor:
    """The target's line pixels, 1 <= E(y) < r + 1, of ``[N, S, K, H, W]``; positions are ``[N, 1, H, W]``."""
    return (energy_y >= 1) & (energy_y < radius + 1) & position.unsqueeze(1)


def point_sums_on_lines(
    energy_y: Tensor, residual: Tensor, position: Tensor, radius: int, norm: str
) -> tuple[Tensor, Tensor]:
    """Sum over the rows of ``[N, S, K, H, W]`` of the mean of |E(y) - E(p)|^q over the target's lines, in float64, and
    how many rows have a line."""
    target = target_region(energy_y, position, radius)
    cost = (residual.abs() if norm == "l1" else residual.square()).where(target, 0)
    number = target.sum((-2, -1))
    means = cost.sum((-2, -1), dtype=torch.float64) / number.clamp(min=1)
    return means.sum(), (number > 0).sum()


def predicted_region(energy_y: Tensor, energy_p: Tensor, position: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Line regions of the target and of the prediction (Algorithm 1, lines 3 to 8).

    The target's is where 1 <= E(y) < r + 1. The prediction's has as many pixels in each (image, direction, class)
    row: those whose rank in E(p) lies in [#{E(y) < 1}, #{E(y) < r + 1}). Equal energies rank in the order of pixels.

    Args:
        energy_y, energy_p: ``[N, S, K, H, W]``.
        position: ``[N, 1, H, W]``, pixels that take part.
        radius: r.

    Returns:
        Two boolean tensors ``[N, S, K, H, W]``.
    """
    valid = position.unsqueeze(1).expand_as(energy_y)
    first = ((energy_y < 1) & valid).flatten(-2).sum(-1, keepdim=True)
    last = ((energy_y < radius + 1) & valid).flatten(-2).sum(-1, keepdim=True)
    order = energy_p.detach().masked_fill(~valid, torch.inf).flatten(-2).sort(dim=-1, stable=True).indices
    rank = torch.arange(order.shape[-1], device=order.device)
    chosen = torch.zeros_like(order, dtype=torch.bool).scatter(-1, order, (rank >= first) & (rank < last))
    return target_region(energy_y, position, radius), chosen.view_as(energy_p)


def line_sums(
    energy_y: Tensor,
    energy_p: Tensor,
    position: Tensor,
    radius: int,
    mu: int,
    formulation: str,
    axes: Sequence[Axis | None],
) -> tuple[Tensor, Tensor]:
    """Sum of the distances between the lines of ``[N, S, K, H, W]``, in float64, and what to divide it by.

    Official: a term for each direction and line, divided by the directions. Contour and band: a term for each
    direction, line and (image, class) row that has the line, divided by their number. ``axes``: of each direction.
    """
    official = formulation == "official"
    pooled = (0, 2, 3, 4) if official else (3, 4)
    if formulation == "band":
        target = target_region(energy_y, position, radius)
        domain_t = domain_q = widen(target, axes, radius) & position.unsqueeze(1)
        t, q = energy_y, energy_p
    else:
        target, predicted = predicted_region(energy_y, energy_p, position, radius)
        t = torch.where(target, energy_y, 0.0)
        q = torch.where(predicted, energy_p, 0.0)
        domain_t, domain_q = (position.unsqueeze(1).expand_as(t),) * 2 if official else (target, predicted)
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
