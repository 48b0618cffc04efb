"""Semantic FPN with EPL."""

from __future__ import annotations

import torch
from detectron2.config import configurable
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
from torch import nn

from epl_d2.losses import EPLLoss
from epl_d2.modeling.epl import EPLHeadMixin, build_epl_loss

__all__ = ["EPLSemSegFPNHead"]


@SEM_SEG_HEADS_REGISTRY.register()
class EPLSemSegFPNHead(EPLHeadMixin, SemSegFPNHead):
    """Detectron2's `SemSegFPNHead` (Panoptic FPN, arXiv 1901.02446) with the EPL terms."""

    @configurable
    def __init__(self, *, epl: EPLLoss | None = None, **kwargs):
        """
        Args:
            epl: the EPL terms; None gives the baseline.
            kwargs: the arguments of `SemSegFPNHead`.
        """
        super().__init__(**kwargs)
        self.loss = nn.CrossEntropyLoss(ignore_index=self.ignore_value)
        self.epl = epl

    @classmethod
    def from_config(cls, cfg, input_shape):
        return {**super().from_config(cfg, input_shape), "epl": build_epl_loss(cfg)}

    def losses(self, predictions: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        return super().losses(predictions.float(), targets)  # as the baseline does under mixed precision
