"""DeepLabV3+ in the form of NVIDIA/semantic-segmentation, with EPL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import nn

from epl_d2.modeling.layers.conv_norm_relu import Norm, conv_norm_relu
from epl_d2.modeling.layers.resize import resize

from .base import EPLSemSegHead, select_features

__all__ = ["NVIDIAASPP", "EPLNVIDIADeepLabV3PlusHead"]


class NVIDIAASPP(nn.Module):
    """Atrous pyramid whose image pooling has a norm and comes first; optionally with a branch that is given edges.

    Batch norms need more than one pixel a channel: training takes at least two images a batch (or a device, without
    synchronization), since the pooled branch has one each.
    """

    def __init__(
        self, in_channels: int, channels: int, dilations: Sequence[int], norm: Norm, *, edge_branch: bool = False
    ):
        """
        Args:
            in_channels: of the feature.
            channels: of each branch.
            dilations: of the 3x3 branches.
            norm: normalization, as in `detectron2.layers.get_norm`.
            edge_branch: whether `forward` is given edges.
        """
        super().__init__()
        self.features = nn.ModuleList([conv_norm_relu(in_channels, channels, 1, norm)])
        for dilation in dilations:
            self.features.append(conv_norm_relu(in_channels, channels, 3, norm, dilation=dilation))
        self.img_conv = conv_norm_relu(in_channels, channels, 1, norm)
        self.edge_conv = conv_norm_relu(1, channels, 1, norm) if edge_branch else None
        self.out_channels = channels * (2 + len(dilations) + edge_branch)

    def forward(self, x: torch.Tensor, edges: torch.Tensor | None = None) -> torch.Tensor:
        """
        Args:
            x: [N, in_channels, h, w].
            edges: [N, 1, H, W] of any size, for the edge branch.

        Returns:
            [N, out_channels, h, w]: image pooling, edges, 1x1, then the dilated branches.
        """
        pooled = self.img_conv(F.adaptive_avg_pool2d(x, 1))
        branches = [resize(pooled, x.shape[-2:])]
        if self.edge_conv is not None:
            branches.append(self.edge_conv(resize(edges, x.shape[-2:])))
        branches += [branch(x) for branch in self.features]
        return torch.cat(branches, dim=1)


@SEM_SEG_HEADS_REGISTRY.register()
class EPLNVIDIADeepLabV3PlusHead(EPLSemSegHead):
    """NVIDIA's DeepLabV3+ decoder: linear 1x1 projections without norms, no dropout, no bias in the last layer.

    Only the last layers (`final`) have Kaiming's initialization; the others keep PyTorch's, as in the WideResNet-38
    model of the reference.
    """

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        aspp_channels: int,
        aspp_dilations: Sequence[int],
        project_channels: int,
        convs_dim: int,
        norm: Norm,
        edge_branch: bool = False,
        **kwargs,
    ):
        """
        Args:
            input_shape: the fine feature, then the coarse one.
            aspp_channels: of each branch of the ASPP, and of its projection.
            aspp_dilations: of its 3x3 branches.
            project_channels: of the projection of the fine feature.
            convs_dim: of the two 3x3 convolutions.
            norm: normalization, as in `detectron2.layers.get_norm`.
            edge_branch: see `NVIDIAASPP`.
            kwargs: the arguments of `EPLSemSegHead` but for `common_stride`, which is the fine feature's.
        """
        (fine_name, fine), (coarse_name, coarse) = input_shape.items()
        super().__init__(common_stride=fine.stride, **kwargs)
        self.fine_feature, self.coarse_feature = fine_name, coarse_name
        self.aspp = NVIDIAASPP(coarse.channels, aspp_channels, aspp_dilations, norm, edge_branch=edge_branch)
        self.bot_fine = nn.Conv2d(fine.channels, project_channels, 1, bias=False)
        self.bot_aspp = nn.Conv2d(self.aspp.out_channels, aspp_channels, 1, bias=False)
        self.final = nn.Sequential(
            *conv_norm_relu(project_channels + aspp_channels, convs_dim, 3, norm),
            *conv_norm_relu(convs_dim, convs_dim, 3, norm),
            nn.Conv2d(convs_dim, self.num_classes, 1, bias=False),
        )
        for module in self.final:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        head = cfg.MODEL.SEM_SEG_HEAD
        if len(head.IN_FEATURES) != 2 or len(head.PROJECT_CHANNELS) != 1:
            raise ValueError(
                f"MODEL.SEM_SEG_HEAD.IN_FEATURES is {list(head.IN_FEATURES)} and PROJECT_CHANNELS "
                f"{list(head.PROJECT_CHANNELS)}; {cls.__name__} takes a fine and a coarse feature, and one number"
            )
        return {
            **super().from_config(cfg, input_shape),
            "input_shape": select_features(input_shape, head.IN_FEATURES),
            "aspp_channels": head.ASPP_CHANNELS,
            "aspp_dilations": head.ASPP_DILATIONS,
            "project_channels": head.PROJECT_CHANNELS[0],
            "convs_dim": head.CONVS_DIM,
            "norm": head.NORM,
        }

    def layers(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """[N, K, h, w] logits at the fine feature's stride."""
        return self.decode(features)

    def decode(self, features: dict[str, torch.Tensor], edges: torch.Tensor | None = None) -> torch.Tensor:
        """The same, with [N, 1, H, W] edges for an ASPP that takes them."""
        fine, coarse = features[self.fine_feature], features[self.coarse_feature]
        context = self.bot_aspp(self.aspp(coarse, edges))
        return self.final(torch.cat([self.bot_fine(fine), resize(context, fine.shape[-2:])], dim=1))
