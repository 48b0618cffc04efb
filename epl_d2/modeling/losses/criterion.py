"""The pixel classification loss that `MODEL.SEM_SEG_HEAD.LOSS_TYPE` names."""

from __future__ import annotations

from functools import partial

import torch
from detectron2.config import CfgNode
from torch import nn

from .table import CRITERIA

__all__ = ["Criterion", "build_criterion"]


class Criterion(nn.Module):
    """A loss function with its settings as a module, so that hooks see the logits. No parameters, no buffers."""

    def __init__(self, function: partial[torch.Tensor]) -> None:
        """
        Args:
            function: takes logits [N, K, H, W] and labels [N, H, W], returns a scalar.
        """
        super().__init__()
        self.function = function

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The scalar loss."""
        return self.function(logits, labels)

    def extra_repr(self) -> str:
        """Function and settings, for ``print(model)``."""
        settings = (f"{name}={value!r}" for name, value in self.function.keywords.items())
        return ", ".join([self.function.func.__name__.lstrip("_"), *settings])


def build_criterion(cfg: CfgNode) -> Criterion:
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
    key = head.LOSS_TYPE.upper()
    try:
        return Criterion(CRITERIA[head.LOSS_TYPE].with_settings(head.get(key, {}), head.IGNORE_VALUE))
    except ValueError as error:
        raise ValueError(f"MODEL.SEM_SEG_HEAD.{key}: {error}") from error
