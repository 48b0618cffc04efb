"""CCNet's recurrent criss-cross attention with EPL."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import nn

from epl_d2.modeling.layers.criss_cross_attention import CrissCrossAttention

from .base import EPLSemSegHead, select_features

__all__ = ["EPLCCHead"]


@SEM_SEG_HEADS_REGISTRY.register()
class EPLCCHead(EPLSemSegHead):
    """The head of speedinghzl/CCNet (arXiv 1811.11721) with the EPL terms.

    The last feature is reduced, attended to `recurrence` times with the same weights (twice reaches every pixel),
    and classified together with itself. The feature before it, if there is one, feeds the auxiliary branch. As in
    the reference, whose norms are InPlaceABN, a leaky ReLU of slope 0.01 follows every norm.
    """

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        norm: str = "BN",
        channels: int | None = None,
        out_channels: int = 512,
        recurrence: int = 2,
        dropout: float = 0.1,
        **kwargs,
    ):
        """
        Args:
            input_shape: shapes of the features to use: the auxiliary branch's (optional) and the attention's, in
                this order.
            norm: normalization, as in `detectron2.layers.get_norm`.
            channels: channels of the attention, a multiple of 8; None takes a quarter of its feature's.
            out_channels: channels that are classified, in the main and in the auxiliary branch.
            recurrence: how often the attention is applied.
            dropout: probability that a channel is dropped before the classification.
            kwargs: the arguments of `EPLSemSegHead` but for `common_stride`.

        Raises:
            ValueError: there are other than 1 or 2 features, or a number is out of its range.
        """
        if not 1 <= len(input_shape) <= 2:
            raise ValueError(
                f"MODEL.SEM_SEG_HEAD.IN_FEATURES is {list(input_shape)}; EPLCCHead takes the attention's feature, or "
                "the auxiliary branch's before it"
            )
        *auxiliary, (feature, shape) = input_shape.items()
        channels = shape.channels // 4 if channels is None else channels
        if channels < 8 or channels % 8:
            raise ValueError(f"MODEL.CC.CHANNELS is {channels}; it may be a positive multiple of 8")
        if out_channels < 1:
            raise ValueError(f"MODEL.CC.OUT_CHANNELS is {out_channels}; it must be positive")
        if recurrence < 1:
            raise ValueError(f"MODEL.CC.RECURRENCE is {recurrence}; it must be at least 1")
        super().__init__(common_stride=shape.stride, **kwargs)

        def convolution(in_channels: int, out_channels: int, bias: bool = False) -> Conv2d:
            return Conv2d(
                in_channels,
                out_channels,
                3,
                padding=1,
                bias=bias,
                norm=get_norm(norm, out_channels),
                activation=nn.LeakyReLU(0.01),
            )

        def classifier(in_channels: int, bias: bool) -> nn.Sequential:
            return nn.Sequential(
                convolution(in_channels, out_channels, bias),
                nn.Dropout2d(dropout),
                nn.Conv2d(out_channels, self.num_classes, 1),
            )

        self.feature = feature
        self.recurrence = recurrence
        self.conva = convolution(shape.channels, channels)
        self.cca = CrissCrossAttention(channels, channels // 8)
        self.convb = convolution(channels, channels)
        self.bottleneck = classifier(shape.channels + channels, bias=False)
        self.auxiliary_feature = auxiliary[0][0] if auxiliary else None
        # The reference's auxiliary convolution has a bias although a norm follows it.
        self.dsn = classifier(auxiliary[0][1].channels, bias=True) if auxiliary else None

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]):
        return {
            **super().from_config(cfg, input_shape),
            "input_shape": select_features(input_shape, cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES),
            "norm": cfg.MODEL.SEM_SEG_HEAD.NORM,
            "channels": cfg.MODEL.CC.CHANNELS or None,
            "out_channels": cfg.MODEL.CC.OUT_CHANNELS,
            "recurrence": cfg.MODEL.CC.RECURRENCE,
            "dropout": cfg.MODEL.SEM_SEG_HEAD.DROPOUT,
        }

    def layers(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """[N, K, h, w] logits at the stride of the last feature."""
        x = features[self.feature]
        context = self.conva(x)
        for _ in range(self.recurrence):
            context = self.cca(context)
        return self.bottleneck(torch.cat([x, self.convb(context)], dim=1))

    def auxiliary_layers(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if self.dsn is None:
            return {}
        return {"loss_sem_seg_aux": self.dsn(features[self.auxiliary_feature])}
