"""Entries of WideResNet-38's trunk, which keeps its names here."""

from __future__ import annotations

import re

from .renaming import NORM_ENTRY

__all__ = ["rename_wide_resnet"]

_CONVOLUTION = r"(convs\.conv[123]|proj_conv)\.weight"
_NORM = rf"(bn1|convs\.bn[23])(\.0)?\.{NORM_ENTRY}"


def rename_wide_resnet(name: str) -> str | None:
    """Name of an entry of the trunk in our WideResNet38, without `backbone.`; None for any other entry.

    Raises:
        ValueError: the entry is of Mapillary's original network, whose norms are another function.
    """
    if name == "mod1.conv1.weight":
        return name
    match = re.fullmatch(rf"mod[2-7]\.block\d+\.(?:{_CONVOLUTION}|{_NORM})", name)
    if match is None:
        return None
    if match[2] and not match[3]:
        raise ValueError(
            f"entry {name!r} is of Mapillary's original WideResNet-38, whose activated batch norms use the absolute "
            "value of the weight and a leaky ReLU; its weights do not fit this network. Take NVIDIA's "
            f"wider_resnet38.pth.tar, where the entry ends in '{match[2]}.0.{match[4]}'"
        )
    return name
