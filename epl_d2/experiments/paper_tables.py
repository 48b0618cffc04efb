"""Our results beside published ones: the gains of both, and the IoU of each class."""

from __future__ import annotations

from collections.abc import Sequence

from .comparison import markdown_table, paired_gain, with_half_width, with_interval
from .finished import Finished, counts_by_seed
from .grid import Grid
from .paper_numbers import PaperNumbers

__all__ = ["class_tables", "paper_table"]

_CLASS = "IoU-"


def paper_table(grid: Grid, finished: Finished, split: str) -> list[str]:
    """The lines of the table in the order of the published one.

    The difference of the gains is ours minus the paper's, each over its own baseline, with the interval of ours.
    """
    paper = grid.paper
    metrics = list(dict.fromkeys(metric for numbers in paper.numbers.values() for metric in numbers))
    baselines = {method.name: method.baseline for method in grid.methods}
    rows = []
    for row, numbers in paper.numbers.items():
        runs = list(finished.get(row, {}).values())
        cells = [row, str(len(runs)) if row in baselines else "-"]
        counts = (counts_by_seed(finished, name, split) for name in (row, baselines.get(row)))
        _, by_seed, (low, high) = paired_gain(*counts, metrics, grid.block)
        gains = list(zip(by_seed.mean(axis=0), low, high, strict=True)) if by_seed.size else [None] * len(metrics)
        for metric, gain in zip(metrics, gains, strict=True):
            theirs = paper.gain(row, baselines.get(row), metric)
            cells += [
                with_half_width([run.score(split, metric) for run in runs]) if runs else "-",
                f"{numbers[metric]:.2f}" if metric in numbers else "-",
                *_gain_cells(gain, theirs),
            ]
        rows.append(cells)
    columns = ("ours", "paper", "gain, ours", "gain, paper", "difference of the gains")
    header = ["method", "seeds", *(f"{metric}: {column}" for metric in metrics for column in columns)]
    lines = [f"Published: {paper.source}.", "", *markdown_table(header, rows), ""]
    if paper.baselines:
        lines += [f"Published only, not trained here: {'; '.join(paper.baselines)}.", ""]
    if paper.notes:
        lines += [*(f"- {note}" for note in paper.notes), ""]
    return lines


def class_tables(grid: Grid, finished: Finished, split: str) -> list[str]:
    """The lines of a table for each baseline with the methods compared with it: IoU by class, ours and published."""
    paper = grid.paper if grid.paper is not None and grid.paper.split == split else None
    groups: dict[str, list[str]] = {}
    for method in grid.methods:
        groups.setdefault(method.baseline or method.name, []).append(method.name)
    lines: list[str] = []
    for names in groups.values():
        names = [name for name in names if name in finished]
        if names:
            lines += [*_class_table(finished, split, names, paper), ""]
    return ["IoU of each class:", "", *lines] if lines else []


def _class_table(finished: Finished, split: str, names: Sequence[str], paper: PaperNumbers | None) -> list[str]:
    scores = next(iter(finished[names[0]].values())).record["metrics"][split]
    metrics = ["mIoU", *(metric for metric in scores if metric.startswith(_CLASS))]
    header = ["class"]
    rows = [["mean"], *([metric.removeprefix(_CLASS)] for metric in metrics[1:])]
    for name in names:
        header.append(name)
        for row, metric in zip(rows, metrics, strict=True):
            row.append(with_half_width([run.score(split, metric) for run in finished[name].values()]))
        if paper is not None and name in paper.classes:
            header.append(f"{name}, paper")
            mean = paper.numbers.get(name, {}).get(metrics[0])
            rows[0].append("-" if mean is None else f"{mean:.2f}")
            for row, value in zip(rows[1:], paper.classes[name], strict=True):
                row.append(f"{value:.1f}")
    return markdown_table(header, rows)


def _gain_cells(ours: tuple[float, float, float] | None, theirs: float | None) -> list[str]:
    """Our gain with its interval, the paper's, and their difference."""
    return [
        "-" if ours is None else with_interval(*ours),
        "-" if theirs is None else f"{theirs:+.2f}",
        "-" if ours is None or theirs is None else with_interval(*(value - theirs for value in ours)),
    ]
