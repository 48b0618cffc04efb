"""The path of CUDA: fused Triton kernels, whose gradient is formed in the backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from . import line, point, windows

if TYPE_CHECKING:
    from ...target import Target

__all__ = ["Scene", "evaluate", "gradient", "prepare", "supports"]

_LOSSES: dict[str, ModuleType] = {"point": point, "line": line}


def supports(logits: Tensor, term: Any) -> bool:
    """Whether the kernels can compute a term of these logits; if not, the plain path must.

    They index with 32 bits, and have 2048 counters for each class, image and direction.
    """
    return (
        term.convolution == "anisotropic"
        and term.kernel_size <= 29
        and logits.dtype in (torch.float16, torch.bfloat16, torch.float32)
        and logits.shape[0] < 2**16
        and logits.shape[0] * logits.shape[1] < 2**17
        and 0 < logits.numel() < 2**29
    )


class Scene(NamedTuple):
    """What both losses need: the labels, the logits as rays see them, contiguous, and their statistics."""

    target: Target
    logits: Tensor
    statistics: windows.Statistics


def prepare(logits: Tensor, target: Target) -> Scene:
    """The scene of logits ``[N, K, H, W]``."""
    logits = logits.contiguous() if target.fill is None else target.fill.gather(logits)
    with torch.cuda.device_of(logits):
        return Scene(target, logits, windows.statistics(logits, target))


def evaluate(scene: Scene, term: Any, need_gradient: bool, last: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Value of a term, and what `gradient` needs."""
    with torch.cuda.device_of(scene.logits):
        value, saved = _LOSSES[term.name].value(scene.logits, scene.statistics, term)
    return value, (scene.logits, *scene.statistics, *saved)


def gradient(target: Target, term: Any, saved: Sequence[Tensor], grad_output: Tensor) -> Tensor:
    """Gradient of a term by the logits ``[N, K, H, W]``, times ``grad_output``, a scalar on the device."""
    logits, *others = saved
    count = len(windows.Statistics._fields)
    statistics = windows.Statistics(*others[:count])
    with torch.cuda.device_of(logits):
        result = _LOSSES[term.name].gradient(logits, statistics, others[count:], grad_output, term)
    return result if target.fill is None else target.fill.adjoint(result)
