"""Finding the files of a data set on disk, with errors that say what was expected where."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
LABEL_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")


_BELOW_ROOT = " below the folder that the environment variable DETECTRON2_DATASETS names (default: ./datasets)"


def require_folder(folder: str, dataset: str, layout: str, where: str = _BELOW_ROOT) -> str:
    """Give back `folder`, or raise FileNotFoundError with the layout that the data set should have."""
    if not os.path.isdir(folder):
        raise FileNotFoundError(
            f"{dataset}: the folder {os.path.abspath(folder)!r} does not exist. Expected{where}:\n{layout}"
        )
    return folder


def files_by_stem(
    folder: str, suffixes: Iterable[str] = IMAGE_SUFFIXES, *, ending: str = "", recursive: bool = False
) -> dict[str, str]:
    """The picture files in `folder`: {stem: path}, sorted by stem.

    Args:
        folder: where to look.
        suffixes: of the files that count, in lower case.
        ending: only stems that end so count, and lose it.
        recursive: look into subfolders; their names become part of the stem, as "sub/stem".

    Raises:
        ValueError: two files share a stem, or a link leads back to a folder that holds it.
    """
    suffixes = tuple(suffixes)
    found: dict[str, str] = {}
    for parent, subfolders, files in os.walk(folder, followlinks=True):
        if not recursive:
            subfolders.clear()
        for subfolder in subfolders:
            refuse_loop(parent, subfolder)
        for file in files:
            path = os.path.join(parent, file)
            stem, suffix = os.path.splitext(os.path.relpath(path, folder))
            if suffix.lower() not in suffixes or file.startswith(".") or not stem.endswith(ending):
                continue
            stem = stem[: len(stem) - len(ending)].replace(os.sep, "/")
            if stem in found:
                raise ValueError(f"{found[stem]} and {path} have the same stem; which of them is meant?")
            found[stem] = path
    return dict(sorted(found.items()))


def refuse_loop(parent: str, subfolder: str) -> None:
    """Raise ValueError for a link that would be followed for ever."""
    link = os.path.join(parent, subfolder)
    if os.path.islink(link):
        target, here = os.path.realpath(link), os.path.realpath(parent)
        if os.path.commonpath([target, here]) == target:
            raise ValueError(f"{link} is a link to {target}, which holds it: its files would be found again and again")


def read_list(path: str | os.PathLike, *, whole_lines: bool = False) -> list[str]:
    """The first word of every line of a list of images, with a byte order mark or without.

    Args:
        path: the list.
        whole_lines: take all of a line, for names with spaces.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no UTF-8 text, or a word is in it twice.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path}: there is no such list")
    try:
        with open(path, encoding="utf-8-sig") as lines:
            names = [line.strip() if whole_lines else line.split()[0] for line in lines if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: the list is no UTF-8 text ({error}); editors offer UTF-8 when they save") from error
    if broken := [name for name in names if "\0" in name]:
        raise ValueError(f"{path}: the list is no UTF-8 text, or damaged: it has null characters ({broken[0][:20]!r})")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        more = ", ..." if len(twice) > 5 else ""
        raise ValueError(f"{path}: {len(twice)} names are in the list twice: {', '.join(twice[:5])}{more}")
    return names


def require_files(files: dict[str, str], stems: Sequence[str], folder: str, dataset: str, kind: str) -> None:
    """Raise FileNotFoundError if one of `stems` is not among `files`, listing the first that are missing."""
    missing = [stem for stem in stems if stem not in files]
    if missing:
        shown = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
        raise FileNotFoundError(f"{dataset}: {len(missing)} of {len(stems)} {kind} are not in {folder}: {shown}")


def require_records(records: list, folder: str, dataset: str) -> list:
    """Give back `records`, or raise FileNotFoundError if there are none."""
    if not records:
        raise FileNotFoundError(f"{dataset}: no images in {folder}")
    return records
