"""What the two losses share: their rays, and the one way from logits and labels to a value: check, decide what rays
see, choose the kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from . import kernels
from .arguments import (
    CONVOLUTIONS,
    IGNORE_MODES,
    REDUCTIONS,
    SPLITTERS,
    check_choice,
    check_inputs,
    check_kernel_size,
)
from .kernels.memory import memory_advice
from .modes import MODES, as_rows, mask_target
from .target import make_target


@dataclass(frozen=True)
class Term:
    """The settings that both losses have, and what a kernel knows a loss by (`name`, and `region`).

    Raises:
        ValueError: one of them is out of range.
    """

    kernel_size: int
    splitter: str
    convolution: str
    name: ClassVar[str]

    def __post_init__(self) -> None:
        check_kernel_size("kernel_size", self.kernel_size)
        check_choice("splitter", self.splitter, SPLITTERS)
        check_choice("convolution", self.convolution, CONVOLUTIONS)
        # NumPy's integers are taken as well, but some are narrow and would wrap.
        object.__setattr__(self, "kernel_size", int(self.kernel_size))

    @property
    def radius(self) -> int:
        """r, how far a ray reaches."""
        return self.kernel_size // 2


def evaluate_terms(
    logits: Tensor,
    labels: Tensor,
    terms: Sequence[Term],
    ignore_value: int,
    ignore_mode: str,
    sigmoid: bool = False,
    backend: str = "auto",
) -> list[Tensor]:
    """The value of each term, a scalar that is differentiable once by the logits.

    Args:
        logits: ``[N, K, H, W]``.
        labels: ``[N, H, W]``.
        terms: the losses with their settings.
        ignore_value, ignore_mode: see `point_loss`.
        sigmoid: whether logits ``[R, 1, H, W]`` and targets ``[R, H, W]`` are given (`modes.as_rows`).
        backend: see `EPLLoss`.

    Raises:
        ValueError: labels or ``ignore_value`` do not fit the logits, or the backend cannot be used.
        torch.OutOfMemoryError: saying what would help.
    """
    check_choice("ignore_mode", ignore_mode, IGNORE_MODES)
    reach = max(term.radius for term in terms)
    with memory_advice(logits):
        if sigmoid:
            target = mask_target(logits, labels, ignore_value, ignore_mode, reach)
        else:
            target = make_target(check_inputs(logits, labels, ignore_value), ignore_value, ignore_mode, reach)
        return kernels.evaluate(logits, target, terms, backend)


def evaluate_term(
    term: Term, logits: Tensor, labels: Tensor, ignore_value: int, ignore_mode: str, mode: str, reduction: str
) -> Tensor:
    """The value of a term for the batch, a scalar ("mean"), or for each image alone, ``[N]`` ("none")."""
    check_choice("reduction", reduction, REDUCTIONS)
    check_choice("mode", mode, MODES)
    rows = as_rows(logits, labels, mode)
    if reduction == "mean":
        return evaluate_terms(*rows, [term], ignore_value, ignore_mode, mode != "multiclass")[0]
    values = [
        evaluate_term(term, logits[i : i + 1], labels[i : i + 1], ignore_value, ignore_mode, mode, "mean")
        for i in range(len(logits))
    ]
    return torch.stack(values) if values else logits.flatten().to(torch.promote_types(logits.dtype, torch.float32))
