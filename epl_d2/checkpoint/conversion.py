"""Conversion of other projects' checkpoints to Detectron2's naming.

A source is a module with a function `convert` from their state dict to ours; new ones are added to `SOURCES`.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from . import ccnet, drn, gscnn, jfzhang95, mapillary, nvidia, semseg, timm, torchvision
from .files import save_tensors
from .state_dict import StateDict

__all__ = ["SOURCES", "convert_state_dict", "write_checkpoint"]


def convert_state_dict(state_dict: StateDict, source: str, *, fpn: bool = False) -> StateDict:
    """Rename the entries of `state_dict`.

    Args:
        state_dict: a checkpoint of the project `source`; names may begin with DataParallel's "module.".
        source: a key of `SOURCES`.
        fpn: the backbone stands within Detectron2's `FPN`, which calls it `bottom_up`.

    Raises:
        ValueError: there is no such source, an entry is not one of its, or `fpn` is asked for a model with a head.
    """
    if source not in SOURCES:
        raise ValueError(f"source is {source!r}; it may be {', '.join(sorted(SOURCES))}")
    # As DataParallel and DistributedDataParallel call what they hold.
    converted = SOURCES[source]({name.removeprefix("module."): tensor for name, tensor in state_dict.items()})
    if not fpn:
        return converted
    if others := [name for name in converted if not name.startswith("backbone.")]:
        raise ValueError(f"only a backbone can stand within an FPN; the checkpoint holds a head too ({others[0]})")
    return {name.replace("backbone.", "backbone.bottom_up.", 1): tensor for name, tensor in converted.items()}


def write_checkpoint(state_dict: StateDict, path: str | os.PathLike) -> None:
    """Write a checkpoint that `MODEL.WEIGHTS` takes. The file appears whole or not at all."""
    save_tensors({"model": state_dict, "__author__": "epl_d2"}, path)


# What `tools/convert_checkpoint.py --from` takes: one module a project.
SOURCES: dict[str, Callable[[StateDict], StateDict]] = {
    "ccnet": ccnet.convert,
    "drn": drn.convert,
    "gscnn": gscnn.convert,
    "jfzhang95": jfzhang95.convert,
    "mapillary": mapillary.convert,
    "nvidia": nvidia.convert,
    "semseg": semseg.convert,
    "timm": timm.convert,
    "torchvision": torchvision.convert,
}
