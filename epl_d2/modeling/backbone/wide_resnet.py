"""WideResNet-38 (arXiv 1611.10080, model A2, output stride 8) as a Detectron2 backbone.

Structure and module names are those of the trunk that NVIDIA's semantic-segmentation and GSCNN share, so that their
checkpoints load by a prefix. It has no stem and no last norm: "mod7" is the sum that its last block returns.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from detectron2.config import configurable
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import nn

from epl_d2.modeling.layers.conv_norm_relu import Norm

__all__ = ["PreActivationBlock", "WideResNet38"]

# Blocks, channels of a block's convolutions, stride of the first block, dilation of the 3x3 convolutions and dropout
# of each stage after "mod1". Two channels make a basic block, three a bottleneck.
_STAGES = {
    "mod2": (3, (128, 128), 1, 1, 0.0),
    "mod3": (3, (256, 256), 1, 1, 0.0),
    "mod4": (6, (512, 512), 2, 1, 0.0),
    "mod5": (3, (512, 1024), 1, 2, 0.0),
    "mod6": (1, (512, 1024, 2048), 1, 4, 0.3),
    "mod7": (1, (1024, 2048, 4096), 1, 4, 0.5),
}
_FIRST_CHANNELS = 64
_POOLED = ("mod2", "mod3")  # stages after a max pooling of stride 2
_NAMES = ("mod1", *_STAGES)


def _norm_relu(norm: Norm, channels: int) -> nn.Sequential:
    return nn.Sequential(get_norm(norm, channels), nn.ReLU(inplace=True))


class PreActivationBlock(nn.Module):
    """Residual block whose norms and ReLUs stand before the convolutions.

    Where the shape changes, the shortcut is a 1x1 convolution of the *activated* input; elsewhere it is the input.
    """

    def __init__(
        self,
        in_channels: int,
        channels: tuple[int, ...],
        *,
        norm: Norm,
        stride: int = 1,
        dilation: int = 1,
        dropout: float = 0.0,
    ):
        """
        Args:
            in_channels: channels of the input.
            channels: those after each convolution: two (3x3, 3x3) or three (1x1, 3x3, 1x1).
            norm: normalization, as in `detectron2.layers.get_norm`.
            stride: of the first convolution and the shortcut.
            dilation: of the 3x3 convolutions.
            dropout: share of the channels that are dropped before the last convolution.
        """
        super().__init__()
        kernel_sizes = (3, 3) if len(channels) == 2 else (1, 3, 1)
        self.bn1 = _norm_relu(norm, in_channels)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        previous = in_channels
        for index, (width, kernel_size) in enumerate(zip(channels, kernel_sizes, strict=True), start=1):
            if index > 1:
                layers[f"bn{index}"] = _norm_relu(norm, previous)
            if dropout and index == len(channels):
                layers["dropout"] = nn.Dropout2d(dropout)
            layers[f"conv{index}"] = nn.Conv2d(
                previous,
                width,
                kernel_size,
                stride=stride if index == 1 else 1,
                padding=dilation if kernel_size == 3 else 0,
                dilation=dilation if kernel_size == 3 else 1,
                bias=False,
            )
            previous = width
        self.convs = nn.Sequential(layers)
        self.proj_conv = (
            nn.Conv2d(in_channels, previous, 1, stride=stride, bias=False)
            if stride != 1 or in_channels != previous
            else None
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        activated = self.bn1(x)
        shortcut = x if self.proj_conv is None else self.proj_conv(activated)
        return self.convs(activated) + shortcut


@BACKBONE_REGISTRY.register()
class WideResNet38(Backbone):
    """WideResNet-38 A2 with seven stages (105,062,720 parameters); the stages after the last wanted one are left out.

    Channels and strides of the features: "mod1" 64 and 1, "mod2" 128 and 2, "mod3" 256 and 4, "mod4" 512 and 8,
    "mod5" 1024 and 8, "mod6" 2048 and 8, "mod7" 4096 and 8.
    """

    @configurable
    def __init__(self, *, out_features: tuple[str, ...] = ("mod2", "mod7"), norm: Norm = "BN", freeze_at: int = 0):
        """
        Args:
            out_features: names of the features to return, among "mod1" ... "mod7".
            norm: normalization, as in `detectron2.layers.get_norm`.
            freeze_at: number of stages, from "mod1" on, whose parameters and batch statistics stay as loaded.

        Raises:
            ValueError: an argument is none of the above.
        """
        super().__init__()
        unknown = [name for name in out_features if name not in _NAMES]
        if unknown or not out_features:
            raise ValueError(
                f"MODEL.WIDE_RESNET38.OUT_FEATURES is {list(out_features)}; it may hold {', '.join(_NAMES)}"
            )
        if not 0 <= freeze_at <= len(_NAMES):
            raise ValueError(f"MODEL.BACKBONE.FREEZE_AT is {freeze_at}; WideResNet38 takes 0..{len(_NAMES)}")
        self.stage_names = _NAMES[: 1 + max(_NAMES.index(name) for name in out_features)]

        convolution = nn.Conv2d(3, _FIRST_CHANNELS, 3, padding=1, bias=False)
        self.mod1 = nn.Sequential(OrderedDict(conv1=convolution))
        channels, strides = {"mod1": _FIRST_CHANNELS}, {"mod1": 1}
        width, stride = _FIRST_CHANNELS, 1
        for name in self.stage_names[1:]:
            blocks, block_channels, block_stride, dilation, dropout = _STAGES[name]
            if name in _POOLED:
                self.add_module(f"pool{name[-1]}", nn.MaxPool2d(3, stride=2, padding=1))
                stride *= 2
            stage: OrderedDict[str, nn.Module] = OrderedDict()
            for block in range(blocks):
                stage[f"block{block + 1}"] = PreActivationBlock(
                    width,
                    block_channels,
                    norm=norm,
                    stride=block_stride if block == 0 else 1,
                    dilation=dilation,
                    dropout=dropout,
                )
                width = block_channels[-1]
            self.add_module(name, nn.Sequential(stage))
            stride *= block_stride
            channels[name], strides[name] = width, stride
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

        self._out_features = list(out_features)
        self._out_feature_channels = channels
        self._out_feature_strides = strides
        for name in self.stage_names[:freeze_at]:
            stage = FrozenBatchNorm2d.convert_frozen_batchnorm(getattr(self, name))
            self.add_module(name, stage.requires_grad_(False))

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec):
        if "WIDE_RESNET38" not in cfg.MODEL:
            raise KeyError("the config has no MODEL.WIDE_RESNET38: call epl_d2.add_epl_config(cfg) first")
        return {
            "out_features": tuple(cfg.MODEL.WIDE_RESNET38.OUT_FEATURES),
            "norm": cfg.MODEL.WIDE_RESNET38.NORM,
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
        for name in self.stage_names:
            if name in _POOLED:
                x = getattr(self, f"pool{name[-1]}")(x)
            x = getattr(self, name)(x)
            if name in self._out_features:
                outputs[name] = x
        return outputs
