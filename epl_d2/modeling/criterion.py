"""The pixel classification loss that `MODEL.SEM_SEG_HEAD.LOSS_TYPE` names."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.projects.deeplab.loss import DeepLabCE
from torch import nn

__all__ = ["build_criterion"]


def build_criterion(cfg: CfgNode) -> nn.Module:
    """A module that takes logits [N, K, H, W] and labels [N, H, W] and returns a scalar.

    Raises:
        ValueError: MODEL.SEM_SEG_HEAD.LOSS_TYPE is none of "cross_entropy" and "hard_pixel_mining" (Detectron2's:
            the mean over the hardest 20% of the pixels).
    """
    head = cfg.MODEL.SEM_SEG_HEAD
    if head.LOSS_TYPE == "cross_entropy":
        return nn.CrossEntropyLoss(ignore_index=head.IGNORE_VALUE)
    if head.LOSS_TYPE == "hard_pixel_mining":
        return DeepLabCE(ignore_label=head.IGNORE_VALUE, top_k_percent_pixels=0.2)
    raise ValueError(
        f"MODEL.SEM_SEG_HEAD.LOSS_TYPE is {head.LOSS_TYPE!r}; it may be 'cross_entropy' or 'hard_pixel_mining'"
    )
