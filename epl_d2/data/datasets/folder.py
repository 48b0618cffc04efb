"""Data sets of your own: a folder of images and one of label maps, registered from Python or from YAML."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import yaml
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from ..label_io import make_label_map
from .layout import files_by_stem, require_folder, require_records
from .metadata import Color, DatasetMetadata, bit_reversal_palette
from .registration import Record, register_sem_seg

_SPLIT_KEYS = {"images", "labels"}
_FILE_KEYS = {
    "name", "splits", "classes", "palette", "ignore_value", "label_map", "rgb_masks", "ignore_color",
    "image_ending", "label_ending",
}  # fmt: skip


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_color(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(_is_integer(v) and 0 <= v <= 255 for v in value)


def _is_split(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == _SPLIT_KEYS and all(isinstance(v, str) for v in value.values())


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_label_map(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_integer(id) for pair in value.items() for id in pair)


# Key of the file -> whether a value may stand there, what it may be.
_FILE_TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (lambda value: _is_text(value) and bool(value), "a name"),
    "classes": (lambda value: isinstance(value, list) and all(map(_is_text, value)), "a list of names (in quotes)"),
    "palette": (
        lambda value: value is None or (isinstance(value, list) and all(map(_is_color, value))),
        "a list of colors [r, g, b], each 0..255",
    ),
    "ignore_value": (_is_integer, "an id"),
    "label_map": (lambda value: value is None or _is_label_map(value), "{id in the file: id wanted}"),
    "rgb_masks": (lambda value: isinstance(value, bool), "true or false"),
    "ignore_color": (lambda value: value is None or _is_color(value), "a color [r, g, b], each 0..255"),
    "image_ending": (_is_text, "a text (in quotes)"),
    "label_ending": (_is_text, "a text (in quotes)"),
}


def load_sem_seg_folder(
    name: str,
    image_root: str,
    label_root: str,
    image_ending: str = "",
    label_ending: str = "",
    shared: Mapping[str, Any] | None = None,
) -> list[Record]:
    """Pair the pictures of two folders (and their subfolders) by stem.

    Args:
        name: for messages.
        image_root, label_root: the folders.
        image_ending, label_ending: the end of the stems that differs, e.g. "_image" for
            street/0001_image.jpg.
        shared: entries that every record gets.

    Raises:
        FileNotFoundError: a folder is missing, or there are no images.
        ValueError: images without label or labels without image; the message lists them.
    """
    layout = f"  {image_root}/STEM{image_ending}.jpg (.png, ...)\n  {label_root}/STEM{label_ending}.png"
    require_folder(image_root, name, layout)
    require_folder(label_root, name, layout)
    images = files_by_stem(image_root, ending=image_ending, recursive=True)
    labels = files_by_stem(label_root, (".png", ".bmp", ".tif", ".tiff"), ending=label_ending, recursive=True)
    require_records(list(images), image_root, name)
    problems = [
        f"{len(alone)} {kind}: {', '.join(alone[:10])}{', ...' if len(alone) > 10 else ''}"
        for kind, alone in (
            (f"images without a label in {label_root}", sorted(images.keys() - labels.keys())),
            (f"labels without an image in {image_root}", sorted(labels.keys() - images.keys())),
        )
        if alone
    ]
    if problems:
        raise ValueError(f"{name}: " + "; ".join(problems))
    return [
        {"file_name": path, "image_id": stem, "sem_seg_file_name": labels[stem], **(shared or {})}
        for stem, path in images.items()
    ]


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
    replace: bool = False,
    **extra: Any,
) -> None:
    """Register a folder of images and a folder of label maps. Nothing is read until the data set is used.

    Args:
        name: the name for DATASETS.TRAIN and DATASETS.TEST.
        image_root, label_root: the folders; files pair by stem, subfolders included.
        classes: names of the ids 0, 1, ...
        palette: an RGB color a class; None takes the colors of the VOC devkit.
        ignore_value: the id of pixels to ignore, after `label_map`.
        label_map: {id in the file: id wanted}; other ids stay as they are.
        rgb_masks: the label files are color pictures, and `palette` says which color is which class.
        ignore_color: with `rgb_masks`, the color of ignored pixels.
        image_ending, label_ending: see `load_sem_seg_folder`.
        replace: take the place of a data set of that name.
        extra: further entries of Detectron2's metadata.

    Raises:
        ValueError: the name is taken, or the arguments contradict each other.
    """
    if isinstance(classes, str) or not classes or len(set(classes)) != len(classes):
        raise ValueError(f"{name}: classes is {classes!r}, expected a list of different names")
    if rgb_masks and palette is None:
        raise ValueError(f"{name}: rgb_masks needs a palette, one RGB color a class")
    if ignore_color is not None and not rgb_masks:
        raise ValueError(f"{name}: ignore_color has a meaning with rgb_masks only")
    if rgb_masks and label_map is not None:
        raise ValueError(f"{name}: rgb_masks take their ids from the palette; label_map does not apply")
    colors = bit_reversal_palette(len(classes)) if palette is None else tuple(_color(name, c) for c in palette)
    try:
        metadata = DatasetMetadata(tuple(classes), colors, ignore_value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    shared: dict[str, Any] = {}
    if label_map is not None:
        shared["label_map"] = make_label_map(label_map)
    if rgb_masks:
        shared["label_colors"] = _label_colors(name, metadata, ignore_color)
    load = partial(load_sem_seg_folder, name, image_root, label_root, image_ending, label_ending, shared)
    register_sem_seg(name, load, metadata, replace=replace, image_root=image_root, label_root=label_root, **extra)


def register_from_yaml(path: str) -> list[str]:
    """Register the data sets that a YAML file describes (docs/data.md).

    Relative folders start at the folder of the file.

    Args:
        path: the YAML file.

    Returns:
        The names, NAME_SPLIT for every split.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not as described; the message names the key.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path}: there is no such file")
    with open(path, encoding="utf-8-sig") as file:
        try:
            content = yaml.safe_load(file)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not a YAML file in UTF-8 ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected the keys {sorted(_FILE_KEYS)}")
    unknown = sorted(map(str, content.keys() - _FILE_KEYS))
    missing = sorted({"name", "splits", "classes"} - content.keys())
    if unknown or missing:
        raise ValueError(f"{path}: unknown keys {unknown}, missing keys {missing}; known are {sorted(_FILE_KEYS)}")
    for key, (fits, expected) in _FILE_TYPES.items():
        if key in content and not fits(content[key]):
            raise ValueError(f"{path}: {key} is {content[key]!r}, expected {expected}")
    splits, base = content["splits"], os.path.dirname(os.path.abspath(path))
    if not isinstance(splits, dict) or not all(map(_is_split, splits.values())):
        raise ValueError(f"{path}: splits is {splits!r}, expected {{SPLIT: {{images: FOLDER, labels: FOLDER}}}}")
    options = {key: value for key, value in content.items() if key not in ("name", "splits")}
    names = []
    for split, folders in splits.items():
        name = f"{content['name']}_{split}"
        register_sem_seg_folder(
            name,
            os.path.join(base, os.path.expanduser(folders["images"])),
            os.path.join(base, os.path.expanduser(folders["labels"])),
            **options,
            replace=MetadataCatalog.get(name).get("described_in") == os.path.abspath(path),
            described_in=os.path.abspath(path),
        )
        names.append(name)
    return names


def register_from_config(cfg: CfgNode) -> None:
    """Register what the YAML files of DATASETS.SEM_SEG_FILES describe."""
    for path in cfg.DATASETS.SEM_SEG_FILES:
        register_from_yaml(os.path.expanduser(path))


def _color(name: str, color: Sequence[int]) -> Color:
    values = tuple(int(value) for value in color)
    if len(values) != 3 or not all(0 <= value <= 255 for value in values):
        raise ValueError(f"{name}: {color!r} is no color, expected three numbers 0..255")
    return values


def _label_colors(name: str, metadata: DatasetMetadata, ignore_color: Sequence[int] | None) -> dict[Color, int]:
    colors = {color: index for index, color in enumerate(metadata.palette)}
    if len(colors) != len(metadata.palette):
        raise ValueError(f"{name}: two classes share a palette color")
    if ignore_color is not None:
        ignored = _color(name, ignore_color)
        if ignored in colors:
            raise ValueError(f"{name}: ignore_color {ignored} is the color of {metadata.classes[colors[ignored]]!r}")
        colors[ignored] = metadata.ignore_value
    return colors
