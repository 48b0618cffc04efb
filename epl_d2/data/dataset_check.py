"""Quick checks of a registered data set before training starts."""

from __future__ import annotations

import os

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from .label_io import read_record_label, unknown_ids


def require_registered(name: str) -> None:
    """Raise a ValueError with the names that there are, unless a data set of that name is registered."""
    if name not in DatasetCatalog.list():
        ours = [k for k in DatasetCatalog.list() if "sem_seg" in k or MetadataCatalog.get(k).get("described_in")]
        raise ValueError(f"there is no data set {name!r}; registered for semantic segmentation are {sorted(ours)}")


def check_dataset_before_training(
    name: str, num_classes: int, ignore_value: int = 255, *, sample: int = 16, needs_labels: bool = True
) -> None:
    """Raise an error that says what is wrong, or return.

    Looks at every file name, but reads only `sample` label maps, spread over the data set.
    `tools/check_dataset.py` reads everything.

    Args:
        name: as in DATASETS.TRAIN or DATASETS.TEST.
        num_classes: MODEL.SEM_SEG_HEAD.NUM_CLASSES.
        ignore_value: MODEL.SEM_SEG_HEAD.IGNORE_VALUE.
        sample: number of label maps to read.
        needs_labels: whether images without a label file are an error.

    Raises:
        FileNotFoundError: the root, an image or a label file is missing.
        ValueError: the name is unknown, the data set is empty, NUM_CLASSES or IGNORE_VALUE contradict its
            metadata, a label map cannot be read or has unknown ids, or no label map has any label.
    """
    require_registered(name)
    metadata = MetadataCatalog.get(name)
    classes = metadata.get("stuff_classes")
    if classes is not None and len(classes) != num_classes:
        raise ValueError(f"MODEL.SEM_SEG_HEAD.NUM_CLASSES is {num_classes}, but {name} has {len(classes)} classes")
    if metadata.get("ignore_label", ignore_value) != ignore_value:
        raise ValueError(
            f"MODEL.SEM_SEG_HEAD.IGNORE_VALUE is {ignore_value}, but {name} marks "
            f"ignored pixels by {metadata.ignore_label}"
        )
    records = DatasetCatalog.get(name)
    if not records:
        raise ValueError(f"{name} has no images")
    for record in records:
        for key in ("file_name", "sem_seg_file_name"):
            if key in record and not os.path.isfile(record[key]):
                raise FileNotFoundError(f"{name}: {record[key]} does not exist or is no file")
        if needs_labels and "sem_seg_file_name" not in record:
            raise ValueError(f"{name}: {record['file_name']} has no label map")
    labeled = [record for record in records if "sem_seg_file_name" in record]
    nothing_labeled = bool(labeled)
    for index in np.unique(np.linspace(0, len(labeled) - 1, min(sample, len(labeled))).astype(int)):
        label = read_record_label(labeled[index])
        nothing_labeled &= bool((label == ignore_value).all())
        wrong = unknown_ids(label, num_classes, ignore_value)
        if wrong:
            raise ValueError(
                f"{name}: {labeled[index]['sem_seg_file_name']} holds the label ids {wrong[:10]}, "
                f"expected 0..{num_classes - 1} or {ignore_value}"
            )
    if nothing_labeled and needs_labels:
        raise ValueError(
            f"{name}: nothing is labeled, every pixel of the label maps looked at is the ignored {ignore_value}, as "
            f"in {labeled[0]['sem_seg_file_name']}"
        )
