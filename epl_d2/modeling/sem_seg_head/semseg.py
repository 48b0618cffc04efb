"""What the heads of hszhao/semseg (PSPNet, PSANet) share: a classifier of the context, and an auxiliary one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from torch import nn

from epl_d2.modeling.layers.conv_norm_relu import conv_norm_relu

from .base import EPLSemSegHead, select_features

__all__ = ["SemsegHead"]


def _classifier(in_channels: int, hidden: int, num_classes: int, norm: str, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        *conv_norm_relu(in_channels, hidden, 3, norm), nn.Dropout2d(dropout), nn.Conv2d(hidden, num_classes, 1)
    )


class SemsegHead(EPLSemSegHead, ABC):
    """Logits `cls(context(x))` of one feature of the backbone; in training also those of `aux` on an earlier feature.

    Module names are the reference's, so that its checkpoints load by a prefix.
    """

    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        in_feature: str,
        context_channels: int,
        convs_dim: int = 512,
        dropout: float = 0.1,
        norm: str = "BN",
        aux_in_feature: str = "",
        aux_convs_dim: int = 256,
        **kwargs: Any,
    ):
        """
        Args:
            input_shape: shapes of the backbone's features.
            in_feature: the feature that gets the context; its stride is that of the logits.
            context_channels: channels of `context`.
            convs_dim, aux_convs_dim: channels of the 3x3 convolution of either classifier.
            dropout: share of those channels that training drops.
            norm: normalization, as in `detectron2.layers.get_norm`.
            aux_in_feature: feature of the auxiliary classifier; "" for none.
            kwargs: the other arguments of `EPLSemSegHead`.

        Raises:
            ValueError: the backbone has no `aux_in_feature`.
        """
        super().__init__(common_stride=input_shape[in_feature].stride, **kwargs)
        if aux_in_feature and aux_in_feature not in input_shape:
            raise ValueError(
                f"MODEL.SEM_SEG_HEAD.AUX_IN_FEATURE is {aux_in_feature!r}, but the backbone has no such feature; "
                f"it may be {', '.join(input_shape)}, or '' for no auxiliary branch"
            )
        self.in_feature = in_feature
        self.aux_in_feature = aux_in_feature
        self.cls = _classifier(context_channels, convs_dim, self.num_classes, norm, dropout)
        if aux_in_feature:
            aux_channels = input_shape[aux_in_feature].channels
            self.aux = _classifier(aux_channels, aux_convs_dim, self.num_classes, norm, dropout)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        head = cfg.MODEL.SEM_SEG_HEAD
        return {
            **super().from_config(cfg, input_shape),
            "input_shape": input_shape,
            "in_feature": list(select_features(input_shape, head.IN_FEATURES))[-1],
            "convs_dim": head.CONVS_DIM,
            "dropout": head.DROPOUT,
            "norm": head.NORM,
            "aux_in_feature": head.AUX_IN_FEATURE,
            "aux_convs_dim": head.AUX_CONVS_DIM,
        }

    @abstractmethod
    def context(self, x: torch.Tensor) -> torch.Tensor:
        """[N, C, h, w] to [N, context_channels, h, w]."""

    def layers(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """[N, K, h, w] logits at the head's stride."""
        return self.cls(self.context(features[self.in_feature]))

    def auxiliary_layers(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The auxiliary classifier's logits, [N, K, h', w']."""
        return {"loss_sem_seg_aux": self.aux(features[self.aux_in_feature])} if self.aux_in_feature else {}
