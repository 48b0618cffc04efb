"""Instance and panoptic annotations of Cityscapes, from its instanceIds.png."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

import numpy as np

from .datasets.cityscapes import CITYSCAPES_CATEGORIES, INSTANCE_FOLDER, SPLITS, load_cityscapes
from .generated import write_generated
from .label_io import read_label
from .panoptic_annotations import PanopticAnnotations, Segment

__all__ = ["segments_of", "write_cityscapes_annotations"]

_VERSION = 1


def segments_of(ids: np.ndarray) -> list[Segment]:
    """The segments of a map of instanceIds, of the 19 classes that are evaluated.

    A thing has 1000 times its label id plus a number, everything else its label id; a thing without a number is a
    group that nobody has told apart.

    Args:
        ids: integers [H, W].
    """
    categories = {category.id: category for category in CITYSCAPES_CATEGORIES}
    segments = []
    for id in np.unique(ids).tolist():
        label_id = id // 1000 if id >= 1000 else id
        if label_id in categories:
            segments.append(Segment(id, label_id, iscrowd=categories[label_id].isthing and id < 1000))
    return segments


def write_cityscapes_annotations(
    root: str, *, progress: Callable[[list[tuple[str, str]]], Iterable[tuple[str, str]]] = iter
) -> bool:
    """Write the annotations of train and val, from the fine labels below `root`.

    Args:
        root: the folder `cityscapes`; the annotations go to its folder gtFine_coco, which appears when it is complete.
        progress: what the frames of a split are iterated through, for instance tqdm.

    Returns:
        True if the annotations were written, False if they were already there.

    Raises:
        FileNotFoundError: an image has no instanceIds.png.
        ValueError: a file cannot be read, or the folder holds something else.
    """
    frames = {split: _frames(root, f"cityscapes_fine_sem_seg_{split}") for split in ("train", "val")}

    def fill(folder: str) -> None:
        for split, pairs in frames.items():
            annotations = PanopticAnnotations(folder, split, CITYSCAPES_CATEGORIES)
            for image, label in progress(pairs):
                ids = read_label(label)
                annotations.add(image, ids, segments_of(ids))
            annotations.write()

    manifest = {"version": _VERSION, **{split: len(pairs) for split, pairs in frames.items()}}
    return write_generated(os.path.join(root, INSTANCE_FOLDER), manifest, fill)


def _frames(root: str, name: str) -> list[tuple[str, str]]:
    """(image, relative to its split's folder, and path of its instanceIds.png) of every frame of a split."""
    image_root, label_root = (os.path.join(root, folder) for folder in SPLITS[name])
    pairs, missing = [], []
    for record in load_cityscapes(name, image_root, label_root):
        folder = os.path.dirname(record["sem_seg_file_name"])
        label = os.path.join(folder, f"{record['image_id']}_gtFine_instanceIds.png")
        pairs.append((os.path.relpath(record["file_name"], image_root), label))
        if not os.path.isfile(label):
            missing.append(label)
    if missing:
        raise FileNotFoundError(
            f"{name}: {len(missing)} of {len(pairs)} frames have no instanceIds, such as {missing[0]}"
        )
    return pairs
