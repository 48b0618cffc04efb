"""Checkpoints of nv-tlabs/GSCNN."""

from __future__ import annotations

import logging
import re

from .renaming import rename_entries
from .state_dict import StateDict
from .wide_resnet import rename_wide_resnet

__all__ = ["convert"]

_UNUSED = r"dsn1\..*"
# Beginnings of entries -> ours, for what is not in the trunk.
_RENAMED = {
    r"(aspp|bot_aspp|bot_fine)\.": r"\1.",
    r"final_seg\.": "final.",
    r"dsn3\.": "shape_stream.sides.0.",
    r"dsn4\.": "shape_stream.sides.1.",
    r"dsn7\.": "shape_stream.sides.2.",
    r"fuse\.": "shape_stream.edges.",
    r"cw\.": "shape_stream.attention.",
}
_NUMBERED = {
    r"res([123])\.": "blocks.{}.",
    r"d([123])\.": "reductions.{}.",
    r"gate([123])\._gate_conv\.": "gates.{}.gate.",
    r"gate([123])\.(?=weight$)": "gates.{}.conv.",
}


def convert(state_dict: StateDict) -> StateDict:
    """Their GSCNN -> backbone WideResNet38 and head EPLGSCNNHead.

    The layer "dsn1", which their model builds and never uses, is dropped with a warning.

    Raises:
        ValueError: naming an entry that is of no such model.
    """
    complaint = "this is no state dict of GSCNN on WideResNet-38"
    converted = rename_entries(state_dict, _rename, complaint, dropped=_UNUSED)
    if unused := [name for name in state_dict if re.fullmatch(_UNUSED, name)]:
        logging.getLogger(__name__).warning("%s dropped: GSCNN does not use this layer", ", ".join(unused))
    return converted


def _rename(entry: str) -> str | None:
    trunk = rename_wide_resnet(entry)
    return f"backbone.{trunk}" if trunk else _rename_head(entry)


def _rename_head(entry: str) -> str | None:
    for pattern, replacement in _RENAMED.items():
        if re.match(pattern, entry):
            return "sem_seg_head." + re.sub(pattern, replacement, entry, count=1)
    for pattern, replacement in _NUMBERED.items():
        if match := re.match(pattern, entry):
            return f"sem_seg_head.shape_stream.{replacement.format(int(match[1]) - 1)}{entry[match.end() :]}"
    return None
