"""Criss-cross attention (CCNet, arXiv 1811.11721): every pixel looks at its own row and column.

Shape shorthand in this module:

    N, H, W: images, height and width of the feature map
    C, D: channels of the values, channels of queries and keys
"""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["CrissCrossAttention", "criss_cross_attention"]


def criss_cross_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Mean of the values in the column and the row of each pixel, weighted by one softmax over their H + W - 1 places.

    The energy of a place is the plain dot product of query and key. Memory is O(N H W (H + W)), where attention
    between all pairs of pixels takes O(N (H W)^2).

    Args:
        query, key: [N, D, H, W].
        value: [N, C, H, W].

    Returns:
        [N, C, H, W].
    """
    height = query.shape[-2]
    column = torch.einsum("ndhw,ndiw->nhwi", query, key)
    row = torch.einsum("ndhw,ndhj->nhwj", query, key)
    # A pixel is in its column and in its row; it counts once, in the row.
    positions = torch.arange(height, device=query.device)
    itself = (positions.unsqueeze(1) == positions).unsqueeze(1)
    column = column.masked_fill(itself, float("-inf"))
    weights = torch.cat([column, row], dim=-1).softmax(dim=-1).to(value.dtype)
    column, row = weights[..., :height], weights[..., height:]
    return torch.einsum("nhwi,nciw->nchw", column, value) + torch.einsum("nhwj,nchj->nchw", row, value)


class CrissCrossAttention(nn.Module):
    """Criss-cross attention with learned 1x1 queries, keys and values, added to its input with a learned factor."""

    def __init__(self, channels: int, query_channels: int):
        """
        Args:
            channels: C of the input and of the output.
            query_channels: D; the reference takes C / 8.
        """
        super().__init__()
        self.query_conv = nn.Conv2d(channels, query_channels, 1)
        self.key_conv = nn.Conv2d(channels, query_channels, 1)
        self.value_conv = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))  # at first the module is the identity

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [N, C, H, W] -> [N, C, H, W]."""
        attended = criss_cross_attention(self.query_conv(x), self.key_conv(x), self.value_conv(x))
        return self.gamma * attended + x
