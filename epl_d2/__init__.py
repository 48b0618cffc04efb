"""Contour-aware Equipotential Learning (EPL, arXiv 2210.00223) for semantic segmentation in Detectron2.

Importing this package registers its data sets, backbones and heads with Detectron2. The losses (`epl_d2.losses`) and
the boundary statistics (`epl_d2.evaluation`) need no Detectron2: where it is not installed, or where the environment
variable ``EPL_D2_STANDALONE`` is set, nothing of it is imported.
"""

import os
from importlib.util import find_spec

__version__ = "0.1.0"

if find_spec("detectron2") is not None and not os.environ.get("EPL_D2_STANDALONE"):
    from . import modeling
    from .config import add_epl_config, get_cfg
    from .data.datasets import register_all_datasets

    register_all_datasets()

    __all__ = ["Predictor", "add_epl_config", "get_cfg", "modeling"]

    def __getattr__(name: str):
        if name == "Predictor":  # brings the trainer and the evaluator along
            from .inference import Predictor

            return Predictor
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

else:

    def __getattr__(name: str):
        if name in ("Predictor", "add_epl_config", "get_cfg", "modeling"):
            raise ImportError(
                f"epl_d2.{name} needs detectron2, which is not installed (see INSTALL.md) or which the environment "
                "variable EPL_D2_STANDALONE switches off"
            )
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
