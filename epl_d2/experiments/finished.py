"""The finished runs of a grid and what they measured."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from epl_d2.evaluation.image_counts import IMAGE_COUNTS_FILE, ImageCounts, read_image_counts

from .comparison import scores_of
from .grid import Grid
from .runs import read_record

__all__ = ["Finished", "FinishedRun", "counts_by_seed", "mean_curves", "read_finished"]


@dataclass(frozen=True)
class FinishedRun:
    """A finished run: its record and the folder in which it lies."""

    folder: Path
    record: Mapping[str, Any]

    def score(self, split: str, metric: str) -> float:
        """Percent; from the counts of the images where the record, of an earlier version, does not have it."""
        scores = self.record["metrics"].get(split, {})
        if metric not in scores and split in self.record["evaluate"]:
            scores = self.scores_of_counts[split]
        value = scores.get(metric)
        return math.nan if value is None else value

    @functools.cached_property
    def counts(self) -> dict[str, ImageCounts]:
        """Counts of each image of every split."""
        return {split: read_image_counts(self.counts_file(split)) for split in self.record["evaluate"]}

    @functools.cached_property
    def scores_of_counts(self) -> dict[str, dict[str, float]]:
        return {split: scores_of(counts) for split, counts in self.counts.items()}

    def counts_file(self, split: str) -> Path:
        evaluated = self.record["evaluate"]
        folder = self.folder / "inference"
        return (folder if len(evaluated) == 1 else folder / evaluated[split]) / IMAGE_COUNTS_FILE


# Method -> seed -> run; methods without a finished run are not in it.
Finished = Mapping[str, Mapping[int, FinishedRun]]


def read_finished(grid: Grid, folder: Path) -> dict[str, dict[int, FinishedRun]]:
    """The runs of `grid` that have finished in `folder`/METHOD/seed_SEED, in the order of the grid.

    Raises:
        ValueError: nothing has finished, or a record cannot be read.
    """
    finished: dict[str, dict[int, FinishedRun]] = {}
    for method in grid.methods:
        for seed in grid.seeds:
            place = folder / method.name / f"seed_{seed}"
            record = read_record(place)
            if record is not None:
                finished.setdefault(method.name, {})[seed] = FinishedRun(place, record)
    if not finished:
        raise ValueError(f"{folder} holds no finished run of {grid.path}")
    return finished


def counts_by_seed(finished: Finished, method: str | None, split: str) -> dict[int, ImageCounts]:
    """Counts of a method's finished runs."""
    return {seed: run.counts[split] for seed, run in finished.get(method, {}).items()}


def mean_curves(name: str, runs: Sequence[FinishedRun], split: str, curves: Sequence[str]) -> dict[str, Any]:
    """What `draw_curves` takes: `curves` at every evaluated width, the mean over seeds."""
    prefix = f"{curves[0]}@"
    scores = runs[0].record["metrics"][split]
    widths = [int(key.removeprefix(prefix).removesuffix("px")) for key in scores if key.startswith(prefix)]
    record: dict[str, Any] = {"name": name, "widths": widths}
    for curve in curves:
        means = [np.mean([run.score(split, f"{curve}@{width}px") for run in runs]) for width in widths]
        record[curve] = [None if math.isnan(mean) else float(mean) for mean in means]
    return record
