"""The point loss of EPL (arXiv 2210.00223, eq. 3)."""

from torch import Tensor

from .arguments import CONVOLUTIONS, NORMS, SPLITTERS, check_choice, check_inputs, check_kernel_size
from .kernels import plain
from .kernels.autograd import with_gradient
from .kernels.triton.autograd import is_taken, with_kernels

try:
    from .kernels.cpu import point as on_cpu
except ModuleNotFoundError as error:
    if error.name != "numba":
        raise
    on_cpu = plain  # without Numba the plain formulas run


def check_point_arguments(kernel_size: int, splitter: str, convolution: str, norm: str, prefix: str = "") -> None:
    """Raise ValueError for a setting of the point loss that is out of range; ``prefix`` goes before its own names."""
    check_kernel_size(f"{prefix}kernel_size", kernel_size)
    check_choice("splitter", splitter, SPLITTERS)
    check_choice("convolution", convolution, CONVOLUTIONS)
    check_choice("norm", norm, NORMS)


def point_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    kernel_size: int = 7,
    splitter: str = "A",
    convolution: str = "anisotropic",
    norm: str = "l2",
    ignore_value: int = 255,
) -> Tensor:
    """Mean over directions, classes and pixels of |E(y) - E(p)|^q with replicate padding (eq. 3).

    y are the one-hot labels, p = softmax(logits), E the potential energies (`potential_field`). Pixels labelled
    ``ignore_value`` are 0 in y and in p and take no part in the mean.

    Args:
        logits: ``[N, K, H, W]``, any floating-point type. Computed in float32 (float64 for float64), autocast off.
        labels: ``[N, H, W]``, any integer type, values 0..K-1 or ``ignore_value``.
        kernel_size: odd, positive; a ray has kernel_size // 2 + 1 pixels.
        splitter: "A", "B" or "C", see `potential_field`.
        convolution: "anisotropic" or "standard", see `potential_field`.
        norm: "l2" (q = 2) or "l1" (q = 1).
        ignore_value: the label of pixels that take no part.

    Returns:
        Scalar, float32 (float64 for float64 logits). An exact 0 if no pixel takes part. Differentiable once.

    Raises:
        ValueError: for an argument outside the above, or labels that do not fit the logits.
    """
    check_point_arguments(kernel_size, splitter, convolution, norm)
    check_inputs(logits, labels, ignore_value)
    if is_taken(logits, labels, kernel_size, convolution):
        from .kernels.triton import point as on_cuda  # not everywhere is there a Triton to import

        return with_kernels(on_cuda, logits, labels, kernel_size, splitter, norm, ignore_value)
    settings = (kernel_size, splitter, convolution, norm, ignore_value)
    path = on_cpu if logits.device.type == "cpu" else plain
    return with_gradient(path.point_loss_and_gradient, logits, labels, *settings)
