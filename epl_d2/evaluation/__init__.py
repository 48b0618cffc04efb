"""Evaluation in boundary areas: pure NumPy statistics, and the Detectron2 evaluators that feed them.

The evaluators are imported on first use, so that the statistics work without torch and Detectron2.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .boundary_statistics import BoundaryStatistics
from .panoptic_quality import PanopticStatistics
from .scores import boundary_scores

if TYPE_CHECKING:
    from .evaluator import SemSegBoundaryEvaluator
    from .instance_evaluator import InstanceBoundaryEvaluator
    from .panoptic_evaluator import PanopticBoundaryEvaluator

__all__ = [
    "BoundaryStatistics",
    "InstanceBoundaryEvaluator",
    "PanopticBoundaryEvaluator",
    "PanopticStatistics",
    "SemSegBoundaryEvaluator",
    "boundary_scores",
]

_HOMES = {
    "InstanceBoundaryEvaluator": "instance_evaluator",
    "PanopticBoundaryEvaluator": "panoptic_evaluator",
    "SemSegBoundaryEvaluator": "evaluator",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
