"""From the records of runs to `results.csv`, `results.md` and the curves; needs the run folders alone."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from epl_d2.evaluation.curves import PANELS, draw_curves
from epl_d2.files import write_whole

from .comparison import REPLICATES, difference_rows, markdown_table, seed_difference_rows, with_half_width
from .finished import Finished, counts_by_seed, mean_curves, read_finished
from .grid import Grid
from .paper_tables import class_tables, paper_table
from .scores import MASK_METRICS, contour_metrics, headline_metrics

__all__ = ["markdown_table", "write_results"]

_OTHER_COMMIT, _DIRTY = "†", "‡"


def write_results(grid: Grid, output: Path, runs: Path, commit: str) -> list[Path]:
    """Sum up the runs of `grid` that have finished.

    Args:
        grid: gives the order of the methods, their baselines, the widths and the paper's numbers.
        output: folder of the results.
        runs: folder of the runs, which lie in `runs/METHOD/seed_SEED`.
        commit: the present commit; runs of another one are marked.

    Returns:
        The files written: `results.csv`, `results.md`, and `curves_SPLIT.png` of every split.

    Raises:
        ValueError: as of :func:`read_finished`.
    """
    finished = read_finished(grid, runs)
    content = "\n".join(_markdown(grid, finished, commit)) + "\n"
    output.mkdir(parents=True, exist_ok=True)
    table, text = output / "results.csv", output / "results.md"
    write_whole(table, lambda path: _write_csv(path, finished, commit))
    written = [table, text]
    for split in () if _mask_metrics(finished) else grid.evaluate:
        picture = output / f"curves_{split}.png"
        records = [mean_curves(name, list(by_seed.values()), split, list(PANELS)) for name, by_seed in finished.items()]
        write_whole(picture, lambda path, records=records: draw_curves(records, path))
        written.append(picture)
    write_whole(text, lambda path: path.write_text(content, encoding="utf-8"))
    return written


def _mask_metrics(finished: Finished) -> list[str]:
    """The scores of masks that the runs have; none where they segment semantically alone."""
    known = {
        name
        for runs in finished.values()
        for run in runs.values()
        for scores in run.record["metrics"].values()
        for name in scores
    }
    return [metric for metric in MASK_METRICS if metric in known]


def _scores_by_seed(finished: Finished, method: str, split: str, metrics: Sequence[str]) -> dict[int, dict[str, float]]:
    return {
        seed: {metric: run.score(split, metric) for metric in metrics} for seed, run in finished.get(method, {}).items()
    }


def _write_csv(path: Path, finished: Finished, commit: str) -> None:
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


def _markdown(grid: Grid, finished: Finished, commit: str) -> list[str]:
    mask_metrics = _mask_metrics(finished)
    metrics = mask_metrics or headline_metrics(grid.widths)
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
        lines += [*markdown_table(_header(metrics), rows), ""]
        pairs = [(method.name, method.baseline) for method in grid.methods if method.baseline is not None]
        lines += _differences(grid, finished, split, metrics, pairs)
        for control in grid.controls:
            others = [(name, control) for name, _ in pairs if name != control]
            lines += _differences(grid, finished, split, metrics, others)
        if mask_metrics:
            continue
        lines += _differences(grid, finished, split, contour_metrics(grid.widths), pairs, " in contours alone")
        if grid.paper is not None and grid.paper.split == split:
            lines += paper_table(grid, finished, split)
        if grid.classes:
            lines += class_tables(grid, finished, split)
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


def _header(metrics: Sequence[str]) -> list[str]:
    return ["method", "seeds", *(MASK_METRICS.get(metric, metric) for metric in metrics)]


def _marks(finished: Finished, commit: str) -> dict[str, str]:
    marks = {}
    for name, runs in finished.items():
        notes = {note for run in runs.values() for note in _notes(run.record, commit)}
        signs = [sign for sign, note in ((_OTHER_COMMIT, "another commit"), (_DIRTY, "dirty")) if note in notes]
        marks[name] = " " + " ".join(signs) if signs else ""
    return marks


def _differences(
    grid: Grid,
    finished: Finished,
    split: str,
    metrics: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    title: str = "",
) -> list[str]:
    """The table of differences of each (method, reference), over the seeds that both have, and of every such seed."""
    references = {reference for _, reference in pairs}
    masks = bool(_mask_metrics(finished))
    rows = []
    for name, reference in pairs:
        label = name if len(references) == 1 else f"{name} - {reference}"
        if masks:
            scores = (_scores_by_seed(finished, method, split, metrics) for method in (name, reference))
            rows += seed_difference_rows(label, *scores, metrics)
        else:
            counts = (counts_by_seed(finished, method, split) for method in (name, reference))
            rows += difference_rows(label, *counts, metrics, grid.block)
    if not rows:
        return []
    what = references.pop() if len(references) == 1 else "its baseline"
    drawn = "images" if grid.block is None else f"blocks of up to {grid.block} consecutive frames"
    how = f"of a bootstrap paired over seeds and {drawn} ({REPLICATES} replicates)"
    return [
        f"Difference to {what}{title}, with the 95% interval {'of t over the seeds' if masks else how}:",
        "",
        *markdown_table(_header(metrics), rows),
        "",
    ]
