"""The boundary scores in the words of other frameworks: torchmetrics modules, and a function like Hugging Face's.

The counts are those of `epl_d2.evaluation`. `compute` needs NumPy alone; the modules need torchmetrics, which is
imported when one of them is first asked for.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .scores import compute

if TYPE_CHECKING:
    from .modules import BoundaryFScore, BoundaryIoU, TrimapIoU

__all__ = ["BoundaryFScore", "BoundaryIoU", "TrimapIoU", "compute"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if find_spec("torchmetrics") is None:
        raise ImportError(f"{__name__}.{name} needs torchmetrics, which is not installed (pip install torchmetrics)")
    from . import modules

    return getattr(modules, name)
