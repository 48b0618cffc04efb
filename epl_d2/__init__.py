"""Contour-aware Equipotential Learning (EPL, arXiv 2210.00223) for semantic segmentation in Detectron2.

Importing this package, or a part that needs no Detectron2 (`epl_d2.losses`, `epl_d2.evaluation`, `epl_d2.metrics`,
`epl_d2.contours`, `epl_d2.visualization`), changes nothing in Detectron2 and does not load it. `add_epl_config`,
`get_cfg` and `register` make the project's data sets, backbones and heads known to it.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers and editors see of the names that are imported when they are asked for
    from . import contours, data, evaluation, losses, metrics, model_zoo, modeling, visualization
    from .config import add_epl_config, get_cfg
    from .inference import Predictor
    from .registration import register

__version__ = "0.1.0"

# Public name -> the module that holds or is it. They need Detectron2, and are imported when they are first asked for.
_HOMES = {
    "Predictor": "inference",
    "add_epl_config": "config",
    "get_cfg": "config",
    "model_zoo": "model_zoo",
    "modeling": "modeling",
    "register": "registration",
}
_PARTS = ("contours", "data", "evaluation", "losses", "metrics", "visualization")

__all__ = [  # of _HOMES and _PARTS; written out for type checkers
    "Predictor",
    "add_epl_config",
    "contours",
    "data",
    "evaluation",
    "get_cfg",
    "losses",
    "metrics",
    "model_zoo",
    "modeling",
    "register",
    "visualization",
]


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if find_spec("detectron2") is None:
        raise ImportError(f"{__name__}.{name} needs detectron2, which is not installed (see INSTALL.md)")
    import_module(f"{__name__}.quiet_detectron2")
    home = import_module(f"{__name__}.{_HOMES[name]}")
    return home if name == _HOMES[name] else getattr(home, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
