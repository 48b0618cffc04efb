"""Checkpoints of NVIDIA/semantic-segmentation: DeepLabV3+ on WideResNet-38, of its main and its sdcnet branch."""

from __future__ import annotations

from .state_dict import StateDict
from .wide_resnet import rename_wide_resnet

__all__ = ["convert"]


def convert(state_dict: StateDict) -> StateDict:
    """Their DeepV3PlusW38 or DeepWV3Plus -> backbone WideResNet38 and head EPLNVIDIADeepLabV3PlusHead.

    The branches differ by the prefix "backbone." of the trunk alone.

    Raises:
        ValueError: naming an entry that is of no such model.
    """
    converted = {}
    for name, tensor in state_dict.items():
        entry = name.removeprefix("module.")
        if entry.startswith(("aspp.", "bot_aspp.", "bot_fine.", "final.")):
            converted[f"sem_seg_head.{entry}"] = tensor
        else:
            renamed = rename_wide_resnet(entry.removeprefix("backbone."))
            if renamed is None:
                raise ValueError(
                    f"unexpected entry {name!r}: this is no state dict of NVIDIA's DeepLabV3+ on WideResNet-38"
                )
            converted[f"backbone.{renamed}"] = tensor
    return converted
