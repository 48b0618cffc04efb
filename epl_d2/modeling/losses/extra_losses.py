"""Further losses on the logits, beside the criterion and EPL, chosen by `MODEL.EXTRA_LOSSES`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from detectron2.config import CfgNode
from torch import nn

from epl_d2.config import MAPS_OF_LOSSES
from epl_d2.losses import active_boundary_loss, boundary_loss, generalized_dice_loss, lovasz_softmax_loss
from epl_d2.losses.arguments import check_integer, check_weight
from epl_d2.losses.compared.active_boundary import check_active_boundary_arguments
from epl_d2.losses.schedule import ramp

__all__ = ["ExtraLoss", "ExtraLosses", "build_extra_losses"]

# Key of MODEL.EXTRA_LOSSES -> the loss. What its keys hold besides weight and schedule are the loss's own arguments.
LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "GENERALIZED_DICE": generalized_dice_loss,
    "BOUNDARY": boundary_loss,
    "ACTIVE_BOUNDARY": active_boundary_loss,
    "LOVASZ": lovasz_softmax_loss,
}


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
        iteration: int | None = None,
    ) -> dict[str, torch.Tensor]:
        """
        Args:
            logits: [N, K, H, W].
            labels: [N, H, W].
            features: what the head was called with, the loader's maps among them.
            iteration: where training stands; None stands for the end of the schedules.

        Returns:
            The weighted losses by name. One that does not count now is an exact 0 that is connected to the logits.

        Raises:
            ValueError: a map that a loss needs is not among the features.
        """
        return {loss.name: self._weighted(loss, logits, labels, features, iteration) for loss in self.losses}

    @staticmethod
    def _weighted(
        loss: ExtraLoss,
        logits: torch.Tensor,
        labels: torch.Tensor,
        features: dict[str, torch.Tensor],
        iteration: int | None,
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
    for key, function in LOSSES.items():
        own = {name.lower(): value for name, value in cfg.MODEL.EXTRA_LOSSES[key].items()}
        schedule = {name: own.pop(name) for name in ("weight", "start_iter", "ramp_iters")}
        try:
            if key == "ACTIVE_BOUNDARY":
                check_active_boundary_arguments(**own)
            loss = ExtraLoss(
                name=f"loss_{key.lower()}",
                function=partial(function, ignore_value=cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE, **own),
                map_name=MAPS_OF_LOSSES.get(key),
                **schedule,
            )
        except ValueError as error:
            raise ValueError(f"MODEL.EXTRA_LOSSES.{key}: {error}") from error
        if loss.weight > 0:
            losses.append(loss)
    return ExtraLosses(losses) if losses else None
