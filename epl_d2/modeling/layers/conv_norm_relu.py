"""Convolution, norm, ReLU: what most heads are made of."""

from __future__ import annotations

from collections.abc import Callable

from detectron2.layers import get_norm
from torch import nn

__all__ = ["Norm", "conv_norm_relu"]

Norm = str | Callable[[int], nn.Module]  # what `detectron2.layers.get_norm` takes


def conv_norm_relu(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    norm: Norm,
    *,
    dilation: int = 1,
) -> nn.Sequential:
    """A convolution without bias that keeps the size, a norm and a ReLU, with PyTorch's initialization.

    Their names are "0", "1" and "2", as in the reference implementations; unpacked (``*conv_norm_relu(...)``) they
    take the names that the surrounding `nn.Sequential` gives them.

    Args:
        in_channels, out_channels: of the convolution.
        kernel_size: odd.
        norm: as in `detectron2.layers.get_norm`; "" leaves an identity in its place.
        dilation: of the convolution.
    """
    padding = dilation * (kernel_size // 2)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, bias=False),
        get_norm(norm, out_channels) or nn.Identity(),
        nn.ReLU(inplace=True),
    )
