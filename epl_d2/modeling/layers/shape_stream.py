"""GSCNN's shape stream (arXiv 1907.05740): predicts the edges of the classes beside the backbone.

Shape shorthand in this module:

    N: images of the batch
    H, W: height and width of the image; the stream works at this size
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.layers import get_norm
from torch import nn

from .conv_norm_relu import Norm
from .resize import resize

__all__ = ["GatedConvolution", "ResidualBlock", "ShapeStream"]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with norms, added to the input."""

    def __init__(self, channels: int, norm: Norm):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = get_norm(norm, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = get_norm(norm, channels)
        for convolution in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + x)


class GatedConvolution(nn.Module):
    """1x1 convolution of the stream, amplified by up to 2 where stream and a feature of the backbone agree on it."""

    def __init__(self, channels: int, norm: Norm):
        super().__init__()
        self.gate = nn.Sequential(
            get_norm(norm, channels + 1),
            nn.Conv2d(channels + 1, channels + 1, 1),
            nn.ReLU(),
            nn.Conv2d(channels + 1, 1, 1),
            get_norm(norm, 1),
            nn.Sigmoid(),
        )
        self.conv = nn.Conv2d(channels, channels, 1, bias=False)
        nn.init.xavier_normal_(self.conv.weight)

    def forward(self, stream: torch.Tensor, side: torch.Tensor) -> torch.Tensor:
        """
        Args:
            stream: [N, channels, H, W].
            side: [N, 1, H, W], from the backbone.
        """
        return self.conv(stream * (self.gate(torch.cat([stream, side], dim=1)) + 1))


class ShapeStream(nn.Module):
    """A residual block, a 1x1 convolution to fewer channels and a gate for every side feature, then the edges."""

    def __init__(self, in_channels: int, side_channels: Sequence[int], channels: Sequence[int], norm: Norm):
        """
        Args:
            in_channels: of the backbone's feature that the stream begins with.
            side_channels: of the features that the gates look at, one a gate.
            channels: of the stream at each gate.
            norm: normalization, as in `detectron2.layers.get_norm`.

        Raises:
            ValueError: `side_channels` and `channels` differ in length.
        """
        super().__init__()
        if len(side_channels) != len(channels):
            raise ValueError(
                f"MODEL.GSCNN.SHAPE_CHANNELS is {list(channels)}; it must hold one number for each of the "
                f"{len(side_channels)} features of MODEL.GSCNN.SHAPE_FEATURES after the first"
            )
        inputs = [in_channels, *channels[:-1]]
        self.sides = nn.ModuleList(nn.Conv2d(width, 1, 1) for width in side_channels)
        self.blocks = nn.ModuleList(ResidualBlock(width, norm) for width in inputs)
        self.reductions = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(inputs, channels, strict=True))
        self.gates = nn.ModuleList(GatedConvolution(width, norm) for width in channels)
        self.edges = nn.Conv2d(channels[-1], 1, 1, bias=False)
        self.attention = nn.Conv2d(2, 1, 1, bias=False)

    def forward(
        self, first: torch.Tensor, sides: Sequence[torch.Tensor], canny: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            first: [N, in_channels, h, w], what the stream begins with.
            sides: features of any size, one a gate.
            canny: [N, 1, H, W], Canny's edges of the image, 0 or 255.

        Returns:
            Two maps [N, 1, H, W] in (0, 1): the probability of an edge, and what the segmentation is told, which is a
            mix of it with Canny's edges.
        """
        size = canny.shape[-2:]
        stream = resize(first, size)
        stages = zip(self.blocks, self.reductions, self.gates, self.sides, sides, strict=True)
        for block, reduction, gate, side, feature in stages:
            stream = gate(reduction(block(stream)), resize(side(feature), size))
        edges = self.edges(stream).sigmoid()
        return edges, self.attention(torch.cat([edges, canny.to(edges)], dim=1)).sigmoid()
