"""The losses that a config can name, one table from names to functions.

Every function takes logits [N, K, H, W], labels [N, H, W], its map of the loader where `epl_d2.config.MAP_OF_LOSS` has
one, and by keyword `ignore_value` and its settings, which are its keys of the config in lower case. It returns a
scalar.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.projects.deeplab.loss import DeepLabCE

from epl_d2.losses import (
    active_boundary_loss,
    boundary_loss,
    generalized_dice_loss,
    label_relaxation_loss,
    lovasz_softmax_loss,
    ohem_cross_entropy,
)
from epl_d2.losses.arguments import check_integer
from epl_d2.losses.compared.active_boundary import check_active_boundary_arguments
from epl_d2.losses.criteria.gscnn import image_weighted_cross_entropy
from epl_d2.losses.criteria.ohem import check_ohem_arguments

__all__ = ["CRITERIA", "EXTRA_LOSSES", "NamedLoss", "cross_entropy"]


@dataclass(frozen=True)
class NamedLoss:
    """A loss function and the check of its settings.

    Attributes:
        function: see the top of this module.
        check: raises ValueError for a setting out of range, when the head is built instead of in the first step; None
            where there is none to check.
    """

    function: Callable[..., torch.Tensor]
    check: Callable[..., None] | None = None

    def with_settings(self, settings: Mapping[str, Any], ignore_value: int) -> partial[torch.Tensor]:
        """The function with the settings of a config's node.

        Raises:
            ValueError: a setting is out of range.
        """
        arguments = {name.lower(): value for name, value in settings.items()}
        if self.check is not None:
            self.check(**arguments)
        return partial(self.function, ignore_value=ignore_value, **arguments)


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor, *, ignore_value: int = 255) -> torch.Tensor:
    """PyTorch's mean over the pixels, but an exact 0 instead of NaN, with gradients of 0, where all are ignored."""
    mean = F.cross_entropy(logits, labels, ignore_index=ignore_value)
    return torch.where((labels != ignore_value).any(), mean, 0.0)


def _hard_pixel_mining(logits: torch.Tensor, labels: torch.Tensor, *, ignore_value: int) -> torch.Tensor:
    return DeepLabCE(ignore_label=ignore_value, top_k_percent_pixels=0.2)(logits, labels)


def _check_border(border: int) -> None:
    check_integer("border", border, minimum=0)


# MODEL.SEM_SEG_HEAD.LOSS_TYPE -> the criterion; its settings are in the node of MODEL.SEM_SEG_HEAD with its name.
CRITERIA = {
    "cross_entropy": NamedLoss(cross_entropy),
    "hard_pixel_mining": NamedLoss(_hard_pixel_mining),
    "ohem": NamedLoss(ohem_cross_entropy, check_ohem_arguments),
    "label_relaxation": NamedLoss(label_relaxation_loss, _check_border),
    "image_weighted": NamedLoss(image_weighted_cross_entropy),
}

# Key of MODEL.EXTRA_LOSSES -> the loss; its settings are what the node holds besides weight and schedule.
EXTRA_LOSSES = {
    "GENERALIZED_DICE": NamedLoss(generalized_dice_loss),
    "BOUNDARY": NamedLoss(boundary_loss),
    "ACTIVE_BOUNDARY": NamedLoss(active_boundary_loss, check_active_boundary_arguments),
    "LOVASZ": NamedLoss(lovasz_softmax_loss),
}
