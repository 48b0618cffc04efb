"""PASCAL VOC 2012 semantic segmentation, and its augmented training set (VOC + SBD)."""

from __future__ import annotations

import os
from functools import partial

from .layout import files_by_stem, read_list, require_files, require_folder, require_records
from .metadata import DATASETS
from .registration import Record, register_sem_seg

# image list -> folder of the label maps
IMAGE_SETS = {
    "train": "SegmentationClass",
    "val": "SegmentationClass",
    "trainval": "SegmentationClass",
    "train_aug": "SegmentationClassAug",
}
LAYOUT = """\
VOC2012/
  JPEGImages/ID.jpg
  SegmentationClass/ID.png
  SegmentationClassAug/ID.png            (train_aug only; made by datasets/prepare_voc_aug.py)
  ImageSets/Segmentation/{train,val,trainval,train_aug}.txt"""


def load_voc_2012(root: str, image_set: str, label_folder: str = "SegmentationClass") -> list[Record]:
    """The records of one list of images.

    Args:
        root: the folder `VOC2012` of the devkit.
        image_set: ImageSets/Segmentation/`image_set`.txt holds the ids, one a line.
        label_folder: where the label maps ID.png lie (palette or gray).

    Raises:
        FileNotFoundError: a folder, the list, an image or a label map is missing, or the list is empty.
    """
    name = f"voc_2012_sem_seg_{image_set}"
    list_file = os.path.join(root, "ImageSets", "Segmentation", f"{image_set}.txt")
    image_root = require_folder(os.path.join(root, "JPEGImages"), name, LAYOUT)
    label_root = require_folder(os.path.join(root, label_folder), name, LAYOUT)
    if not os.path.isfile(list_file):
        raise FileNotFoundError(f"{name}: there is no list {list_file}. Expected:\n{LAYOUT}")
    ids = read_list(list_file)
    images, labels = files_by_stem(image_root, (".jpg",)), files_by_stem(label_root, (".png",))
    require_files(images, ids, image_root, name, "images")
    require_files(labels, ids, label_root, name, "label files")
    records = [{"file_name": images[i], "image_id": i, "sem_seg_file_name": labels[i]} for i in ids]
    return require_records(records, list_file, name)


def register_voc_2012(root: str, image_set: str, label_folder: str = "SegmentationClass") -> None:
    """Register voc_2012_sem_seg_`image_set` for a list of your own; arguments as in `load_voc_2012`."""
    register_sem_seg(
        f"voc_2012_sem_seg_{image_set}",
        partial(load_voc_2012, root, image_set, label_folder),
        DATASETS["voc_2012"],
        replace=True,
        image_root=os.path.join(root, "JPEGImages"),
        label_root=os.path.join(root, label_folder),
    )


def register_all(root: str) -> None:
    """Register voc_2012_sem_seg_{train,val,trainval,train_aug} below `root`."""
    for image_set, label_folder in IMAGE_SETS.items():
        register_voc_2012(os.path.join(root, "VOC2012"), image_set, label_folder)
