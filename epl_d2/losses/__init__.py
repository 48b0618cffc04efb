"""The losses of Equipotential Learning and those it is compared with: usable without Detectron2 in any project."""

from .active_boundary import active_boundary_loss
from .boundary import boundary_loss
from .epl import EPLLoss
from .generalized_dice import generalized_dice_loss
from .label_relaxation import label_relaxation_loss
from .line import line_loss
from .lovasz import lovasz_softmax_loss
from .ohem import ohem_cross_entropy
from .point import point_loss
from .potential import potential_field

__all__ = [
    "EPLLoss",
    "active_boundary_loss",
    "boundary_loss",
    "generalized_dice_loss",
    "label_relaxation_loss",
    "line_loss",
    "lovasz_softmax_loss",
    "ohem_cross_entropy",
    "point_loss",
    "potential_field",
]
