"""Plots of boundary scores against the pixel width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

# matplotlib is slow to import, and many who import this module draw nothing.
if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = {
    "BF": "Boundary F, mean over classes (%)",
    "BF-micro": "Boundary F, classes pooled (%)",
    "Trimap-mIoU": "Trimap mIoU (%)",
    "Boundary-IoU": "Boundary IoU (%)",
}


def draw_curves(records: Sequence[dict[str, Any]], path: str | Path) -> None:
    """Draw boundary F, trimap mIoU and Boundary IoU against the width, one line for each run, and write the picture
    to ``path``.

    Args:
        records: what :func:`epl_d2.evaluation.report.curves_record` returns, or was read back from its JSON. A score
            that one of them lacks, as those of earlier versions may, is left out.
        path: a file name with a suffix that matplotlib knows (.png, .pdf, .svg).
    """
    panels = {key: title for key, title in PANELS.items() if all(key in record for record in records)}
    rows = -(-len(panels) // 2)
    figure = _figure(9.6, 3.8 * rows + 0.3)
    for place, (key, title) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(rows, 2, place)
        _draw_lines(axes, records, key, title)
    _legend_below(figure, axes)
    figure.savefig(path, dpi=150)


def draw_curve_rows(rows: Mapping[str, Sequence[dict[str, Any]]], keys: Sequence[str], path: str | Path) -> None:
    """As :func:`draw_curves` for several groups of runs, such as those on one data set, one below the other.

    Args:
        rows: title -> records.
        keys: of :data:`PANELS`, one column each.
        path: as of :func:`draw_curves`.
    """
    figure = _figure(4.8 * len(keys), 3.8 * len(rows))
    grid = figure.subplots(len(rows), len(keys), squeeze=False)
    for axes_of_row, (title, records) in zip(grid, rows.items(), strict=True):
        for axes, key in zip(axes_of_row, keys, strict=True):
            _draw_lines(axes, records, key, PANELS[key])
            axes.set_title(title)
            axes.legend()
    figure.savefig(path, dpi=150)


def _draw_lines(axes: Axes, records: Sequence[dict[str, Any]], key: str, title: str) -> None:
    for number, record in enumerate(records):
        points = sorted(
            (width, value) for width, value in zip(record["widths"], record[key], strict=True) if value is not None
        )
        style = {"marker": "osD^v<>"[number % 7], "markersize": 3.5, "linewidth": 1.4}
        axes.plot([x for x, _ in points], [y for _, y in points], label=record["name"], **style)
    axes.set_ylabel(title)
    _width_axis(axes)


def draw_gains(records: Sequence[dict[str, Any]], reference: str, path: str | Path) -> None:
    """Draw differences to a reference against the width, with a band for the interval, one line for each method.

    Args:
        records: "name", "widths", and for every key of :data:`PANELS` a dict of "mean", "low" and "high", percent.
        reference: what stands at 0.
        path: as of :func:`draw_curves`.
    """
    figure = _figure(9.6, 7.6)
    for place, (key, title) in enumerate(PANELS.items(), 1):
        axes = figure.add_subplot(2, 2, place)
        axes.axhline(0, color="black", linewidth=1)
        for number, record in enumerate(records):
            gain, color = record[key], f"C{number}"
            axes.fill_between(record["widths"], gain["low"], gain["high"], color=color, alpha=0.2, linewidth=0)
            style = {"marker": "osD^v<>"[number % 7], "markersize": 3.5, "linewidth": 1.4, "color": color}
            axes.plot(record["widths"], gain["mean"], label=record["name"], **style)
        axes.set_title(title.replace(" (%)", ""), fontsize=10)
        axes.set_ylabel(f"difference to {reference} (points)", fontsize=9)
        _width_axis(axes)
    _legend_below(figure, axes)
    figure.savefig(path, dpi=150)


def draw_class_gains(
    records: Sequence[dict[str, Any]], classes: Sequence[str], reference: str, path: str | Path
) -> None:
    """Draw differences to a reference for each class, a bar a method with a line for its interval.

    Args:
        records: "name", and for every metric, in the order of the columns, a dict of "mean", "low" and "high" of the
            classes, percent, NaN where undefined.
        classes: their names.
        reference: what stands at 0.
        path: as of :func:`draw_curves`.
    """
    metrics = [key for key in records[0] if key != "name"]
    height = 0.8 / len(records)
    figure = _figure(1.6 + 3.2 * len(metrics), 1.2 + len(classes) * max(0.28, 0.18 * len(records)))
    for axes, metric in zip(figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0], metrics, strict=True):
        axes.axvline(0, color="black", linewidth=1)
        for number, record in enumerate(records):
            gain = {key: np.array(values) for key, values in record[metric].items()}
            places = np.arange(len(classes)) + (number - (len(records) - 1) / 2) * height
            axes.barh(places, gain["mean"], height, color=f"C{number}", label=record["name"])
            axes.hlines(places, gain["low"], gain["high"], color="0.2", linewidth=1)
        axes.set_title(metric, fontsize=10)
        axes.set_xlabel(f"difference to {reference} (points)", fontsize=9)
        axes.grid(axis="x", alpha=0.3)
    axes.set_yticks(range(len(classes)), classes)
    axes.invert_yaxis()
    if len(records) > 1:
        _legend_below(figure, axes)
    figure.savefig(path, dpi=150)


def _figure(width: float, height: float) -> Figure:
    """An empty figure, inches, that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _width_axis(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("width (pixels)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)


def _legend_below(figure: Figure, axes: Axes) -> None:
    """One legend for all panels, which covers none of their lines."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
