#!/usr/bin/env python3
"""Plot boundary F, trimap mIoU and Boundary IoU against the pixel width, several runs in one picture.

    python tools/plot_boundary_curves.py output/a/inference output/b/inference --output curves.png

A run is a ``boundary_curves.json`` of the evaluator or of tools/evaluate_predictions.py, or its folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from epl_d2.evaluation.curves import draw_curves
from epl_d2.evaluation.prediction_folders import distinct_names
from epl_d2.evaluation.report import CURVES_FILE
from epl_d2.files import write_whole


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help=f"{CURVES_FILE} or the folder that holds it")
    parser.add_argument("--names", nargs="+", help="names for the legend (default: what differs in the paths)")
    parser.add_argument("--output", type=Path, default=Path("boundary_curves.png"), help="default: %(default)s")
    options = parser.parse_args()
    if options.names and len(options.names) != len(options.runs):
        parser.error(f"{len(options.names)} --names for {len(options.runs)} runs")
    try:
        records = [read_record(run) for run in options.runs]
        names = options.names or distinct_names(options.runs)
        records = [{**record, "name": name} for record, name in zip(records, names, strict=True)]
        options.output.parent.mkdir(parents=True, exist_ok=True)
        write_whole(options.output, lambda path: draw_curves(records, path))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"written: {options.output}")


if __name__ == "__main__":
    main()
