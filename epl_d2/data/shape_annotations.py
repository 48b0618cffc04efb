"""Instance and panoptic annotations of the generated shapes scenes."""

from __future__ import annotations

import numpy as np

from .datasets.metadata import DATASETS
from .generated import write_generated
from .panoptic_annotations import Category, PanopticAnnotations, Segment
from .shapes import DISK, GROUND, ROD, SKY, scene_objects, shape_seeds

__all__ = ["MIN_AREA", "SHAPE_CATEGORIES", "write_shape_annotations"]

# Objects of which less can be seen are void.
MIN_AREA = 16
_CLASSES = [*range(DISK, ROD + 1), SKY, GROUND]  # things before stuff, as the ids of things are usually 1, 2, ...
_ID_OF_CLASS = {class_id: id for id, class_id in enumerate(_CLASSES, start=1)}
SHAPE_CATEGORIES = tuple(
    Category(id, DATASETS["shapes"].classes[class_id], class_id >= DISK, DATASETS["shapes"].palette[class_id])
    for class_id, id in _ID_OF_CLASS.items()
)
_VERSION = 1  # raised whenever the same seed gives other annotations


def write_shape_annotations(
    root: str, *, train: int = 160, val: int = 40, size: tuple[int, int] = (128, 128), seed: int = 0
) -> bool:
    """Write the annotations of the scenes of `write_shapes`, called with the same arguments.

    The folder appears under its name only when it is complete; `panoptic_annotations` says what is in it. The rim that
    the label maps ignore is annotated.

    Args:
        root: the folder to make, usually DETECTRON2_DATASETS/shapes/annotations.
        train, val, size, seed: see `write_shapes`.

    Returns:
        True if the annotations were written, False if they were already there.

    Raises:
        ValueError: `root` holds something else, or annotations of other scenes.
    """
    manifest = {"version": _VERSION, "train": train, "val": val, "size": list(size), "seed": seed}

    def fill(folder: str) -> None:
        for split, seeds in shape_seeds(train, val, seed).items():
            annotations = PanopticAnnotations(folder, split, SHAPE_CATEGORIES)
            for number, scene_seed in enumerate(seeds):
                owner, classes = scene_objects(scene_seed, size)
                areas = np.bincount(owner.ravel(), minlength=len(classes))
                segments = [
                    Segment(index + 1, _ID_OF_CLASS[class_id])
                    for index, class_id in enumerate(classes)
                    if areas[index] >= MIN_AREA
                ]
                annotations.add(f"{number:04d}.png", owner.astype(np.int64) + 1, segments)
            annotations.write()

    return write_generated(root, manifest, fill)
