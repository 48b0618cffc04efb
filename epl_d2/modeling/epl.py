"""What every EPL head shares: building the loss from a config, and one `losses()` for all of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.utils.events import get_event_storage
from torch import nn

from epl_d2.losses import EPLLoss

__all__ = ["EPLHeadMixin", "build_epl_loss", "upsample_logits"]


def build_epl_loss(cfg: CfgNode) -> EPLLoss | None:
    """The EPL terms that `cfg.MODEL.EPL` describes, or None where they are switched off.

    Raises:
        KeyError: `cfg` was made without :func:`epl_d2.add_epl_config`.
        ValueError: a key holds a value that the loss does not take.
    """
    if "EPL" not in cfg.MODEL:
        raise KeyError("the config has no MODEL.EPL: call epl_d2.add_epl_config(cfg) before reading a config file")
    epl = cfg.MODEL.EPL
    if not epl.ENABLED:
        return None
    try:
        return EPLLoss(
            point_weight=epl.POINT.WEIGHT,
            line_weight=epl.LINE.WEIGHT,
            point_kernel_size=epl.POINT.KERNEL_SIZE,
            line_kernel_size=epl.LINE.KERNEL_SIZE,
            splitter=epl.SPLITTER,
            convolution=epl.CONVOLUTION,
            norm=epl.POINT.NORM,
            mu=epl.LINE.MU,
            formulation=epl.LINE.FORMULATION,
            ignore_value=cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
            stride=epl.STRIDE,
            start_iter=epl.START_ITER,
            ramp_iters=epl.RAMP_ITERS,
        )
    except ValueError as error:
        raise ValueError(f"MODEL.EPL: {error}") from error


def upsample_logits(logits: torch.Tensor, stride: int, size: tuple[int, int]) -> torch.Tensor:
    """Bilinear upsampling by `stride` as in Detectron2's heads, cut to `size` where the input was no multiple of it.

    Args:
        logits: [N, K, h, w].
        stride: pixels of the input per logit.
        size: (H, W) of the labels, at most `stride` times (h, w).

    Returns:
        [N, K, H, W]. A crop of 513 pixels gives 129 logits at stride 4, thus 516 pixels; the first 513 are the crop.
    """
    logits = F.interpolate(logits, scale_factor=stride, mode="bilinear", align_corners=False)
    return logits[..., : size[0], : size[1]]


class EPLHeadMixin:
    """Adds `loss_epl_point` and `loss_epl_line` to the losses of a Detectron2 semantic segmentation head.

    The head has, as Detectron2's have, `common_stride`, `loss_weight` and a criterion `loss(logits, labels)`, and sets
    `epl` to an :class:`~epl_d2.losses.EPLLoss` or None. Nothing else of the head changes: no parameter is added and
    inference is the baseline's.
    """

    epl: EPLLoss | None
    loss: nn.Module
    common_stride: int
    loss_weight: float

    def losses(self, predictions: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        """
        Args:
            predictions: [N, K, h, w] logits at the head's stride.
            targets: [N, H, W] labels.
        """
        logits = upsample_logits(predictions, self.common_stride, targets.shape[-2:])
        losses = {"loss_sem_seg": self.loss(logits, targets) * self.loss_weight}
        if self.epl is not None:
            losses.update(self.epl(logits, targets, iteration=_current_iteration()))
        return losses


def _current_iteration() -> int | None:
    """Iteration of the running trainer; None outside of one."""
    try:
        return get_event_storage().iter
    except AssertionError:
        return None
