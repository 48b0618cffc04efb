"""Checkpoints of timm's deep-stem ResNets, `resnet50s.gluon_in1k` and `resnet101s.gluon_in1k`."""

from __future__ import annotations

import re

from .renaming import CLASSIFIER, below, rename_entries
from .resnet import rename_resnet
from .state_dict import StateDict

__all__ = ["convert"]

# timm keeps the stem in one sequence but for its last norm.
_STEM = {"conv1.0": "conv1", "conv1.1": "bn1", "conv1.3": "conv2", "conv1.4": "bn2", "conv1.6": "conv3", "bn1": "bn3"}
_STEM_CHANNELS = [64, 64, 128]


def convert(state_dict: StateDict) -> StateDict:
    """`resnet50s` or `resnet101s` -> Detectron2's deep-stem ResNet; the classifier is dropped.

    Raises:
        ValueError: another architecture, such as resnet50c and resnet50d with their narrower stem.
    """
    convolutions = [key for key in ("conv1.0.weight", "conv1.3.weight", "conv1.6.weight") if key in state_dict]
    channels = [state_dict[key].shape[0] for key in convolutions]
    if channels != _STEM_CHANNELS:
        raise ValueError(
            f"the stem's 3x3 convolutions have {channels or 'no'} channels instead of {_STEM_CHANNELS}: this is "
            "neither timm's resnet50s nor its resnet101s"
        )
    complaint = "this is neither timm's resnet50s nor its resnet101s"
    return rename_entries(state_dict, below("backbone.", _rename), complaint, dropped=CLASSIFIER)


def _rename(name: str) -> str | None:
    match = re.fullmatch(r"(conv1\.\d|bn1)\.(\w+)", name)
    return rename_resnet(f"{_STEM.get(match[1])}.{match[2]}" if match else name, deep_stem=True)
