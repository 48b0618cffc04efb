"""What the heads written here share; those of Detectron2 share `EPLHeadMixin` alone."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from torch import nn

from epl_d2.losses import EPLLoss
from epl_d2.modeling.losses.extra_losses import ExtraLosses

from .mixin import EPLHeadMixin

__all__ = ["EPLSemSegHead", "select_features"]


class EPLSemSegHead(EPLHeadMixin, nn.Module):
    """Base of a head that predicts logits [N, K, h, w] in `layers(features)`.

    They are resized to the image with aligned corners. Training-only branches are given by `auxiliary_layers`.
    """

    align_corners = True

    def __init__(
        self,
        *,
        num_classes: int,
        ignore_value: int,
        common_stride: int,
        loss: nn.Module,
        loss_weight: float = 1.0,
        aux_loss_weight: float = 0.4,
        epl: EPLLoss | None = None,
        extra_losses: ExtraLosses | None = None,
    ):
        """
        Args:
            num_classes: K.
            ignore_value: label that takes no part in any loss.
            common_stride: pixels of the image per logit.
            loss, epl, extra_losses, aux_loss_weight: see `EPLHeadMixin.set_losses`.
            loss_weight: factor of `loss`.
        """
        super().__init__()
        self.num_classes = num_classes
        self.ignore_value = ignore_value
        self.common_stride = common_stride
        self.loss_weight = loss_weight
        self.set_losses(loss, epl, extra_losses, aux_loss_weight)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """The arguments above but for `common_stride`, which the head knows."""
        head = cfg.MODEL.SEM_SEG_HEAD
        return {
            "num_classes": head.NUM_CLASSES,
            "ignore_value": head.IGNORE_VALUE,
            "loss_weight": head.LOSS_WEIGHT,
            "aux_loss_weight": head.AUX_LOSS_WEIGHT,
            **cls.losses_from_config(cfg),
        }


def select_features(
    input_shape: dict[str, ShapeSpec], names: list[str], key: str = "MODEL.SEM_SEG_HEAD.IN_FEATURES"
) -> dict[str, ShapeSpec]:
    """The shapes of the features `names`, which the config holds under `key`, in that order.

    Raises:
        ValueError: there are none, or the backbone has no such feature.
    """
    if not names:
        raise ValueError(f"{key} is empty; it may hold features of the backbone: {', '.join(input_shape)}")
    missing = [name for name in names if name not in input_shape]
    if missing:
        raise ValueError(
            f"{key} is {list(names)}, but the backbone has no {', '.join(missing)}; it has {', '.join(input_shape)}"
        )
    return {name: input_shape[name] for name in names}
