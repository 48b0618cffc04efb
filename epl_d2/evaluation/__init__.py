"""Evaluation in boundary areas: pure NumPy statistics, and the Detectron2 evaluator that feeds them.

``SemSegBoundaryEvaluator`` is imported on first use, so that the statistics work without torch and
Detectron2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .boundary_statistics import BoundaryStatistics
from .scores import boundary_scores

if TYPE_CHECKING:
    from .evaluator import SemSegBoundaryEvaluator

__all__ = ["BoundaryStatistics", "SemSegBoundaryEvaluator", "boundary_scores"]


def __getattr__(name: str) -> Any:
    if name == "SemSegBoundaryEvaluator":
        from .evaluator import SemSegBoundaryEvaluator

        return SemSegBoundaryEvaluator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
