"""Tables of methods from the counts of their runs alone: means over seeds, paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from epl_d2.evaluation.image_counts import IMAGE_COUNTS_FILE, ImageCounts, read_image_counts

from .intervals import (
    blocks_of_frames,
    bootstrap_draws,
    check_paired,
    mean_interval,
    paired_differences,
    percentile_interval,
    scores_by_name,
)

__all__ = [
    "REPLICATES",
    "Runs",
    "class_gains",
    "difference_rows",
    "find_runs",
    "folder_of_unit",
    "gain_curves",
    "markdown_table",
    "mean_row",
    "paired_gain",
    "pool_starts",
    "run_rows",
    "scores_of",
    "seed_difference_rows",
    "with_half_width",
]

REPLICATES = 2000

# A run's seed, or the model that it went on from and its seed.
Unit = int | tuple[str, int]
Runs = Mapping[Unit, ImageCounts]

_FROM = "_from_"


def find_runs(folder: Path, data_set: str) -> dict[str, dict[int, ImageCounts]]:
    """Counts of every run below a folder of METHOD/seed_N, by method and seed.

    In seed_N the first of these is read: inference/DATA_SET/image_counts.npz, inference/image_counts.npz where
    config.yaml says that this data set was evaluated (both as a grid or `train_net.py --eval-only` leaves them),
    DATA_SET.npz.

    Raises:
        ValueError: there is none, one cannot be read, or two are of one seed.
    """
    runs: dict[str, dict[int, ImageCounts]] = {}
    for run in sorted(folder.glob("*/seed_*")):
        seed = run.name.removeprefix("seed_")
        file = _counts_file(run, data_set)
        if not seed.isdecimal() or file is None:
            continue
        by_seed = runs.setdefault(run.parent.name, {})
        if int(seed) in by_seed:
            raise ValueError(f"{run.parent} holds the seed {int(seed)} twice: seed_{int(seed)} and {run.name}")
        by_seed[int(seed)] = read_image_counts(file)
    if not runs:
        example = f"seed_N/inference/{data_set}/{IMAGE_COUNTS_FILE}"
        raise ValueError(f"{folder} holds no METHOD/seed_N with counts of {data_set}, such as {example}")
    return {method: dict(sorted(by_seed.items())) for method, by_seed in runs.items()}


def _counts_file(run: Path, data_set: str) -> Path | None:
    alone = run / "inference" / IMAGE_COUNTS_FILE
    places = (run / "inference" / data_set / IMAGE_COUNTS_FILE, alone, run / f"{data_set}.npz")
    found = (place for place in places if place.is_file())
    return next((place for place in found if place != alone or data_set in _evaluated(run)), None)


def _evaluated(run: Path) -> Sequence[str]:
    """The data sets that the config in a run's folder evaluates; none without a config."""
    config = run / "config.yaml"
    return yaml.safe_load(config.read_text(encoding="utf-8"))["DATASETS"]["TEST"] if config.is_file() else ()


def pool_starts(runs: Mapping[str, Mapping[int, ImageCounts]]) -> dict[str, dict[Unit, ImageCounts]]:
    """METHOD_from_START of all starting points as one method, its runs by starting point and seed.

    Raises:
        ValueError: a method has no starting point.
    """
    pooled: dict[str, dict[Unit, ImageCounts]] = {}
    for name, by_seed in runs.items():
        method, found, start = name.rpartition(_FROM)
        if not found:
            raise ValueError(f"the runs of {name!r} name no starting point; all must be METHOD{_FROM}START")
        pooled.setdefault(method, {}).update(((start, seed), counts) for seed, counts in by_seed.items())
    return {method: dict(sorted(by_unit.items())) for method, by_unit in pooled.items()}


def folder_of_unit(method: str, unit: Unit) -> str:
    """The folder of one run below that of all, as :func:`find_runs` and :func:`pool_starts` read it."""
    return f"{method}{_FROM}{unit[0]}/seed_{unit[1]}" if isinstance(unit, tuple) else f"{method}/seed_{unit}"


def words_of_unit(unit: Unit) -> str:
    """How a table names one run of a method."""
    return f"from {unit[0]}, seed {unit[1]}" if isinstance(unit, tuple) else f"seed {unit}"


def scores_of(counts: ImageCounts) -> dict[str, float]:
    """All scores in percent, named as the evaluator names them."""
    scores = scores_by_name(counts, np.ones((1, len(counts.names))))
    return {name: 100.0 * float(value) for name, (value,) in scores.items()}


def mean_row(name: str, runs: Runs, metrics: Sequence[str]) -> list[str]:
    """Name, number of runs, and for each metric the mean over seeds with the half width of its t interval.

    Seeds of one starting point are not independent: there the mean of each is one value of the interval.
    """
    scores: dict[int | str, list[dict[str, float]]] = {}
    for unit, counts in runs.items():
        scores.setdefault(unit[0] if isinstance(unit, tuple) else unit, []).append(scores_of(counts))
    means = ([np.mean([s.get(metric, np.nan) for s in group]) for group in scores.values()] for metric in metrics)
    return [name, str(len(runs)), *map(with_half_width, means)]


def run_rows(name: str, runs: Runs, metrics: Sequence[str], block: int | None = None) -> list[list[str]]:
    """For each run its name, its seed and its scores, each with the 95% interval of a bootstrap over images.

    Args:
        name: of the method, for the first column.
        runs, metrics, block: as of :func:`paired_gain`.
    """
    rows = []
    for unit, counts in runs.items():
        images = _draws([unit], counts, block)[1]
        replicates = scores_by_name(counts, images)
        scores, cells = scores_of(counts), []
        for metric in metrics:
            score = scores.get(metric, np.nan)
            low, high = _interval(100 * replicates.get(metric, np.full(1, np.nan)), images)
            cells.append(with_interval(score, low, high, sign=""))
        rows.append([name, words_of_unit(unit).removeprefix("seed "), *cells])
    return rows


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def with_half_width(values: Sequence[float]) -> str:
    """Mean and half width of the t interval; "-" where it is undefined."""
    mean, half = mean_interval(values)
    if np.isnan(mean):
        return "-"
    return f"{mean:.2f}" if np.isnan(half) else f"{mean:.2f} ± {half:.2f}"


def with_interval(mean: float, low: float, high: float, *, sign: str = "+") -> str:
    """A difference, or with the sign "" a score, with its interval if it has one; "-" where it is undefined."""
    if np.isnan(mean):
        return "-"
    interval = "" if np.isnan(low) else f" [{low:{sign}.2f}, {high:{sign}.2f}]"
    return f"{mean:{sign}.2f}{interval}"


def paired_gain(
    method: Runs, reference: Runs, metrics: Sequence[str], block: int | None = None
) -> tuple[list[Unit], np.ndarray, np.ndarray]:
    """Differences of scores in percent, paired by seed (and starting point) and image.

    Args:
        method, reference: runs evaluated on the same images. Replicates draw starting points, then seeds.
        metrics: M names of scores; one that the counts of a run do not give is NaN.
        block: so many consecutive frames are drawn together; None draws single images.

    Returns:
        The units that both have, S of them; the difference of each [S,M]; lower and upper end of the 95% interval of
        their mean [2,M], NaN where all images are one block. Without a common unit [0,M] and NaN.

    Raises:
        ValueError: the images or the classes of two paired runs differ.
    """
    common = [unit for unit in method if unit in reference]
    if not common:
        return [], np.empty((0, len(metrics))), np.full((2, len(metrics)), np.nan)
    ours, theirs = ([runs[unit] for unit in common] for runs in (method, reference))
    seeds, images = _draws(common, theirs[0], block)
    replicates = paired_differences(ours, theirs, seeds, images)
    pairs = [(scores_of(a), scores_of(b)) for a, b in zip(ours, theirs, strict=True)]
    by_seed = np.array([[a.get(metric, np.nan) - b.get(metric, np.nan) for metric in metrics] for a, b in pairs])
    unknown = np.full(1, np.nan)
    return common, by_seed, np.array([_interval(replicates.get(metric, unknown), images) for metric in metrics]).T


def difference_rows(
    name: str, method: Runs, reference: Runs, metrics: Sequence[str], block: int | None = None
) -> list[list[str]]:
    """Mean difference with its paired bootstrap interval, then the difference of every seed that both have.

    Args:
        name: of the method, for the first column.
        method, reference, metrics, block: as of :func:`paired_gain`.

    Returns:
        Rows of name, number of seeds, a cell for each metric; none where no seed is common.
    """
    units, by_unit, intervals = paired_gain(method, reference, metrics, block)
    if not units:
        return []
    ends = zip(by_unit.mean(axis=0), *intervals, strict=True)
    rows = [[name, str(len(units)), *(with_interval(*of_metric) for of_metric in ends)]]
    if len(units) > 1:
        rows += [
            [f"{name}, {words_of_unit(unit)}", "", *("-" if np.isnan(v) else f"{v:+.2f}" for v in row)]
            for unit, row in zip(units, by_unit, strict=True)
        ]
    return rows


def seed_difference_rows(
    name: str,
    method: Mapping[int, Mapping[str, float]],
    reference: Mapping[int, Mapping[str, float]],
    metrics: Sequence[str],
) -> list[list[str]]:
    """As :func:`difference_rows` from scores alone, which do not add up over images: t intervals over the seeds.

    Args:
        name: of the method, for the first column.
        method, reference: scores in percent, by seed and metric.
        metrics: the columns.
    """
    seeds = [seed for seed in method if seed in reference]
    if not seeds:
        return []
    by_seed = [[method[seed][metric] - reference[seed][metric] for metric in metrics] for seed in seeds]
    cells = []
    for values in zip(*by_seed, strict=True):
        mean, half = mean_interval(values)
        cells.append(with_interval(mean, mean - half, mean + half))
    rows = [[name, str(len(seeds)), *cells]]
    if len(seeds) > 1:
        rows += [
            [f"{name}, seed {seed}", "", *("-" if np.isnan(value) else f"{value:+.2f}" for value in row)]
            for seed, row in zip(seeds, by_seed, strict=True)
        ]
    return rows


def class_gains(
    name: str, method: Runs, reference: Runs, metrics: Sequence[str], block: int | None = None
) -> dict[str, Any]:
    """What :func:`epl_d2.evaluation.curves.draw_class_gains` takes: the gain of each class with its interval.

    Args:
        name: of the method.
        method, reference, block: as of :func:`paired_gain`, with a unit that both have.
        metrics: `IoU` and `BF@<d>px`.
    """
    common = [unit for unit in method if unit in reference]
    for unit in common:
        check_paired(method[unit], reference[unit])
    units, images = _draws(common, reference[common[0]], block)
    whole = np.ones((1, images.shape[1]))
    record: dict[str, Any] = {"name": name}
    pairs = [(method[unit], reference[unit]) for unit in common]
    # The first row is that of all images, the others are the replicates.
    weights = np.concatenate([whole, images])
    shares = np.concatenate([np.full((1, len(common)), 1 / len(common)), units / units.sum(axis=1, keepdims=True)])
    gains: dict[str, Any] = dict.fromkeys(metrics, 0.0)
    for share, (ours, theirs) in zip(shares.T, pairs, strict=True):
        scores, others = ours.resampled_class_scores(weights), theirs.resampled_class_scores(weights)
        gains = {metric: gains[metric] + 100 * share * (scores[metric] - others[metric]) for metric in metrics}
    for metric, of_classes in gains.items():
        low, high = np.array([_interval(replicates[1:], images) for replicates in of_classes]).T
        record[metric] = {"mean": of_classes[:, 0].tolist(), "low": low.tolist(), "high": high.tolist()}
    return record


def _draws(units: Sequence[Unit], counts: ImageCounts, block: int | None) -> tuple[np.ndarray, np.ndarray]:
    """How often a replicate draws each unit and each image."""
    starts = [unit[0] if isinstance(unit, tuple) else "" for unit in units]
    blocks = len(counts.names) if block is None else blocks_of_frames(counts.names, block)
    return bootstrap_draws(starts, blocks, REPLICATES)


def _interval(replicates: np.ndarray, images: np.ndarray) -> tuple[float, float]:
    """The interval of replicates that draw `images`; NaN where these are one block, which would make it too narrow."""
    return percentile_interval(replicates if (images != images[0]).any() else np.full(1, np.nan))


def gain_curves(name: str, method: Runs, reference: Runs, curves: Sequence[str], block: int | None) -> dict[str, Any]:
    """What :func:`epl_d2.evaluation.curves.draw_gains` takes: gains at every width that the runs have in common."""
    widths = sorted(set.intersection(*({*counts.widths} for runs in (method, reference) for counts in runs.values())))
    record: dict[str, Any] = {"name": name, "widths": widths}
    for curve in curves:
        _, by_seed, (low, high) = paired_gain(method, reference, [f"{curve}@{width}px" for width in widths], block)
        record[curve] = {"mean": by_seed.mean(axis=0).tolist(), "low": low.tolist(), "high": high.tolist()}
    return record
