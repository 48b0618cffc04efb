"""The equipotential line loss of EPL (arXiv 2210.00223, eq. 4 and Algorithm 1)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from . import defaults
from .arguments import FORMULATIONS, check_choice, check_kernel_size, check_mu
from .eager import not_compiled
from .terms import Term, evaluate_term


@dataclass(frozen=True)
class LineTerm(Term):
    """The settings of the line loss.

    Raises:
        ValueError: one of them is out of range.
    """

    mu: int
    formulation: str
    name: ClassVar[str] = "line"
    region: ClassVar[str] = "lines"

    def __post_init__(self) -> None:
        check_kernel_size("kernel_size", self.kernel_size, minimum=3)  # with 1 there is no line
        super().__post_init__()
        check_mu(self.mu)
        check_choice("formulation", self.formulation, FORMULATIONS)
        object.__setattr__(self, "mu", int(self.mu))  # as kernel_size


def line_term(kernel_size: int, splitter: str, convolution: str, mu: int, formulation: str, reduction: str) -> LineTerm:
    """The settings of `line_loss`, or a ValueError unless they are in range and go together."""
    term = LineTerm(kernel_size, splitter, convolution, mu, formulation)
    if reduction == "none" and formulation == "official":
        raise ValueError("reduction must be 'mean' for the formulation 'official', which pools the batch, got 'none'")
    return term


@not_compiled
def line_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    kernel_size: int = defaults.KERNEL_SIZE,
    splitter: str = defaults.SPLITTER,
    convolution: str = defaults.CONVOLUTION,
    mu: int = defaults.MU,
    formulation: str = defaults.FORMULATION,
    ignore_value: int = defaults.IGNORE_VALUE,
    ignore_mode: str = defaults.IGNORE_MODE,
    mode: str = defaults.MODE,
    reduction: str = "mean",
) -> Tensor:
    """Distance between the equipotential lines around the contours of labels and prediction (eq. 4, Algorithm 1).

    The lines of the target are the pixels with energy 1..r (r = kernel_size // 2), those of the prediction the same
    number of pixels at the same ranks of energy, in each (image, class) row and direction. The choice of pixels is a
    constant for the gradient. ``docs/losses.md`` gives the formulations in full. In the sigmoid modes each field is a
    row: "contour" and "band" count instances, directions and lines alike.

    Args:
        logits, labels, mode: see `point_loss`.
        kernel_size: odd, at least 3; there are kernel_size // 2 lines.
        splitter: "A", "B" or "C", see `potential_field`.
        convolution: "anisotropic" or "standard", see `potential_field`.
        mu: even, positive; how sharply exp(-(E - tau)^mu) tells line tau from its neighbors.
        formulation: "official", the value of the authors' released code (zero padding, pooled over the batch), or
            "contour", Algorithm 1 on the lines alone (replicate padding, a mean of terms in [0, 1]), or "band" (ours):
            "contour" without ranks, both activations taken on the target's lines and r pixels beside them.
        ignore_value, ignore_mode: see `point_loss`.
        reduction: "mean", or "none" for the loss of each image (not with "official", which pools the batch).

    Returns:
        Scalar, or ``[N]``; float32 (float64 for float64 logits). An exact 0 if the target has no line. Differentiable
        once.

    Raises:
        ValueError: for an argument outside the above, or labels that do not fit the logits.

    Example:
        >>> labels = torch.zeros(1, 8, 8, dtype=torch.long)
        >>> labels[:, :, 4:] = 1
        >>> perfect = 100.0 * torch.nn.functional.one_hot(labels, 2).movedim(3, 1)
        >>> round(line_loss(perfect, labels).item(), 3)
        0.0
        >>> round(line_loss(-perfect, labels).item(), 3)  # the lines of each class lie where the other's should
        1.0
    """
    term = line_term(kernel_size, splitter, convolution, mu, formulation, reduction)
    return evaluate_term(term, logits, labels, ignore_value, ignore_mode, mode, reduction)
