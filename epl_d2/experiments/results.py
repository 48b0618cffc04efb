"""From the records of runs to `results.csv`, `results.md` and the curves; needs the run folders alone."""

from __future__ import annotations

import csv
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from epl_d2.evaluation.curves import PANELS, draw_curves
from epl_d2.evaluation.image_counts import IMAGE_COUNTS_FILE, ImageCounts, read_image_counts
from epl_d2.files import write_whole

from .comparison import REPLICATES, difference_rows, scores_of, with_half_width
from .grid import Grid
from .runs import read_record
from .scores import contour_metrics, headline_metrics

__all__ = ["markdown_table", "write_results"]

_OTHER_COMMIT, _DIRTY = "†", "‡"


@dataclass(frozen=True)
class _Finished:
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


def write_results(grid: Grid, output: Path, commit: str) -> list[Path]:
    """Sum up the runs of `grid` that have finished below `output`.

    Args:
        grid: gives the order of the methods, the baseline, the widths and the paper's numbers.
        output: folder of the results; the runs lie in `output/METHOD/seed_SEED`.
        commit: the present commit; runs of another one are marked.

    Returns:
        The files written: `results.csv`, `results.md`, and `curves_SPLIT.png` of every split.

    Raises:
        ValueError: nothing has finished, or a record cannot be read.
    """
    finished: dict[str, dict[int, _Finished]] = {}
    for method in grid.methods:
        for seed in grid.seeds:
            folder = output / method.name / f"seed_{seed}"
            record = read_record(folder)
            if record is not None:
                finished.setdefault(method.name, {})[seed] = _Finished(folder, record)
    if not finished:
        raise ValueError(f"{output} holds no finished run of {grid.path}")
    table, text = output / "results.csv", output / "results.md"
    write_whole(table, lambda path: _write_csv(path, finished, commit))
    written = [table, text]
    for split in grid.evaluate:
        picture = output / f"curves_{split}.png"
        records = [_mean_curves(name, list(runs.values()), split) for name, runs in finished.items()]
        write_whole(picture, lambda path, records=records: draw_curves(records, path))
        written.append(picture)
    content = "\n".join(_markdown(grid, finished, commit)) + "\n"
    write_whole(text, lambda path: path.write_text(content, encoding="utf-8"))
    return written


def _write_csv(path: Path, finished: Mapping[str, Mapping[int, _Finished]], commit: str) -> None:
    records = [run.record for runs in finished.values() for run in runs.values()]
    metrics = dict.fromkeys(
        (split, name) for record in records for split, scores in record["metrics"].items() for name in scores
    )
    own = ("method", "seed", "commit", "note", "config_hash", "device", "threads", "minutes", "attempts")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*own, *(f"{split}/{name}" for split, name in metrics)])
        for record in records:
            values = {**record, "commit": "+".join(record["commits"]), "note": "; ".join(_notes(record, commit))}
            scores = (record["metrics"].get(split, {}).get(name) for split, name in metrics)
            cells = ("" if score is None else f"{score:.4f}" for score in scores)
            writer.writerow([*(values[name] for name in own), *cells])


def _notes(record: Mapping[str, Any], commit: str) -> list[str]:
    notes = ["another commit"] if record["commits"] != [commit] else []
    return [*notes, "dirty"] if record["dirty"] else notes


def _markdown(grid: Grid, finished: Mapping[str, Mapping[int, _Finished]], commit: str) -> list[str]:
    metrics = headline_metrics(grid.widths)
    lines = [f"# {grid.name}", ""]
    total = len(grid.methods) * len(grid.seeds)
    count = sum(len(runs) for runs in finished.values())
    lines += [f"{count} of {total} runs finished. Percent; mean over seeds ± half width of the 95% t interval.", ""]
    marks = _marks(finished, commit)
    for split, data_set in grid.evaluate.items():
        lines += [f"## {split}: {data_set}", ""]
        rows = []
        for name, runs in finished.items():
            cells = [with_half_width([run.score(split, metric) for run in runs.values()]) for metric in metrics]
            rows.append([name + marks[name], str(len(runs)), *cells])
        lines += [*markdown_table(["method", "seeds", *metrics], rows), ""]
        for reference in (grid.baseline, *grid.controls):
            lines += _differences(grid, finished, split, metrics, reference)
        lines += _differences(grid, finished, split, contour_metrics(grid.widths), grid.baseline, " in contours alone")
        if grid.paper is not None and grid.paper.split == split:
            lines += _paper(grid, finished, split)
    missing = [
        f"{method.name}/seed_{seed}"
        for method in grid.methods
        for seed in grid.seeds
        if seed not in finished.get(method.name, {})
    ]
    if missing:
        lines += [f"Not finished: {', '.join(missing)}.", ""]
    if any(_OTHER_COMMIT in mark for mark in marks.values()):
        lines += [f"{_OTHER_COMMIT} runs of another commit than {commit}, see results.csv.", ""]
    if any(_DIRTY in mark for mark in marks.values()):
        lines += [f"{_DIRTY} the work tree differed from the commit.", ""]
    return lines[:-1]


def _marks(finished: Mapping[str, Mapping[int, _Finished]], commit: str) -> dict[str, str]:
    marks = {}
    for name, runs in finished.items():
        notes = {note for run in runs.values() for note in _notes(run.record, commit)}
        signs = [sign for sign, note in ((_OTHER_COMMIT, "another commit"), (_DIRTY, "dirty")) if note in notes]
        marks[name] = " " + " ".join(signs) if signs else ""
    return marks


def _differences(
    grid: Grid,
    finished: Mapping[str, Mapping[int, _Finished]],
    split: str,
    metrics: Sequence[str],
    reference: str,
    title: str = "",
) -> list[str]:
    """The table of differences to `reference`, a method, over the seeds that both have, and of every such seed."""
    counts = {
        name: {seed: run.counts[split] for seed, run in runs.items()}
        for name, runs in finished.items()
        if name == reference or name != grid.baseline
    }
    rows = [
        row
        for name, runs in counts.items()
        if name != reference and reference in counts
        for row in difference_rows(name, runs, counts[reference], metrics, grid.block)
    ]
    if not rows:
        return []
    drawn = "images" if grid.block is None else f"blocks of up to {grid.block} consecutive frames"
    return [
        f"Difference to {reference}{title}, with the 95% interval of a bootstrap paired over seeds and {drawn} "
        f"({REPLICATES} replicates):",
        "",
        *markdown_table(["method", "seeds", *metrics], rows),
        "",
    ]


def _paper(grid: Grid, finished: Mapping[str, Mapping[int, _Finished]], split: str) -> list[str]:
    paper = grid.paper
    metrics = list(dict.fromkeys(metric for numbers in paper.numbers.values() for metric in numbers))
    rows = []
    for name, numbers in paper.numbers.items():
        cells = []
        for metric in metrics:
            runs = finished.get(name, {}).values()
            ours = [run.score(split, metric) for run in runs]
            cells.append(f"{numbers[metric]:.2f}" if metric in numbers else "-")
            cells.append(with_half_width(ours) if ours else "-")
        rows.append([name, *cells])
    header = ["method", *(f"{metric} ({who})" for metric in metrics for who in ("paper", "ours"))]
    return [f"Published: {paper.source}.", "", *markdown_table(header, rows), ""]


def _mean_curves(name: str, runs: Sequence[_Finished], split: str) -> dict[str, Any]:
    """What `draw_curves` takes: the mean over seeds at every evaluated width."""
    prefix = f"{next(iter(PANELS))}@"
    scores = runs[0].record["metrics"][split]
    widths = [int(key.removeprefix(prefix).removesuffix("px")) for key in scores if key.startswith(prefix)]
    record: dict[str, Any] = {"name": name, "widths": widths}
    for curve in PANELS:
        means = [np.mean([run.score(split, f"{curve}@{width}px") for run in runs]) for width in widths]
        record[curve] = [None if math.isnan(mean) else float(mean) for mean in means]
    return record


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]
