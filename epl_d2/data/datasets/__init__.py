"""The known data sets and your own folders, registered with Detectron2 under their names."""

from __future__ import annotations

import os
from typing import Any

__all__ = [
    "dataset_root",
    "register_all_datasets",
    "register_from_config",
    "register_from_yaml",
    "register_sem_seg_folder",
]


def dataset_root() -> str:
    """The folder below which all data sets lie: $DETECTRON2_DATASETS, or "datasets"."""
    return os.path.expanduser(os.environ.get("DETECTRON2_DATASETS", "datasets"))


def register_all_datasets(root: str | None = None) -> None:
    """Register Cityscapes, PASCAL VOC 2012, CamVid and shapes with Detectron2; reads nothing from disk.

    Args:
        root: the folder that holds all data sets (see datasets/README.md); None takes `dataset_root()`.
    """
    from . import camvid, cityscapes, shapes, voc

    for family in (cityscapes, voc, camvid, shapes):
        family.register_all(dataset_root() if root is None else root)


def __getattr__(name: str) -> Any:
    # What registers needs Detectron2, which importing this package must not load.
    if name in __all__:
        from . import folder

        return getattr(folder, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
