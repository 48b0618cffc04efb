"""DeepLabV3+ in the form of jfzhang95/pytorch-deeplab-xception, on which the paper's VOC models stand, with EPL.

It differs from Detectron2's `DeepLabV3PlusHead`: a norm in the image pooling, the decoder's concatenation in the other
order, stronger dropout, and corners aligned in every resize. Module names are the reference's, so that its checkpoints
load by a prefix.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec, get_norm
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import nn

from epl_d2.modeling.layers.conv_norm_relu import conv_norm_relu
from epl_d2.modeling.layers.resize import resize

from .base import EPLSemSegHead, select_features

__all__ = ["EPLPyTorchDeepLabHead"]


class _Branch(nn.Module):
    """Convolution, norm and ReLU of one rate; rate 1 stands for a 1x1 convolution."""

    def __init__(self, in_channels: int, out_channels: int, rate: int, norm: str):
        super().__init__()
        size, padding = (1, 0) if rate == 1 else (3, rate)
        self.atrous_conv = nn.Conv2d(in_channels, out_channels, size, padding=padding, dilation=rate, bias=False)
        self.bn = get_norm(norm, out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu_(self.bn(self.atrous_conv(x)))


class _ASPP(nn.Module):
    """Atrous spatial pyramid pooling: [N, in_channels, h, w] -> [N, channels, h, w]."""

    def __init__(self, in_channels: int, channels: int, dilations: list[int], dropout: float, norm: str):
        super().__init__()
        self.aspp1 = _Branch(in_channels, channels, 1, norm)
        self.aspp2, self.aspp3, self.aspp4 = (_Branch(in_channels, channels, rate, norm) for rate in dilations)
        self.global_avg_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), *conv_norm_relu(in_channels, channels, 1, norm))
        self.conv1 = nn.Conv2d(5 * channels, channels, 1, bias=False)
        self.bn1 = get_norm(norm, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = self.global_avg_pool(x).expand(-1, -1, *x.shape[-2:])
        x = torch.cat([self.aspp1(x), self.aspp2(x), self.aspp3(x), self.aspp4(x), pooled], dim=1)
        return self.dropout(F.relu_(self.bn1(self.conv1(x))))


class _Decoder(nn.Module):
    """[N, channels, h', w'] and the low level [N, low_channels, h, w] -> logits [N, num_classes, h, w]."""

    def __init__(
        self, num_classes: int, aspp_channels: int, low_channels: int, project_channels: int, channels: int, norm: str
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(low_channels, project_channels, 1, bias=False)
        self.bn1 = get_norm(norm, project_channels)
        self.last_conv = nn.Sequential(
            *conv_norm_relu(aspp_channels + project_channels, channels, 3, norm),
            nn.Dropout(0.5),
            *conv_norm_relu(channels, channels, 3, norm),
            nn.Dropout(0.1),
            nn.Conv2d(channels, num_classes, 1),
        )

    def forward(self, x: torch.Tensor, low_level: torch.Tensor) -> torch.Tensor:
        low_level = F.relu_(self.bn1(self.conv1(low_level)))
        return self.last_conv(torch.cat([resize(x, low_level.shape[-2:]), low_level], dim=1))


@SEM_SEG_HEADS_REGISTRY.register()
class EPLPyTorchDeepLabHead(EPLSemSegHead):
    """DeepLabV3+ (arXiv 1802.02611) as in jfzhang95/pytorch-deeplab-xception, with the EPL terms.

    There is no auxiliary branch. Training needs two images a process, for the norm of the image pooling.
    """

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        norm: str = "BN",
        aspp_channels: int = 256,
        aspp_dilations: list[int] = (),
        aspp_dropout: float = 0.5,
        project_channels: int = 48,
        decoder_channels: int = 256,
        **kwargs,
    ):
        """
        Args:
            input_shape: shapes of the low-level and of the high-level feature, in this order.
            norm: normalization, as in `detectron2.layers.get_norm`.
            aspp_channels: channels of each branch of the ASPP, and of its result.
            aspp_dilations: the three rates; empty for the reference's 6, 12, 18 at output stride 16, 12, 24, 36 at 8.
            aspp_dropout: probability that an element of the ASPP's result is dropped.
            project_channels: channels that the low-level feature is reduced to.
            decoder_channels: channels of the decoder's 3x3 convolutions.
            kwargs: the arguments of `EPLSemSegHead` but for `common_stride`.

        Raises:
            ValueError: there are not 2 features, or not 3 rates above 1.
        """
        if len(input_shape) != 2:
            raise ValueError(
                f"MODEL.SEM_SEG_HEAD.IN_FEATURES is {list(input_shape)}; EPLPyTorchDeepLabHead takes the low-level and "
                "the high-level feature"
            )
        low, high = input_shape.values()
        aspp_dilations = aspp_dilations or [rate * 16 // high.stride for rate in (6, 12, 18)]
        if len(aspp_dilations) != 3 or min(aspp_dilations) < 2:
            raise ValueError(
                f"MODEL.SEM_SEG_HEAD.ASPP_DILATIONS is {list(aspp_dilations)}; it must hold 3 rates above 1, or be []"
            )
        if not norm:
            raise ValueError("MODEL.SEM_SEG_HEAD.NORM is empty; EPLPyTorchDeepLabHead needs a norm, such as 'BN'")
        self.low_feature, self.high_feature = input_shape
        super().__init__(common_stride=low.stride, **kwargs)
        self.aspp = _ASPP(high.channels, aspp_channels, aspp_dilations, aspp_dropout, norm)
        self.decoder = _Decoder(self.num_classes, aspp_channels, low.channels, project_channels, decoder_channels, norm)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]):
        head = cfg.MODEL.SEM_SEG_HEAD
        if len(head.PROJECT_CHANNELS) != 1:
            raise ValueError(
                f"MODEL.SEM_SEG_HEAD.PROJECT_CHANNELS is {list(head.PROJECT_CHANNELS)}; it must hold 1 number, such as "
                "[48], for the one low-level feature"
            )
        return {
            **super().from_config(cfg, input_shape),
            "input_shape": select_features(input_shape, head.IN_FEATURES),
            "norm": head.NORM,
            "aspp_channels": head.ASPP_CHANNELS,
            "aspp_dilations": head.ASPP_DILATIONS,
            "aspp_dropout": head.ASPP_DROPOUT,
            "project_channels": head.PROJECT_CHANNELS[0],
            "decoder_channels": head.CONVS_DIM,
        }

    def layers(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """[N, K, h, w] logits at the stride of the low-level feature."""
        return self.decoder(self.aspp(features[self.high_feature]), features[self.low_feature])
