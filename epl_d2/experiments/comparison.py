"""Tables of methods from the counts of their runs alone: means over seeds, paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from epl_d2.evaluation.image_counts import IMAGE_COUNTS_FILE, ImageCounts, read_image_counts

from .intervals import (
    blocks_of_frames,
    bootstrap_draws,
    mean_interval,
    paired_differences,
    percentile_interval,
    scores_by_name,
)

__all__ = [
    "REPLICATES",
    "Runs",
    "difference_rows",
    "find_runs",
    "gain_curves",
    "markdown_table",
    "mean_row",
    "paired_gain",
    "run_rows",
    "scores_of",
    "seed_difference_rows",
    "with_half_width",
]

REPLICATES = 2000

Runs = Mapping[int, ImageCounts]  # by seed


def find_runs(folder: Path, data_set: str) -> dict[str, dict[int, ImageCounts]]:
    """Counts of every run below a folder of METHOD/seed_N, by method and seed.

    In seed_N the first of these is read: inference/DATA_SET/image_counts.npz, inference/image_counts.npz (both as a
    grid or `train_net.py --eval-only` leaves them), DATA_SET.npz.

    Raises:
        ValueError: there is none, or one cannot be read.
    """
    runs: dict[str, dict[int, ImageCounts]] = {}
    places = (f"inference/{data_set}/{IMAGE_COUNTS_FILE}", f"inference/{IMAGE_COUNTS_FILE}", f"{data_set}.npz")
    for run in sorted(folder.glob("*/seed_*")):
        seed = run.name.removeprefix("seed_")
        file = next((run / place for place in places if (run / place).is_file()), None)
        if seed.isdecimal() and file is not None:
            runs.setdefault(run.parent.name, {})[int(seed)] = read_image_counts(file)
    if not runs:
        raise ValueError(f"{folder} holds no METHOD/seed_N with counts of {data_set}, such as seed_N/{places[0]}")
    return {method: dict(sorted(by_seed.items())) for method, by_seed in runs.items()}


def scores_of(counts: ImageCounts) -> dict[str, float]:
    """All scores in percent, named as the evaluator names them."""
    scores = scores_by_name(counts, np.ones((1, len(counts.names))))
    return {name: 100.0 * float(value) for name, (value,) in scores.items()}


def mean_row(name: str, runs: Runs, metrics: Sequence[str]) -> list[str]:
    """Name, number of seeds, and for each metric the mean over seeds with the half width of its t interval."""
    scores = [scores_of(counts) for counts in runs.values()]
    return [name, str(len(runs)), *(with_half_width([s.get(metric, np.nan) for s in scores]) for metric in metrics)]


def run_rows(name: str, runs: Runs, metrics: Sequence[str], block: int | None = None) -> list[list[str]]:
    """For each run its name, its seed and its scores, each with the 95% interval of a bootstrap over images.

    Args:
        name: of the method, for the first column.
        runs, metrics, block: as of :func:`paired_gain`.
    """
    rows = []
    for seed, counts in runs.items():
        blocks = len(counts.names) if block is None else blocks_of_frames(counts.names, block)
        replicates = scores_by_name(counts, bootstrap_draws(1, blocks, REPLICATES)[1])
        scores, cells = scores_of(counts), []
        for metric in metrics:
            score = scores.get(metric, np.nan)
            low, high = percentile_interval(100 * replicates.get(metric, np.full(1, np.nan)))
            cells.append("-" if np.isnan(score) else f"{score:.2f} [{low:.2f}, {high:.2f}]")
        rows.append([name, str(seed), *cells])
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


def with_interval(mean: float, low: float, high: float) -> str:
    """A difference with its interval; "-" where it is undefined."""
    return "-" if np.isnan(mean) else f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"


def paired_gain(
    method: Runs, reference: Runs, metrics: Sequence[str], block: int | None = None
) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Differences of scores in percent, paired by seed and image.

    Args:
        method, reference: runs by seed, evaluated on the same images.
        metrics: M names of scores; one that the counts of a run do not give is NaN.
        block: so many consecutive frames are drawn together; None draws single images.

    Returns:
        The seeds that both have, S of them; the difference of each [S,M]; lower and upper end of the 95% interval of
        their mean [2,M]. Both arrays are empty where no seed is common.
    """
    common = [seed for seed in method if seed in reference]
    if not common:
        return [], np.empty((0, len(metrics))), np.empty((2, 0))
    ours, theirs = ([runs[seed] for seed in common] for runs in (method, reference))
    names = theirs[0].names
    blocks = len(names) if block is None else blocks_of_frames(names, block)
    replicates = paired_differences(ours, theirs, *bootstrap_draws(len(common), blocks, REPLICATES))
    pairs = [(scores_of(a), scores_of(b)) for a, b in zip(ours, theirs, strict=True)]
    by_seed = np.array([[a.get(metric, np.nan) - b.get(metric, np.nan) for metric in metrics] for a, b in pairs])
    unknown = np.full(1, np.nan)
    return common, by_seed, np.array([percentile_interval(replicates.get(metric, unknown)) for metric in metrics]).T


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
    seeds, by_seed, intervals = paired_gain(method, reference, metrics, block)
    if not seeds:
        return []
    ends = zip(by_seed.mean(axis=0), *intervals, strict=True)
    rows = [[name, str(len(seeds)), *(with_interval(*of_metric) for of_metric in ends)]]
    if len(seeds) > 1:
        rows += [
            [f"{name}, seed {s}", "", *("-" if np.isnan(v) else f"{v:+.2f}" for v in row)]
            for s, row in zip(seeds, by_seed, strict=True)
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
        cells.append(
            f"{mean:+.2f}" if np.isnan(half) and not np.isnan(mean) else with_interval(mean, mean - half, mean + half)
        )
    rows = [[name, str(len(seeds)), *cells]]
    if len(seeds) > 1:
        rows += [
            [f"{name}, seed {seed}", "", *("-" if np.isnan(value) else f"{value:+.2f}" for value in row)]
            for seed, row in zip(seeds, by_seed, strict=True)
        ]
    return rows


def gain_curves(name: str, method: Runs, reference: Runs, curves: Sequence[str], block: int | None) -> dict[str, Any]:
    """What :func:`epl_d2.evaluation.curves.draw_gains` takes: gains at every width that the runs have in common."""
    widths = sorted(set.intersection(*({*counts.widths} for runs in (method, reference) for counts in runs.values())))
    record: dict[str, Any] = {"name": name, "widths": widths}
    for curve in curves:
        _, by_seed, (low, high) = paired_gain(method, reference, [f"{curve}@{width}px" for width in widths], block)
        record[curve] = {"mean": by_seed.mean(axis=0).tolist(), "low": low.tolist(), "high": high.tolist()}
    return record
