"""Names of PyTorch ResNets (torchvision, semseg, CCNet) in Detectron2's."""

from __future__ import annotations

import re

from .renaming import NORM_ENTRY

__all__ = ["rename_resnet"]


def rename_resnet(name: str, *, deep_stem: bool) -> str | None:
    """Name of an entry of a ResNet's trunk in Detectron2's ResNet, without `backbone.`; None for any other entry.

    Args:
        name: entry without prefixes, such as "layer1.0.bn1.bias", "conv1.weight" or "layer0.3.weight" (the stem as
            one sequence of convolution, norm and ReLU, as in semseg's segmentation models).
        deep_stem: the stem has three 3x3 convolutions instead of one of 7x7.
    """
    stem = "[123]" if deep_stem else "1"
    if match := re.fullmatch(rf"conv({stem})\.weight", name):
        return f"stem.conv{match[1]}.weight"
    if match := re.fullmatch(rf"bn({stem})\.{NORM_ENTRY}", name):
        return f"stem.conv{match[1]}.norm.{match[2]}"
    if deep_stem and (match := re.fullmatch(r"layer0\.([036])\.weight", name)):
        return f"stem.conv{int(match[1]) // 3 + 1}.weight"
    if deep_stem and (match := re.fullmatch(rf"layer0\.([147])\.{NORM_ENTRY}", name)):
        return f"stem.conv{int(match[1]) // 3 + 1}.norm.{match[2]}"

    match = re.fullmatch(r"layer([1-4])\.(\d+)\.(.+)", name)
    if match is None:
        return None
    block, entry = f"res{int(match[1]) + 1}.{match[2]}", match[3]
    if re.fullmatch(r"conv[123]\.weight", entry):
        return f"{block}.{entry}"
    if match := re.fullmatch(rf"bn([123])\.{NORM_ENTRY}", entry):
        return f"{block}.conv{match[1]}.norm.{match[2]}"
    if entry == "downsample.0.weight":
        return f"{block}.shortcut.weight"
    if match := re.fullmatch(rf"downsample\.1\.{NORM_ENTRY}", entry):
        return f"{block}.shortcut.norm.{match[1]}"
    return None
