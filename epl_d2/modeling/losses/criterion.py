"""The pixel classification loss that `MODEL.SEM_SEG_HEAD.LOSS_TYPE` names."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.projects.deeplab.loss import DeepLabCE
from torch import nn

from epl_d2.losses import ImageWeightedCrossEntropy, label_relaxation_loss, ohem_cross_entropy
from epl_d2.losses.arguments import check_integer
from epl_d2.losses.criteria.ohem import check_ohem_arguments

__all__ = ["Criterion", "build_criterion", "cross_entropy"]


class Criterion(nn.Module):
    """A loss function of `epl_d2.losses` with its settings."""

    def __init__(self, function: Callable[..., torch.Tensor], **settings: float) -> None:
        """
        Args:
            function: takes logits [N, K, H, W] and labels [N, H, W], returns a scalar.
            settings: further arguments of it.
        """
        super().__init__()
        self.function = function
        self.settings = settings

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The scalar loss."""
        return self.function(logits, labels, **self.settings)

    def extra_repr(self) -> str:
        """Function and settings, for ``print(model)``."""
        return ", ".join([self.function.__name__, *(f"{name}={value!r}" for name, value in self.settings.items())])


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor, *, ignore_value: int = 255) -> torch.Tensor:
    """PyTorch's mean over the pixels, but an exact 0 instead of NaN, with gradients of 0, where all are ignored."""
    mean = F.cross_entropy(logits, labels, ignore_index=ignore_value)
    return torch.where((labels != ignore_value).any(), mean, 0.0)


def build_criterion(cfg: CfgNode) -> nn.Module:
    """A module that takes logits [N, K, H, W] and labels [N, H, W] and returns a scalar.

    Raises:
        ValueError: MODEL.SEM_SEG_HEAD.LOSS_TYPE is none of "cross_entropy", "hard_pixel_mining" (Detectron2's: the
            mean over the hardest 20% of the pixels), "ohem", "label_relaxation" and "image_weighted" (GSCNN's), or a
            setting of the chosen one is out of range.
    """
    head = cfg.MODEL.SEM_SEG_HEAD
    if head.LOSS_TYPE not in CRITERIA:
        *others, last = map(repr, CRITERIA)
        raise ValueError(f"MODEL.SEM_SEG_HEAD.LOSS_TYPE is {head.LOSS_TYPE!r}; it may be {', '.join(others)} or {last}")
    return CRITERIA[head.LOSS_TYPE](head)


def _cross_entropy(head: CfgNode) -> nn.Module:
    return Criterion(cross_entropy, ignore_value=head.IGNORE_VALUE)


def _hard_pixel_mining(head: CfgNode) -> nn.Module:
    return DeepLabCE(ignore_label=head.IGNORE_VALUE, top_k_percent_pixels=0.2)


def _ohem(head: CfgNode) -> nn.Module:
    settings = {"threshold": head.OHEM.THRESHOLD, "min_kept": head.OHEM.MIN_KEPT, "factor": head.OHEM.FACTOR}
    try:
        check_ohem_arguments(**settings)
    except ValueError as error:
        raise ValueError(f"MODEL.SEM_SEG_HEAD.OHEM: {error}") from error
    return Criterion(ohem_cross_entropy, ignore_value=head.IGNORE_VALUE, **settings)


def _label_relaxation(head: CfgNode) -> nn.Module:
    check_integer("MODEL.SEM_SEG_HEAD.LABEL_RELAXATION.BORDER", head.LABEL_RELAXATION.BORDER, minimum=0)
    return Criterion(label_relaxation_loss, ignore_value=head.IGNORE_VALUE, border=head.LABEL_RELAXATION.BORDER)


def _image_weighted(head: CfgNode) -> nn.Module:
    return ImageWeightedCrossEntropy(ignore_value=head.IGNORE_VALUE)


# MODEL.SEM_SEG_HEAD.LOSS_TYPE -> what builds it from the keys of MODEL.SEM_SEG_HEAD.
CRITERIA: dict[str, Callable[[CfgNode], nn.Module]] = {
    "cross_entropy": _cross_entropy,
    "hard_pixel_mining": _hard_pixel_mining,
    "ohem": _ohem,
    "label_relaxation": _label_relaxation,
    "image_weighted": _image_weighted,
}
