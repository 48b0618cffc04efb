"""The pixel classification loss that `MODEL.SEM_SEG_HEAD.LOSS_TYPE` names."""

from __future__ import annotations

from detectron2.config import CfgNode

from epl_d2.losses.modules import FunctionLoss

from .table import CRITERIA, build_loss

__all__ = ["build_criterion"]


def build_criterion(cfg: CfgNode) -> FunctionLoss:
    """A module that takes logits [N, K, H, W] and labels [N, H, W] and returns a scalar.

    Raises:
        ValueError: MODEL.SEM_SEG_HEAD.LOSS_TYPE is none of "cross_entropy", "hard_pixel_mining" (Detectron2's: the
            mean over the hardest 20% of the pixels), "ohem", "label_relaxation" and "image_weighted" (GSCNN's), or a
            setting of the chosen one is out of range.
    """
    head = cfg.MODEL.SEM_SEG_HEAD
    if head.LOSS_TYPE not in CRITERIA:
        *others, last = map(repr, CRITERIA)
        raise ValueError(f"MODEL.SEM_SEG_HEAD.LOSS_TYPE is {head.LOSS_TYPE!r}; it may be {', '.join(others)} or {last}")
    key = head.LOSS_TYPE.upper()
    try:
        return build_loss(CRITERIA[head.LOSS_TYPE], head.get(key, {}), head.IGNORE_VALUE)
    except ValueError as error:
        raise ValueError(f"MODEL.SEM_SEG_HEAD.{key}: {error}") from error
