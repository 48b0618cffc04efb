"""Both losses of EPL, weighted and scheduled, as one module (arXiv 2210.00223, eq. 5 without the cross entropy)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import defaults
from .arguments import (
    BACKENDS,
    IGNORE_MODES,
    REGIONS,
    check_choice,
    check_flag,
    check_ignore_value,
    check_integer,
    check_kernel_size,
    check_sizes,
    check_tensor,
    check_weight,
)
from .eager import not_compiled
from .kernels.memory import memory_advice
from .line import LineTerm
from .modes import MODES, as_rows, check_no_probabilities
from .point import PointTerm
from .schedule import ramp
from .terms import evaluate_terms


class EPLLoss(nn.Module):
    """``point_weight * point_loss + line_weight * line_loss``, each as its own entry, to be added to a cross entropy.

    The module has no parameters and no buffers: state dicts are those of the model without it.

    Args:
        point_weight, line_weight: at least 0. A loss with weight 0 is not computed.
        point_kernel_size, line_kernel_size: odd, at least 3, in pixels of the labels. The point loss on the whole image
            takes 1 as well, which compares single pixels.
        splitter, convolution, norm, mu, formulation, ignore_value, ignore_mode, mode: see `point_loss` and `line_loss`.
        point_region: "image", or "lines" for the point loss on the target's lines alone: see `point_loss`.
        stride: evaluate EPL on logits of 1/stride of the label size (rounded up). Logits of another size are resized
            bilinearly; a cell of stride x stride labels is represented by the one in its middle; kernel sizes are
            divided by the stride, to the nearest odd number of at least 3.
        resize_logits: resize logits that are smaller than the labels to their size, bilinearly with
            ``align_corners=False``; else they are an error. A stride above 1 takes logits of any size.
        start_iter: first iteration at which EPL counts.
        ramp_iters: iterations over which the weights then grow linearly to their full values.
        backend: how they are computed, with the same result. "auto": by compiled kernels where there are any, Numba's
            on a CPU and Triton's on CUDA, and in plain PyTorch where these do not work, after a warning that says why.
            "plain", "numba", "triton": so and not otherwise.

    Raises:
        ValueError: for a setting out of range; when it is called, for a backend that cannot be used.

    Example:
        >>> epl = EPLLoss(point_weight=0.1, line_weight=0.5)
        >>> logits, labels = torch.zeros(1, 2, 8, 8, requires_grad=True), torch.eye(8, dtype=torch.long)[None]
        >>> losses = epl(logits, labels)
        >>> sorted(losses)
        ['loss_epl_line', 'loss_epl_point']
        >>> (torch.nn.functional.cross_entropy(logits, labels) + sum(losses.values())).backward()
    """

    def __init__(
        self,
        *,
        point_weight: float = defaults.POINT_WEIGHT,
        line_weight: float = defaults.LINE_WEIGHT,
        point_kernel_size: int = defaults.KERNEL_SIZE,
        line_kernel_size: int = defaults.KERNEL_SIZE,
        splitter: str = defaults.SPLITTER,
        convolution: str = defaults.CONVOLUTION,
        norm: str = defaults.NORM,
        point_region: str = defaults.REGION,
        mu: int = defaults.MU,
        formulation: str = defaults.FORMULATION,
        ignore_value: int = defaults.IGNORE_VALUE,
        ignore_mode: str = defaults.IGNORE_MODE,
        mode: str = defaults.MODE,
        stride: int = 1,
        resize_logits: bool = False,
        start_iter: int = 0,
        ramp_iters: int = 0,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        check_weight("point_weight", point_weight)
        check_weight("line_weight", line_weight)
        check_choice("point_region", point_region, REGIONS)
        check_kernel_size("point_kernel_size", point_kernel_size, minimum=3 if point_region == "lines" else 1)
        check_kernel_size("line_kernel_size", line_kernel_size, minimum=3)
        check_ignore_value(ignore_value)
        check_choice("ignore_mode", ignore_mode, IGNORE_MODES)
        check_choice("mode", mode, MODES)
        check_integer("stride", stride, minimum=1)
        check_flag("resize_logits", resize_logits)
        check_integer("start_iter", start_iter, minimum=0)
        check_integer("ramp_iters", ramp_iters, minimum=0)
        check_choice("backend", backend, BACKENDS)
        # Numbers of NumPy are taken as well; narrow ones would wrap.
        self.point_weight = float(point_weight)
        self.line_weight = float(line_weight)
        self.point = PointTerm(scaled_kernel_size(point_kernel_size, stride), splitter, convolution, norm, point_region)
        self.line = LineTerm(scaled_kernel_size(line_kernel_size, stride), splitter, convolution, mu, formulation)
        self.ignore_value = int(ignore_value)
        self.ignore_mode = ignore_mode
        self.mode = mode
        self.stride = int(stride)
        self.resize_logits = resize_logits
        self.start_iter = int(start_iter)
        self.ramp_iters = int(ramp_iters)
        self._seen_logits = False
        self.backend = backend

    @not_compiled
    def forward(self, logits: Tensor, labels: Tensor, iteration: float | None = None) -> dict[str, Tensor]:
        """The weighted losses.

        Args:
            logits: as `point_loss` takes them; with a stride above 1 of any size, else of the size of the labels unless
                ``resize_logits``.
            labels: as `point_loss` takes them.
            iteration: where training stands, needed where there is a schedule: the module does not count its calls,
                whose number is wrong after a restart, with several calls a step and with accumulated gradients.
                Infinity stands for the end of the schedule.

        Returns:
            ``{"loss_epl_point": scalar, "loss_epl_line": scalar}``. What does not count now is an exact 0 that is
            connected to the logits.

        Raises:
            ValueError: logits or labels are not what the mode takes, their sizes do not fit, or the module has a
                schedule and no iteration is given.
        """
        check_tensor("logits", logits, floating=True)
        scale = self.schedule(iteration)
        zero = logits.flatten()[:0].sum(dtype=torch.promote_types(logits.dtype, torch.float32))
        losses = {"loss_epl_point": zero, "loss_epl_line": zero}
        weights = {"loss_epl_point": scale * self.point_weight, "loss_epl_line": scale * self.line_weight}
        terms = {"loss_epl_point": self.point, "loss_epl_line": self.line}
        counting = [name for name, weight in weights.items() if weight > 0]
        if not counting:
            return losses
        logits, labels = as_rows(logits, labels, self.mode)
        if not self._seen_logits and self.mode == "multiclass":
            check_no_probabilities(logits)
        self._seen_logits = True
        if self.stride > 1 or self.resize_logits:
            if logits.numel() == 0:
                return losses
            with memory_advice(logits):
                logits, labels = (
                    self.at_stride(logits, labels) if self.stride > 1 else (upsample(logits, labels), labels)
                )
        settings = self.ignore_value, self.ignore_mode, self.mode != "multiclass", self.backend
        values = evaluate_terms(logits, labels, [terms[name] for name in counting], *settings)
        losses.update({name: weights[name] * value for name, value in zip(counting, values, strict=True)})
        return losses

    def schedule(self, iteration: float | None) -> float:
        """The share of the weights that counts at an iteration, from 0 to 1."""
        return ramp(iteration, self.start_iter, self.ramp_iters)

    def at_stride(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``[N, K, h, w]`` and labels ``[N, h, w]`` on the grid of 1/stride of the labels' size, rounded up.

        Logits of the labels' size are interpolated between valid pixels alone, so that ignored ones change nothing.
        Both are what `modes.as_rows` gives.
        """
        if labels.numel() == 0:  # there is no cell to resize the logits to
            check_sizes(logits, labels)
        full = labels.shape[-2:]
        size = tuple(math.ceil(length / self.stride) for length in full)
        # The middle of each cell: where bilinear interpolation of the logits puts its sample, to half a pixel.
        rows, columns = (
            (2 * torch.arange(cells, device=labels.device) + 1) * length // (2 * cells)
            for length, cells in zip(full, size, strict=True)
        )
        if logits.shape[-2:] != size:
            valid = None
            if logits.shape[-2:] == full and self.ignore_mode != "background":
                valid = (labels.long() != self.ignore_value).unsqueeze(1)
            logits = resize(logits, size, valid)
        return logits, labels[:, rows[:, None], columns]

    def extra_repr(self) -> str:
        """The settings, for ``print(model)``."""
        shown = {name: value for name, value in vars(self).items() if not name.startswith("_") and name != "training"}
        return ", ".join(f"{name}={value!r}" for name, value in shown.items())


def upsample(logits: Tensor, labels: Tensor) -> Tensor:
    """Logits ``[N, K, h, w]`` at the size of labels ``[N, H, W]``, if they are smaller and of the same proportions.

    Raises:
        ValueError: the proportions differ by more than the rounding of a stride.
    """
    (h, w), (height, width) = logits.shape[-2:], labels.shape[-2:]
    if (h, w) == (height, width) or h > height or w > width:
        return logits  # too large ones are refused with all other wrong sizes
    if abs(h * width - w * height) > max(height, width):
        raise ValueError(
            f"logits of {h} x {w} cannot be resized to labels of {height} x {width}: they have other proportions, so "
            "they do not show the same part of the picture"
        )
    return resize(logits, (height, width), None)


def resize(logits: Tensor, size: tuple[int, int], valid: Tensor | None) -> Tensor:
    """Bilinear interpolation of ``[N, K, H, W]`` to ``[N, K, h, w]``, in full precision.

    With a mask ``valid`` (bool ``[N, 1, H, W]``) each mean is over the valid ones of its pixels; 0 where there is none.
    """
    with torch.autocast(logits.device.type, enabled=False):
        if logits.dtype != torch.float64:
            logits = logits.float()
        if valid is None:
            return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        share = F.interpolate(valid.to(logits.dtype), size=size, mode="bilinear", align_corners=False)
        total = F.interpolate(torch.where(valid, logits, 0), size=size, mode="bilinear", align_corners=False)
        return torch.where(share > 0, total / share.where(share > 0, 1), 0)


def scaled_kernel_size(kernel_size: int, stride: int) -> int:
    """The odd number nearest to kernel_size / stride, at least 3 (or kernel_size itself if the stride is 1)."""
    if stride == 1:
        return kernel_size
    return max(3, 2 * math.floor((kernel_size / stride - 1) / 2 + 0.5) + 1)
