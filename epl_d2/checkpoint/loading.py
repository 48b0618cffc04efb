"""Loading a checkpoint that must fit its model entry for entry, as testing needs it."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .files import check_finite, read_checkpoint, tensors_of
from .state_dict import StateDict

__all__ = [
    "check_fit",
    "checked_entries",
    "convolutions_of",
    "load_weights",
    "local_file",
    "warn_of_other_convolutions",
]

logger = logging.getLogger(__name__)

_SHOWN = 5  # entries that an error names


def load_weights(model: nn.Module, source: str | os.PathLike | Mapping[str, torch.Tensor]) -> None:
    """Load every entry of a checkpoint into `model`, without running any code in the file.

    A backbone's pretrained weights are no checkpoint of a model and are refused. Counters of batch norms
    (`num_batches_tracked`) may be missing or left over: testing does not use them.

    Args:
        model: any module.
        source: a .pth file of `train_net.py`, a .pkl file or URL of Detectron2's model zoo, or a state dict.

    Raises:
        FileNotFoundError: there is no such file, or it cannot be fetched.
        ValueError: the path is empty, the file is no checkpoint, or it is one of another model; the message names the
            first entries that differ, with their shapes. Or an entry is not finite.
    """
    if isinstance(source, Mapping):
        given, name = dict(source), "the state dict"
    elif not os.fspath(source):
        raise ValueError("no weights are given: MODEL.WEIGHTS must name the checkpoint of a trained model")
    else:
        name = os.fspath(source)
        content = read_checkpoint(local_file(source))
        given = tensors_of(content, name)
        warn_of_other_convolutions(content, model, name)
    model.load_state_dict(checked_entries(given, model, name), strict=False)


def checked_entries(given: Mapping[str, torch.Tensor], model: nn.Module, path: str | os.PathLike) -> StateDict:
    """The entries of the file `path` by the names of `model`: without the `module.` of a distributed one.

    Raises:
        ValueError: they do not fit the model, or one is not finite; the message names the first of them.
    """
    wrapped = all(entry.startswith("module.") for entry in given)
    entries = {entry.removeprefix("module.") if wrapped else entry: tensor for entry, tensor in given.items()}
    check_fit(entries, model.state_dict(), path)
    check_finite(entries, path)
    return entries


def local_file(path: str | os.PathLike) -> str:
    """The file on this machine that a path or address names, fetched into the usual cache if it is elsewhere.

    Raises:
        FileNotFoundError: there is none, or it cannot be fetched; names the path and, as far as known, the reason.
    """
    from detectron2.utils.file_io import PathManager  # state dicts and local files of other projects do without it

    path = os.fspath(path)
    try:
        local = PathManager.get_local_path(path)
    except Exception as error:  # every scheme has errors of its own
        raise FileNotFoundError(f"checkpoint {path} cannot be fetched: {error}") from error
    if not os.path.isfile(local):
        scheme = path.partition("://")[0]
        known = f"; addresses that begin with {scheme}:// are not known here" if "://" in path and local == path else ""
        raise FileNotFoundError(f"checkpoint {path} does not exist{known}")
    return local


def check_fit(given: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], path: str | os.PathLike) -> None:
    """Raise ValueError unless the entries `given`, those of the file `path`, are the entries `wanted` of a model."""
    problems = _mismatches(given, wanted)
    if problems:
        more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ValueError(
            f"{path} is no checkpoint of this model: {len(problems)} entries differ (model: {len(wanted)}, checkpoint: "
            f"{len(given)}). The first:\n  " + "\n  ".join(problems[:_SHOWN]) + more + _psa_hint(given, wanted)
        )


def convolutions_of(model: nn.Module) -> dict[str, list[int]]:
    """Stride and dilation of the convolutions, where one of them is not 1: a state dict does not tell."""
    found = {name: [*m.stride, *m.dilation] for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    return {name: numbers for name, numbers in found.items() if set(numbers) != {1}}


def warn_of_other_convolutions(content: Mapping[str, Any], model: nn.Module, path: str | os.PathLike) -> None:
    """Say so where the checkpoint `content` of the file `path` tells of other strides or dilations than `model` has.

    It fits nevertheless, as where a model is trained at output stride 16 and tested at 8.
    """
    theirs, ours = content.get("convolutions"), convolutions_of(model)
    if not isinstance(theirs, dict):
        return
    others = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    if others:
        shown = "; ".join(f"{n}: model {ours.get(n, [1] * 4)}, checkpoint {theirs.get(n, [1] * 4)}" for n in others[:3])
        logger.warning(
            f"{path} was trained with other strides or dilations, and computes something else here, in {len(others)} "
            f"convolutions ([stride, stride, dilation, dilation], {shown}); see the output stride in the config"
        )


def _psa_hint(given: StateDict, wanted: StateDict) -> str:
    """The size of PSANet's masks in the checkpoint, if the model has another: its masks are channels of a layer."""
    for name, tensor in given.items():
        if re.fullmatch(r"sem_seg_head\.psa\.attention(_p)?\.3\.weight", name) and name in wanted:
            entries, side = tensor.shape[0], math.isqrt(tensor.shape[0])
            if entries != wanted[name].shape[0]:
                size = f"[{side}, {side}]" if side**2 == entries else f"a height and a width with the product {entries}"
                return f"\nIts masks have {entries} entries: set MODEL.PSA.MASK_SIZE to {size}"
    return ""


def _mismatches(given: StateDict, wanted: StateDict) -> list[str]:
    """One line for each entry that differs, in the model's order, then in the checkpoint's."""
    problems = []
    for name, tensor in wanted.items():
        if name in given and given[name].shape != tensor.shape:
            problems.append(f"{name}: model {list(tensor.shape)}, checkpoint {list(given[name].shape)}")
        elif name not in given and not name.endswith("num_batches_tracked"):
            problems.append(f"{name}: model {list(tensor.shape)}, not in the checkpoint")
    for name, tensor in given.items():
        if name not in wanted and not name.endswith("num_batches_tracked"):
            problems.append(f"{name}: not in the model, checkpoint {list(tensor.shape)}")
    return problems
