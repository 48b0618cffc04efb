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
from .runs import read_configuration, read_record

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
        ValueError: nothing has finished, a record cannot be read, a run was evaluated on other data sets, or the seeds
            of a method were trained with different configurations.
    """
    finished: dict[str, dict[int, FinishedRun]] = {}
    for method in grid.methods:
        for seed in grid.seeds:
            place = folder / method.name / f"seed_{seed}"
            record = read_record(place)
            if record is not None:
                if record["evaluate"] != grid.evaluate:
                    raise ValueError(
                        f"{place} was evaluated on {record['evaluate']}, and {grid.path} says {dict(grid.evaluate)}: "
                        "choose another --output, or remove that folder"
                    )
                finished.setdefault(method.name, {})[seed] = FinishedRun(place, record)
    if not finished:
        raise ValueError(f"{folder} holds no finished run of {grid.path}")
    for by_seed in finished.values():
        _check_one_configuration([run.folder for run in by_seed.values()])
    return finished


def _check_one_configuration(folders: Sequence[Path]) -> None:
    """Keys that one of two revisions did not know are no difference."""
    first, *others = ((folder, read_configuration(folder)) for folder in folders)
    for folder, configuration in others:
        before = first[1]
        different = [
            f"{key} was {before[key]!r} and is {configuration[key]!r}"
            for key in sorted(before.keys() & configuration.keys() - {"SEED"})
            if before[key] != configuration[key]
        ]
        if different:
            raise ValueError(
                f"{first[0]} and {folder} are runs of different configurations, of which there is no mean: "
                f"{'; '.join(different[:8])}. Remove one of the folders"
            )


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
