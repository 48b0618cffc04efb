"""Conversion of other projects' checkpoints to Detectron2's naming.

A source is a module with a function `convert` from their state dict to ours; new ones are added to `SOURCES`.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch

from epl_d2.files import write_whole

from . import ccnet, drn, gscnn, jfzhang95, mapillary, nvidia, semseg, timm, torchvision
from .state_dict import StateDict

__all__ = ["SOURCES", "convert_state_dict", "read_state_dict", "write_checkpoint"]


def read_state_dict(path: str | os.PathLike) -> StateDict:
    """Read the tensors of a PyTorch checkpoint without running any code in it.

    A checkpoint that keeps its tensors under "state_dict" or "model" is unwrapped.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no checkpoint, or holds objects other than tensors and plain containers.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"checkpoint {path} does not exist")
    try:
        with _numpy_numbers_allowed():
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(
            f"{path} is refused: it is no checkpoint of plain tensors (other objects could run code when they are "
            f"unpickled). PyTorch says: {str(error).splitlines()[0]}"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}; a dict of tensors by name was expected")
    tensors = {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise ValueError(f"{path} holds no tensors; its keys begin with {list(content)[:5]}")
    return tensors


def _numpy_numbers_allowed() -> AbstractContextManager:
    """Lets `torch.load` read NumPy numbers, as which some projects keep their score beside the tensors."""
    if not hasattr(torch.serialization, "safe_globals"):  # before PyTorch 2.5
        return nullcontext()
    types = [type(np.dtype(name)) for name in ("float32", "float64", "int64")]
    return torch.serialization.safe_globals([np.core.multiarray.scalar, np.dtype, *types])


def convert_state_dict(state_dict: StateDict, source: str, *, fpn: bool = False) -> StateDict:
    """Rename the entries of `state_dict`.

    Args:
        state_dict: a checkpoint of the project `source`.
        source: a key of `SOURCES`.
        fpn: the backbone stands within Detectron2's `FPN`, which calls it `bottom_up`.

    Raises:
        ValueError: there is no such source, an entry is not one of its, or `fpn` is asked for a model with a head.
    """
    if source not in SOURCES:
        raise ValueError(f"source is {source!r}; it may be {', '.join(sorted(SOURCES))}")
    converted = SOURCES[source](state_dict)
    if not fpn:
        return converted
    if others := [name for name in converted if not name.startswith("backbone.")]:
        raise ValueError(f"only a backbone can stand within an FPN; the checkpoint holds a head too ({others[0]})")
    return {name.replace("backbone.", "backbone.bottom_up.", 1): tensor for name, tensor in converted.items()}


def write_checkpoint(state_dict: StateDict, path: str | os.PathLike) -> None:
    """Write a checkpoint that `MODEL.WEIGHTS` takes. The file appears whole or not at all."""
    write_whole(path, lambda file: torch.save({"model": state_dict, "__author__": "epl_d2"}, file), durable=True)


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
