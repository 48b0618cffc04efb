"""CamVid in the SegNet layout: 11 classes, 480 x 360 video frames."""

from __future__ import annotations

import os
from functools import partial

from ..label_io import make_label_map
from .layout import files_by_stem, require_files, require_folder, require_records
from .metadata import DATASETS
from .registration import Record, register_sem_seg

SPLITS = ("train", "val", "test")
LAYOUT = """\
camvid/
  train/NAME.png (or .jpg)    trainannot/NAME.png
  val/...                     valannot/...
  test/...                    testannot/..."""
# SegNet's files label void as 11, other copies as 255; both are read.
_LABEL_MAP = make_label_map({11: 255})


def load_camvid(root: str, split: str) -> list[Record]:
    """The records of one split.

    Args:
        root: the folder `camvid`.
        split: one of SPLITS.

    Raises:
        FileNotFoundError: a folder or a label file is missing, or there is no image.
    """
    name = f"camvid_sem_seg_{split}"
    image_root = require_folder(os.path.join(root, split), name, LAYOUT)
    label_root = require_folder(os.path.join(root, f"{split}annot"), name, LAYOUT)
    images, labels = files_by_stem(image_root), files_by_stem(label_root, (".png",))
    require_files(labels, list(images), label_root, name, "label files")
    records = [
        {"file_name": path, "image_id": stem, "sem_seg_file_name": labels[stem], "label_map": _LABEL_MAP}
        for stem, path in images.items()
    ]
    return require_records(records, image_root, name)


def register_all(root: str) -> None:
    """Register camvid_sem_seg_{train,val,test} below `root`."""
    folder = os.path.join(root, "camvid")
    for split in SPLITS:
        register_sem_seg(
            f"camvid_sem_seg_{split}",
            partial(load_camvid, folder, split),
            DATASETS["camvid"],
            replace=True,
            image_root=os.path.join(folder, split),
            label_root=os.path.join(folder, f"{split}annot"),
        )
