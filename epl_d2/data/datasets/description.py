"""What a YAML file says about a data set of your own (docs/data.md), read without torch or Detectron2."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from numbers import Real
from typing import Any

import yaml

from ..label_io import make_label_map
from . import dataset_root
from .metadata import Color, DatasetMetadata
from .pairing import FolderSplit
from .palette import distinct_palette

__all__ = ["DatasetDescription", "read_description"]


@dataclass(frozen=True)
class DatasetDescription:
    """A data set of your own.

    Attributes:
        name: the splits are registered as NAME_SPLIT.
        metadata: classes, palette and the id of ignored pixels.
        splits: where the files of each split are.
        label_map: 256 bytes, the id of every id that a file stores; None where they are the same.
        label_colors: {(r, g, b): id} where the label files are color pictures.
        path: the YAML file; "" where there is none.
    """

    name: str
    metadata: DatasetMetadata
    splits: Mapping[str, FolderSplit]
    label_map: bytes | None = None
    label_colors: Mapping[Color, int] | None = None
    path: str = ""

    @classmethod
    def create(
        cls,
        name: str,
        splits: Mapping[str, FolderSplit],
        classes: Sequence[str],
        palette: Sequence[Sequence[int]] | None = None,
        ignore_value: int = 255,
        *,
        label_map: Mapping[int, int] | None = None,
        rgb_masks: bool = False,
        ignore_color: Sequence[int] | None = None,
        path: str = "",
    ) -> DatasetDescription:
        """Check what is said and put it together; arguments as of `register_sem_seg_folder`.

        Raises:
            ValueError: the arguments contradict each other.
        """
        if isinstance(classes, str) or not classes or len(set(classes)) != len(classes):
            raise ValueError(f"{name}: classes is {classes!r}, expected a list of different names")
        if rgb_masks and palette is None:
            raise ValueError(f"{name}: rgb_masks needs a palette, one RGB color a class")
        if ignore_color is not None and not rgb_masks:
            raise ValueError(f"{name}: ignore_color has a meaning with rgb_masks only")
        if rgb_masks and label_map is not None:
            raise ValueError(f"{name}: rgb_masks take their ids from the palette; label_map does not apply")
        colors = distinct_palette(len(classes)) if palette is None else tuple(_color(name, c) for c in palette)
        try:
            metadata = DatasetMetadata(tuple(classes), colors, ignore_value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        return cls(
            name,
            metadata,
            splits,
            label_map=None if label_map is None else make_label_map(label_map),
            label_colors=_label_colors(name, metadata, ignore_color) if rgb_masks else None,
            path=path,
        )

    def split(self, name: str) -> FolderSplit:
        """The split of that name.

        Raises:
            ValueError: there is none; names those that there are.
        """
        if name not in self.splits:
            raise ValueError(f"{self.path or self.name} has no split {name!r}; it has {', '.join(self.splits)}")
        return self.splits[name]

    def records(self, split: str) -> list[dict[str, Any]]:
        """The records of a split, see `FolderSplit.records`."""
        shared = {"label_map": self.label_map, "label_colors": self.label_colors}
        said = {key: value for key, value in shared.items() if value is not None}
        return self.split(split).records(f"{self.name}_{split}" if split else self.name, said)

    @property
    def endings(self) -> tuple[str, str]:
        """Those of images and of labels, which all splits share."""
        first = next(iter(self.splits.values()))
        return first.image_ending, first.label_ending


def read_description(path: str | os.PathLike) -> DatasetDescription:
    """Read a YAML file as docs/data.md describes it. Relative folders and lists start at the folder of the file, those
    that begin with $DETECTRON2_DATASETS at the folder of all data sets.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not as described; the message names the key.
    """
    path = os.path.expanduser(os.fspath(path))
    content = _read_yaml(path)
    for key, (fits, expected) in _KEYS.items():
        if key in content and not fits(content[key]):
            raise ValueError(f"{path}: {key} is {content[key]!r}, expected {expected}")
    return DatasetDescription.create(
        content["name"],
        _splits(content, path),
        path=os.path.abspath(path),
        **{key: value for key, value in content.items() if key in _LABEL_KEYS},
    )


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_color(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(_is_integer(v) and 0 <= v <= 255 for v in value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_name(value: Any) -> bool:
    return _is_text(value) and bool(value)


def _is_label_map(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_integer(id) for pair in value.items() for id in pair)


# Key of the file -> whether a value may stand there, what it may be.
_KEYS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (_is_name, "a name"),
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
    "images": (_is_name, "a folder"),
    "labels": (_is_name, "a folder"),
    "seed": (_is_integer, "a whole number"),
}
_ROOT = "$DETECTRON2_DATASETS"
_LABEL_KEYS = ("classes", "palette", "ignore_value", "label_map", "rgb_masks", "ignore_color")
_KNOWN = sorted([*_KEYS, "splits"])
_SPLIT_FORMS = (
    "{SPLIT: {images: FOLDER, labels: FOLDER}}, with a `list: FILE` where it is a part of its folders; or, beside "
    "`images: FOLDER` and `labels: FOLDER` for all, {SPLIT: SHARE} such as {train: 0.8, val: 0.2}, or {SPLIT: FILE}, "
    "each a list of images"
)


def _read_yaml(path: str) -> dict[str, Any]:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path}: there is no such file")
    with open(path, encoding="utf-8-sig") as file:
        try:
            content = yaml.safe_load(file)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not a YAML file in UTF-8 ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected the keys {_KNOWN}")
    unknown = sorted(str(key) for key in content if key not in _KNOWN)
    missing = sorted({"name", "splits", "classes"} - content.keys())
    if unknown or missing:
        raise ValueError(f"{path}: unknown keys {unknown}, missing keys {missing}; known are {_KNOWN}")
    return content


def _splits(content: Mapping[str, Any], path: str) -> dict[str, FolderSplit]:
    said = content["splits"]
    wrong = ValueError(f"{path}: splits is {said!r}, expected {_SPLIT_FORMS}")
    if not isinstance(said, dict) or not said or not all(map(_is_name, said)):
        raise wrong
    base = os.path.dirname(os.path.abspath(path))
    endings = {key: content[key] for key in ("image_ending", "label_ending") if key in content}

    def place(given: str) -> str:
        if given == _ROOT or given.startswith(f"{_ROOT}/"):
            given = os.path.abspath(dataset_root()) + given.removeprefix(_ROOT)
        return os.path.join(base, os.path.expanduser(given))

    together = [key for key in ("images", "labels") if key in content]
    if not together:
        if not all(map(_is_split, said.values())):
            raise wrong
        if "seed" in content:
            raise ValueError(f"{path}: seed is {content['seed']}, but no split is a share such as 0.8")
        places = {name: {key: place(value) for key, value in split.items()} for name, split in said.items()}
        return {
            name: FolderSplit(split["images"], split["labels"], **endings, list_file=split.get("list"))
            for name, split in places.items()
        }
    if len(together) == 1:
        raise ValueError(f"{path}: {together[0]} is {content[together[0]]!r}, but images and labels go together")
    folders = place(content["images"]), place(content["labels"])
    if all(map(_is_name, said.values())):
        return {name: FolderSplit(*folders, **endings, list_file=place(file)) for name, file in said.items()}
    if not all(isinstance(value, Real) and not isinstance(value, bool) for value in said.values()):
        raise wrong
    shares = list(said.values())
    if min(shares) <= 0 or sum(shares) > 1 + 1e-9:
        raise ValueError(f"{path}: splits is {said!r}; shares are above 0, and their sum is at most 1")
    ends = pairwise([0.0, *accumulate(map(float, shares))])
    seed = content.get("seed", 0)
    return {
        name: FolderSplit(*folders, **endings, share=(first, min(last, 1.0)), seed=seed)
        for name, (first, last) in zip(said, ends, strict=True)
    }


def _is_split(value: Any) -> bool:
    keys = {"images", "labels"}
    return isinstance(value, dict) and keys <= value.keys() <= {*keys, "list"} and all(map(_is_name, value.values()))


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
