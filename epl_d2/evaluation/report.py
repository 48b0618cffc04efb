"""Scores as flat names, tables and files, the same for the Detectron2 evaluator and the command line tools.

Shape shorthand in this module:

    K: number of classes
    D: number of widths
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from epl_d2.files import write_whole

from .boundary_statistics import BoundaryStatistics
from .curves import draw_curves

CURVES_FILE = "boundary_curves.json"
CURVES_TABLE = "boundary_curves.csv"
CLASSES_TABLE = "boundary_classes.csv"
CURVES_PLOT = "boundary_curves.png"
COMPARISON_TABLE = "boundary_comparison.csv"

# The scores that tables of several runs show.
COMPARED = ("BF", "BF-micro", "BF-davis", "Trimap-mIoU", "Boundary-IoU")

# Name in a result -> name in BoundaryStatistics.compute(), for the scores that have one value a width.
CURVES = {
    "BF": "boundary_f",
    "BF-precision": "boundary_precision",
    "BF-recall": "boundary_recall",
    "BF-micro": "boundary_f_micro",
    "BF-micro-precision": "boundary_precision_micro",
    "BF-micro-recall": "boundary_recall_micro",
    "BF-any": "boundary_f_any",
    "BF-any-precision": "boundary_precision_any",
    "BF-any-recall": "boundary_recall_any",
    "BF-davis": "boundary_f_davis",
    "Trimap-mIoU": "trimap_miou",
    "Boundary-IoU": "boundary_iou",
}
_MEANS_OF_CLASSES = ("BF", "BF-davis", "Trimap-mIoU", "Boundary-IoU")  # in the order of _PER_CLASS_CURVES
_PER_CLASS_CURVES = {
    "BF": "boundary_f_per_class",
    "BF-davis": "boundary_f_davis_per_class",
    "Trimap-IoU": "trimap_iou_per_class",
    "Boundary-IoU": "boundary_iou_per_class",
}


def check_report_widths(report_widths: Iterable[int], widths: Sequence[int]) -> tuple[int, ...]:
    """Return ``report_widths`` as a tuple; ValueError if one of them is not among ``widths``."""
    report_widths = tuple(report_widths)
    missing = [width for width in report_widths if width not in widths]
    if missing:
        raise ValueError(f"report_widths {missing} are not among the evaluated widths {list(widths)}")
    return report_widths


def flat_scores(
    statistics: BoundaryStatistics, class_names: Sequence[str], report_widths: Sequence[int]
) -> dict[str, float]:
    """Scores in percent under the names that Detectron2 uses, and those of boundaries at ``report_widths``.

    Args:
        statistics: of K classes.
        class_names: K names.
        report_widths: pixels, a subset of ``statistics.widths``.

    Returns:
        ``mIoU``, ``fwIoU``, ``IoU-<class>``, ``mACC``, ``pACC``, ``ACC-<class>``, then for each width d
        ``<curve>@<d>px`` of every name in :data:`CURVES`, and ``BF-<class>@<d>px``; NaN where undefined.
    """
    scores = statistics.compute()
    columns = [statistics.widths.index(width) for width in report_widths]
    flat = {"mIoU": scores["mIoU"], "fwIoU": scores["fwIoU"]}
    flat.update((f"IoU-{name}", value) for name, value in zip(class_names, scores["IoU"], strict=True))
    flat.update(mACC=scores["mACC"], pACC=scores["pACC"])
    flat.update((f"ACC-{name}", value) for name, value in zip(class_names, scores["ACC"], strict=True))
    for label, key in CURVES.items():
        flat.update((f"{label}@{statistics.widths[column]}px", scores[key][column]) for column in columns)
    for name, values in zip(class_names, scores["boundary_f_per_class"], strict=True):
        flat.update((f"BF-{name}@{statistics.widths[column]}px", values[column]) for column in columns)
    return {name: 100.0 * float(value) for name, value in flat.items()}


def curves_record(statistics: BoundaryStatistics, class_names: Sequence[str], name: str) -> dict[str, Any]:
    """All scores of :meth:`BoundaryStatistics.compute` in percent, ready for JSON (None where undefined).

    Args:
        statistics: of K classes and D widths.
        class_names: K names.
        name: what the curves are called in a plot, such as the run or the data set.
    """
    scores = statistics.compute()
    return {
        "name": name,
        "images": statistics.num_images,
        "classes": list(class_names),
        "ignore_mode": statistics.ignore_mode,
        "ignore_distance": statistics.ignore_distance if statistics.ignore_mode == "nearest" else None,
        "trimap": statistics.trimap,
        "widths": list(statistics.widths),
        **{key: _percent(scores[key]) for key in ("mIoU", "fwIoU", "mACC", "pACC", "IoU", "ACC")},
        **{label: _percent(scores[key]) for label, key in CURVES.items()},
        "per_class": {label: _percent(scores[key]) for label, key in _PER_CLASS_CURVES.items()},
        "confusion": scores["confusion"].tolist(),
    }


def missing_contours(statistics: BoundaryStatistics) -> str:
    """What to say about a target in which hardly any contour counts, with figures; "" for any other.

    It has none at all, or the edges of its ignored areas, where classes end as well, would make over three times as
    many. (PASCAL VOC with ``ignore_mode="ignore"``: 132 times as many; Cityscapes 0.27, CamVid 0.2.)
    """
    counts = statistics.counts
    totals, hidden = counts["contour_totals"][1], int(counts["hidden_contours"])
    if totals.sum() > 0 and hidden <= 3 * totals.sum():
        return ""
    images = max(statistics.num_images, 1)
    text = (
        f"hardly any contour of the target counts: {totals.sum() / images:.1f} pixels an image, of "
        f"{np.count_nonzero(totals)} of {statistics.num_classes} classes; boundary scores say little"
    )
    if hidden:
        advice = "a larger ignore distance" if statistics.ignore_mode == "nearest" else "the ignore mode 'nearest'"
        text += (
            f". Edges along ignored areas, which do not count, have {hidden / images:.1f} pixels an image: "
            f"if they are rims around objects, as in PASCAL VOC, choose {advice}"
        )
    return text


def class_table(record: dict[str, Any], report_widths: Sequence[int]) -> list[list[str]]:
    """A header, a row for each class, a row of means: IoU, accuracy, boundary scores at these widths."""
    columns = [record["widths"].index(width) for width in report_widths]
    header = ["class", "IoU", "ACC"]
    header += [f"{label}@{width}px" for label in _PER_CLASS_CURVES for width in report_widths]
    rows = [header]
    for index, name in enumerate(record["classes"]):
        values = [record["IoU"][index], record["ACC"][index]]
        values += [record["per_class"][label][index][column] for label in _PER_CLASS_CURVES for column in columns]
        rows.append([name, *map(_cell, values)])
    means = [record["mIoU"], record["mACC"]]
    means += [record[label][column] for label in _MEANS_OF_CLASSES for column in columns]
    rows.append(["mean", *map(_cell, means)])
    return rows


def curves_table(record: dict[str, Any]) -> list[list[str]]:
    """A header and a row for each width: the means over classes, then boundary F of each class."""
    rows = [["width", *CURVES, *(f"BF-{name}" for name in record["classes"])]]
    for column, width in enumerate(record["widths"]):
        values = [record[label][column] for label in CURVES]
        values += [curve[column] for curve in record["per_class"]["BF"]]
        rows.append([str(width), *map(_cell, values)])
    return rows


def comparison_table(records: Sequence[dict[str, Any]], report_widths: Sequence[int]) -> list[list[str]]:
    """A header and a row for each run: images, mIoU, and the boundary scores at these widths."""
    rows = [["run", "images", "mIoU", *(f"{label}@{width}px" for label in COMPARED for width in report_widths)]]
    for record in records:
        columns = [record["widths"].index(width) for width in report_widths]
        values = [record["mIoU"], *(record[label][column] for label in COMPARED for column in columns)]
        rows.append([record["name"], str(record["images"]), *map(_cell, values)])
    return rows


def format_table(rows: Sequence[Sequence[str]], width: int = 100) -> str:
    """Rows of cells as text, the first column to the left, the others to the right; headers take several lines.

    What does not fit into `width` characters goes on below, one score's widths together, with the first column again,
    whose names are cut at 20.
    """
    header, *body = rows
    body = [[row[0] if len(row[0]) <= 20 else f"{row[0][:19]}…", *row[1:]] for row in body]
    titles = [
        header[0].split("\n"),
        *(title.replace("-", "\n").replace("@", "\n@").split("\n") for title in header[1:]),
    ]
    height = max(map(len, titles))
    lines = [
        [title[line - height] if len(title) >= height - line else "" for title in titles] for line in range(height)
    ]
    lines += body
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    scores = [list(columns) for _, columns in groupby(range(1, len(header)), lambda c: header[c].split("@")[0])]
    blocks: list[list[int]] = [[]]
    for columns in scores:
        if blocks[-1] and widths[0] + sum(widths[c] + 2 for c in blocks[-1] + columns) > width:
            blocks.append([])
        blocks[-1] += columns
    texts = (
        "\n".join("  ".join([line[0].ljust(widths[0]), *(line[c].rjust(widths[c]) for c in block)]) for line in lines)
        for block in blocks
    )
    return "\n\n".join(texts)


def write_report(folder: str | Path, record: dict[str, Any], report_widths: Sequence[int]) -> None:
    """Write the curves (JSON, CSV, plot) and the table of classes (CSV) to ``folder``."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / CURVES_FILE, lambda path: path.write_text(json.dumps(record, indent=1) + "\n"))
    write_whole(folder / CURVES_TABLE, lambda path: _write_csv(path, curves_table(record)))
    write_whole(folder / CLASSES_TABLE, lambda path: _write_csv(path, class_table(record, report_widths)))
    write_whole(folder / CURVES_PLOT, lambda path: draw_curves([record], path))


def write_comparison(folder: Path, records: Sequence[dict[str, Any]], report_widths: Sequence[int]) -> None:
    """Write the table of several runs (CSV) and their curves in one plot to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / COMPARISON_TABLE, lambda path: _write_csv(path, comparison_table(records, report_widths)))
    write_whole(folder / CURVES_PLOT, lambda path: draw_curves(records, path))


def _write_csv(path: Path, rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _percent(values: float | np.ndarray) -> Any:
    """Percent as (nested lists of) floats; None for NaN, which JSON does not have."""
    array = np.asarray(values, dtype=float)
    if array.ndim == 0:
        return None if math.isnan(array) else 100.0 * float(array)
    return [_percent(value) for value in array]


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
