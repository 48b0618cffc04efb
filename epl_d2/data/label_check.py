"""Looking through every file of a data set: what is wrong with it, and what its labels are like."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tabulate import tabulate

from epl_d2.contours import contour_line

from .label_io import read_image, read_record_label, unknown_ids


@dataclass
class LabelReport:
    """What one image and its label map contribute.

    Attributes:
        error: what makes the image unusable; "" if nothing does.
        empty: every pixel is ignored.
        pixels: int64 [K + 1], pixels of each class and, at last, ignored ones.
        contour_pixels: pixels at which the label changes, by the rule of the boundary metrics.
    """

    error: str = ""
    empty: bool = False
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    contour_pixels: int = 0


def inspect_record(record: Mapping[str, Any], num_classes: int, ignore_value: int) -> LabelReport:
    """Read one image and its label map, and look at them.

    Args:
        record: has "file_name" and "sem_seg_file_name".
        num_classes: K; the label ids are 0..K-1 or `ignore_value`.
        ignore_value: the id of ignored pixels.
    """
    try:
        image = read_image(record["file_name"])
        if "sem_seg_file_name" not in record:
            return LabelReport(error=f"{record['file_name']}: there is no label map")
        label = read_record_label(record)
    except (OSError, ValueError) as error:
        return LabelReport(error=str(error))
    path = record["sem_seg_file_name"]
    if label.shape != image.shape[:2]:
        sizes = f"{label.shape[1]} x {label.shape[0]}, its image is {image.shape[1]} x {image.shape[0]} pixels"
        return LabelReport(error=f"{path}: the label map is {sizes}")
    wrong = unknown_ids(label, num_classes, ignore_value)
    if wrong:
        expected = f"expected 0..{num_classes - 1} or {ignore_value}"
        return LabelReport(error=f"{path}: label ids {wrong[:10]}, {expected}")
    ignored = label == ignore_value
    pixels = np.bincount(np.where(ignored, num_classes, label).ravel(), minlength=num_classes + 1)
    changes = int(contour_line(label, ignore_value=ignore_value).sum())
    return LabelReport("", bool(ignored.all()), pixels, changes)


@dataclass
class DatasetSummary:
    """Sums over the usable images of a data set.

    Attributes:
        images: all images, the unusable ones included.
        errors: one message for every image that cannot be used.
        empty: images whose pixels are all ignored.
        pixels: int64 [K + 1], pixels of each class and ignored ones.
        images_with: int64 [K], images in which each class occurs.
        classes_per_image: int64 [K + 1], how many images hold 0, 1, ..., K classes.
        contour_pixels: pixels at which the label changes.
    """

    images: int
    errors: list[str]
    empty: int
    pixels: np.ndarray
    images_with: np.ndarray
    classes_per_image: np.ndarray
    contour_pixels: int


def summarize(reports: Iterable[LabelReport], num_classes: int) -> DatasetSummary:
    """Add up the reports of a data set of `num_classes` classes."""
    summary = DatasetSummary(
        images=0,
        errors=[],
        empty=0,
        pixels=np.zeros(num_classes + 1, dtype=np.int64),
        images_with=np.zeros(num_classes, dtype=np.int64),
        classes_per_image=np.zeros(num_classes + 1, dtype=np.int64),
        contour_pixels=0,
    )
    for report in reports:
        summary.images += 1
        if report.error:
            summary.errors.append(report.error)
            continue
        present = report.pixels[:-1] > 0
        summary.empty += report.empty
        summary.pixels += report.pixels
        summary.images_with += present
        summary.classes_per_image[present.sum()] += 1
        summary.contour_pixels += report.contour_pixels
    return summary


def describe(summary: DatasetSummary, classes: Sequence[str]) -> str:
    """The summary as a table and a few sentences."""
    usable = summary.images - len(summary.errors)
    all_pixels, labeled = int(summary.pixels.sum()), int(summary.pixels[:-1].sum())
    names = [(str(i), name, str(summary.images_with[i])) for i, name in enumerate(classes)] + [("-", "ignored", "")]
    rows = [
        (number, name, f"{pixels:,}", _percent(pixels, all_pixels), images)
        for (number, name, images), pixels in zip(names, summary.pixels.tolist(), strict=True)
    ]
    table = tabulate(
        rows,
        ("id", "class", "pixels", "share", "images"),
        tablefmt="plain",
        disable_numparse=True,
        colalign=("right", "left", "right", "right", "right"),
    )
    many = ", ".join(f"{k}: {n}" for k, n in enumerate(summary.classes_per_image.tolist()) if n)
    lines = [
        table,
        "",
        f"images: {summary.images}, usable: {usable}, without any label: {summary.empty}",
        f"images by their number of classes: {many or 'none'}",
        f"contour pixels: {_percent(summary.contour_pixels, labeled)} of the labeled ones",
    ]
    return "\n".join(lines)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.3f}%" if whole else "-"
