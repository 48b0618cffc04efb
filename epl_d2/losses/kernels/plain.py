"""The losses and their gradients on any device: the plain formulas, one axis after the other.

Only what one axis needs is kept for the backward pass, and the gradient is formed at once, so the memory does not grow
with the number of directions. Nothing waits for the device, and no shape depends on the data.

Shape shorthand in this module: N images, K classes, H x W pixels.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ..potential import Axis, axes_of, axis_energies
from ..reference import line_terms, one_hot_and_probabilities, point_terms

Terms = Callable[[Tensor, Tensor, Tensor, Axis | None], tuple[Tensor, Tensor]]


def point_loss_and_gradient(
    logits: Tensor,
    labels: Tensor,
    kernel_size: int,
    splitter: str,
    convolution: str,
    norm: str,
    ignore_value: int,
    need_gradient: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """Value and gradient by the logits ``[N, K, H, W]`` of `reference.point_loss`."""

    def terms(y: Tensor, p: Tensor, valid: Tensor, axis: Axis | None) -> tuple[Tensor, Tensor]:
        return point_terms(axis_energies(y - p, kernel_size // 2, axis, "replicate"), valid, norm)

    return _sum_over_axes(terms, logits, labels, splitter, convolution, ignore_value, need_gradient)


def line_loss_and_gradient(
    logits: Tensor,
    labels: Tensor,
    kernel_size: int,
    splitter: str,
    convolution: str,
    mu: int,
    formulation: str,
    ignore_value: int,
    need_gradient: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """Value and gradient by the logits ``[N, K, H, W]`` of `reference.line_loss`."""
    radius = kernel_size // 2
    padding = "zero" if formulation == "official" else "replicate"

    def terms(y: Tensor, p: Tensor, valid: Tensor, axis: Axis | None) -> tuple[Tensor, Tensor]:
        energy_y, energy_p = (axis_energies(field, radius, axis, padding) for field in (y, p))
        return line_terms(energy_y, energy_p, valid, radius, mu, formulation)

    return _sum_over_axes(terms, logits, labels, splitter, convolution, ignore_value, need_gradient)


def _sum_over_axes(
    terms: Terms,
    logits: Tensor,
    labels: Tensor,
    splitter: str,
    convolution: str,
    ignore_value: int,
    need_gradient: bool,
) -> tuple[Tensor, Tensor | None]:
    """Quotient of the sums of ``terms`` over all axes, and its gradient by the logits."""
    y, p, valid = one_hot_and_probabilities(logits.detach(), labels, ignore_value)
    total = torch.zeros((), dtype=torch.float64, device=p.device)
    count = torch.zeros((), dtype=torch.long, device=p.device)
    slope = torch.zeros_like(p) if need_gradient else None
    p.requires_grad_(need_gradient)
    for axis in (None,) if convolution == "standard" else axes_of(splitter):
        with torch.set_grad_enabled(need_gradient):
            part, number = terms(y, p, valid, axis)
        if need_gradient:
            slope += torch.autograd.grad(part, p)[0]
        total += part.detach()
        count += number
    count = count.clamp(min=1)
    value = (total / count).to(p.dtype)
    if not need_gradient:
        return value, None
    p = p.detach()
    inner = (p * slope).sum(dim=1, keepdim=True)
    return value, slope.sub_(inner).mul_(p).div_(count).to(logits.dtype)
