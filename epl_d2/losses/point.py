"""The point loss of EPL (arXiv 2210.00223, eq. 3)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from . import defaults
from .arguments import NORMS, REGIONS, check_choice, check_kernel_size
from .eager import not_compiled
from .terms import Term, evaluate_term


@dataclass(frozen=True)
class PointTerm(Term):
    """The settings of the point loss.

    Raises:
        ValueError: one of them is out of range.
    """

    norm: str
    region: str = defaults.REGION
    name: ClassVar[str] = "point"

    def __post_init__(self) -> None:
        check_choice("region", self.region, REGIONS)
        check_kernel_size("kernel_size", self.kernel_size, minimum=3 if self.region == "lines" else 1)
        super().__post_init__()
        check_choice("norm", self.norm, NORMS)


@not_compiled
def point_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    kernel_size: int = defaults.KERNEL_SIZE,
    splitter: str = defaults.SPLITTER,
    convolution: str = defaults.CONVOLUTION,
    norm: str = defaults.NORM,
    region: str = defaults.REGION,
    ignore_value: int = defaults.IGNORE_VALUE,
    ignore_mode: str = defaults.IGNORE_MODE,
    mode: str = defaults.MODE,
    reduction: str = "mean",
) -> Tensor:
    """Mean over directions, classes and pixels of |E(y) - E(p)|^q with replicate padding (eq. 3).

    y are the one-hot labels, p = softmax(logits), E the potential energies (`potential_field`). In the sigmoid modes y
    are the targets themselves, p = sigmoid(logits), and each field counts as a class does.

    In the region "lines" (ours, not the paper's) only the target's lines count, the pixels where 1 <= E(y) < r + 1: the
    mean over all (image, class, direction) rows that have any, of the mean over the line pixels of the row. So each
    class, however small, and each direction has the same say, as in the "contour" line loss.

    Args:
        logits: ``[N, K, H, W]`` (binary: ``[N, H, W]`` or ``[N, 1, H, W]``), any floating-point type. Computed in
            float32 (float64 for float64), autocast off.
        labels: ``[N, H, W]``, any integer type, values 0..K-1 or ``ignore_value``. Binary: ``[N, H, W]`` or
            ``[N, 1, H, W]``, multilabel: ``[N, K, H, W]``, of any type, values exactly 0, 1 or ``ignore_value``.
        kernel_size: odd, positive; a ray has kernel_size // 2 + 1 pixels. In the region "lines" at least 3: with
            1 there is no line.
        splitter: "A", "B" or "C", see `potential_field`.
        convolution: "anisotropic" or "standard", see `potential_field`.
        norm: "l2" (q = 2) or "l1" (q = 1).
        region: "image", or "lines".
        ignore_value: the label of ignored pixels, any integer.
        ignore_mode: what a ray sees at an ignored pixel: the nearest valid pixel ("nearest"), nothing ("exclude"; both
            leave ignored pixels out of the mean, and their own logits change nothing), or class 0, which they then
            count as ("background", the authors' habit; in the sigmoid modes: 0).
        mode: "multiclass", a softmax over classes; "binary", a sigmoid for each instance; "multilabel", one for each of
            K classes.
        reduction: "mean", or "none" for the loss of each image (binary: of each instance).

    Returns:
        Scalar, or ``[N]``; float32 (float64 for float64 logits). An exact 0 if no pixel takes part (in the region
        "lines": if no row has a line). Differentiable once.

    Raises:
        ValueError: for an argument outside the above, or labels that do not fit the logits.

    Example:
        >>> logits = torch.zeros(1, 2, 8, 8)
        >>> labels = torch.zeros(1, 8, 8, dtype=torch.long)
        >>> labels[:, :, 4:] = 1
        >>> point_loss(logits, labels, kernel_size=3).item()  # E(p) is 1, E(y) is 1 on the lines, else 0 or 2
        0.9375
        >>> point_loss(logits, labels, kernel_size=3, region="lines").item()  # there is one line
        0.0
    """
    term = PointTerm(kernel_size, splitter, convolution, norm, region)
    return evaluate_term(term, logits, labels, ignore_value, ignore_mode, mode, reduction)
