"""The plain losses: EPL as written in the paper, in readable differentiable PyTorch.

Slow, and hungry for memory (every direction of every class is stored and sorted). The fast losses are tested
against these. They can be differentiated as often as wanted.
"""

from torch import Tensor

from .formulas import fields, line_sums, point_sums, point_sums_on_lines
from .modes import as_rows, mask_target
from .potential import axis_of_each_direction, potential_field
from .target import make_target


def point_loss(
    logits: Tensor,
    labels: Tensor,
    kernel_size: int,
    splitter: str,
    convolution: str,
    norm: str,
    region: str,
    ignore_value: int,
    ignore_mode: str = "exclude",
    mode: str = "multiclass",
) -> Tensor:
    """Mean over directions, classes and valid pixels of |E(y) - E(p)|^q (eq. 3), or over rows of their mean over the
    target's lines (region "lines"). Arguments are not checked."""
    radius = kernel_size // 2
    y, p, position = _fields(logits, labels, radius, ignore_value, ignore_mode, mode)
    residual = potential_field(y - p, kernel_size, splitter, "replicate", convolution)
    if region == "lines":
        energy_y = potential_field(y, kernel_size, splitter, "replicate", convolution)
        total, terms = point_sums_on_lines(energy_y, residual, position, radius, norm)
    else:
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
    mode: str = "multiclass",
) -> Tensor:
    """Equipotential line loss (eq. 4, Algorithm 1). Arguments are not checked."""
    radius = kernel_size // 2
    y, p, position = _fields(logits, labels, radius, ignore_value, ignore_mode, mode)
    padding = "zero" if formulation == "official" else "replicate"
    energy_y = potential_field(y, kernel_size, splitter, padding, convolution)
    energy_p = potential_field(p, kernel_size, splitter, padding, convolution)
    axes = axis_of_each_direction(splitter, convolution)
    total, terms = line_sums(energy_y, energy_p, position, radius, mu, formulation, axes)
    return (total / terms.clamp(min=1)).to(p.dtype)


def _fields(
    logits: Tensor, labels: Tensor, reach: int, ignore_value: int, ignore_mode: str, mode: str
) -> tuple[Tensor, Tensor, Tensor]:
    """`formulas.fields` of what a mode takes."""
    if mode == "multiclass":
        return fields(logits, make_target(labels.long(), ignore_value, ignore_mode, reach))
    logits, masks = as_rows(logits, labels, mode)
    return fields(logits, mask_target(logits, masks, ignore_value, ignore_mode, reach))
