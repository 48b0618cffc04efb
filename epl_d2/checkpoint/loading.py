"""Loading a checkpoint that must fit its model entry for entry, as testing needs it."""

from __future__ import annotations

import os
import pickle
from typing import Any

import numpy as np
import torch
from detectron2.utils.file_io import PathManager
from torch import nn

from .conversion import read_state_dict
from .state_dict import StateDict

__all__ = ["load_weights"]

_SHOWN = 5  # entries that an error names


def load_weights(model: nn.Module, path: str | os.PathLike) -> None:
    """Load every entry of a checkpoint into `model`, without running any code in the file.

    A backbone's pretrained weights are no checkpoint of a model and are refused. Counters of batch norms
    (`num_batches_tracked`) may be missing or left over: testing does not use them.

    Args:
        model: any module.
        path: a .pth file of `train_net.py`, or a .pkl file or URL of Detectron2's model zoo.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the path is empty, the file is no checkpoint, or it is one of another model; the message names the
            first entries that differ, with their shapes.
    """
    if not os.fspath(path):
        raise ValueError("no weights are given: MODEL.WEIGHTS must name the checkpoint of a trained model")
    local = PathManager.get_local_path(os.fspath(path))
    given = _read_pickle(local) if local.endswith(".pkl") else read_state_dict(local)
    if all(name.startswith("module.") for name in given):
        given = {name.removeprefix("module."): tensor for name, tensor in given.items()}
    wanted = model.state_dict()
    problems = _mismatches(given, wanted)
    if problems:
        more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ValueError(
            f"{path} is no checkpoint of this model: {len(problems)} entries differ (model: {len(wanted)}, checkpoint: "
            f"{len(given)}). The first:\n  " + "\n  ".join(problems[:_SHOWN]) + more
        )
    model.load_state_dict(given, strict=False)


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


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles plain containers and NumPy arrays; any other class could run code."""

    _ALLOWED = {
        ("collections", "OrderedDict"),
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy.core.multiarray", "scalar"),
        ("_codecs", "encode"),
    }

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy._core", "numpy.core")  # as NumPy 2 writes it
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it holds a {module}.{name}")
        return super().find_class(module, name)


def _read_pickle(path: str) -> StateDict:
    """The arrays of a model zoo's .pkl as tensors."""
    try:
        with open(path, "rb") as file:
            content = _ArrayUnpickler(file, encoding="latin1").load()
    except FileNotFoundError:
        raise FileNotFoundError(f"checkpoint {path} does not exist") from None
    except (pickle.UnpicklingError, EOFError, ValueError, UnicodeDecodeError, AttributeError, IndexError) as error:
        raise ValueError(f"{path} is refused: it is no pickle of plain arrays ({error})") from error
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}; a dict of arrays by name was expected")
    return {name: torch.from_numpy(value) for name, value in content.items() if isinstance(value, np.ndarray)}
