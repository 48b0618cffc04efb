"""Entering a data set of images and label maps into Detectron2's catalogs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from .metadata import DatasetMetadata

Record = dict[str, Any]


def register_sem_seg(
    name: str,
    load: Callable[[], list[Record]],
    metadata: DatasetMetadata,
    *,
    replace: bool = False,
    **extra: Any,
) -> None:
    """Register a semantic segmentation data set for training and for the boundary evaluator.

    Args:
        name: the name used in DATASETS.TRAIN and DATASETS.TEST.
        load: gives the records (`{"file_name", "image_id", "sem_seg_file_name", ...}`); called when first
            needed.
        metadata: classes, palette and ignore label.
        replace: take the place of a data set of that name; otherwise an existing one is an error.
        extra: further entries of Detectron2's metadata.

    Raises:
        ValueError: `name` is taken and `replace` is False.
    """
    if name in DatasetCatalog.list():
        if not replace:
            raise ValueError(f"a data set named {name!r} is already registered")
        DatasetCatalog.remove(name)
        if name in MetadataCatalog.list():
            MetadataCatalog.remove(name)
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(
        stuff_classes=list(metadata.classes),
        stuff_colors=list(metadata.palette),
        ignore_label=metadata.ignore_value,
        evaluator_type="sem_seg",
        **extra,
    )
