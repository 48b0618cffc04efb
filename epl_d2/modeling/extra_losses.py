"""Further losses on the logits, beside the criterion and EPL, chosen by `MODEL.EXTRA_LOSSES`."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode
from torch import nn

__all__ = ["ExtraLosses", "build_extra_losses"]


class ExtraLosses(nn.Module):
    """Any number of losses on the logits, each an entry of its own in the log."""

    def forward(
        self, logits: torch.Tensor, labels: torch.Tensor, features: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """
        Args:
            logits: [N, K, H, W].
            labels: [N, H, W].
            features: what the head was called with, the loader's maps among them.
        """
        return {}


def build_extra_losses(cfg: CfgNode) -> ExtraLosses | None:
    """The losses that the config asks for; None where it asks for none."""
    return None
