"""PSPNet (arXiv 1612.01105) with EPL; structure and module names as in hszhao/semseg."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import nn

from epl_d2.modeling.layers.conv_norm_relu import conv_norm_relu
from epl_d2.modeling.layers.resize import resize

from .semseg import SemsegHead

__all__ = ["EPLPSPHead", "PyramidPooling"]


class PyramidPooling(nn.Module):
    """The input beside its averages over coarse grids, each convolved and resized to the input's size."""

    def __init__(self, in_channels: int, channels: int, bins: Sequence[int], norm: str):
        """
        Args:
            in_channels: C.
            channels: channels of each grid after its 1x1 convolution, D.
            bins: cells per side of each grid, B of them.
            norm: normalization, as in `detectron2.layers.get_norm`.
        """
        super().__init__()
        self.features = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(cells), *conv_norm_relu(in_channels, channels, 1, norm))
            for cells in bins
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, C, h, w] to [N, C + B * D, h, w].

        Raises:
            ValueError: a grid of one cell meets batch normalization that has one image to learn from.
        """
        try:
            grids = [feature(x) for feature in self.features]
        except ValueError as error:
            if x.shape[0] > 1:
                raise
            raise ValueError(
                "the batch norm of a 1x1 pyramid grid has a single value per channel: train with at least 2 images per "
                "process (SOLVER.IMS_PER_BATCH), with SyncBN on several processes, or with another "
                "MODEL.SEM_SEG_HEAD.NORM such as 'GN'"
            ) from error
        resized = [resize(grid, x.shape[-2:]) for grid in grids]
        return torch.cat([x, *resized], dim=1)


@SEM_SEG_HEADS_REGISTRY.register()
class EPLPSPHead(SemsegHead):
    """Pyramid scene parsing: global and regional averages are the context of every pixel."""

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        in_feature: str,
        bins: Sequence[int] = (1, 2, 3, 6),
        channels: int = 512,
        norm: str = "BN",
        **kwargs: Any,
    ):
        """
        Args:
            bins, channels: see `PyramidPooling`.
            input_shape, in_feature, norm, kwargs: see `SemsegHead`.

        Raises:
            ValueError: `bins` is empty or holds a number below 1.
        """
        if not bins or min(bins) < 1:
            raise ValueError(f"MODEL.PSP.BINS is {list(bins)}; it may hold positive cell counts, such as [1, 2, 3, 6]")
        in_channels = input_shape[in_feature].channels
        super().__init__(
            input_shape,
            in_feature=in_feature,
            context_channels=in_channels + len(bins) * channels,
            norm=norm,
            **kwargs,
        )
        self.ppm = PyramidPooling(in_channels, channels, bins, norm)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        return {
            **super().from_config(cfg, input_shape),
            "bins": cfg.MODEL.PSP.BINS,
            "channels": cfg.MODEL.PSP.CHANNELS,
        }

    def context(self, x: torch.Tensor) -> torch.Tensor:
        return self.ppm(x)
