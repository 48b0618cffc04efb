"""What every EPL head shares: one `losses()` for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from torch import nn

from epl_d2.losses import EPLLoss
from epl_d2.modeling.iteration import current_iteration
from epl_d2.modeling.layers.resize import resize
from epl_d2.modeling.losses import ExtraLosses, build_criterion, build_epl_loss, build_extra_losses, cross_entropy

__all__ = ["EPLHeadMixin", "upsample_logits"]


def upsample_logits(
    logits: torch.Tensor, stride: int, size: tuple[int, int] | None, align_corners: bool = False
) -> torch.Tensor:
    """Bilinear upsampling to the size of the image.

    Args:
        logits: [N, K, h, w].
        stride: pixels of the image per logit.
        size: (H, W) of the image; None stands for `stride` times (h, w).
        align_corners: True: corner logits lie on corner pixels, as in semseg, PyTorch-DeepLab and CCNet. False: each
            logit covers `stride` pixels, as in Detectron2, where an image that is no multiple of the stride is cut
            out of the upsampled map: a crop of 513 pixels gives 129 logits at stride 4, thus 516 pixels, of which
            the first 513 are the crop.

    Returns:
        [N, K, H, W].
    """
    if align_corners:
        size = size or (logits.shape[-2] * stride, logits.shape[-1] * stride)
        return resize(logits, size)
    logits = F.interpolate(logits, scale_factor=stride, mode="bilinear", align_corners=False)
    return logits if size is None else logits[..., : size[0], : size[1]]


class EPLHeadMixin:
    """Adds the EPL terms and the extra losses of the config to a semantic segmentation head.

    The head has, as Detectron2's have, `layers(features)`, `common_stride`, `loss_weight`, `ignore_value` and a
    criterion `loss(logits, labels)`. It calls `set_losses` at the end of its constructor. No parameter is added, and
    inference is the baseline's. docs/models.md has examples.
    """

    layers: Callable[[dict[str, torch.Tensor]], torch.Tensor]
    common_stride: int
    loss_weight: float
    align_corners: bool = False

    def set_losses(
        self, loss: nn.Module, epl: EPLLoss | None, extra_losses: ExtraLosses | None, aux_loss_weight: float = 0.0
    ) -> None:
        """
        Args:
            loss: the criterion of the logits.
            epl: the EPL terms; None leaves them out.
            extra_losses: further losses on the logits; None for none.
            aux_loss_weight: factor of the cross entropy of every entry of `auxiliary_layers`.
        """
        self.loss = loss
        self.epl = epl
        self.extra_losses = extra_losses
        self.aux_loss_weight = aux_loss_weight

    @staticmethod
    def losses_from_config(cfg: CfgNode) -> dict[str, Any]:
        """The arguments `loss`, `epl` and `extra_losses` of `set_losses`."""
        return {"loss": build_criterion(cfg), "epl": build_epl_loss(cfg), "extra_losses": build_extra_losses(cfg)}

    def forward(
        self, features: dict[str, torch.Tensor], targets: torch.Tensor | None = None, *inputs: Any, **named_inputs: Any
    ) -> tuple[torch.Tensor | None, dict[str, torch.Tensor]]:
        """
        Args:
            features: the backbone's, by name; "image" [N, 3, H, W] among them gives the size of the result.
            targets: [N, H, W] labels, in training.
            inputs, named_inputs: what the criterion takes besides, such as Panoptic-DeepLab's weights of the pixels.

        Returns:
            (None, losses by name) in training, (logits [N, K, H, W], {}) in inference.
        """
        predictions = self.layers(features)
        if self.training:
            return None, self.losses(predictions, targets, features, *inputs, **named_inputs)
        size = tuple(features["image"].shape[-2:]) if "image" in features else None
        return self.upsample(predictions, size), {}

    def auxiliary_layers(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Logits [N, K, h, w] of training-only branches, by the name of their loss."""
        return {}

    def upsample(self, predictions: torch.Tensor, size: tuple[int, int] | None) -> torch.Tensor:
        """Logits at the size of the image, see :func:`upsample_logits`."""
        return upsample_logits(predictions, self.common_stride, size, self.align_corners)

    def losses(
        self,
        predictions: torch.Tensor,
        targets: torch.Tensor,
        features: dict[str, torch.Tensor] | None = None,
        *inputs: Any,
        **named_inputs: Any,
    ) -> dict[str, torch.Tensor]:
        """
        Args:
            predictions: [N, K, h, w] logits at the head's stride.
            targets: [N, H, W] labels.
            features: what the head was called with; auxiliary branches and some extra losses need it.
            inputs, named_inputs: what the criterion takes besides logits and labels.
        """
        features = features or {}
        size = tuple(targets.shape[-2:])
        logits = self.upsample(predictions, size)
        losses = {"loss_sem_seg": self.loss(logits, targets, *inputs, **named_inputs) * self.loss_weight}
        for name, auxiliary in self.auxiliary_layers(features).items():
            auxiliary = self.upsample(auxiliary, size)
            losses[name] = cross_entropy(auxiliary, targets, ignore_value=self.ignore_value) * self.aux_loss_weight
        if self.epl is not None:
            losses.update(self.epl(logits, targets, iteration=current_iteration()))
        if self.extra_losses is not None:
            losses.update(self.extra_losses(logits, targets, features, iteration=current_iteration()))
        return losses
