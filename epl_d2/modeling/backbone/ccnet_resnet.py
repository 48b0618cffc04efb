"""The ResNet of CCNet: Detectron2's deep-stem ResNet with a pooling that rounds up."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone.resnet import ResNet
from detectron2.projects.deeplab.resnet import DeepLabStem, build_resnet_deeplab_backbone

__all__ = ["CeilPoolingStem", "build_ccnet_resnet_backbone"]


class CeilPoolingStem(DeepLabStem):
    """`DeepLabStem` whose max pooling keeps the last row and column of maps of even size.

    An image of 560 pixels gives 141 instead of 140 at stride 4; for odd sizes, such as 769 or 513, nothing changes.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [N, 3, H, W] -> [N, C, h, w] with h = floor(ceil(H / 2) / 2) + 1, and w likewise."""
        for convolution in (self.conv1, self.conv2, self.conv3):
            x = F.relu_(convolution(x))
        return F.max_pool2d(x, kernel_size=3, stride=2, padding=1, ceil_mode=True)


@BACKBONE_REGISTRY.register()
def build_ccnet_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """`build_resnet_deeplab_backbone` with the stem above; it reads the same keys.

    Raises:
        ValueError: MODEL.RESNETS.STEM_TYPE is not "deeplab".
    """
    resnets = cfg.MODEL.RESNETS
    if resnets.STEM_TYPE != "deeplab":
        raise ValueError(
            f"MODEL.RESNETS.STEM_TYPE is {resnets.STEM_TYPE!r}; build_ccnet_resnet_backbone takes 'deeplab' alone"
        )
    backbone = build_resnet_deeplab_backbone(cfg, input_shape)
    backbone.stem = CeilPoolingStem(input_shape.channels, resnets.STEM_OUT_CHANNELS, resnets.NORM)
    return backbone.freeze(cfg.MODEL.BACKBONE.FREEZE_AT)
