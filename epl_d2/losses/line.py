"""The equipotential line loss of EPL (arXiv 2210.00223, eq. 4 and Algorithm 1)."""

from torch import Tensor

from .arguments import (
    CONVOLUTIONS,
    FORMULATIONS,
    SPLITTERS,
    check_choice,
    check_inputs,
    check_kernel_size,
    check_mu,
)
from .kernels import plain
from .kernels.autograd import with_gradient
from .kernels.triton.autograd import is_taken, with_kernels

try:
    from .kernels.cpu import line as on_cpu
except ModuleNotFoundError as error:
    if error.name != "numba":
        raise
    on_cpu = plain  # without Numba the plain formulas run


def check_line_arguments(
    kernel_size: int, splitter: str, convolution: str, mu: int, formulation: str, prefix: str = ""
) -> None:
    """Raise ValueError for a setting of the line loss that is out of range; ``prefix`` goes before its own names."""
    check_kernel_size(f"{prefix}kernel_size", kernel_size)
    check_choice("splitter", splitter, SPLITTERS)
    check_choice("convolution", convolution, CONVOLUTIONS)
    check_mu(mu)
    check_choice("formulation", formulation, FORMULATIONS)


def line_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    kernel_size: int = 7,
    splitter: str = "A",
    convolution: str = "anisotropic",
    mu: int = 10,
    formulation: str = "contour",
    ignore_value: int = 255,
) -> Tensor:
    """Distance between the equipotential lines around the contours of labels and prediction (eq. 4, Algorithm 1).

    The lines of the target are the pixels with energy 1..r (r = kernel_size // 2), those of the prediction the same
    number of pixels at the same ranks of energy, in each (image, class) row and direction. The choice of pixels is a
    constant for the gradient. ``docs/losses.md`` gives both formulations in full.

    Args:
        logits: ``[N, K, H, W]``, any floating-point type. Computed in float32 (float64 for float64), autocast off.
        labels: ``[N, H, W]``, any integer type, values 0..K-1 or ``ignore_value``.
        kernel_size: odd, positive; there are kernel_size // 2 lines.
        splitter: "A", "B" or "C", see `potential_field`.
        convolution: "anisotropic" or "standard", see `potential_field`.
        mu: even, positive; how sharply exp(-(E - tau)^mu) tells line tau from its neighbours.
        formulation: "official", the value of the authors' released code (zero padding, pooled over the batch), or
            "contour", Algorithm 1 on the lines alone (replicate padding, a mean of terms in [0, 1]).
        ignore_value: the label of pixels that take no part.

    Returns:
        Scalar, float32 (float64 for float64 logits). An exact 0 if the target has no line. Differentiable once.

    Raises:
        ValueError: for an argument outside the above, or labels that do not fit the logits.
    """
    check_line_arguments(kernel_size, splitter, convolution, mu, formulation)
    check_inputs(logits, labels, ignore_value)
    if is_taken(logits, labels, kernel_size, convolution):
        from .kernels.triton import line as on_cuda  # not everywhere is there a Triton to import

        return with_kernels(on_cuda, logits, labels, kernel_size, splitter, mu, formulation, ignore_value)
    settings = (kernel_size, splitter, convolution, mu, formulation, ignore_value)
    path = on_cpu if logits.device.type == "cpu" else plain
    return with_gradient(path.line_loss_and_gradient, logits, labels, *settings)
