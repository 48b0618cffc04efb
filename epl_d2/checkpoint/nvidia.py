"""Checkpoints of NVIDIA/semantic-segmentation: DeepLabV3+ on WideResNet-38, of its main and its sdcnet branch."""

from __future__ import annotations

from .renaming import below, rename_entries
from .state_dict import StateDict
from .wide_resnet import rename_wide_resnet

__all__ = ["convert"]

_rename_trunk = below("backbone.", rename_wide_resnet)


def convert(state_dict: StateDict) -> StateDict:
    """Their DeepV3PlusW38 or DeepWV3Plus -> backbone WideResNet38 and head EPLNVIDIADeepLabV3PlusHead.

    The branches differ by the prefix "backbone." of the trunk alone.

    Raises:
        ValueError: naming an entry that is of no such model.
    """
    complaint = "this is no state dict of NVIDIA's DeepLabV3+ on WideResNet-38"
    return rename_entries(state_dict, _rename, complaint)


def _rename(entry: str) -> str | None:
    if entry.startswith(("aspp.", "bot_aspp.", "bot_fine.", "final.")):
        return f"sem_seg_head.{entry}"
    return _rename_trunk(entry.removeprefix("backbone."))
