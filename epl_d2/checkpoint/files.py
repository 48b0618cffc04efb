"""Checkpoint files: read, whoever wrote them, without running code in them, and written whole or not at all."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from epl_d2.files import whole_file

from .state_dict import StateDict

__all__ = ["check_finite", "check_whole", "read_checkpoint", "read_state_dict", "save_tensors", "tensors_of"]


def read_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """What a checkpoint holds: tensors, NumPy arrays and plain values in plain containers.

    Args:
        path: a .pkl file of Detectron2's model zoo, or a file of `torch.save`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no checkpoint, or holds other objects, which could run code when they are unpickled.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} does not exist")
    try:
        if path.suffix == ".pkl":
            with path.open("rb") as file:
                content = _ArrayUnpickler(file, encoding="latin1").load()
        else:
            with _numpy_numbers_allowed():
                content = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except Exception as error:  # a damaged file can make a reader raise anything
        raise ValueError(f"{path} is refused: {_complaint(path, error)}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}; a dict of tensors by name was expected")
    return content


def read_state_dict(path: str | os.PathLike) -> StateDict:
    """The tensors of a checkpoint by their names.

    A checkpoint that keeps its tensors under "state_dict" or "model" is unwrapped.

    Raises:
        FileNotFoundError, ValueError: as `read_checkpoint`; also where the file holds no tensors.
    """
    return tensors_of(read_checkpoint(path), path)


def tensors_of(content: dict[str, Any], path: str | os.PathLike) -> StateDict:
    """What `read_state_dict` gives of the content of `path`."""
    for key in ("state_dict", "model"):
        if isinstance(content.get(key), dict):
            content = content[key]
    arrays = {name: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for name, v in content.items()}
    tensors = {name: value for name, value in arrays.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise ValueError(f"{path} holds no tensors; its keys begin with {list(content)[:5]}")
    return tensors


def check_whole(path: str | os.PathLike) -> None:
    """Compare every record of a file of `torch.save` with its checksum, which loading it does not do.

    Raises:
        ValueError: the file is damaged; names it and the record.
    """
    try:
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip()
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is refused: {_complaint(Path(path), error)}") from error
    if damaged is not None:
        raise ValueError(f"{path} is damaged: the checksum of its record {damaged} is another")


def check_finite(state_dict: Mapping[str, torch.Tensor], path: str | os.PathLike) -> None:
    """Raise ValueError with the first entries of `state_dict` that hold NaN or inf; `path` is its file."""
    wrong = [name for name, value in state_dict.items() if value.is_floating_point() and not value.isfinite().all()]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(f"{path} holds values that are not finite: {', '.join(wrong[:3])}{more}")


def save_tensors(data: dict[str, Any], path: str | os.PathLike) -> None:
    """`torch.save` to a file that is whole or absent, after any end and after a power cut.

    Raises:
        OSError: it cannot be written.
    """
    with whole_file(path, durable=True) as temporary, temporary.open("wb") as file:
        try:
            torch.save(data, file)
        except RuntimeError as error:
            # PyTorch's writer stumbles over the file that Python could not write, and says nothing of the reason.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


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
            raise pickle.UnpicklingError(f"it holds a {module}.{name}, which could run code")
        return super().find_class(module, name)


def _numpy_numbers_allowed() -> AbstractContextManager:
    """Lets `torch.load` read NumPy numbers, as which some projects keep their score beside the tensors."""
    if not hasattr(torch.serialization, "safe_globals"):  # before PyTorch 2.5
        return nullcontext()
    types = [type(np.dtype(name)) for name in ("float32", "float64", "int64")]
    return torch.serialization.safe_globals([np.core.multiarray.scalar, np.dtype, *types])


def _complaint(path: Path, error: Exception) -> str:
    """What is wrong with a file that cannot be read, as far as its first bytes tell."""
    with path.open("rb") as file:
        start = file.read(64).lstrip()
    if not start:
        return "it is empty"
    if start.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS, not the file that it stands for; `git lfs pull` fetches that"
    if start.startswith((b"<", b"{")):
        return "it is a text such as the page of a failed download, no checkpoint"
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, pickle.UnpicklingError) and "_ArrayUnpickler" not in said:
        return (
            "it is no checkpoint of plain tensors and arrays (other objects could run code when they are unpickled): "
            + said
        )
    return f"it is damaged or no checkpoint ({said})"
