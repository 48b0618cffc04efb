"""Class names and colors of the model that a config describes."""

from __future__ import annotations

import os

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from .datasets.description import DatasetDescription, read_description
from .datasets.metadata import Color
from .datasets.palette import distinct_palette

__all__ = ["keep_names_and_colors", "names_and_colors", "use_dataset_file", "use_names_of"]


def names_and_colors(cfg: CfgNode) -> tuple[tuple[str, ...], tuple[Color, ...]]:
    """DATASETS.CLASSES and PALETTE of a trained model's config.

    Where they are empty, those of the first data set of DATASETS.TEST and DATASETS.TRAIN that has as many classes as
    the model; where none fits, numbers and `distinct_palette`.

    Raises:
        ValueError: the keys are of another length than the model's classes.
    """
    count = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    classes, palette = cfg.DATASETS.CLASSES, cfg.DATASETS.PALETTE
    for key, given in (("CLASSES", classes), ("PALETTE", palette)):
        if given and len(given) != count:
            raise ValueError(
                f"DATASETS.{key} has {len(given)} entries, but MODEL.SEM_SEG_HEAD.NUM_CLASSES is {count}; [] takes "
                "those of the data set"
            )
    found = _of_data_sets(cfg)
    return (
        tuple(classes) or (found[0] if found else tuple(map(str, range(count)))),
        tuple(map(tuple, palette)) or (found[1] if found and not classes else distinct_palette(count)),
    )


def keep_names_and_colors(cfg: CfgNode) -> None:
    """Write the names and colors of the data set that a model is trained on into `cfg`, which is saved beside it.

    So that whoever gets the config and the weights needs nothing else.
    """
    classes, palette = _of_data_sets(cfg) or ((), ())
    cfg.DATASETS.CLASSES, cfg.DATASETS.PALETTE = list(classes), [list(color) for color in palette]


def _of_data_sets(cfg: CfgNode) -> tuple[tuple[str, ...], tuple[Color, ...]] | None:
    for name in (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN):
        metadata = MetadataCatalog.get(name)
        names, colors = metadata.get("stuff_classes"), metadata.get("stuff_colors")
        if names is not None and colors is not None and len(names) == cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES:
            return tuple(names), tuple(map(tuple, colors))
    return None


def use_names_of(cfg: CfgNode, description: DatasetDescription) -> None:
    """Take names and colors from the description of a data set, for a model whose config lacks them.

    Raises:
        ValueError: the model has another number of classes.
    """
    classes, count = description.metadata.classes, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    if len(classes) != count:
        raise ValueError(
            f"{description.path} has {len(classes)} classes, but the model's MODEL.SEM_SEG_HEAD.NUM_CLASSES is {count}"
        )
    cfg.DATASETS.CLASSES = list(classes)
    cfg.DATASETS.PALETTE = [list(color) for color in description.metadata.palette]


def use_dataset_file(cfg: CfgNode, path: str | os.PathLike) -> None:
    """Train and test on the data set that a YAML file describes: sets DATASETS.*, NUM_CLASSES and IGNORE_VALUE.

    The split "train" is trained on; tested is on "val", else on "test", where there is one.

    Raises:
        FileNotFoundError, ValueError: see `read_description`.
    """
    description = read_description(path)
    cfg.DATASETS.SEM_SEG_FILES = [description.path]
    tested = [split for split in ("val", "test") if split in description.splits][:1]
    for key, splits in (("TRAIN", [split for split in ("train",) if split in description.splits]), ("TEST", tested)):
        cfg.DATASETS[key] = tuple(f"{description.name}_{split}" for split in splits)
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = len(description.metadata.classes)
    cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = description.metadata.ignore_value
