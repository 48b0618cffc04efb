"""Checkpoints of hszhao/semseg: PSPNet and PSANet, and the deep-stem ResNets that they start from."""

from __future__ import annotations

from .resnet import rename_resnet
from .state_dict import StateDict

__all__ = ["convert"]

_HEAD = ("ppm.", "psa.", "cls.", "aux.")


def convert(state_dict: StateDict) -> StateDict:
    """Trunk -> Detectron2's deep-stem ResNet, the rest below `sem_seg_head.`.

    Takes trained models and the ImageNet files `resnet50_v2.pth` and
    `resnet101_v2.pth`, whose classifier is dropped.

    Raises:
        ValueError: naming the entries that none of them has.
    """
    converted, unexpected = {}, []
    for name, tensor in state_dict.items():
        if name in ("fc.weight", "fc.bias"):
            continue
        renamed = rename_resnet(name, deep_stem=True)
        if renamed is not None:
            converted[f"backbone.{renamed}"] = tensor
        elif name.startswith(_HEAD):
            converted[f"sem_seg_head.{name}"] = tensor
        else:
            unexpected.append(name)
    if unexpected or "backbone.stem.conv3.weight" not in converted:
        found = f"unexpected entries {unexpected[:5]}" if unexpected else "no stem of three convolutions"
        raise ValueError(f"{found}: this is no PSPNet, PSANet or deep-stem ResNet of hszhao/semseg")
    return converted
