"""From a model to a file that has passed its parity check, or to none."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from epl_d2.files import whole_file

from .formats import (
    FORMATS,
    SHORTEST_RECORDED,
    SUFFIXES,
    ExportError,
    SideLimits,
    check_packages,
    load,
    side_limits,
    write,
)
from .parity import ParityError, check_parity, random_picture
from .segmentor import PictureSegmentor

__all__ = ["export_model"]


def export_model(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    format: str,
    sizes: Sequence[tuple[int, int]],
    input_format: str = "RGB",
    output: str = "logits",
    dtype: torch.dtype = torch.uint8,
    fixed_size: bool = False,
    batch: bool = False,
    metadata: Mapping[str, Any] | None = None,
    tolerance: float = 1e-4,
) -> float:
    """Write the inference of `model` to `path` and check the file against the model on random pictures.

    The file is written under a temporary name and takes its own only after the check.

    Args:
        model: an `EPLSemanticSegmentor` on the CPU, in evaluation mode.
        path: the file; a folder that is missing is made.
        format: one of `FORMATS`.
        sizes: (H, W) of the pictures; the operations are recorded at the first. A torch.export program takes the sizes
            of `side_limits` alone.
        input_format: INPUT.FORMAT of the model; the file takes RGB in any case.
        output: "logits" [N, K, H, W] or "labels" [N, H, W].
        dtype: torch.uint8 or torch.float32, of the file's input.
        fixed_size: the file takes pictures of the first size only, and is checked at this size.
        batch: the file takes any number N of pictures of one size, and is checked with 1 and with 3; otherwise one.
        metadata: what the file is to say about itself, such as the names of the classes; plain values, which
            `read_metadata` gives back.
        tolerance: see `check_parity`.

    Returns:
        The largest difference that the check found.

    Raises:
        ValueError: an argument is none of the above.
        ImportError: the format needs a package that is missing.
        ExportError: the format cannot express an operation of the model, which the message names; or a torch.export
            program does not take pictures of all `sizes`.
        ParityError: the file computes something else than the model; the message names the likely causes.
    """
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}, expected one of {FORMATS}")
    if dtype not in (torch.uint8, torch.float32):
        raise ValueError(f"dtype is {dtype}, expected torch.uint8 or torch.float32")
    if not sizes or min(min(size) for size in sizes) < 1:
        raise ValueError(f"sizes are {list(sizes)}, expected at least one pair of positive numbers")
    limited = format == "torch_export" and not fixed_size
    if limited and min(sizes[0]) < SHORTEST_RECORDED:
        raise ValueError(
            f"sizes are {list(sizes)}; torch_export records sides of at least {SHORTEST_RECORDED} pixels, or fixed_size"
        )
    check_packages(format)
    segmentor = PictureSegmentor(model, input_format=input_format, output=output).eval()
    pictures = [random_picture(size, dtype, seed) for seed, size in enumerate(sizes[:1] if fixed_size else sizes)]
    if batch:
        pictures.append(torch.cat([random_picture(sizes[0], dtype, len(sizes) + i) for i in range(1, 4)]))
    # Recorded on other pixels than those of the check, so that a value taken from them does not go unnoticed; a batch
    # with two pictures, for exporters take an axis of one for a constant.
    example = random_picture(sizes[0], dtype, len(sizes)).repeat(2 if batch else 1, 1, 1, 1)
    with whole_file(path, suffix=SUFFIXES[format]) as temporary:
        constants = write(
            segmentor, example, temporary, format, fixed_size=fixed_size, batch=batch, metadata=metadata or {}
        )
        if limited:
            _check_limits(sizes, side_limits(temporary))
        try:
            difference = check_parity(
                model,
                load(temporary, format),
                pictures,
                labels=output == "labels",
                reverse_channels=segmentor.reverse_channels,
                tolerance=tolerance,
            )
        except ParityError as error:
            causes = f"\n  recorded as constants at: {', '.join(constants)}" if constants else ""
            raise ParityError(f"{error}{causes}") from error
    return difference


def _check_limits(sizes: Sequence[tuple[int, int]], limits: tuple[SideLimits, SideLimits]) -> None:
    """Raise ExportError unless a program that was recorded at the first of `sizes` takes all of them."""
    for size in sizes:
        for name, length, taken in zip(("height", "width"), size, limits, strict=True):
            if length not in taken:
                first, given = ("{} x {}".format(*shown) for shown in (sizes[0], size))
                raise ExportError(
                    f"torch_export: the program that was recorded at {first} pixels takes a {name} {taken}, not "
                    f"{given}; give sizes inside, or another first one"
                )
