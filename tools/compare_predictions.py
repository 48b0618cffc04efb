#!/usr/bin/env python
"""Compare the predictions of two models at the boundaries, image by image.

    python tools/compare_predictions.py IMAGES_DIR GT_DIR BASELINE_DIR EPL_DIR --dataset camvid \\
        --output compared

Writes compared/ranking.csv, every image by how much its boundary F-measure changes, and one sheet for each of
the images that change most: image, ground truth, both predictions, and the boundary errors that one makes and
the other does not. The ignored rims of PASCAL VOC take the nearest label first, so that contours lie in them.
Labels and predictions are single-channel pictures of class ids, as TEST.SAVE_PREDICTIONS writes them. Files belong
together that have one name apart from the ending and, where names differ, a suffix:

    python tools/compare_predictions.py leftImg8bit/val gtFine/val \\
        output/fpn/inference/predictions output/fpn_epl/inference/predictions --dataset cityscapes \\
        --image-suffix _leftImg8bit --label-suffix _gtFine_labelTrainIds --output compared
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from epl_d2.commands import command
from epl_d2.contours.nearest import nearest_valid
from epl_d2.data.datasets.metadata import DATASETS, DatasetMetadata
from epl_d2.data.label_io import read_image, read_label
from epl_d2.evaluation import BoundaryStatistics
from epl_d2.files import write_whole
from epl_d2.visualization import write_png
from epl_d2.visualization.comparison import change_of_errors, comparison_sheet
from epl_d2.visualization.ground_truth import read_ground_truth

ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class Files:
    """The four files of one image."""

    name: str
    image: Path
    target: Path
    baseline: Path
    epl: Path

    def read_labels(self, dataset: DatasetMetadata) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Target, baseline and EPL [H, W]; ValueError that names the files if their sizes differ."""
        target = read_ground_truth(self.target, dataset)
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
    dataset = DATASETS[args.dataset]
    failures: list[str] = []
    pairs = find_files(args)
    args.output.mkdir(parents=True, exist_ok=True)
    scores, totals = rank(pairs, dataset, args.tolerance, failures)
    write_ranking(args.output / "ranking.csv", scores)
    for place, score in enumerate(progress(scores[: args.top], "drawing"), start=1):
        try:
            sheet = draw(score, dataset, args.tolerance)
            write_png(args.output / f"{place:03d}_{score.files.name}.png", sheet)
        except (OSError, ValueError) as error:
            failures.append(str(error))
    summarize(scores, totals, args)
    for failure in failures:
        print(f"left out: {failure}", file=sys.stderr)
    return 1 if failures else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, metavar="IMAGES_DIR")
    parser.add_argument("targets", type=Path, metavar="GT_DIR")
    parser.add_argument("baseline", type=Path, metavar="BASELINE_DIR", help="predictions as class ids")
    parser.add_argument("epl", type=Path, metavar="EPL_DIR", help="predictions as class ids")
    parser.add_argument("--dataset", choices=sorted(DATASETS), required=True, help="class names and colors")
    parser.add_argument("--output", type=Path, required=True, help="folder for ranking.csv and the sheets")
    parser.add_argument("--tolerance", type=int, default=2, help="pixels within which contours match (2)")
    parser.add_argument("--top", type=int, default=20, help="number of sheets (20)")
    parser.add_argument("--image-suffix", default="", help="end of the image names, before the ending")
    parser.add_argument("--label-suffix", default="", help="end of the label names, before the ending")
    parser.add_argument("--prediction-suffix", help="end of the prediction names; default: that of the images")
    args = parser.parse_args()
    if args.prediction_suffix is None:
        args.prediction_suffix = args.image_suffix
    if args.tolerance < 1 or args.top < 0:
        parser.error("--tolerance must be at least 1 and --top at least 0")
    return args


def find_files(args: argparse.Namespace) -> list[Files]:
    """The images with a prediction, by name.

    Raises:
        ValueError: there is none, a file of one of them is missing, or a name occurs twice.
        FileNotFoundError: a folder is missing.
    """
    images = by_name(args.images, args.image_suffix)
    targets = by_name(args.targets, args.label_suffix)
    baseline = by_name(args.baseline, args.prediction_suffix)
    epl = by_name(args.epl, args.prediction_suffix)
    names = sorted(baseline.keys() | epl.keys())
    if not names:
        raise ValueError(f"no predictions *{args.prediction_suffix}.png in {args.baseline} and {args.epl}")
    for folder, files in (
        (args.images, images),
        (args.targets, targets),
        (args.baseline, baseline),
        (args.epl, epl),
    ):
        missing = [name for name in names if name not in files]
        if missing:
            raise ValueError(f"{folder} lacks {len(missing)} of {len(names)} images, the first {missing[:3]}")
    return [Files(name, images[name], targets[name], baseline[name], epl[name]) for name in names]


def by_name(folder: Path, suffix: str) -> dict[str, Path]:
    """The pictures below a folder whose names end in `suffix`, by their names without it."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in ENDINGS or not path.stem.endswith(suffix):
            continue
        name = path.stem.removesuffix(suffix)
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


def write_ranking(path: Path, scores: list[Score]) -> None:
    write_whole(path, lambda temporary: write_rows(temporary, scores))


def write_rows(path: Path, scores: list[Score]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["rank", "image", "baseline_f", "epl_f", "change", "fixed_px", "introduced_px", "kept_px"])
        for place, score in enumerate(scores, start=1):
            measures = (f"{value:.6f}" for value in (score.baseline_f, score.epl_f, score.change))
            writer.writerow([place, score.files.name, *measures, score.fixed, score.introduced, score.kept])


def draw(score: Score, dataset: DatasetMetadata, tolerance: int) -> np.ndarray:
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
        notes=(f", boundary F {score.baseline_f:.3f}", f", boundary F {score.epl_f:.3f}"),
        tolerance=tolerance,
        ignore_value=dataset.ignore_value,
        title=f"{score.files.name}: boundary F at {tolerance} px changes by {score.change:+.3f}",
    )


def summarize(scores: list[Score], totals: tuple[float, float], args: argparse.Namespace) -> None:
    better = sum(score.change > 0 for score in scores)
    worse = sum(score.change < 0 for score in scores)
    print(
        f"boundary F at {args.tolerance} px over {len(scores)} images: {totals[0]:.4f} -> {totals[1]:.4f}; "
        f"{better} images better, {worse} worse"
    )
    print(f"{args.output / 'ranking.csv'} and {min(args.top, len(scores))} sheets beside it")


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
