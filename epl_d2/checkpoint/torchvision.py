"""Checkpoints of torchvision's classification models."""

from __future__ import annotations

import re
from functools import partial

from .renaming import CLASSIFIER, below, rename_entries
from .resnet import rename_resnet
from .state_dict import StateDict

__all__ = ["convert"]

# Positions of MobileNetV2's layers there -> here.
_FIRST_BLOCK = {"0.0": "0", "0.1": "1", "1": "3", "2": "4"}
_OTHER_BLOCKS = {"0.0": "0", "0.1": "1", "1.0": "3", "1.1": "4", "2": "6", "3": "7"}


def convert(state_dict: StateDict) -> StateDict:
    """`mobilenet_v2` -> backbone MobileNetV2; `resnet50`, `resnet101` -> Detectron2's ResNet with the 7x7 stem.

    Layers that the backbones do not have are dropped: the classifiers, and MobileNetV2's 1280 convolution.

    Raises:
        ValueError: naming an entry that neither architecture has.
    """
    if "conv1.weight" in state_dict:
        return rename_entries(
            state_dict,
            below("backbone.", partial(rename_resnet, deep_stem=False)),
            "this is no state dict of torchvision's ResNets",
            dropped=CLASSIFIER,
        )
    return rename_entries(
        state_dict,
        below("backbone.", _rename_mobilenet_v2),
        "this is no state dict of torchvision's mobilenet_v2",
        dropped=r"(features\.18|classifier)\..*",
    )


def _rename_mobilenet_v2(name: str) -> str | None:
    if re.fullmatch(r"features\.0\.[01]\.\w+", name):
        return name
    match = re.fullmatch(r"features\.(\d+)\.conv\.([\d.]+)\.(\w+)", name)
    layers = _FIRST_BLOCK if match and match[1] == "1" else _OTHER_BLOCKS
    if match is None or match[2] not in layers:
        return None
    return f"features.{match[1]}.conv.{layers[match[2]]}.{match[3]}"
