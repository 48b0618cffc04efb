"""Quick checks of a registered data set before training starts."""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from .label_io import read_record_label, unknown_ids
from .mask_check import check_record_masks


def require_registered(name: str) -> None:
    """Raise a ValueError with the names that there are, unless a data set of that name is registered."""
    if name not in DatasetCatalog.list():
        ours = [k for k in DatasetCatalog.list() if "sem_seg" in k or MetadataCatalog.get(k).get("described_in")]
        raise ValueError(f"there is no data set {name!r}; registered for semantic segmentation are {sorted(ours)}")


def require_label_maps(name: str) -> None:
    """Raise a ValueError with the names that there are, unless a data set of that name is registered and has them."""

    def has_label_maps(name: str) -> bool:
        metadata = MetadataCatalog.get(name)
        return None not in (metadata.get("stuff_classes"), metadata.get("ignore_label"))

    require_registered(name)
    if not has_label_maps(name):
        raise ValueError(
            f"{name} holds instances and no label maps; registered with label maps are "
            f"{', '.join(filter(has_label_maps, sorted(DatasetCatalog.list())))}"
        )


def check_data(cfg: CfgNode, name: str, *, needs_labels: bool = True, files: bool = True) -> None:
    """Check a data set for the model of a config: its label maps or, where MODEL.MASK_ON is True, its instances.

    Raises:
        FileNotFoundError, ImportError, ValueError: see the two functions below.
    """
    head = cfg.MODEL.SEM_SEG_HEAD
    if not cfg.MODEL.MASK_ON:
        check_dataset_before_training(name, head.NUM_CLASSES, head.IGNORE_VALUE, needs_labels=needs_labels, files=files)
        return
    num_stuff = head.NUM_CLASSES if cfg.MODEL.META_ARCHITECTURE == "PanopticFPN" else None
    check_instance_dataset_before_training(
        name, cfg.MODEL.ROI_HEADS.NUM_CLASSES, num_stuff, head.IGNORE_VALUE, needs_labels=needs_labels, files=files
    )


def shared_images(name: str, others: Iterable[str]) -> list[str]:
    """A sentence for each of the other data sets that holds images of this one, with the first three of them.

    Args:
        name: a registered data set.
        others: registered data sets, of which those that cannot be listed are left out: checking them says why.
    """
    images = _image_files(name)
    sentences = []
    for other in others:
        try:
            shared = sorted(images & _image_files(other))
        except (OSError, ValueError):
            continue
        if shared:
            more = ", ..." if len(shared) > 3 else ""
            sentences.append(f"{name} and {other} share {len(shared)} images: {', '.join(shared[:3])}{more}")
    return sentences


def _image_files(name: str) -> set[str]:
    return {os.path.realpath(record["file_name"]) for record in DatasetCatalog.get(name)}


def check_dataset_before_training(
    name: str,
    num_classes: int,
    ignore_value: int = 255,
    *,
    sample: int = 16,
    needs_labels: bool = True,
    files: bool = True,
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
        files: also look at the files; without, only at what is registered.

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
    if not files:
        return
    records = _records_with_files(name)
    for record in records:
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


def check_instance_dataset_before_training(
    name: str,
    num_things: int,
    num_stuff: int | None = None,
    ignore_value: int = 255,
    *,
    needs_labels: bool = True,
    files: bool = True,
) -> None:
    """Raise an error that says what is wrong with a data set of instances, or return.

    Args:
        name: as in DATASETS.TRAIN or DATASETS.TEST.
        num_things: MODEL.ROI_HEADS.NUM_CLASSES.
        num_stuff: MODEL.SEM_SEG_HEAD.NUM_CLASSES of a panoptic model; None for one of instances alone.
        ignore_value: MODEL.SEM_SEG_HEAD.IGNORE_VALUE.
        needs_labels: whether images need masks (and, with `num_stuff`, a label file).
        files: also look at the files; without, only at what is registered.

    Raises:
        FileNotFoundError: an image or a label file is missing.
        ImportError: the data set needs a package that is not installed.
        ValueError: the name is unknown, the data set is empty, the numbers of classes contradict its metadata, or an
            object has no mask or one that does not fit its image.
    """
    if name not in DatasetCatalog.list():
        similar = [known for known in DatasetCatalog.list() if MetadataCatalog.get(known).get("thing_classes")]
        raise ValueError(f"there is no data set {name!r}; registered with instances are {sorted(similar)}")
    metadata = MetadataCatalog.get(name)
    things = metadata.get("thing_classes")
    if things is None:
        raise ValueError(f"{name} has no instances (thing_classes), which MODEL.MASK_ON needs")
    if len(things) != num_things:
        raise ValueError(f"MODEL.ROI_HEADS.NUM_CLASSES is {num_things}, but {name} has {len(things)} classes of things")
    if num_stuff is not None:
        stuff = metadata.get("stuff_classes")
        if stuff is None or len(stuff) != num_stuff:
            raise ValueError(
                f"MODEL.SEM_SEG_HEAD.NUM_CLASSES is {num_stuff}, but {name} has {len(stuff or ())} classes of stuff "
                '("things" among them)'
            )
        if metadata.get("ignore_label", ignore_value) != ignore_value:
            raise ValueError(
                f"MODEL.SEM_SEG_HEAD.IGNORE_VALUE is {ignore_value}, but {name} marks "
                f"ignored pixels by {metadata.ignore_label}"
            )
    if not files:
        return
    records = _records_with_files(name)
    if needs_labels:
        check_record_masks(records, name)
        for record in records if num_stuff is not None else ():
            if "sem_seg_file_name" not in record:
                raise ValueError(f"{name}: {record['file_name']} has no label map of stuff (sem_seg_file_name)")


def _records_with_files(name: str) -> list[dict]:
    try:
        records = DatasetCatalog.get(name)
    except ModuleNotFoundError as error:
        raise ImportError(f"{name} is read with {error.name}: pip install cityscapesscripts shapely") from error
    if not records:
        raise ValueError(f"{name} has no images")
    for record in records:
        for key in ("file_name", "sem_seg_file_name"):
            if key in record and not os.path.isfile(record[key]):
                raise FileNotFoundError(f"{name}: {record[key]} does not exist or is no file")
    return records
