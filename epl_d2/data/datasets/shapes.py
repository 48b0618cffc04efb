"""The generated shapes scenes (see `epl_d2.data.shapes`): a data set for demos and tests."""

from __future__ import annotations

import os
from functools import partial

from ..shape_annotations import SHAPE_CATEGORIES
from .layout import files_by_stem, require_files, require_folder, require_records
from .metadata import DATASETS
from .panoptic import register_panoptic
from .registration import Record, register_sem_seg

SPLITS = ("train", "val")
LAYOUT = """\
shapes/                       (made by `python datasets/prepare_shapes.py`)
  train/images/NAME.png       train/labels/NAME.png
  val/images/NAME.png         val/labels/NAME.png
  annotations/                (instances and panoptic segments)"""


def load_shapes(root: str, split: str) -> list[Record]:
    """The records of one split.

    Args:
        root: the folder `shapes`.
        split: one of SPLITS.

    Raises:
        FileNotFoundError: a folder or a label file is missing, or there is no image.
    """
    name = f"shapes_sem_seg_{split}"
    image_root = require_folder(os.path.join(root, split, "images"), name, LAYOUT)
    label_root = require_folder(os.path.join(root, split, "labels"), name, LAYOUT)
    images, labels = files_by_stem(image_root), files_by_stem(label_root)
    require_files(labels, list(images), label_root, name, "label files")
    records = [
        {"file_name": path, "image_id": stem, "sem_seg_file_name": labels[stem]} for stem, path in images.items()
    ]
    return require_records(records, image_root, name)


def register_all(root: str) -> None:
    """Register shapes_{sem_seg,instance,panoptic}_{train,val} below `root`."""
    folder = os.path.join(root, "shapes")
    for split in SPLITS:
        register_sem_seg(
            f"shapes_sem_seg_{split}",
            partial(load_shapes, folder, split),
            DATASETS["shapes"],
            replace=True,
            image_root=os.path.join(folder, split, "images"),
            label_root=os.path.join(folder, split, "labels"),
        )
        register_panoptic(
            f"shapes_instance_{split}",
            f"shapes_panoptic_{split}",
            image_root=os.path.join(folder, split, "images"),
            annotation_root=os.path.join(folder, "annotations"),
            split=split,
            categories=SHAPE_CATEGORIES,
            layout=LAYOUT,
        )
