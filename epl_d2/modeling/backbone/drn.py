"""DRN-D-54 (Dilated Residual Networks, arXiv 1705.09914): stride 8 without max pooling.

The blocks are Detectron2's bottlenecks, which compute the same; `layer0` ... `layer8` are named as in fyu/drn, whose
ImageNet weights `tools/convert_checkpoint.py --from drn` renames.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.layers import CNNBlockBase, Conv2d, ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.modeling.backbone.resnet import BottleneckBlock
from fvcore.nn.weight_init import c2_msra_fill
from torch import nn

from epl_d2.modeling.layers.conv_norm_relu import Norm

__all__ = ["DRN"]

# (output channels, kernel size, stride, dilation) of the plain convolutions.
_CONVOLUTIONS = {
    "layer0": (16, 7, 1, 1),
    "layer1": (16, 3, 1, 1),
    "layer2": (32, 3, 2, 1),
    "layer7": (512, 3, 1, 2),
    "layer8": (512, 3, 1, 1),
}
# (output channels, blocks, stride of the first block, dilation of all blocks) of the residual layers.
_RESIDUAL_LAYERS = {
    "layer3": (256, 3, 2, 1),
    "layer4": (512, 4, 2, 1),
    "layer5": (1024, 6, 1, 2),
    "layer6": (2048, 3, 1, 4),
}
_LAYERS = tuple(f"layer{index}" for index in range(9))


class _ConvolutionLayer(CNNBlockBase):
    """Convolution, norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, size: int, *, stride: int, dilation: int, norm: Norm):
        super().__init__(in_channels, out_channels, stride)
        self.conv = Conv2d(
            in_channels,
            out_channels,
            size,
            stride=stride,
            padding=dilation * (size // 2),
            dilation=dilation,
            bias=False,
            norm=get_norm(norm, out_channels),
        )
        c2_msra_fill(self.conv)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu_(self.conv(x))


@BACKBONE_REGISTRY.register()
class DRN(Backbone):
    """The trunk of DRN-D-54 (35,296,176 parameters)."""

    @configurable
    def __init__(self, *, out_features: tuple[str, ...] = ("layer3", "layer8"), norm: Norm = "BN", freeze_at: int = 0):
        """
        Args:
            out_features: names of the features to return, among "layer0", "layer1" (16 channels, stride 1), "layer2"
                (32, 2), "layer3" (256, 4), "layer4" (512, 8), "layer5" (1024, 8), "layer6" (2048, 8), "layer7" and
                "layer8" (512, 8). Layers after the last of them are not built.
            norm: normalization, as in `detectron2.layers.get_norm`.
            freeze_at: number of layers, from "layer0" on, whose parameters and batch statistics stay as loaded.

        Raises:
            ValueError: an argument is none of the above.
        """
        super().__init__()
        unknown = [name for name in out_features if name not in _LAYERS]
        if unknown or not out_features:
            raise ValueError(f"MODEL.DRN.OUT_FEATURES is {list(out_features)}; it may hold {', '.join(_LAYERS)}")
        if not 0 <= freeze_at <= len(_LAYERS):
            raise ValueError(f"MODEL.BACKBONE.FREEZE_AT is {freeze_at}; DRN takes 0..{len(_LAYERS)}")

        self._out_features = list(out_features)
        self._out_feature_channels = {}
        self._out_feature_strides = {}
        self._layers = _LAYERS[: 1 + max(_LAYERS.index(name) for name in out_features)]
        channels, stride = 3, 1
        for name in self._layers:
            blocks = self._blocks(name, channels, norm)
            channels = blocks[-1].out_channels
            stride *= blocks[0].stride
            self._out_feature_channels[name] = channels
            self._out_feature_strides[name] = stride
            self.add_module(name, nn.Sequential(*blocks))
        for name in self._layers[:freeze_at]:
            for block in getattr(self, name):
                block.freeze()

    @staticmethod
    def _blocks(name: str, in_channels: int, norm: Norm) -> list[CNNBlockBase]:
        if name in _CONVOLUTIONS:
            out_channels, size, stride, dilation = _CONVOLUTIONS[name]
            return [_ConvolutionLayer(in_channels, out_channels, size, stride=stride, dilation=dilation, norm=norm)]
        out_channels, blocks, stride, dilation = _RESIDUAL_LAYERS[name]
        return [
            BottleneckBlock(
                in_channels if block == 0 else out_channels,
                out_channels,
                bottleneck_channels=out_channels // 4,
                stride=stride if block == 0 else 1,
                norm=norm,
                stride_in_1x1=False,
                dilation=dilation,
            )
            for block in range(blocks)
        ]

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec):
        return {
            "out_features": tuple(cfg.MODEL.DRN.OUT_FEATURES),
            "norm": cfg.MODEL.DRN.NORM,
            "freeze_at": cfg.MODEL.BACKBONE.FREEZE_AT,
        }

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """
        Args:
            x: [N, 3, H, W] normalized images.

        Returns:
            The `out_features`, each [N, channels, ceil(H / stride), ceil(W / stride)].
        """
        outputs = {}
        for name in self._layers:
            x = getattr(self, name)(x)
            if name in self._out_features:
                outputs[name] = x
        return outputs
