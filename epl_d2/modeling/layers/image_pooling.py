"""Image pooling of an ASPP that takes feature maps of any size.

Detectron2's ASPP pools over windows of the training crop's size, so that training and inference see the same
context, but refuses crops and test images that are no multiple of it. Here the window is clipped to the feature map
instead; where the baseline accepts a size the result is the same.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import ASPP
from torch import nn

__all__ = ["ImagePooling", "pooling_window", "set_pooling_window"]


class ImagePooling(nn.Module):
    """Average pooling at stride 1 with a (height, width) window that is clipped to the feature map."""

    def __init__(self, window: tuple[int, int]):
        super().__init__()
        self.window = window

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = min(self.window[0], x.shape[-2]), min(self.window[1], x.shape[-1])
        return F.avg_pool2d(x, kernel_size=(height, width), stride=1)


def pooling_window(cfg: CfgNode, stride: int) -> tuple[int, int] | None:
    """Size of the training crop's feature map at `stride`; None (global pooling) when training does not crop."""
    if not cfg.INPUT.CROP.ENABLED:
        return None
    if cfg.INPUT.CROP.TYPE != "absolute":
        raise ValueError(
            f"INPUT.CROP.TYPE is {cfg.INPUT.CROP.TYPE!r}, but DeepLab's image pooling needs crops of a fixed size: "
            "set it to 'absolute'"
        )
    height, width = cfg.INPUT.CROP.SIZE
    return -(-height // stride), -(-width // stride)


def set_pooling_window(aspp: ASPP, window: tuple[int, int] | None) -> None:
    """Replace the image pooling of `aspp`, which was built with global pooling, by windows of size `window`."""
    if window is not None:
        aspp.convs[-1][0] = ImagePooling(window)
