"""The losses of Equipotential Learning and those it is compared with: usable without Detectron2 in any project.

Every loss is a function and a module.
"""

from .compared.active_boundary import active_boundary_loss
from .compared.band_cross_entropy import band_cross_entropy
from .compared.boundary import boundary_loss
from .compared.boundary_f import boundary_f_loss
from .compared.class_weighted import class_weighted_cross_entropy
from .compared.generalized_dice import generalized_dice_loss
from .compared.lovasz import lovasz_softmax_loss
from .criteria.gscnn import image_weighted_cross_entropy
from .criteria.label_relaxation import label_relaxation_loss
from .criteria.ohem import ohem_cross_entropy
from .epl import EPLLoss
from .line import line_loss
from .mask_classification import matched_masks
from .modules import (
    ActiveBoundaryLoss,
    BandCrossEntropy,
    BoundaryFLoss,
    BoundaryLoss,
    ClassWeightedCrossEntropy,
    GeneralizedDiceLoss,
    ImageWeightedCrossEntropy,
    LabelRelaxationLoss,
    LineLoss,
    LovaszSoftmaxLoss,
    OHEMCrossEntropy,
    PointLoss,
)
from .point import point_loss
from .potential import potential_field

__all__ = [
    "ActiveBoundaryLoss",
    "BandCrossEntropy",
    "BoundaryFLoss",
    "BoundaryLoss",
    "ClassWeightedCrossEntropy",
    "EPLLoss",
    "GeneralizedDiceLoss",
    "ImageWeightedCrossEntropy",
    "LabelRelaxationLoss",
    "LineLoss",
    "LovaszSoftmaxLoss",
    "OHEMCrossEntropy",
    "PointLoss",
    "active_boundary_loss",
    "band_cross_entropy",
    "boundary_f_loss",
    "boundary_loss",
    "class_weighted_cross_entropy",
    "generalized_dice_loss",
    "image_weighted_cross_entropy",
    "label_relaxation_loss",
    "line_loss",
    "lovasz_softmax_loss",
    "matched_masks",
    "ohem_cross_entropy",
    "point_loss",
    "potential_field",
]
