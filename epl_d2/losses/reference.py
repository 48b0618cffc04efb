"""The plain losses: EPL as written in the paper, in readable differentiable PyTorch.

Slow, and hungry for memory (every direction of every class is stored and sorted). The fast losses are tested
against these. They can be differentiated as often as wanted.
"""

from torch import Tensor

from .formulas import fields, line_sums, point_sums
from .potential import potential_field
from .target import make_target


def point_loss(
    logits: Tensor,
    labels: Tensor,
    kernel_size: int,
    splitter: str,
    convolution: str,
    norm: str,
    ignore_value: int,
    ignore_mode: str = "exclude",
) -> Tensor:
    """Mean over directions, classes and valid pixels of |E(y) - E(p)|^q (eq. 3). Arguments are not checked."""
    target = make_target(labels.long(), ignore_value, ignore_mode, kernel_size // 2)
    y, p, position = fields(logits, target)
    residual = potential_field(y - p, kernel_size, splitter, "replicate", convolution)
    total, terms = point_sums(residual, position, norm)
    return (total / terms.clamp(min=1)).to(p.dtype)


def line_loss(
    logits: Tensor,
    labels: Tensor,
    kernel_size: int,
    splitter: str,
    convolution: str,
    mu: int,
    formulation: str,
    ignore_value: int,
    ignore_mode: str = "exclude",
) -> Tensor:
    """Equipotential line loss (eq. 4, Algorithm 1). Arguments are not checked."""
    radius = kernel_size // 2
    y, p, position = fields(logits, make_target(labels.long(), ignore_value, ignore_mode, radius))
    padding = "zero" if formulation == "official" else "replicate"
    energy_y = potential_field(y, kernel_size, splitter, padding, convolution)
    energy_p = potential_field(p, kernel_size, splitter, padding, convolution)
    total, terms = line_sums(energy_y, energy_p, position, radius, mu, formulation)
    return (total / terms.clamp(min=1)).to(p.dtype)
