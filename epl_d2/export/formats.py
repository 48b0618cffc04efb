"""Writing a `PictureSegmentor` as TorchScript, ONNX or a torch.export program, and reading it back as a function."""

from __future__ import annotations

import importlib
import json
import os
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

__all__ = ["FORMATS", "ExportError", "SideLimits", "check_packages", "load", "read_metadata", "side_limits", "write"]

Runner = Callable[[torch.Tensor], torch.Tensor]

# Name of the record in the files of PyTorch; ONNX has entries of its own.
METADATA = "epl_d2.json"
SUFFIXES = {"torchscript": ".ts", "onnx": ".onnx", "torch_export": ".pt2"}
FORMATS = tuple(SUFFIXES)
OPSET = 17
# torch.export takes a side of one pixel for a constant, so that a file for several sizes is recorded at longer ones.
SHORTEST_RECORDED = 2


class ExportError(RuntimeError):
    """A model cannot be written in a format; the message names the operation."""


@dataclass(frozen=True)
class SideLimits:
    """Lengths of one side of a picture, in pixels; `most` is None where there is no largest."""

    least: int
    most: int | None

    def __contains__(self, length: int) -> bool:
        return self.least <= length and (self.most is None or length <= self.most)

    def __str__(self) -> str:
        return f"of at least {self.least} pixels" if self.most is None else f"in {self.least}..{self.most} pixels"


def check_packages(format: str) -> None:
    """Raise an ImportError that says what to install, if `format` needs a package that is missing."""
    for package in ("onnx", "onnxruntime") if format == "onnx" else ():
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ImportError(f"writing ONNX needs {package}: pip install -e '.[export]'") from error
    if format == "torch_export" and not hasattr(torch.export.Dim, "DYNAMIC"):
        raise ImportError(f"torch_export needs a torch with torch.export.Dim.DYNAMIC, and {torch.__version__} has none")


def write(
    segmentor: nn.Module,
    picture: torch.Tensor,
    path: Path,
    format: str,
    *,
    fixed_size: bool = False,
    batch: bool = False,
    metadata: Mapping[str, Any],
) -> list[str]:
    """Write `segmentor` to `path`.

    Args:
        segmentor: a `PictureSegmentor`.
        picture: an input, [N, 3, H, W], for which the operations are recorded.
        path: the file.
        format: one of `FORMATS`.
        fixed_size: the file takes pictures of this size only.
        batch: the file takes any number of pictures at once.
        metadata: see `export_model`.

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
            writer(segmentor, picture, path, _free_axes(fixed_size, batch), metadata)
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


def read_metadata(path: str | os.PathLike[str], format: str) -> dict[str, Any]:
    """What `export_model` was told to write about the model into the file `path`."""
    if format == "onnx":
        import onnx

        return {entry.key: json.loads(entry.value) for entry in onnx.load(str(path)).metadata_props}
    files = {METADATA: ""}
    if format == "torchscript":
        torch.jit.load(str(path), map_location="cpu", _extra_files=files)
    else:
        torch.export.load(str(path), extra_files=files)
    return json.loads(files[METADATA])


def side_limits(path: str | os.PathLike[str]) -> tuple[SideLimits, SideLimits]:
    """The heights and the widths that a torch.export program takes.

    torch.export keeps the branches that the recorded picture took, such as those for features of more than one cell,
    and with them the sizes that take the same.
    """
    program = torch.export.load(str(path))
    (image,) = (node for node in program.graph.nodes if node.op == "placeholder" and node.name == "image")
    height, width = (_limits(side, program.range_constraints) for side in image.meta["val"].shape[2:])
    return height, width


def _limits(side: int | torch.SymInt, ranges: Mapping[Any, Any]) -> SideLimits:
    if isinstance(side, int):
        return SideLimits(side, side)
    limits = ranges[side.node.expr]
    return SideLimits(int(limits.lower), int(limits.upper) if limits.upper.is_Integer else None)  # else an infinity


def _without_grad(module: Callable[[torch.Tensor], torch.Tensor], picture: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return module(picture)


def _free_axes(fixed_size: bool, batch: bool) -> dict[int, str]:
    """Axes of the input that may have other lengths than when it was recorded, with their names."""
    return {**({0: "batch"} if batch else {}), **({} if fixed_size else {2: "height", 3: "width"})}


def _write_torchscript(
    segmentor: nn.Module, picture: torch.Tensor, path: Path, _axes: dict[int, str], metadata: Mapping[str, Any]
) -> None:
    # A trace follows the size of the picture by itself.
    traced = torch.jit.trace(segmentor, picture, check_trace=False)
    torch.jit.save(torch.jit.freeze(traced.eval()), str(path), _extra_files={METADATA: json.dumps(metadata)})


def _write_onnx(
    segmentor: nn.Module, picture: torch.Tensor, path: Path, axes: dict[int, str], metadata: Mapping[str, Any]
) -> None:
    # Labels have no axis of classes.
    result = {axis if segmentor.output == "logits" or axis == 0 else axis - 1: name for axis, name in axes.items()}
    torch.onnx.export(
        segmentor,
        (picture,),
        str(path),
        dynamo=False,  # the newer exporter fixes sizes that it cannot prove, and takes many times as long
        opset_version=OPSET,
        input_names=["image"],
        output_names=[segmentor.output],
        dynamic_axes={"image": axes, segmentor.output: result} if axes else None,
    )
    if metadata:
        import onnx

        model = onnx.load(str(path))
        for key, value in metadata.items():
            model.metadata_props.add(key=key, value=json.dumps(value))
        onnx.save(model, str(path))


def _write_torch_export(
    segmentor: nn.Module, picture: torch.Tensor, path: Path, axes: dict[int, str], metadata: Mapping[str, Any]
) -> None:
    if not axes:
        program = torch.export.export(segmentor, (picture,))
    else:
        # The model decides which sides it takes. It is recorded with two pictures, and would not take one.
        dim = torch.export.Dim
        sizes = {axis: dim(name, min=1) if name == "batch" else dim.DYNAMIC for axis, name in axes.items()}
        program = torch.export.export(
            segmentor,
            (picture,),
            dynamic_shapes={"image": sizes},
            # What cannot be proved for all sizes is checked when the program runs, instead of refused now.
            prefer_deferred_runtime_asserts_over_guards=True,
        )
    torch.export.save(program, str(path), extra_files={METADATA: json.dumps(metadata)})


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
