"""Checkpoints of jfzhang95/pytorch-deeplab-xception: DeepLabV3+ on ResNet-101, MobileNetV2 or DRN-D-54."""

from __future__ import annotations

import re
from collections.abc import Callable

from .drn import rename_drn
from .renaming import NORM_ENTRY, below, rename_entries
from .resnet import rename_resnet
from .state_dict import StateDict

__all__ = ["convert"]

_HEAD = re.compile(
    rf"aspp\.aspp[1-4]\.(atrous_conv\.weight|bn\.{NORM_ENTRY})"
    rf"|aspp\.global_avg_pool\.(1\.weight|2\.{NORM_ENTRY})"
    rf"|(aspp|decoder)\.(conv1\.weight|bn1\.{NORM_ENTRY})"
    rf"|decoder\.last_conv\.([04]\.weight|[15]\.{NORM_ENTRY}|8\.(weight|bias))"
)
_MOBILENET = re.compile(
    rf"features\.0\.(0\.weight|1\.{NORM_ENTRY})"
    rf"|features\.1\.conv\.([03]\.weight|[14]\.{NORM_ENTRY})"
    rf"|features\.([2-9]|1[0-7])\.conv\.([036]\.weight|[147]\.{NORM_ENTRY})"
)


def convert(state_dict: StateDict) -> StateDict:
    """DeepLabV3+ -> the backbone of that name and `EPLPyTorchDeepLabHead`.

    The ImageNet weights of the MobileNetV2 (`features.*`, with its 1280 convolution and classifier, which are
    dropped) are taken as well.

    Raises:
        ValueError: an entry belongs to none of these models.
    """
    if "features.0.0.weight" in state_dict:
        state_dict = {
            f"backbone.{name}": tensor
            for name, tensor in state_dict.items()
            if not name.startswith(("features.18.", "classifier."))
        }
    rename_backbone = below("backbone.", _backbone_naming(state_dict))

    def rename_entry(name: str) -> str | None:
        if _HEAD.fullmatch(name):
            return f"sem_seg_head.{name}"
        return rename_backbone(name.removeprefix("backbone.")) if name.startswith("backbone.") else None

    return rename_entries(
        state_dict,
        rename_entry,
        "this is no state dict of jfzhang95/pytorch-deeplab-xception's DeepLabV3+ on ResNet-101, MobileNetV2 or "
        "DRN-D-54",
        # MobileNetV2's two halves are modules of their own there, which hold the tensors of `features` again.
        dropped=r"backbone\.(low|high)_level_features\..*",
    )


def _backbone_naming(state_dict: StateDict) -> Callable[[str], str | None]:
    if "backbone.features.0.0.weight" in state_dict:
        return lambda name: name if _MOBILENET.fullmatch(name) else None
    if "backbone.layer0.0.weight" in state_dict:
        return rename_drn
    return lambda name: rename_resnet(name, deep_stem=False)
