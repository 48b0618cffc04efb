"""The type that conversions pass on."""

import torch

__all__ = ["StateDict"]

StateDict = dict[str, torch.Tensor]
