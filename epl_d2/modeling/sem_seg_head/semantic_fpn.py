"""Semantic FPN with EPL."""

from __future__ import annotations

import torch
from detectron2.config import configurable
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
from torch import nn

from epl_d2.losses import EPLLoss
from epl_d2.modeling.losses.extra_losses import ExtraLosses

from .mixin import EPLHeadMixin

__all__ = ["EPLSemSegFPNHead"]


@SEM_SEG_HEADS_REGISTRY.register()
class EPLSemSegFPNHead(EPLHeadMixin, SemSegFPNHead):
    """Detectron2's `SemSegFPNHead` (Panoptic FPN, arXiv 1901.02446) with the EPL terms."""

    @configurable
    def __init__(
        self, *, loss: nn.Module, epl: EPLLoss | None = None, extra_losses: ExtraLosses | None = None, **kwargs
    ):
        """
        Args:
            loss, epl, extra_losses: see `EPLHeadMixin.set_losses`.
            kwargs: the arguments of `SemSegFPNHead`.
        """
        super().__init__(**kwargs)
        self.set_losses(loss, epl, extra_losses)

    @classmethod
    def from_config(cls, cfg, input_shape):
        return {**super().from_config(cfg, input_shape), **cls.losses_from_config(cfg)}

    def losses(
        self, predictions: torch.Tensor, targets: torch.Tensor, features: dict[str, torch.Tensor] | None = None
    ) -> dict[str, torch.Tensor]:
        return super().losses(predictions.float(), targets, features)  # as the baseline does under mixed precision
