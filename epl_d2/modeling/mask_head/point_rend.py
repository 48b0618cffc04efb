"""PointRend's mask head with EPL on its coarse masks."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_HEADS_REGISTRY
from detectron2.modeling.roi_heads.mask_head import ROI_MASK_HEAD_REGISTRY
from detectron2.projects.point_rend import PointRendMaskHead
from detectron2.projects.point_rend.roi_heads import PointRendROIHeads
from detectron2.structures import Instances

from epl_d2.losses import EPLLoss
from epl_d2.modeling.iteration import current_iteration
from epl_d2.modeling.losses import build_mask_epl_loss

from .mask_losses import mask_epl_losses, with_cropped_masks

__all__ = ["EPLPointRendMaskHead", "EPLPointRendROIHeads"]


@ROI_MASK_HEAD_REGISTRY.register()
class EPLPointRendMaskHead(PointRendMaskHead):
    """Detectron2's `PointRendMaskHead` with the EPL terms on its coarse masks, usually of 7 x 7 pixels.

    The point head predicts single points, which have no contour, and is trained as in the baseline. No parameter is
    added, and inference is the baseline's. A batch without foreground, at which the baseline's point head fails, gives
    exact zeros.
    """

    @configurable
    def __init__(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec], *, epl: EPLLoss | None = None) -> None:
        """
        Args:
            cfg: as the baseline's, which takes nothing else.
            input_shape: of the features of the image.
            epl: the EPL terms, of mode "binary"; None leaves them out.
        """
        super().__init__(cfg, input_shape)
        self.epl = epl

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """
        Raises:
            ValueError: the classes of the point head are not those of the boxes.
        """
        classes, found = cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.MODEL.POINT_HEAD.NUM_CLASSES
        if cfg.MODEL.ROI_MASK_HEAD.POINT_HEAD_ON and found != classes:
            raise ValueError(f"MODEL.POINT_HEAD.NUM_CLASSES is {found}, expected that of MODEL.ROI_HEADS, {classes}")
        return {"cfg": cfg, "input_shape": input_shape, "epl": build_mask_epl_loss(cfg)}

    def forward(
        self, features: dict[str, torch.Tensor], instances: list[Instances]
    ) -> dict[str, torch.Tensor] | list[Instances]:
        """As the baseline's; in training "loss_mask_epl_point" and "loss_mask_epl_line" are added."""
        if not self.training or self.epl is None:
            return super().forward(features, instances)
        cropped = with_cropped_masks(instances, self.coarse_head.output_shape[-1])
        coarse = []
        handle = self.coarse_head.register_forward_hook(lambda module, inputs, logits: coarse.append(logits))
        try:
            losses = super().forward(features, instances)
        finally:
            handle.remove()
        return {**losses, **mask_epl_losses(self.epl, coarse[0], cropped, current_iteration())}

    def _sample_train_points(
        self, coarse_mask: torch.Tensor, instances: list[Instances]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if len(coarse_mask):
            return super()._sample_train_points(coarse_mask, instances)
        count = self.mask_point_train_num_points
        return coarse_mask.new_zeros(0, count, 2), coarse_mask.new_zeros(0, count)


@ROI_HEADS_REGISTRY.register()
class EPLPointRendROIHeads(PointRendROIHeads):
    """Detectron2's `PointRendROIHeads`, which loads old checkpoints of PointRend, for any mask head."""

    @classmethod
    def _init_mask_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        # The baseline's own refuses every mask head but its own.
        return super(PointRendROIHeads, cls)._init_mask_head(cfg, input_shape)
