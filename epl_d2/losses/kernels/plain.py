"""The path of any device: the plain formulas, one axis after the other.

Only what one axis needs is kept for the backward pass, and the gradient is formed at once, so the memory does not grow
with the number of directions. Nothing waits for the device, and no shape depends on the data.

Shape shorthand in this module: N images, K classes, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ..formulas import fields, line_sums, point_sums, point_sums_on_lines
from ..potential import Axis, axes_of, axis_energies

if TYPE_CHECKING:
    from ..target import Target

# (y, p, positions, axis or None) -> a sum, and what to divide it by.
Sums = Callable[[Tensor, Tensor, Tensor, Axis | None], tuple[Tensor, Tensor]]


class Scene(NamedTuple):
    """Target and probabilities as rays see them, ``[N, K, H, W]``, and the positions, ``[N, 1, H, W]``."""

    target: Target
    y: Tensor
    p: Tensor
    position: Tensor


def prepare(logits: Tensor, target: Target) -> Scene:
    """What both losses need of logits ``[N, K, H, W]``."""
    return Scene(target, *fields(logits, target))


def evaluate(scene: Scene, term: Any, need_gradient: bool, last: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Value of a term, and its gradient by the logits if wanted."""
    value, gradient = _sum_over_axes(_SUMS[term.name, term.region](term), scene, term, need_gradient)
    if gradient is None:
        return value, ()
    if scene.target.fill is not None:
        gradient = scene.target.fill.adjoint(gradient)
    inner = (scene.p * gradient).sum(dim=1, keepdim=True)
    return value, (gradient.sub_(inner).mul_(scene.p),)


def gradient(target: Target, term: Any, saved: Sequence[Tensor], grad_output: Tensor) -> Tensor:
    """Gradient of a term by the logits, times ``grad_output``; float32 for half precision."""
    return saved[0] * grad_output


def _point_sums(term: Any) -> Sums:
    def sums(y: Tensor, p: Tensor, position: Tensor, axis: Axis | None) -> tuple[Tensor, Tensor]:
        return point_sums(axis_energies(y - p, term.radius, axis, "replicate"), position, term.norm)

    return sums


def _point_sums_on_lines(term: Any) -> Sums:
    def sums(y: Tensor, p: Tensor, position: Tensor, axis: Axis | None) -> tuple[Tensor, Tensor]:
        energy_y, residual = (axis_energies(field, term.radius, axis, "replicate") for field in (y, y - p))
        return point_sums_on_lines(energy_y, residual, position, term.radius, term.norm)

    return sums


def _line_sums(term: Any) -> Sums:
    radius = term.radius
    padding = "zero" if term.formulation == "official" else "replicate"

    def sums(y: Tensor, p: Tensor, position: Tensor, axis: Axis | None) -> tuple[Tensor, Tensor]:
        energy_y, energy_p = (axis_energies(field, radius, axis, padding) for field in (y, p))
        axes = (axis,) * energy_y.shape[1]
        return line_sums(energy_y, energy_p, position, radius, term.mu, term.formulation, axes)

    return sums


# By the name of a term and the pixels that it takes.
_SUMS = {("point", "image"): _point_sums, ("point", "lines"): _point_sums_on_lines, ("line", "lines"): _line_sums}


def _sum_over_axes(sums: Sums, scene: Scene, term: Any, need_gradient: bool) -> tuple[Tensor, Tensor | None]:
    """Quotient of the sums over all axes, and its gradient by the probabilities."""
    _, y, p, position = scene
    total = torch.zeros((), dtype=torch.float64, device=p.device)
    count = torch.zeros((), dtype=torch.long, device=p.device)
    gradient = torch.zeros_like(p) if need_gradient else None
    p = p.detach().requires_grad_(need_gradient)
    for axis in (None,) if term.convolution == "standard" else axes_of(term.splitter):
        with torch.set_grad_enabled(need_gradient):
            part, number = sums(y, p, position, axis)
        if need_gradient:
            gradient += torch.autograd.grad(part, p)[0]
        total += part.detach()
        count += number
    count = count.clamp(min=1)
    return (total / count).to(p.dtype), gradient.div_(count) if need_gradient else None
