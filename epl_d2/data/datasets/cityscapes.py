"""Cityscapes in its original layout, with labelTrainIds or labelIds files.

The names are Detectron2's own. Its registration is replaced because it needs the polygon files of every
frame, has no class colors, and asks for an evaluator that newer versions of Detectron2 cannot import.
"""

from __future__ import annotations

import os
from functools import partial

from ..label_io import make_label_map
from ..panoptic_annotations import Category
from .layout import require_folder, require_records
from .metadata import CITYSCAPES_LABEL_ID_TO_TRAIN_ID, CITYSCAPES_TRAIN_ID_TO_LABEL_ID, DATASETS
from .panoptic import register_panoptic
from .registration import Record, register_sem_seg

# name -> (folder of the images, folder of the labels), both below `cityscapes`
SPLITS = {
    "cityscapes_fine_sem_seg_train": ("leftImg8bit/train", "gtFine/train"),
    "cityscapes_fine_sem_seg_val": ("leftImg8bit/val", "gtFine/val"),
    "cityscapes_fine_sem_seg_test": ("leftImg8bit/test", "gtFine/test"),
    "cityscapes_coarse_sem_seg_train": ("leftImg8bit/train", "gtCoarse/train"),
    "cityscapes_coarse_sem_seg_train_extra": ("leftImg8bit/train_extra", "gtCoarse/train_extra"),
    "cityscapes_coarse_sem_seg_val": ("leftImg8bit/val", "gtCoarse/val"),
}
LAYOUT = """\
cityscapes/
  leftImg8bit/{train,val,test}/CITY/FRAME_leftImg8bit.png
  gtFine/{train,val}/CITY/FRAME_gtFine_labelTrainIds.png   (or FRAME_gtFine_labelIds.png)"""
# Below `cityscapes`: instances and panoptic segments, made by datasets/prepare_cityscapes_panoptic.py.
INSTANCE_FOLDER = "gtFine_coco"
_PANOPTIC_LAYOUT = f"""\
cityscapes/
  leftImg8bit/{{train,val}}/CITY/FRAME_leftImg8bit.png
  {INSTANCE_FOLDER}/          (made by `python datasets/prepare_cityscapes_panoptic.py`)"""
_FIRST_THING = 24  # label ids from "person" on are of things
CITYSCAPES_CATEGORIES = tuple(
    Category(label_id, name, label_id >= _FIRST_THING, color)
    for label_id, name, color in zip(
        CITYSCAPES_TRAIN_ID_TO_LABEL_ID, DATASETS["cityscapes"].classes, DATASETS["cityscapes"].palette, strict=True
    )
)
_IMAGE_SUFFIX = "_leftImg8bit.png"
_LABEL_MAP = make_label_map(CITYSCAPES_LABEL_ID_TO_TRAIN_ID, default=255)


def load_cityscapes(name: str, image_root: str, label_root: str, labeled: bool = True) -> list[Record]:
    """The records of one split.

    A frame takes its labelTrainIds file; where there is none, its labelIds file, mapped while it is read.

    Args:
        name: the registered name, for messages.
        image_root: e.g. cityscapes/leftImg8bit/train.
        label_root: e.g. cityscapes/gtFine/train.
        labeled: False gives records without labels (the test frames, whose public labels are blank).

    Raises:
        FileNotFoundError: a folder or the label file of a frame is missing, or there is no frame.
    """
    require_folder(image_root, name, LAYOUT)
    kind = os.path.basename(os.path.dirname(os.path.normpath(label_root)))  # gtFine or gtCoarse
    records, missing = [], []
    for city in sorted(entry.name for entry in os.scandir(image_root) if entry.is_dir()):
        city_labels = os.path.join(label_root, city)
        present = set(os.listdir(city_labels)) if labeled and os.path.isdir(city_labels) else set()
        for file in sorted(os.listdir(os.path.join(image_root, city))):
            if not file.endswith(_IMAGE_SUFFIX):
                continue
            frame = file[: -len(_IMAGE_SUFFIX)]
            record = {"file_name": os.path.join(image_root, city, file), "image_id": frame}
            records.append(record)
            if not labeled:
                continue
            train_ids, label_ids = f"{frame}_{kind}_labelTrainIds.png", f"{frame}_{kind}_labelIds.png"
            if train_ids in present:
                record["sem_seg_file_name"] = os.path.join(city_labels, train_ids)
            elif label_ids in present:
                record["sem_seg_file_name"] = os.path.join(city_labels, label_ids)
                record["label_map"] = _LABEL_MAP
            else:
                missing.append(os.path.join(city_labels, train_ids))
    if missing:
        raise FileNotFoundError(
            f"{name}: {len(missing)} of {len(records)} frames have neither labelTrainIds nor labelIds, "
            f"such as {missing[0]}. Expected:\n{LAYOUT}"
        )
    return require_records(records, image_root, name)


def register_all(root: str) -> None:
    """Register cityscapes_fine_sem_seg_{train,val,test} and the coarse splits below `root`, and the fine ones with
    instances: cityscapes_fine_instance_coco_{train,val}, cityscapes_fine_panoptic_separated_{train,val}."""
    for split in ("train", "val"):
        register_panoptic(
            f"cityscapes_fine_instance_coco_{split}",
            f"cityscapes_fine_panoptic_separated_{split}",
            image_root=os.path.join(root, "cityscapes", "leftImg8bit", split),
            annotation_root=os.path.join(root, "cityscapes", INSTANCE_FOLDER),
            split=split,
            categories=CITYSCAPES_CATEGORIES,
            layout=_PANOPTIC_LAYOUT,
        )
    for name, (images, labels) in SPLITS.items():
        image_root = os.path.join(root, "cityscapes", images)
        label_root = os.path.join(root, "cityscapes", labels)
        register_sem_seg(
            name,
            partial(load_cityscapes, name, image_root, label_root, labeled=not name.endswith("_test")),
            DATASETS["cityscapes"],
            replace=True,
            image_root=image_root,
            label_root=label_root,
            train_id_to_label_id=CITYSCAPES_TRAIN_ID_TO_LABEL_ID,
        )
