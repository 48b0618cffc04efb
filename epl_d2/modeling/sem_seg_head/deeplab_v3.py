"""DeepLabV3 with EPL."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from detectron2.projects.deeplab import DeepLabV3Head

from epl_d2.modeling.layers.image_pooling import pooling_window, set_pooling_window

from .mixin import EPLHeadMixin

__all__ = ["EPLDeepLabV3Head", "baseline_config"]


def baseline_config(cfg: CfgNode) -> CfgNode:
    """What Detectron2's DeepLab heads are built from, without what they refuse and is set afterwards.

    These are crops that are no multiple of the encoder's stride, and criteria other than their own.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.INPUT.CROP.ENABLED = False
    cfg.MODEL.SEM_SEG_HEAD.LOSS_TYPE = "cross_entropy"
    return cfg


@SEM_SEG_HEADS_REGISTRY.register()
class EPLDeepLabV3Head(EPLHeadMixin, DeepLabV3Head):
    """Detectron2's `DeepLabV3Head` (arXiv 1706.05587) with the EPL terms, for crops and test images of any size."""

    def __init__(self, cfg, input_shape):
        """
        Args:
            cfg: a config; `DeepLabV3Head` takes its arguments from nothing else.
            input_shape: shapes of the backbone's features.
        """
        super().__init__(baseline_config(cfg), input_shape)
        set_pooling_window(self.aspp, pooling_window(cfg, self.common_stride))
        self.set_losses(**self.losses_from_config(cfg))

    def layers(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """[N, K, h, w] logits at the head's stride."""
        return self.predictor(self.aspp(features[self.in_features[0]]))
