"""WideResNet-38 (A2) trained on ImageNet, as NVIDIA distributes it (wider_resnet38.pth.tar); Mapillary designed it."""

from __future__ import annotations

from .renaming import below, rename_entries
from .state_dict import StateDict
from .wide_resnet import rename_wide_resnet

__all__ = ["convert"]


def convert(state_dict: StateDict) -> StateDict:
    """Their classifier -> backbone WideResNet38; the last norm and the classifier are dropped.

    Raises:
        ValueError: naming an entry that is of no such network, or of Mapillary's original one.
    """
    return rename_entries(
        state_dict,
        below("backbone.", rename_wide_resnet),
        "this is no state dict of WideResNet-38",
        dropped=r"(bn_out|classifier|fc)\..*",
    )
