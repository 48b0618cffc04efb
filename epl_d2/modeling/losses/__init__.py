"""From a config to the losses of a head: the criterion, EPL, and further losses on the logits."""

from .criterion import build_criterion
from .epl import build_epl_loss, build_mask_epl_loss
from .extra_losses import ExtraLoss, ExtraLosses, build_extra_losses
from .table import cross_entropy

__all__ = [
    "ExtraLoss",
    "ExtraLosses",
    "build_criterion",
    "build_epl_loss",
    "build_extra_losses",
    "build_mask_epl_loss",
    "cross_entropy",
]
