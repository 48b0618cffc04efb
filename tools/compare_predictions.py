#!/usr/bin/env python
"""Compare the predictions of two models at the boundaries, image by image.

    python tools/compare_predictions.py IMAGES_DIR GT_DIR BASELINE_DIR EPL_DIR --dataset camvid \\
        --output compared
    python tools/compare_predictions.py BASELINE_DIR EPL_DIR --dataset-file streets.yaml --split val \\
        --names "cross entropy" EPL --output compared

Writes compared/ranking.csv, every image by how much its boundary F-measure changes, and one sheet for each of
the images that change most: image, ground truth, both predictions, and the boundary errors that one makes and
the other does not; sheets of an earlier ranking in the folder are removed. The ignored rims of PASCAL VOC take the
nearest label first, so that contours lie in them.
Labels and predictions are single-channel pictures of class ids, as TEST.SAVE_PREDICTIONS writes them. Files belong
together that have one name apart from what follows the last dot and, where names differ, an ending (those of images and
labels stand in --dataset-file):

    python tools/compare_predictions.py leftImg8bit/val gtFine/val \\
        output/fpn/inference/predictions output/fpn_epl/inference/predictions --dataset cityscapes \\
        --image-ending _leftImg8bit --label-ending _gtFine_labelTrainIds --output compared
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from epl_d2.commands import command
from epl_d2.contours.nearest import nearest_valid
from epl_d2.data.datasets.arguments import add_dataset_arguments, add_renamed
from epl_d2.data.datasets.description import DatasetDescription, read_description
from epl_d2.data.datasets.layout import IMAGE_SUFFIXES, files_by_stem
from epl_d2.data.datasets.metadata import DATASETS, DatasetMetadata
from epl_d2.data.label_io import read_image, read_label
from epl_d2.evaluation import BoundaryStatistics
from epl_d2.evaluation.prediction_folders import find_own_files, find_own_predictions
from epl_d2.files import write_whole
from epl_d2.visualization import write_png
from epl_d2.visualization.comparison import change_of_errors, comparison_sheet
from epl_d2.visualization.ground_truth import read_ground_truth


@dataclass(frozen=True)
class Files:
    """The four files of one image, and what the ids or colors of the target mean (see `LabelPair`)."""

    name: str
    image: Path
    target: Path
    baseline: Path
    epl: Path
    label_map: bytes | None = None
    label_colors: Mapping[tuple[int, int, int], int] | None = None

    def read_labels(self, dataset: DatasetMetadata) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Target, baseline and EPL [H, W]; ValueError that names the files if their sizes differ."""
        target = read_ground_truth(self.target, dataset, self.label_map, self.label_colors)
        if dataset.ignored_rims:
            target = nearest_valid(target, dataset.ignore_value)
        predictions = []
        for path in (self.baseline, self.epl):
            prediction = read_label(path)
            if prediction.shape != target.shape:
                raise ValueError(f"{path} has the size {prediction.shape}, {self.target} has {target.shape}")
            predictions.append(prediction)
        return target, *predictions


@dataclass(frozen=True)
class Score:
    """What changes in one image from the baseline to EPL; F is NaN where neither map has a contour."""

    files: Files
    baseline_f: float
    epl_f: float
    fixed: int
    introduced: int
    kept: int

    @property
    def change(self) -> float:
        return self.epl_f - self.baseline_f

    @property
    def order(self) -> tuple[bool, float, str]:
        """Sorts by the size of the change, images without contours last."""
        undefined = math.isnan(self.change)
        return undefined, 0.0 if undefined else -abs(self.change), self.files.name


@command
def main() -> int:
    args = parse_arguments()
    failures: list[str] = []
    described = read_description(args.dataset_file) if args.dataset_file else None
    dataset = described.metadata if described else DATASETS[args.dataset]
    pairs = find_own(args, described) if described else find_files(args)
    args.output.mkdir(parents=True, exist_ok=True)
    scores, totals = rank(pairs, dataset, args.tolerance, failures)
    remove_sheets(args.output)
    write_ranking(args.output / "ranking.csv", scores, args.names)
    drawn = 0
    for place, score in enumerate(progress(scores[: args.top], "drawing"), start=1):
        try:
            sheet = draw(score, dataset, args.tolerance, args.names)
            write_png(args.output / sheet_name(place, score.files.name), sheet)
            drawn += 1
        except (OSError, ValueError) as error:
            failures.append(f"the sheet of {score.files.name}: {error}")
    summarize(scores, totals, drawn, args)
    for failure in failures:
        print(f"left out: {failure}", file=sys.stderr)
    return 1 if failures else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "folders",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="IMAGES_DIR GT_DIR BASELINE_DIR EPL_DIR; with --split the last two, predictions as class ids",
    )
    add_dataset_arguments(parser)
    parser.add_argument("--split", help="of --dataset-file, in the place of IMAGES_DIR and GT_DIR")
    parser.add_argument("--names", nargs=2, default=("baseline", "EPL"), help="of the two models (baseline EPL)")
    parser.add_argument("--output", type=Path, required=True, help="folder for ranking.csv and the sheets")
    parser.add_argument("--tolerance", type=int, default=2, help="pixels within which contours match (2)")
    parser.add_argument("--top", type=int, default=20, help="number of sheets (20)")
    parser.add_argument("--image-ending", help="end of the image names, before the last dot")
    parser.add_argument("--label-ending", help="end of the label names, before the last dot")
    parser.add_argument("--prediction-ending", help="end of the prediction names; default: that of the images")
    add_renamed(
        parser, image_suffix="--image-ending", label_suffix="--label-ending", prediction_suffix="--prediction-ending"
    )
    args = parser.parse_args()
    given = [args.image_ending, args.label_ending, args.prediction_ending]
    if args.dataset_file and given != [None] * 3:
        parser.error("the endings are those of --dataset-file: image_ending, label_ending")
    if args.split and not args.dataset_file:
        parser.error("--split is one of --dataset-file")
    wanted = ["BASELINE_DIR", "EPL_DIR"] if args.split else ["IMAGES_DIR", "GT_DIR", "BASELINE_DIR", "EPL_DIR"]
    if len(args.folders) != len(wanted):
        parser.error(f"{len(args.folders)} folders are given, expected {' '.join(wanted)}")
    if args.names[0] == args.names[1]:
        parser.error(f"--names are both {args.names[0]!r}")
    if args.prediction_ending is None:
        args.prediction_ending = args.image_ending
    if args.tolerance < 1 or args.top < 0:
        parser.error("--tolerance must be at least 1 and --top at least 0")
    return args


def find_files(args: argparse.Namespace) -> list[Files]:
    """The images with a prediction, by name.

    Raises:
        ValueError: there is none, a file of one of them is missing, or a name occurs twice.
        FileNotFoundError: a folder is missing.
    """
    endings = (args.image_ending, args.label_ending, args.prediction_ending, args.prediction_ending)
    found = [by_name(folder, ending or "") for folder, ending in zip(args.folders, endings, strict=True)]
    names = sorted(found[2].keys() | found[3].keys())
    if not names:
        raise ValueError(
            f"no predictions *{args.prediction_ending or ''}.png in {args.folders[2]} and {args.folders[3]}"
        )
    for folder, files in zip(args.folders, found, strict=True):
        require_all(folder, files, names)
    return [Files(name, *(files[name] for files in found)) for name in names]


def find_own(args: argparse.Namespace, described: DatasetDescription) -> list[Files]:
    """The images of a split of --dataset-file, or those of the folders that have a prediction.

    Raises:
        OSError, ValueError: a folder or file is missing; or no image has a prediction.
    """
    *folders, baseline_folder, epl_folder = args.folders
    image_ending, label_ending = described.endings
    if args.split:
        records = described.records(args.split)
        images = {record["image_id"]: Path(record["file_name"]) for record in records}
        targets = {record["image_id"]: Path(record["sem_seg_file_name"]) for record in records}
    else:
        images = find_own_files(folders[0], image_ending, labels=False)
        targets = find_own_files(folders[1], label_ending)
    known = sorted(images.keys() | targets.keys())
    predicted = [own_predictions(folder, known, image_ending) for folder in (baseline_folder, epl_folder)]
    names = known if args.split else sorted(predicted[0].keys() | predicted[1].keys())
    if not names:
        raise ValueError(f"no predictions *.png in {baseline_folder} and {epl_folder}")
    found = predicted if args.split else [images, targets, *predicted]
    for folder, files in zip(args.folders, found, strict=True):
        require_all(folder, files, names)
    codes = described.label_map, described.label_colors
    return [Files(n, images[n], targets[n], predicted[0][n], predicted[1][n], *codes) for n in names]


def own_predictions(folder: Path, names: Sequence[str], image_ending: str) -> dict[str, Path]:
    """The predictions of a folder by the names of their images, those that belong to none by their own."""
    found, _ = find_own_predictions(folder, names, image_ending)
    owned = set(found.values())
    files = {stem: Path(file) for stem, file in files_by_stem(str(folder), (".png",), recursive=True).items()}
    return {stem: file for stem, file in files.items() if file not in owned} | found


def require_all(folder: Path, files: Mapping[str, Path], names: Sequence[str]) -> None:
    """Raise ValueError unless a folder has a file of every name."""
    missing = [name for name in names if name not in files]
    if missing:
        raise ValueError(f"{folder} lacks {len(missing)} of {len(names)} images, the first {missing[:3]}")


def by_name(folder: Path, ending: str) -> dict[str, Path]:
    """The pictures below a folder whose names end so, by their names without it."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in IMAGE_SUFFIXES or not path.stem.endswith(ending):
            continue
        name = path.stem.removesuffix(ending)
        if name in found:
            raise ValueError(f"two files are called {name!r}: {found[name]} and {path}")
        found[name] = path
    return found


def rank(
    pairs: list[Files], dataset: DatasetMetadata, tolerance: int, failures: list[str]
) -> tuple[list[Score], tuple[float, float]]:
    """Score every image; those that cannot be read go to `failures`.

    Returns:
        The scores, the largest change first, and the boundary F of both models over all images.
    """

    def statistics() -> BoundaryStatistics:
        return BoundaryStatistics(len(dataset.classes), [tolerance], ignore_value=dataset.ignore_value)

    totals = (statistics(), statistics())
    scores = []
    for files in progress(pairs, "scoring"):
        try:
            target, *predictions = files.read_labels(dataset)
            single = (statistics(), statistics())
            for one, path, prediction in zip(single, (files.baseline, files.epl), predictions, strict=True):
                try:
                    one.update(prediction, target)
                except ValueError as error:
                    raise ValueError(f"{path} against {files.target}: {error}") from error
        except (OSError, ValueError) as error:
            failures.append(str(error))
            continue
        for total, one in zip(totals, single, strict=True):
            total.merge(one)
        change = change_of_errors(target, *predictions, tolerance, dataset.ignore_value)
        counts = {name: int(mask.sum()) for name, mask in change._asdict().items()}
        scores.append(Score(files, *map(boundary_f, single), **counts))
    scores.sort(key=lambda score: score.order)
    return scores, (boundary_f(totals[0]), boundary_f(totals[1]))


def boundary_f(statistics: BoundaryStatistics) -> float:
    return float(statistics.compute()["boundary_f"][0])


def sheet_name(place: int, image: str) -> str:
    return f"{place:03d}_{image.replace('/', '_')}.png"


def remove_sheets(folder: Path) -> None:
    """Remove the sheets of an earlier ranking: the files that are called as its ranking.csv tells, and no others."""
    try:
        with (folder / "ranking.csv").open(newline="", encoding="utf-8") as file:
            sheets = {sheet_name(int(row["rank"]), row["image"]) for row in csv.DictReader(file)}
    except FileNotFoundError:
        return
    except (AttributeError, KeyError, TypeError, ValueError, csv.Error):
        return  # it is another program's, and tells nothing about the files beside it
    for path in folder.iterdir():
        if path.name in sheets and path.is_file():
            path.unlink()


def write_ranking(path: Path, scores: list[Score], names: Sequence[str]) -> None:
    write_whole(path, lambda temporary: write_rows(temporary, scores, names))


def write_rows(path: Path, scores: list[Score], names: Sequence[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        measured = [f"{name.lower()}_f" for name in names]
        writer.writerow(["rank", "image", *measured, "change", "fixed_px", "introduced_px", "kept_px"])
        for place, score in enumerate(scores, start=1):
            measures = (f"{value:.6f}" for value in (score.baseline_f, score.epl_f, score.change))
            writer.writerow([place, score.files.name, *measures, score.fixed, score.introduced, score.kept])


def draw(score: Score, dataset: DatasetMetadata, tolerance: int, names: Sequence[str]) -> np.ndarray:
    image = read_image(score.files.image)
    target, baseline, epl = score.files.read_labels(dataset)
    if image.shape[:2] != target.shape:
        raise ValueError(f"{score.files.image} has the size {image.shape[:2]}, {score.files.target} has {target.shape}")
    return comparison_sheet(
        image,
        target,
        baseline,
        epl,
        dataset.palette,
        dataset.classes,
        names=tuple(names),
        notes=(f", boundary F {score.baseline_f:.3f}", f", boundary F {score.epl_f:.3f}"),
        tolerance=tolerance,
        ignore_value=dataset.ignore_value,
        title=f"{score.files.name}: boundary F at {tolerance} px changes by {score.change:+.3f}",
    )


def summarize(scores: list[Score], totals: tuple[float, float], drawn: int, args: argparse.Namespace) -> None:
    better = sum(score.change > 0 for score in scores)
    worse = sum(score.change < 0 for score in scores)
    print(
        f"boundary F at {args.tolerance} px over {len(scores)} images: {totals[0]:.4f} ({args.names[0]}) -> "
        f"{totals[1]:.4f} ({args.names[1]}); "
        f"{better} images better, {worse} worse"
    )
    wanted = min(args.top, len(scores))
    sheets = f"{drawn} sheets" if drawn == wanted else f"{drawn} of {wanted} sheets"
    print(f"{args.output / 'ranking.csv'} and {sheets} beside it")


def progress(items: list, name: str) -> Iterable:
    """Iterate over a list with count and time left on standard error, where that is a terminal."""
    started = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if sys.stderr.isatty():
            left = (time.monotonic() - started) / done * (len(items) - done)
            end = "\n" if done == len(items) else ""
            print(f"\r{name} {done}/{len(items)}, {left:.0f} s left ", end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
