"""MobileNetV2 (arXiv 1801.04381) as a dilated Detectron2 backbone.

Structure and module names are those of the MobileNetV2 in jfzhang95/pytorch-deeplab-xception, on which the paper's VOC
models stand, so that its checkpoints load by a prefix; ImageNet weights come from torchvision's through
`tools/convert_checkpoint.py`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone
from torch import nn

from epl_d2.modeling.layers.conv_norm_relu import Norm

__all__ = ["InvertedResidual", "MobileNetV2", "build_mobilenet_v2_fpn_backbone"]

# (expansion, output channels, blocks, stride) of each group: Table 2 of the paper without the 1280 convolution.
_GROUPS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_STEM_CHANNELS = 32
# One past the last entry of `features` in each stage; a stage ends where the undilated network halves the resolution.
_STAGE_ENDS = {"res1": 2, "res2": 4, "res3": 7, "res4": 14, "res5": 18}


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise convolution, linear 1x1 projection; identity shortcut where the shapes allow it."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int,
        dilation: int,
        expansion: int,
        norm: Norm,
        pad_before_expansion: bool,
    ):
        super().__init__()
        hidden = in_channels * expansion
        self.padding = dilation if pad_before_expansion else 0
        self.has_shortcut = stride == 1 and in_channels == out_channels
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [nn.Conv2d(in_channels, hidden, 1, bias=False), get_norm(norm, hidden), nn.ReLU6(inplace=True)]
        depthwise = nn.Conv2d(
            hidden,
            hidden,
            3,
            stride=stride,
            padding=0 if pad_before_expansion else dilation,
            dilation=dilation,
            groups=hidden,
            bias=False,
        )
        layers += [depthwise, get_norm(norm, hidden), nn.ReLU6(inplace=True)]
        layers += [nn.Conv2d(hidden, out_channels, 1, bias=False), get_norm(norm, out_channels)]
        self.conv = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(F.pad(x, [self.padding] * 4) if self.padding else x)
        return x + y if self.has_shortcut else y


@BACKBONE_REGISTRY.register()
class MobileNetV2(Backbone):
    """MobileNetV2 trunk with 18 `features`: stem and 17 inverted residuals (1,811,712 parameters)."""

    @configurable
    def __init__(
        self,
        *,
        output_stride: int = 16,
        out_features: tuple[str, ...] = ("res2", "res5"),
        norm: Norm = "BN",
        freeze_at: int = 0,
        pad_before_expansion: bool = True,
    ):
        """
        Args:
            output_stride: stride of "res5": 8, 16 or 32. Once it is reached, a group keeps the resolution and is
                dilated; its own stride dilates the groups after it.
            out_features: names of the features to return, among "res1" (16 channels, stride 2), "res2" (24, 4),
                "res3" (32, 8), "res4" (96) and "res5" (320).
            norm: normalization, as in `detectron2.layers.get_norm`.
            freeze_at: number of stages, from "res1" on, whose parameters and batch statistics stay as loaded.
            pad_before_expansion: zero padding before the 1x1 expansion (reference implementation) instead of at the
                depthwise convolution (torchvision). The results differ near the image border only.

        Raises:
            ValueError: an argument is none of the above.
        """
        super().__init__()
        if output_stride not in (8, 16, 32):
            raise ValueError(f"MODEL.MOBILENETV2.OUTPUT_STRIDE is {output_stride}; it may be 8, 16 or 32")
        unknown = [name for name in out_features if name not in _STAGE_ENDS]
        if unknown or not out_features:
            raise ValueError(
                f"MODEL.MOBILENETV2.OUT_FEATURES is {list(out_features)}; it may hold {', '.join(_STAGE_ENDS)}"
            )
        if not 0 <= freeze_at <= len(_STAGE_ENDS):
            raise ValueError(f"MODEL.BACKBONE.FREEZE_AT is {freeze_at}; MobileNetV2 takes 0..{len(_STAGE_ENDS)}")

        stem = nn.Sequential(
            nn.Conv2d(3, _STEM_CHANNELS, 3, stride=2, padding=1, bias=False),
            get_norm(norm, _STEM_CHANNELS),
            nn.ReLU6(inplace=True),
        )
        features: list[nn.Module] = [stem]
        channels, strides = [_STEM_CHANNELS], [2]
        dilation = 1
        for expansion, out_channels, blocks, group_stride in _GROUPS:
            group_dilation = dilation
            if strides[-1] == output_stride:
                dilation *= group_stride
                group_stride = 1
            for block in range(blocks):
                stride = group_stride if block == 0 else 1
                features.append(
                    InvertedResidual(
                        channels[-1],
                        out_channels,
                        stride=stride,
                        dilation=group_dilation,
                        expansion=expansion,
                        norm=norm,
                        pad_before_expansion=pad_before_expansion,
                    )
                )
                channels.append(out_channels)
                strides.append(strides[-1] * stride)
        self.features = nn.Sequential(*features)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

        self._out_features = list(out_features)
        self._out_feature_channels = {name: channels[end - 1] for name, end in _STAGE_ENDS.items()}
        self._out_feature_strides = {name: strides[end - 1] for name, end in _STAGE_ENDS.items()}
        self._freeze(freeze_at)

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec):
        if "MOBILENETV2" not in cfg.MODEL:
            raise KeyError("the config has no MODEL.MOBILENETV2: call epl_d2.add_epl_config(cfg) first")
        return {
            "output_stride": cfg.MODEL.MOBILENETV2.OUTPUT_STRIDE,
            "out_features": tuple(cfg.MODEL.MOBILENETV2.OUT_FEATURES),
            "norm": cfg.MODEL.MOBILENETV2.NORM,
            "freeze_at": cfg.MODEL.BACKBONE.FREEZE_AT,
            "pad_before_expansion": cfg.MODEL.MOBILENETV2.PAD_BEFORE_EXPANSION,
        }

    def _freeze(self, stages: int) -> None:
        end = list(_STAGE_ENDS.values())[stages - 1] if stages else 0
        for index in range(end):
            self.features[index] = FrozenBatchNorm2d.convert_frozen_batchnorm(self.features[index])
            self.features[index].requires_grad_(False)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """
        Args:
            x: [N, 3, H, W] normalized images.

        Returns:
            The `out_features`, each [N, channels, ceil(H / stride), ceil(W / stride)].
        """
        outputs = {}
        start = 0
        for name, end in _STAGE_ENDS.items():
            x = self.features[start:end](x)
            start = end
            if name in self._out_features:
                outputs[name] = x
        return outputs


@BACKBONE_REGISTRY.register()
def build_mobilenet_v2_fpn_backbone(cfg, input_shape: ShapeSpec) -> FPN:
    """A feature pyramid (arXiv 1612.03144) on MobileNetV2, as `build_resnet_fpn_backbone` is one on ResNet.

    `MODEL.FPN.IN_FEATURES` are its inputs, which `MODEL.MOBILENETV2.OUT_FEATURES` has to hold. The feature of stride
    4 becomes "p2", that of 8 "p3" and so on, each with `MODEL.FPN.OUT_CHANNELS` channels.
    """
    return FPN(
        bottom_up=MobileNetV2(cfg, input_shape),
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
