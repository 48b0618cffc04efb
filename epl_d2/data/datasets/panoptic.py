"""Registering data sets of instances and of panoptic segments with Detectron2."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import partial
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.coco import load_coco_json

from ..panoptic_annotations import STUFF_IGNORE, Category
from .registration import Record

__all__ = ["load_panoptic", "register_panoptic"]


def register_panoptic(
    instance_name: str,
    panoptic_name: str,
    *,
    image_root: str,
    annotation_root: str,
    split: str,
    categories: Sequence[Category],
    layout: str,
) -> None:
    """Register what `PanopticAnnotations` wrote, as instances and for Panoptic FPN; names that exist are replaced.

    Args:
        instance_name, panoptic_name: for DATASETS.TRAIN and DATASETS.TEST; evaluated as "coco" and "coco_panoptic_seg".
        image_root: folder of the images.
        annotation_root: folder of the annotations.
        split: NAME of their files.
        categories: as given to `PanopticAnnotations`.
        layout: what the data set should look like, for messages.
    """
    things, stuff = ([c for c in categories if c.isthing is isthing] for isthing in (True, False))
    json_file = os.path.join(annotation_root, f"instances_{split}.json")
    metadata = {
        "thing_classes": [category.name for category in things],
        "thing_colors": [category.color for category in things],
        "thing_dataset_id_to_contiguous_id": {category.id: index for index, category in enumerate(things)},
        "image_root": image_root,
        "json_file": json_file,
    }
    panoptic_metadata = {
        "stuff_classes": ["things", *(category.name for category in stuff)],
        "stuff_colors": [(255, 255, 255), *(category.color for category in stuff)],
        "stuff_dataset_id_to_contiguous_id": {category.id: label for label, category in enumerate(stuff, start=1)},
        "panoptic_root": os.path.join(annotation_root, f"panoptic_{split}"),
        "panoptic_json": os.path.join(annotation_root, f"panoptic_{split}.json"),
        "sem_seg_root": os.path.join(annotation_root, f"stuff_{split}"),
        "ignore_label": STUFF_IGNORE,
    }
    _register(instance_name, partial(_load_instances, json_file, image_root, instance_name, layout), "coco", metadata)
    load = partial(load_panoptic, json_file, image_root, panoptic_metadata["sem_seg_root"], panoptic_name, layout)
    _register(panoptic_name, load, "coco_panoptic_seg", metadata | panoptic_metadata)


def load_panoptic(json_file: str, image_root: str, stuff_root: str, name: str, layout: str) -> list[Record]:
    """The records of Panoptic FPN: instances and the semantic label map of every image.

    Raises:
        FileNotFoundError: the file of the instances or a label map is missing.
    """
    records = _load_instances(json_file, image_root, name, layout)
    for record in records:
        stem = os.path.splitext(os.path.basename(record["file_name"]))[0]
        record["sem_seg_file_name"] = os.path.join(stuff_root, f"{stem}.png")
    if missing := [r["sem_seg_file_name"] for r in records if not os.path.isfile(r["sem_seg_file_name"])]:
        raise FileNotFoundError(
            f"{name}: {len(missing)} of {len(records)} label maps are missing, such as {missing[0]}. "
            f"Expected:\n{layout}"
        )
    return records


def _load_instances(json_file: str, image_root: str, name: str, layout: str) -> list[Record]:
    if not os.path.isfile(json_file):
        raise FileNotFoundError(f"{name}: there is no {os.path.abspath(json_file)}. Expected:\n{layout}")
    try:
        return load_coco_json(json_file, image_root, name)
    except (json.JSONDecodeError, KeyError) as error:
        raise ValueError(f"{json_file}: no instances in COCO's format ({error!r})") from error


def _register(name: str, load: partial, evaluator_type: str, metadata: dict[str, Any]) -> None:
    if name in DatasetCatalog.list():
        DatasetCatalog.remove(name)
        if name in MetadataCatalog.list():
            MetadataCatalog.remove(name)
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(evaluator_type=evaluator_type, **metadata)
