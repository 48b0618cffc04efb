"""Evaluating folders of label PNGs from any framework: which files belong together, counting in parallel."""

from __future__ import annotations

import multiprocessing
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from epl_d2.data.datasets.layout import IMAGE_SUFFIXES, LABEL_SUFFIXES, files_by_stem
from epl_d2.data.label_io import read_label
from epl_d2.processes import end_with_parent

from .boundary_statistics import BoundaryStatistics, check_widths

_FILES_A_TASK = 4  # a task sends back counts, whose size does not depend on how many files they come from

# Endings of Cityscapes label files, the preferred one first, and the ids in them.
_CITYSCAPES_LABELS = {"_labelTrainIds.png": "train-id", "_labelIds.png": "label-id"}


@dataclass(frozen=True)
class LabelPair:
    """Two files of one image; a map of 256 bytes translates stored ids to class ids, None leaves them.

    `target_colors` are the ids of the colors of a target that is a color picture.
    """

    prediction: Path
    target: Path
    prediction_map: bytes | None = None
    target_map: bytes | None = None
    target_colors: Mapping[tuple[int, int, int], int] | None = None


def parse_widths(text: str) -> tuple[int, ...]:
    """Read widths such as ``"1-20"`` or ``"1,3,5-9"``; ValueError unless they are positive integers."""
    widths: list[int] = []
    for part in text.split(","):
        ends = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        of_part = ends and range(int(ends[1]), int(ends[2] or ends[1]) + 1)
        if not of_part:
            raise ValueError(f"widths must be numbers and ranges such as 1-20 or 1,3,5-9, got {part!r} in {text!r}")
        widths += of_part
    return check_widths(widths)


def find_targets(folder: Path, cityscapes: bool) -> dict[str, tuple[Path, str]]:
    """Label files below ``folder``: name of the image -> (file, "train-id" or "label-id").

    Args:
        folder: searched with all its subfolders.
        cityscapes: whether the files are called ``CITY_SEQUENCE_FRAME_gtFine_labelTrainIds.png`` or
            ``..._labelIds.png`` (the first is taken where there are both); otherwise every PNG is one.

    Raises:
        ValueError: there is none, or two have the same name.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    found: dict[str, tuple[Path, str]] = {}
    endings = _CITYSCAPES_LABELS if cityscapes else {".png": "train-id"}
    for ending, encoding in endings.items():
        of_this_ending: dict[str, Path] = {}
        for file in _pngs_below(folder):
            if not file.name.lower().endswith(ending.lower()):
                continue
            name = _cityscapes_frame(file.stem) if cityscapes else file.stem
            if name in of_this_ending:
                raise ValueError(f"two label files for {name}: {of_this_ending[name]} and {file}")
            of_this_ending[name] = file
        for name, file in of_this_ending.items():
            found.setdefault(name, (file, encoding))
    if not found:
        raise ValueError(f"{folder}: no label files ({' or '.join('*' + ending for ending in endings)}) below it")
    return found


def find_predictions(folder: Path, names: Iterable[str], cityscapes: bool) -> tuple[dict[str, Path], list[str]]:
    """PNGs below ``folder`` that belong to these images: name -> file, and the names that have none.

    A prediction is called like its image; for Cityscapes anything may follow the frame's name
    (``..._leftImg8bit.png``, ``..._gtFine_labelIds.png``, ``..._pred.png``).

    Raises:
        ValueError: there is no such folder, or an image has two predictions.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    files: dict[str, list[Path]] = defaultdict(list)
    for file in _pngs_below(folder):
        files[_cityscapes_frame(file.stem) if cityscapes else file.stem].append(file)
    found, missing = {}, []
    for name in names:
        if len(files[name]) > 1:
            raise ValueError(f"two predictions for {name}: {files[name][0]} and {files[name][1]}")
        if files[name]:
            found[name] = files[name][0]
        else:
            missing.append(name)
    return found, missing


def find_own_files(folder: Path, ending: str = "", *, labels: bool = True) -> dict[str, Path]:
    """Label files (or images) below ``folder`` of a data set of your own: stem without its ending -> file.

    Raises:
        ValueError: there is none, or two have the same stem.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    suffixes = LABEL_SUFFIXES if labels else IMAGE_SUFFIXES
    files = files_by_stem(str(folder), suffixes, ending=ending, recursive=True)
    if not files:
        raise ValueError(f"{folder}: no {'label files' if labels else 'images'} *{ending}{suffixes[0]} below it")
    return {stem: Path(path) for stem, path in files.items()}


def find_own_predictions(
    folder: Path, names: Sequence[str], image_ending: str = ""
) -> tuple[dict[str, Path], list[str]]:
    """PNGs below ``folder`` that belong to the images of a data set of your own, as `find_predictions`.

    A prediction is called like its image, as TEST.SAVE_PREDICTIONS and the demo write it, or like the label without its
    ending. It lies in the same subfolder as the image, or anywhere if no other has its name.

    Args:
        folder: searched with all its subfolders.
        names: stems of the images without their ending, with the subfolders: "day/0001".
        image_ending: the end of the images' stems.

    Raises:
        ValueError: there is no such folder, or two files of one stem.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    files = files_by_stem(str(folder), (".png",), recursive=True)
    anywhere: dict[str, list[str]] = defaultdict(list)
    for stem in files:
        anywhere[_last(stem)].append(stem)
    alone = {name for name, count in Counter(map(_last, names)).items() if count == 1}
    found, missing = {}, []
    for name in names:
        stems = list(dict.fromkeys([name + image_ending, name]))
        hits = [stem for stem in stems if stem in files]
        if not hits and _last(name) in alone:
            hits = [hit for stem in stems for hit in anywhere[_last(stem)]]
            if len(hits) > 1:
                raise ValueError(f"two predictions for {name}: {files[hits[0]]} and {files[hits[1]]}")
        if hits:
            found[name] = Path(files[hits[0]])
        else:
            missing.append(name)
    return found, missing


def count_pairs(
    pairs: Sequence[LabelPair],
    empty: BoundaryStatistics,
    *,
    jobs: int = 1,
    skip_bad: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[BoundaryStatistics, list[str]]:
    """Count all pairs, in ``jobs`` processes; the result does not depend on how many.

    Args:
        pairs: the files.
        empty: statistics without counts, whose settings are taken.
        jobs: processes; 1 counts in this one.
        skip_bad: leave out unusable pairs instead of raising, and describe them in the second result.
        progress: called with the number of pairs done so far.

    Returns:
        The statistics, and a message for each pair left out, in the order of ``pairs``.

    Raises:
        ValueError: a file is unreadable, of another size than its partner or has ids outside the classes.
    """
    total = empty.empty_copy()
    tasks = [pairs[first : first + _FILES_A_TASK] for first in range(0, len(pairs), _FILES_A_TASK)]
    bad: dict[int, list[str]] = {}
    done = 0

    def collect(index: int, result: tuple[BoundaryStatistics, list[str]]) -> None:
        nonlocal done
        total.merge(result[0])
        bad[index] = result[1]
        done += len(tasks[index])
        progress(done)

    if jobs == 1:
        for index, task in enumerate(tasks):
            collect(index, _count_task(task, empty, skip_bad))
    else:
        context = multiprocessing.get_context("spawn")  # forking a process with threads is unsafe
        workers = min(jobs, max(len(tasks), 1))
        with ProcessPoolExecutor(workers, mp_context=context, initializer=end_with_parent) as pool:
            futures = {pool.submit(_count_task, task, empty, skip_bad): i for i, task in enumerate(tasks)}
            try:
                for future in as_completed(futures):
                    collect(futures[future], future.result())
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    return total, [message for index in sorted(bad) for message in bad[index]]


def _count_task(
    pairs: Sequence[LabelPair], empty: BoundaryStatistics, skip_bad: bool
) -> tuple[BoundaryStatistics, list[str]]:
    statistics, bad = empty.empty_copy(), []
    for pair in pairs:
        try:
            _count_pair(pair, statistics)
        except (OSError, ValueError) as error:
            if not skip_bad:
                raise
            bad.append(str(error))
    return statistics, bad


def _count_pair(pair: LabelPair, statistics: BoundaryStatistics) -> None:
    prediction = read_label(pair.prediction, label_map=pair.prediction_map)
    target = read_label(pair.target, label_map=pair.target_map, label_colors=pair.target_colors)
    if prediction.shape != target.shape:
        raise ValueError(
            f"{pair.prediction}: the prediction is {_size(prediction)}, but the label {pair.target} is "
            f"{_size(target)} (height x width)"
        )
    try:
        statistics.update(prediction, target)
    except ValueError as error:
        raise ValueError(f"{pair.prediction} against {pair.target}: {error}") from error


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """Short names for paths: the parts in which they differ, or the last part of a single one."""
    parts = [path.resolve().parts for path in paths]
    if len(set(parts)) < len(parts):
        raise ValueError(f"the same folder or file is given twice: {', '.join(map(str, paths))}")
    if len(parts) == 1:
        return [parts[0][-1]]
    start = 0
    while all(part[start : start + 1] == parts[0][start : start + 1] != () for part in parts):
        start += 1
    stop = 0
    while all(len(part) - stop > start + 1 and part[-stop - 1] == parts[0][-stop - 1] for part in parts):
        stop += 1
    names = ["/".join(part[start : len(part) - stop]) or part[-1] for part in parts]
    # One that lies in another is named by its own last part, which the other's name may be, too.
    return names if len(set(names)) == len(names) else ["/".join(part[start - 1 :]) for part in parts]


def _pngs_below(folder: Path) -> list[Path]:
    """The PNGs below a folder, whatever the case of their ending; not the companions `._NAME` of macOS."""
    return sorted(
        file for file in folder.rglob("*") if file.suffix.lower() == ".png" and not file.name.startswith("._")
    )


def _last(stem: str) -> str:
    return stem.rpartition("/")[2]


def _cityscapes_frame(stem: str) -> str:
    """CITY_SEQUENCE_FRAME of a file name; city names hold no underscore."""
    return "_".join(stem.split("_")[:3])


def _size(labels: np.ndarray) -> str:
    return " x ".join(str(side) for side in labels.shape)
