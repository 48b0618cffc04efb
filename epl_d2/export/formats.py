"""Writing a `PictureSegmentor` as TorchScript, ONNX or a torch.export program, and reading it back as a function."""

from __future__ import annotations

import importlib
import os
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

__all__ = ["FORMATS", "ExportError", "check_packages", "load", "write"]

Runner = Callable[[torch.Tensor], torch.Tensor]

SUFFIXES = {"torchscript": ".ts", "onnx": ".onnx", "torch_export": ".pt2"}
FORMATS = tuple(SUFFIXES)
OPSET = 17
# torch.export needs a range of sizes; it simplifies shapes under the assumption that they lie inside it.
SMALLEST, LARGEST = 32, 16384


class ExportError(RuntimeError):
    """A model cannot be written in a format; the message names the operation."""


def check_packages(format: str) -> None:
    """Raise an ImportError that says what to install, if `format` needs a package that is missing."""
    for package in ("onnx", "onnxruntime") if format == "onnx" else ():
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ImportError(f"writing ONNX needs {package}: pip install -e '.[export]'") from error


def write(
    segmentor: nn.Module, picture: torch.Tensor, path: Path, format: str, *, fixed_size: bool = False
) -> list[str]:
    """Write `segmentor` to `path`.

    Args:
        segmentor: a `PictureSegmentor`.
        picture: an input, [1, 3, H, W], for which the operations are recorded.
        path: the file.
        format: one of `FORMATS`.
        fixed_size: the file takes pictures of this size only.

    Returns:
        Places in the model where a value that may depend on the picture was recorded as a constant: where the file
        fails its parity check these are the likely causes.

    Raises:
        ExportError: the format cannot express an operation of the model.
    """
    writer = {"torchscript": _write_torchscript, "onnx": _write_onnx, "torch_export": _write_torch_export}[format]
    with torch.no_grad(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            writer(segmentor, picture, path, fixed_size)
        except OSError:
            raise
        except Exception as error:  # the exporters raise whatever the operation raised
            raise ExportError(f"{format} cannot express {_operation(error)}") from error
    constants = (w for w in caught if issubclass(w.category, torch.jit.TracerWarning))
    return sorted({f"{_short(w.filename)}:{w.lineno}" for w in constants if not _is_torch(w.filename)})


def load(path: Path, format: str) -> Runner:
    """The function of a file that `write` left.

    Raises:
        ExportError: ONNX Runtime cannot run one of its operations.
    """
    if format == "torchscript":
        with warnings.catch_warnings():  # deprecated, as is the format, which is what the user asked for
            warnings.filterwarnings("ignore", message=r"`torch\.jit\.load` is", category=FutureWarning)
            module = torch.jit.load(str(path), map_location="cpu")
        return lambda picture: _without_grad(module, picture)
    if format == "torch_export":
        program = torch.export.load(str(path)).module()
        return lambda picture: _without_grad(program, picture)
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no public base class
        raise ExportError(f"ONNX Runtime cannot run the model: {str(error).splitlines()[0]}") from error
    return lambda picture: torch.from_numpy(session.run(None, {"image": picture.numpy()})[0])


def _without_grad(module: Callable[[torch.Tensor], torch.Tensor], picture: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return module(picture)


def _write_torchscript(segmentor: nn.Module, picture: torch.Tensor, path: Path, fixed_size: bool) -> None:
    # A trace follows the size of the picture by itself.
    traced = torch.jit.trace(segmentor, picture, check_trace=False)
    torch.jit.save(torch.jit.freeze(traced.eval()), str(path))


def _write_onnx(segmentor: nn.Module, picture: torch.Tensor, path: Path, fixed_size: bool) -> None:
    result = {2: "height", 3: "width"} if segmentor.output == "logits" else {1: "height", 2: "width"}
    torch.onnx.export(
        segmentor,
        (picture,),
        str(path),
        dynamo=False,  # the newer exporter fixes sizes that it cannot prove, and takes many times as long
        opset_version=OPSET,
        input_names=["image"],
        output_names=[segmentor.output],
        dynamic_axes=None if fixed_size else {"image": {2: "height", 3: "width"}, segmentor.output: result},
    )


def _write_torch_export(segmentor: nn.Module, picture: torch.Tensor, path: Path, fixed_size: bool) -> None:
    if fixed_size:
        program = torch.export.export(segmentor, (picture,))
    else:
        sizes = {2 + i: torch.export.Dim(name, min=SMALLEST, max=LARGEST) for i, name in enumerate(("height", "width"))}
        program = torch.export.export(
            segmentor,
            (picture,),
            dynamic_shapes={"image": sizes},
            # What cannot be proved for all sizes is checked when the program runs, instead of refused now.
            prefer_deferred_runtime_asserts_over_guards=True,
        )
    torch.export.save(program, str(path))


def _operation(error: BaseException) -> str:
    """The innermost line of the model from which `error` came, and what the exporter said about it."""
    place = ""
    chain: BaseException | None = error
    while chain is not None:
        for frame in traceback.extract_tb(chain.__traceback__):
            if not _is_torch(frame.filename) and "export" not in Path(frame.filename).parts:
                place = f"{_short(frame.filename)}:{frame.lineno}: {frame.line}"
        chain = chain.__cause__ or chain.__context__
    said = " ".join(str(error).split())
    return f"{place}\n  {type(error).__name__}: {said[:600]}"


def _is_torch(filename: str) -> bool:
    return filename.startswith(os.path.dirname(torch.__file__)) or filename.startswith("<")


def _short(filename: str) -> str:
    """The path from the package on."""
    parts = Path(filename).parts
    start = max((i for i, part in enumerate(parts) if part in ("epl_d2", "detectron2")), default=len(parts) - 1)
    return "/".join(parts[start:])
