"""Both losses of EPL, weighted and scheduled, as one module (arXiv 2210.00223, eq. 5 without the cross entropy)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .arguments import check_field, check_integer, check_labels, check_weight
from .line import check_line_arguments, line_loss
from .point import check_point_arguments, point_loss
from .schedule import ramp


class EPLLoss(nn.Module):
    """``point_weight * point_loss + line_weight * line_loss``, each as its own entry, to be added to a cross entropy.

    The module has no parameters and no buffers: state dicts are those of the model without it.

    Args:
        point_weight, line_weight: at least 0. A loss with weight 0 is not computed.
        point_kernel_size, line_kernel_size: odd, positive, in pixels of the labels.
        splitter, convolution, norm, mu, formulation, ignore_value: see `point_loss` and `line_loss`.
        stride: evaluate EPL on logits of 1/stride of the label size (rounded up). Logits of another size are resized
            bilinearly; a cell of stride x stride labels is represented by the one in its middle; kernel sizes are
            divided by the stride, to the nearest odd number of at least 3.
        start_iter: first iteration at which EPL counts.
        ramp_iters: iterations over which the weights then grow linearly to their full values.

    Raises:
        ValueError: for a setting out of range.
    """

    def __init__(
        self,
        *,
        point_weight: float = 0.1,
        line_weight: float = 0.01,
        point_kernel_size: int = 7,
        line_kernel_size: int = 7,
        splitter: str = "A",
        convolution: str = "anisotropic",
        norm: str = "l2",
        mu: int = 10,
        formulation: str = "contour",
        ignore_value: int = 255,
        stride: int = 1,
        start_iter: int = 0,
        ramp_iters: int = 0,
    ) -> None:
        super().__init__()
        check_weight("point_weight", point_weight)
        check_weight("line_weight", line_weight)
        check_point_arguments(point_kernel_size, splitter, convolution, norm, prefix="point_")
        check_line_arguments(line_kernel_size, splitter, convolution, mu, formulation, prefix="line_")
        check_integer("ignore_value", ignore_value)
        check_integer("stride", stride, minimum=1)
        check_integer("start_iter", start_iter, minimum=0)
        check_integer("ramp_iters", ramp_iters, minimum=0)
        self.point_weight = point_weight
        self.line_weight = line_weight
        self.point_kernel_size = scaled_kernel_size(point_kernel_size, stride)
        self.line_kernel_size = scaled_kernel_size(line_kernel_size, stride)
        self.splitter = splitter
        self.convolution = convolution
        self.norm = norm
        self.mu = mu
        self.formulation = formulation
        self.ignore_value = ignore_value
        self.stride = stride
        self.start_iter = start_iter
        self.ramp_iters = ramp_iters

    def forward(self, logits: Tensor, labels: Tensor, iteration: int | None = None) -> dict[str, Tensor]:
        """The weighted losses.

        Args:
            logits: ``[N, K, H, W]``; with a stride above 1 of any size, else of the size of the labels.
            labels: ``[N, H, W]``, integers.
            iteration: where training stands; None stands for the end of the schedule.

        Returns:
            ``{"loss_epl_point": scalar, "loss_epl_line": scalar}``. What does not count now is an exact 0 that is
            connected to the logits.
        """
        scale = self.schedule(iteration)
        point_weight, line_weight = scale * self.point_weight, scale * self.line_weight
        zero = logits.flatten()[:0].float().sum()
        losses = {"loss_epl_point": zero, "loss_epl_line": zero}
        if point_weight == 0 and line_weight == 0:
            return losses
        if self.stride > 1:
            logits, labels = self.at_stride(logits, labels)
        if point_weight > 0:
            losses["loss_epl_point"] = point_weight * point_loss(
                logits,
                labels,
                kernel_size=self.point_kernel_size,
                splitter=self.splitter,
                convolution=self.convolution,
                norm=self.norm,
                ignore_value=self.ignore_value,
            )
        if line_weight > 0:
            losses["loss_epl_line"] = line_weight * line_loss(
                logits,
                labels,
                kernel_size=self.line_kernel_size,
                splitter=self.splitter,
                convolution=self.convolution,
                mu=self.mu,
                formulation=self.formulation,
                ignore_value=self.ignore_value,
            )
        return losses

    def schedule(self, iteration: int | None) -> float:
        """The share of the weights that counts at an iteration, from 0 to 1."""
        return ramp(iteration, self.start_iter, self.ramp_iters)

    def at_stride(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``[N, K, h, w]`` and labels ``[N, h, w]`` on the grid of 1/stride of the labels' size, rounded up."""
        check_field("logits", logits)
        check_labels(labels)
        size = tuple(math.ceil(length / self.stride) for length in labels.shape[-2:])
        # The middle of each cell: where bilinear interpolation of the logits puts its sample, to half a pixel.
        rows, columns = (
            (2 * torch.arange(cells, device=labels.device) + 1) * length // (2 * cells)
            for length, cells in zip(labels.shape[-2:], size, strict=True)
        )
        labels = labels[:, rows[:, None], columns]
        if logits.shape[-2:] != size:
            logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        return logits, labels

    def extra_repr(self) -> str:
        """The settings, for ``print(model)``."""
        shown = {name: value for name, value in vars(self).items() if not name.startswith("_") and name != "training"}
        return ", ".join(f"{name}={value!r}" for name, value in shown.items())


def scaled_kernel_size(kernel_size: int, stride: int) -> int:
    """The odd number nearest to kernel_size / stride, at least 3 (or kernel_size itself if the stride is 1)."""
    if stride == 1:
        return kernel_size
    return max(3, 2 * math.floor((kernel_size / stride - 1) / 2 + 0.5) + 1)
