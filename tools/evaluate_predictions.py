#!/usr/bin/env python3
"""Score folders of predicted label PNGs, from any framework: mIoU, boundary F, trimap and Boundary IoU.

    python tools/evaluate_predictions.py PRED_DIR [PRED_DIR ...] GT_DIR --dataset voc_2012 --output scores

    python tools/evaluate_predictions.py PRED_DIR [PRED_DIR ...] --dataset-file streets.yaml --split val

Predictions are PNGs of class ids (gray or palette, 8 or 16 bits) of the size of the labels, called like the
images. The numbers are those of ``train_net.py --eval-only``. Needs neither torch nor detectron2.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from epl_d2.commands import command
from epl_d2.contours.nearest import MAX_DISTANCE
from epl_d2.data.datasets.arguments import add_dataset_arguments
from epl_d2.data.datasets.description import DatasetDescription, read_description
from epl_d2.data.datasets.layout import read_list
from epl_d2.data.datasets.metadata import CITYSCAPES_LABEL_ID_TO_TRAIN_ID, DATASETS
from epl_d2.data.label_io import make_label_map
from epl_d2.evaluation import BoundaryStatistics
from epl_d2.evaluation.boundary_statistics import IGNORE_MODES, TRIMAPS
from epl_d2.evaluation.prediction_folders import (
    LabelPair,
    count_pairs,
    distinct_names,
    find_own_files,
    find_own_predictions,
    find_predictions,
    find_targets,
    parse_widths,
)
from epl_d2.evaluation.report import (
    check_report_widths,
    class_table,
    comparison_table,
    curves_record,
    format_table,
    missing_contours,
    write_comparison,
    write_report,
)
from epl_d2.files import usable_cores


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="PRED_DIR ... GT_DIR")
    classes = add_dataset_arguments(parser)
    classes.add_argument("--num-classes", type=int, metavar="K", help="for another data set: its number of classes")
    parser.add_argument("--split", help="of --dataset-file, in the place of GT_DIR: its images and labels")
    parser.add_argument("--names", nargs="+", help="of the PRED_DIRs in the tables (default: from their paths)")
    parser.add_argument("--ignore-value", type=int, help="ignored target id (default: the data set's, or 255)")
    parser.add_argument("--list", type=Path, metavar="FILE", help="evaluate only the images named in this file")
    parser.add_argument(
        "--encoding",
        choices=("train-id", "label-id"),
        default="train-id",
        help="ids in Cityscapes predictions (targets are told by their file names; default: %(default)s)",
    )
    parser.add_argument("--widths", default="1-20", help="pixel widths of the curves (default: %(default)s)")
    parser.add_argument("--report-widths", default="1,3,5,9", help="those in the tables (default: %(default)s)")
    parser.add_argument("--ignore-mode", choices=IGNORE_MODES, help="default: nearest for voc_2012, else ignore")
    parser.add_argument(
        "--ignore-distance", type=int, default=MAX_DISTANCE, help="for nearest, in pixels (default: %(default)s)"
    )
    parser.add_argument("--trimap", choices=TRIMAPS, help="default: void for voc_2012, else label-change")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write curves, tables and a plot there")
    parser.add_argument("--jobs", type=int, default=usable_cores(), help="processes (default: one a core)")
    parser.add_argument("--skip-bad", action="store_true", help="leave out unusable files, count and list them")
    options = parser.parse_args(arguments)
    if options.split and not options.dataset_file:
        parser.error("--split is one of --dataset-file")
    if len(options.folders) < 2 and not options.split:
        parser.error("at least one PRED_DIR and the GT_DIR are needed (or --dataset-file with --split)")
    predictions = len(options.folders) - (not options.split)
    if options.names and len(set(options.names)) != predictions:
        parser.error(f"--names needs {predictions} different names, one for each PRED_DIR")
    for name in options.names or ():
        parts = Path(name.strip()).parts
        if not parts or ".." in parts or Path(name).is_absolute():
            parser.error(f"--names must be those of folders below --output, got {name!r}")
    if options.encoding == "label-id" and options.dataset != "cityscapes":
        parser.error("--encoding label-id is for --dataset cityscapes")
    if options.jobs < 1:
        parser.error(f"--jobs must be at least 1, got {options.jobs}")
    rims = options.dataset is not None and DATASETS[options.dataset].ignored_rims
    options.ignore_mode = options.ignore_mode or ("nearest" if rims else "ignore")
    options.trimap = options.trimap or ("void" if rims else "label-change")
    return options


@dataclass(frozen=True)
class Labels:
    """The ground truth of the data set that the arguments name.

    Attributes:
        files: name of an image -> its label file and "train-id" or "label-id".
        classes: their names.
        ignore_value: id of ignored pixels.
        description: of a data set of your own.
    """

    files: dict[str, tuple[Path, str]]
    classes: tuple[str, ...]
    ignore_value: int = 255
    description: DatasetDescription | None = None


def read_labels(options: argparse.Namespace) -> Labels:
    """Find the label files.

    Raises:
        OSError, ValueError: there are none, or the data set's file is not as it should be.
    """
    folder = options.folders[-1]
    if options.dataset_file is None:
        files = find_targets(folder, options.dataset == "cityscapes")
        if options.dataset is None:
            return Labels(files, tuple(map(str, range(options.num_classes))))
        return Labels(files, DATASETS[options.dataset].classes, DATASETS[options.dataset].ignore_value)
    described = read_description(options.dataset_file)
    if options.split:
        found = {record["image_id"]: record["sem_seg_file_name"] for record in described.records(options.split)}
    else:
        found = find_own_files(folder, described.endings[1])
    files = {name: (Path(path), "train-id") for name, path in found.items()}
    return Labels(files, described.metadata.classes, described.metadata.ignore_value, described)


def wanted_names(targets: Sequence[str], list_file: Path | None) -> list[str]:
    """Names of the images to evaluate; all that have a label file unless there is a list."""
    if list_file is None:
        return sorted(targets)
    try:
        names = read_list(list_file)
    except (OSError, ValueError) as error:
        raise ValueError(f"--list {error}") from error
    unknown = [name for name in names if name not in targets]
    if unknown or not names:
        raise ValueError(f"--list {list_file}: {len(unknown)} of {len(names)} names have no label file: {unknown[:3]}")
    return names


def show_progress(name: str, total: int, start: float, done: int) -> None:
    """A line on standard error that overwrites itself; only the last one where that is no terminal."""
    elapsed = time.monotonic() - start
    left = elapsed / done * (total - done)
    filled = 30 * done // total
    line = f"{name} [{'#' * filled}{'.' * (30 - filled)}] {done}/{total}, {elapsed:.0f} s, {left:.0f} s left"
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="\n" if done == total else "", file=sys.stderr, flush=True)
    elif done == total:
        print(line, file=sys.stderr, flush=True)


def evaluate_folder(
    folder: Path, name: str, labels: Labels, names: list[str], options: argparse.Namespace
) -> tuple[BoundaryStatistics, list[str]]:
    """Count one folder of predictions; returns the statistics and a message for each image left out."""
    cityscapes, described = options.dataset == "cityscapes", labels.description
    if described is None:
        predictions, missing = find_predictions(folder, names, cityscapes)
    else:
        predictions, missing = find_own_predictions(folder, names, described.endings[0])
    if missing and not options.skip_bad:
        raise ValueError(f"{folder}: {len(missing)} of {len(names)} images have no prediction, such as {missing[0]}")
    label_ids = make_label_map(CITYSCAPES_LABEL_ID_TO_TRAIN_ID, default=255) if cityscapes else None
    maps = {"train-id": described.label_map if described else None, "label-id": label_ids}
    pairs = [
        LabelPair(
            file,
            labels.files[key][0],
            label_ids if options.encoding == "label-id" else None,
            maps[labels.files[key][1]],
            described.label_colors if described else None,
        )
        for key, file in predictions.items()
    ]
    ignore_value = labels.ignore_value if options.ignore_value is None else options.ignore_value
    widths = parse_widths(options.widths)
    settings = options.ignore_mode, options.trimap, options.ignore_distance
    empty = BoundaryStatistics(len(labels.classes), widths, ignore_value, *settings)
    start = time.monotonic()
    statistics, bad = count_pairs(
        pairs,
        empty,
        jobs=options.jobs,
        skip_bad=options.skip_bad,
        progress=lambda done: show_progress(name, len(pairs), start, done),
    )
    left_out = [f"{key}: no prediction" for key in missing] + bad
    if not statistics.num_images:
        shown = "".join(f"\n  {message}" for message in left_out[:5])
        raise ValueError(f"{folder}: none of the {len(names)} images can be used:{shown}")
    return statistics, left_out


def run(options: argparse.Namespace) -> None:
    folders = options.folders if options.split else options.folders[:-1]
    report_widths = check_report_widths(parse_widths(options.report_widths), parse_widths(options.widths))
    labels = read_labels(options)
    names = wanted_names(list(labels.files), options.list)
    mode = options.ignore_mode + (f" (up to {options.ignore_distance} px)" if options.ignore_mode == "nearest" else "")
    records = []
    for folder, name in zip(folders, options.names or distinct_names(folders), strict=True):
        statistics, left_out = evaluate_folder(folder, name, labels, names, options)
        record = {**curves_record(statistics, list(labels.classes), name), "left_out": left_out}
        records.append(record)
        print(f"\n{name}: {statistics.num_images} images, ignored pixels {mode}, trimap {options.trimap}; percent")
        print(format_table(class_table(record, report_widths)))
        if warning := missing_contours(statistics):
            print(f"warning: {name}: {warning}", file=sys.stderr)
        if left_out:
            print(f"{len(left_out)} of {len(names)} images left out:", *left_out, sep="\n  ")
    if len(records) > 1:
        print(f"\npercent\n{format_table(comparison_table(records, report_widths))}")
    if options.output is None:
        return
    for record in records:  # after all of them: a folder that cannot be scored leaves nothing behind
        write_report(options.output / record["name"], record, report_widths)
    if len(records) > 1:
        write_comparison(options.output, records, report_widths)
    print(f"\nwritten to {options.output}")


@command
def main() -> None:
    options = parse_arguments()
    run(options)


if __name__ == "__main__":
    sys.exit(main())
