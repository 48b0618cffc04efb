"""Mask R-CNN's convolutional mask head with EPL."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads.mask_head import ROI_MASK_HEAD_REGISTRY, MaskRCNNConvUpsampleHead, mask_rcnn_loss
from detectron2.structures import Instances

from epl_d2.losses import EPLLoss
from epl_d2.modeling.iteration import current_iteration
from epl_d2.modeling.losses import build_mask_epl_loss

from .mask_losses import mask_epl_losses, with_cropped_masks

__all__ = ["EPLMaskRCNNConvUpsampleHead"]


@ROI_MASK_HEAD_REGISTRY.register()
class EPLMaskRCNNConvUpsampleHead(MaskRCNNConvUpsampleHead):
    """Detectron2's `MaskRCNNConvUpsampleHead` with the EPL terms on the masks of the ground-truth classes.

    For Mask R-CNN, Cascade Mask R-CNN and Panoptic FPN, with class-specific or class-agnostic masks. No parameter is
    added, and inference is the baseline's.
    """

    @configurable
    def __init__(self, input_shape: ShapeSpec, *, epl: EPLLoss | None = None, **kwargs: Any) -> None:
        """
        Args:
            input_shape: of the features of a region.
            epl: the EPL terms, of mode "binary"; None leaves them out.
            kwargs: the arguments of `MaskRCNNConvUpsampleHead`.
        """
        super().__init__(input_shape, **kwargs)
        # The head is an `nn.Sequential` that runs every module in it, so that the loss must not be one of them.
        self._losses = (epl,)

    @property
    def epl(self) -> EPLLoss | None:
        """The EPL terms."""
        return self._losses[0]

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        return {**super().from_config(cfg, input_shape), "epl": build_mask_epl_loss(cfg)}

    def forward(self, x: torch.Tensor, instances: list[Instances]) -> dict[str, torch.Tensor] | list[Instances]:
        """As the baseline's; in training "loss_mask_epl_point" and "loss_mask_epl_line" stand beside "loss_mask"."""
        if not self.training or self.epl is None:
            return super().forward(x, instances)
        logits = self.layers(x)
        instances = with_cropped_masks(instances, logits.shape[-1])
        losses = {"loss_mask": mask_rcnn_loss(logits, instances, self.vis_period) * self.loss_weight}
        return {**losses, **mask_epl_losses(self.epl, logits, instances, current_iteration())}
