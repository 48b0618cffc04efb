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
    check_field,
    check_inputs,
    check_kernel_size,
    check_labels,
)
from .kernels.memory import memory_advice
from .target import make_target


@dataclass(frozen=True)
class Term:
    """The settings that both losses have, and what a kernel knows a loss by (`name`).

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

    @property
    def radius(self) -> int:
        """r, how far a ray reaches."""
        return self.kernel_size // 2


def evaluate_terms(
    logits: Tensor, labels: Tensor, terms: Sequence[Term], ignore_value: int, ignore_mode: str, backend: str = "auto"
) -> list[Tensor]:
    """The value of each term, a scalar that is differentiable once by the logits.

    Args:
        logits: ``[N, K, H, W]``.
        labels: ``[N, H, W]``.
        terms: the losses with their settings.
        ignore_value, ignore_mode: see `point_loss`.
        backend: see `EPLLoss`.

    Raises:
        ValueError: labels or ``ignore_value`` do not fit the logits, or the backend cannot be used.
        torch.OutOfMemoryError: saying what would help.
    """
    check_choice("ignore_mode", ignore_mode, IGNORE_MODES)
    labels = check_inputs(logits, labels, ignore_value)
    reach = max(term.radius for term in terms)
    with memory_advice(logits):
        return kernels.evaluate(logits, make_target(labels, ignore_value, ignore_mode, reach), terms, backend)


def evaluate_term(
    term: Term, logits: Tensor, labels: Tensor, ignore_value: int, ignore_mode: str, reduction: str
) -> Tensor:
    """The value of a term for the batch, a scalar ("mean"), or for each image alone, ``[N]`` ("none")."""
    check_choice("reduction", reduction, REDUCTIONS)
    if reduction == "mean":
        return evaluate_terms(logits, labels, [term], ignore_value, ignore_mode)[0]
    check_field("logits", logits)
    check_labels(labels)
    values = [
        evaluate_terms(logits[i : i + 1], labels[i : i + 1], [term], ignore_value, ignore_mode)[0]
        for i in range(len(logits))
    ]
    return torch.stack(values) if values else logits.flatten().float()
