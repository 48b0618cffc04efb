"""Data sets of your own: a folder of images and one of label maps, registered from Python or from YAML."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from .description import DatasetDescription, read_description
from .pairing import FolderSplit
from .registration import register_sem_seg

__all__ = ["register_from_config", "register_from_yaml", "register_sem_seg_folder"]

logger = logging.getLogger(__name__)


def register_sem_seg_folder(
    name: str,
    image_root: str,
    label_root: str,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]] | None = None,
    ignore_value: int = 255,
    *,
    label_map: Mapping[int, int] | None = None,
    rgb_masks: bool = False,
    ignore_color: Sequence[int] | None = None,
    image_ending: str = "",
    label_ending: str = "",
    list_file: str | None = None,
    share: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
    replace: bool = False,
    **extra: Any,
) -> None:
    """Register a folder of images and a folder of label maps. Nothing is read until the data set is used.

    Args:
        name: the name for DATASETS.TRAIN and DATASETS.TEST.
        image_root, label_root: the folders; files pair by stem, subfolders included.
        classes: names of the ids 0, 1, ...
        palette: an RGB color a class; None takes `distinct_palette`.
        ignore_value: the id of pixels to ignore, after `label_map`.
        label_map: {id in the file: id wanted}; other ids stay as they are.
        rgb_masks: the label files are color pictures, and `palette` says which color is which class.
        ignore_color: with `rgb_masks`, the color of ignored pixels.
        image_ending, label_ending, list_file, share, seed: see `FolderSplit`.
        replace: take the place of a data set of that name.
        extra: further entries of Detectron2's metadata.

    Raises:
        ValueError: the name is taken, or the arguments contradict each other.
    """
    split = FolderSplit(image_root, label_root, image_ending, label_ending, list_file, tuple(share), seed)
    options = {"label_map": label_map, "rgb_masks": rgb_masks, "ignore_color": ignore_color}
    description = DatasetDescription.create(name, {"": split}, classes, palette, ignore_value, **options)
    _register(name, description, "", replace=replace, **extra)


def register_from_yaml(path: str | os.PathLike) -> list[str]:
    """Register the data sets that a YAML file describes (docs/data.md).

    Returns:
        The names, NAME_SPLIT for every split.

    Raises:
        FileNotFoundError, ValueError: see `read_description`; or a name is taken.
    """
    description = read_description(path)
    names = []
    for split in description.splits:
        name = f"{description.name}_{split}"
        again = MetadataCatalog.get(name).get("described_in") == description.path
        _register(name, description, split, replace=again, described_in=description.path)
        names.append(name)
    return names


def register_from_config(cfg: CfgNode, *, needed: bool = True) -> None:
    """Register what the YAML files of DATASETS.SEM_SEG_FILES describe.

    Args:
        cfg: the config.
        needed: whether a file that does not exist is an error. A trained model does without where its config has the
            names of its classes.

    Raises:
        FileNotFoundError, ValueError: see `register_from_yaml`.
    """
    for path in cfg.DATASETS.SEM_SEG_FILES:
        if needed or os.path.isfile(os.path.expanduser(path)):
            register_from_yaml(path)
        elif not cfg.DATASETS.CLASSES:
            logger.warning(f"{path}, which describes the data set, is not here: the classes have numbers for names")


def _register(name: str, description: DatasetDescription, split: str, *, replace: bool, **extra: Any) -> None:
    folders = description.split(split)
    register_sem_seg(
        name,
        partial(description.records, split),
        description.metadata,
        replace=replace,
        image_root=folders.images,
        label_root=folders.labels,
        **({} if description.label_map is None else {"label_map": description.label_map}),
        **({} if description.label_colors is None else {"label_colors": description.label_colors}),
        **extra,
    )
