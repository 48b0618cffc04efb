"""The losses that a config can name, one table from names to modules.

Every module takes logits [N, K, H, W], labels [N, H, W] and, where `epl_d2.config.MAP_OF_LOSS` has one, its map of the
loader, and returns a scalar. Its keyword arguments are its keys of the config in lower case, and `ignore_value`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.projects.deeplab.loss import DeepLabCE

from epl_d2.losses import (
    ActiveBoundaryLoss,
    BandCrossEntropy,
    BoundaryFLoss,
    BoundaryLoss,
    ClassWeightedCrossEntropy,
    GeneralizedDiceLoss,
    ImageWeightedCrossEntropy,
    LabelRelaxationLoss,
    LovaszSoftmaxLoss,
    OHEMCrossEntropy,
)
from epl_d2.losses.modules import FunctionLoss

__all__ = ["CRITERIA", "EXTRA_LOSSES", "build_loss", "cross_entropy"]


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor, *, ignore_value: int = 255) -> torch.Tensor:
    """PyTorch's mean over the pixels, but an exact 0 instead of NaN, with gradients of 0, where all are ignored."""
    mean = F.cross_entropy(logits, labels, ignore_index=ignore_value)
    return torch.where((labels != ignore_value).any(), mean, 0.0)


class _CrossEntropy(FunctionLoss):
    function = staticmethod(cross_entropy)


def _hardest_pixels(logits: torch.Tensor, labels: torch.Tensor, *, ignore_value: int = 255) -> torch.Tensor:
    return DeepLabCE(ignore_label=ignore_value, top_k_percent_pixels=0.2)(logits, labels)


class _HardPixelMining(FunctionLoss):
    function = staticmethod(_hardest_pixels)


# MODEL.SEM_SEG_HEAD.LOSS_TYPE -> the criterion; its settings are in the node of MODEL.SEM_SEG_HEAD with its name.
CRITERIA: dict[str, type[FunctionLoss]] = {
    "cross_entropy": _CrossEntropy,
    "hard_pixel_mining": _HardPixelMining,
    "ohem": OHEMCrossEntropy,
    "label_relaxation": LabelRelaxationLoss,
    "image_weighted": ImageWeightedCrossEntropy,
}

# Key of MODEL.EXTRA_LOSSES -> the loss; its settings are what the node holds besides weight and schedule.
EXTRA_LOSSES: dict[str, type[FunctionLoss]] = {
    "GENERALIZED_DICE": GeneralizedDiceLoss,
    "BOUNDARY": BoundaryLoss,
    "ACTIVE_BOUNDARY": ActiveBoundaryLoss,
    "LOVASZ": LovaszSoftmaxLoss,
    "BOUNDARY_F": BoundaryFLoss,
    "BAND_CROSS_ENTROPY": BandCrossEntropy,
    "CLASS_WEIGHTED_CROSS_ENTROPY": ClassWeightedCrossEntropy,
}


def build_loss(loss: type[FunctionLoss], settings: Mapping[str, Any], ignore_value: int) -> FunctionLoss:
    """A loss with the settings of a config's node.

    Raises:
        ValueError: a setting is out of range.
    """
    return loss(**{name.lower(): value for name, value in settings.items()}, ignore_value=ignore_value)
