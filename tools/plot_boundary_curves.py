#!/usr/bin/env python3
"""Plot boundary F, trimap mIoU and Boundary IoU against the pixel width, several runs in one picture.

    python tools/plot_boundary_curves.py output/a/inference output/b/inference --output curves.png
    python tools/plot_boundary_curves.py --grids configs/grids/paper_figure_7_*.yaml

A run is a ``boundary_curves.json`` of the evaluator or of tools/evaluate_predictions.py, or its folder. Of grids
boundary F and trimap mIoU are drawn, a row for every data set that they evaluate: the mean over seeds of each method.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from epl_d2.commands import command
from epl_d2.evaluation.curves import draw_curve_rows, draw_curves
from epl_d2.evaluation.prediction_folders import distinct_names
from epl_d2.evaluation.report import CURVES_FILE
from epl_d2.experiments.finished import mean_curves, read_finished
from epl_d2.experiments.grid import read_grid
from epl_d2.files import write_whole

_CURVES_OF_GRIDS = ("BF", "Trimap-mIoU")


def read_record(path: Path) -> dict[str, Any]:
    """Read the curves of a run; ValueError naming the file if it holds none."""
    file = path / CURVES_FILE if path.is_dir() else path
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{file}: not JSON ({error})") from error
    for key in ("widths", "BF"):
        if not isinstance(record, dict) or key not in record:
            raise ValueError(f"{file}: has no {key!r}, so it is no {CURVES_FILE}")
    return record


def read_grids(paths: list[Path]) -> dict[str, list[dict[str, Any]]]:
    """The mean curves of the finished methods of grids, by data set.

    Raises:
        ValueError: as of `read_finished`, or a method has no curves; names the grid.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    for grid in map(read_grid, paths):
        for name, runs in read_finished(grid, Path(grid.runs)).items():
            for split, data_set in grid.evaluate.items():
                record = mean_curves(name, list(runs.values()), split, _CURVES_OF_GRIDS)
                if not record["widths"]:
                    raise ValueError(
                        f"{grid.path}: {name} has no boundary F on {data_set} to draw, which semantic segmentation "
                        "alone has; leave this grid out"
                    )
                rows.setdefault(data_set, []).append(record)
    return rows


def write_picture(options: argparse.Namespace, path: Path) -> None:
    if options.grids:
        draw_curve_rows(read_grids(options.grids), _CURVES_OF_GRIDS, path)
        return
    records = [read_record(run) for run in options.runs]
    names = options.names or distinct_names(options.runs)
    draw_curves([{**record, "name": name} for record, name in zip(records, names, strict=True)], path)


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("runs", nargs="*", type=Path, metavar="RUN", help=f"{CURVES_FILE} or the folder that holds it")
    add("--grids", nargs="+", type=Path, metavar="GRID.yaml", help="instead of runs: what has finished of these grids")
    add("--names", nargs="+", help="names of the runs for the legend (default: what differs in the paths)")
    add("--output", type=Path, default=Path("boundary_curves.png"), help="default: %(default)s")
    options = parser.parse_args()
    if bool(options.runs) == bool(options.grids):
        parser.error("give either runs or --grids")
    if options.names and len(options.names) != len(options.runs):
        parser.error(f"{len(options.names)} --names for {len(options.runs)} runs")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_whole(options.output, lambda path: write_picture(options, path))
    print(f"written: {options.output}")


if __name__ == "__main__":
    sys.exit(main())
