"""Further losses on the logits, beside the criterion and EPL, chosen by `MODEL.EXTRA_LOSSES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import nn

from epl_d2.config import MAP_OF_LOSS
from epl_d2.losses.arguments import check_integer, check_weight
from epl_d2.losses.schedule import ramp

from .table import EXTRA_LOSSES, build_loss

__all__ = ["ExtraLoss", "ExtraLosses", "build_extra_losses"]


@dataclass(frozen=True)
class ExtraLoss:
    """A loss with its weight and schedule.

    Attributes:
        name: its entry in the log.
        function: (logits, labels) -> scalar, or (logits, labels, map) -> scalar where `map_name` is given.
        weight: factor in the total loss.
        start_iter: first iteration at which it counts.
        ramp_iters: iterations over which the weight then grows linearly to its full value.
        map_name: the loader's map that the function takes; None for none.
    """

    name: str
    function: Callable[..., torch.Tensor]
    weight: float
    start_iter: int = 0
    ramp_iters: int = 0
    map_name: str | None = None

    def __post_init__(self) -> None:
        check_weight("WEIGHT", self.weight)
        check_integer("START_ITER", self.start_iter, minimum=0)
        check_integer("RAMP_ITERS", self.ramp_iters, minimum=0)


class ExtraLosses(nn.Module):
    """Any number of losses on the logits, each an entry of its own in the log. No parameters, no buffers."""

    def __init__(self, losses: Sequence[ExtraLoss]) -> None:
        """
        Args:
            losses: with different names.
        """
        super().__init__()
        self.losses = tuple(losses)

    def forward(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        features: dict[str, torch.Tensor],
        iteration: float | None = None,
    ) -> dict[str, torch.Tensor]:
        """
        Args:
            logits: [N, K, H, W].
            labels: [N, H, W].
            features: what the head was called with, the loader's maps among them.
            iteration: where training stands, needed where a loss has a schedule. Infinity stands for its end.

        Returns:
            The weighted losses by name. One that does not count now is an exact 0 that is connected to the logits.

        Raises:
            ValueError: a map that a loss needs is not among the features, or a loss has a schedule and no iteration is
                given.
        """
        return {loss.name: self._weighted(loss, logits, labels, features, iteration) for loss in self.losses}

    @staticmethod
    def _weighted(
        loss: ExtraLoss,
        logits: torch.Tensor,
        labels: torch.Tensor,
        features: dict[str, torch.Tensor],
        iteration: float | None,
    ) -> torch.Tensor:
        weight = loss.weight * ramp(iteration, loss.start_iter, loss.ramp_iters)
        if weight == 0:
            return logits.flatten()[:0].float().sum()
        if loss.map_name is None:
            return weight * loss.function(logits, labels)
        if loss.map_name not in features:
            raise ValueError(
                f"{loss.name} needs the map {loss.map_name!r} beside the images, got {', '.join(features) or 'none'}. "
                "The mapper of epl_d2 computes it where it is built from the config that the model is built from"
            )
        return weight * loss.function(logits, labels, features[loss.map_name])

    def extra_repr(self) -> str:
        """The losses, for ``print(model)``."""
        return ", ".join(f"{loss.name}: {loss.weight}" for loss in self.losses)


def build_extra_losses(cfg: CfgNode) -> ExtraLosses | None:
    """The losses of `MODEL.EXTRA_LOSSES` with a weight above 0; None where there are none.

    Raises:
        ValueError: a key holds a value that its loss does not take.
    """
    losses = []
    for key, module in EXTRA_LOSSES.items():
        settings = dict(cfg.MODEL.EXTRA_LOSSES[key])
        schedule = {name.lower(): settings.pop(name) for name in ("WEIGHT", "START_ITER", "RAMP_ITERS")}
        if schedule["weight"] == 0 and not settings.get("CLASS_WEIGHTS", True):
            continue  # the one setting whose default fits no data
        if schedule["weight"] > 0:
            _check_class_weights(key, settings, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES)
        try:
            loss = ExtraLoss(
                name=f"loss_{key.lower()}",
                function=build_loss(module, settings, cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE),
                map_name=MAP_OF_LOSS[key],
                **schedule,
            )
        except ValueError as error:
            raise ValueError(f"MODEL.EXTRA_LOSSES.{key}: {error}") from error
        if loss.weight > 0:
            losses.append(loss)
    return ExtraLosses(losses) if losses else None


def _check_class_weights(key: str, settings: Mapping[str, Any], num_classes: int) -> None:
    weights = settings.get("CLASS_WEIGHTS")
    if weights is not None and len(weights) != num_classes:
        raise ValueError(
            f"MODEL.EXTRA_LOSSES.{key}.CLASS_WEIGHTS holds {len(weights)} numbers, expected {num_classes}, one for "
            "each class; tools/find_class_weights.py counts them from the training labels"
        )
