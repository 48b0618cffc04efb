"""Checkpoints of torchvision's classification models."""

from __future__ import annotations

import re

from .resnet import rename_resnet
from .state_dict import StateDict

__all__ = ["convert"]


def convert(state_dict: StateDict) -> StateDict:
    """`mobilenet_v2` -> backbone MobileNetV2; `resnet50`, `resnet101` -> Detectron2's ResNet with the 7x7 stem.

    Layers that the backbones do not have are dropped: the classifiers, and MobileNetV2's 1280 convolution.

    Raises:
        ValueError: naming an entry that neither architecture has.
    """
    return _convert_resnet(state_dict) if "conv1.weight" in state_dict else _convert_mobilenet_v2(state_dict)


def _convert_resnet(state_dict: StateDict) -> StateDict:
    converted = {}
    for name, tensor in state_dict.items():
        if name in ("fc.weight", "fc.bias"):
            continue
        renamed = rename_resnet(name, deep_stem=False)
        if renamed is None:
            raise ValueError(f"unexpected entry {name!r}: this is no state dict of torchvision's ResNets")
        converted[f"backbone.{renamed}"] = tensor
    return converted


def _convert_mobilenet_v2(state_dict: StateDict) -> StateDict:
    first_block = {"0.0": "0", "0.1": "1", "1": "3", "2": "4"}
    other_blocks = {"0.0": "0", "0.1": "1", "1.0": "3", "1.1": "4", "2": "6", "3": "7"}
    converted = {}
    for name, tensor in state_dict.items():
        if name.startswith(("features.18.", "classifier.")):
            continue
        if re.fullmatch(r"features\.0\.[01]\.\w+", name):
            converted[f"backbone.{name}"] = tensor
            continue
        match = re.fullmatch(r"features\.(\d+)\.conv\.([\d.]+)\.(\w+)", name)
        layers = first_block if match and match[1] == "1" else other_blocks
        if match is None or match[2] not in layers:
            raise ValueError(f"unexpected entry {name!r}: this is no state dict of torchvision's mobilenet_v2")
        converted[f"backbone.features.{match[1]}.conv.{layers[match[2]]}.{match[3]}"] = tensor
    return converted
