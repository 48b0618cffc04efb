"""What ignored pixels do to boundary scores: which contours count, and whether scores follow a shift of the labels.

Shape shorthand in this module:

    H, W: image size
    K: number of classes
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from epl_d2.contours.nearest import nearest_valid
from epl_d2.evaluation.boundary_statistics import IGNORE_MODES, BoundaryStatistics

__all__ = ["ContourPixels", "ShiftScores", "contour_pixels", "shift_scores", "shifted_copy"]

WIDTHS = (1, 3)


@dataclass(frozen=True)
class ContourPixels:
    """Contour pixels of label maps, added up over the classes.

    Attributes:
        images: number of label maps.
        ignored: share of their pixels that is ignored.
        counted: with ``ignore_mode="ignore"``.
        hidden: how many more there are with ``"zero"``: edges of ignored areas.
        filled: with ``"nearest"``, one for each distance.
    """

    images: int
    ignored: float
    counted: int
    hidden: int
    filled: tuple[int, ...]


def contour_pixels(
    labels: Iterable[np.ndarray], num_classes: int, distances: Sequence[int], ignore_value: int = 255
) -> ContourPixels:
    """Count the contour pixels of label maps [H,W] for these ``ignore_distance``s.

    Raises:
        ValueError: there is no label map, or an argument does not fit.
    """
    common = {"num_classes": num_classes, "widths": WIDTHS[:1], "ignore_value": ignore_value}
    plain = BoundaryStatistics(**common)
    filled = [BoundaryStatistics(**common, ignore_mode="nearest", ignore_distance=d) for d in distances]
    ignored = pixels = 0
    for target in labels:
        for statistics in (plain, *filled):
            statistics.update(np.zeros_like(target), target)
        ignored += np.count_nonzero(target == ignore_value)
        pixels += target.size
    if not pixels:
        raise ValueError("there are no label maps")
    counts = plain.counts
    return ContourPixels(
        images=plain.num_images,
        ignored=ignored / pixels,
        counted=int(counts["contour_totals"][1].sum()),
        hidden=int(counts["hidden_contours"]),
        filled=tuple(int(statistics.counts["contour_totals"][1].sum()) for statistics in filled),
    )


@dataclass(frozen=True)
class ShiftScores:
    """Scores of label maps that were moved, against themselves; fractions, NaN where undefined.

    Attributes:
        ignore_mode: as in `BoundaryStatistics`.
        shift: pixels.
        contour_pixels: of the target, added up over the classes.
        classes: how many have any.
        boundary_f: at 1 and 3 pixels.
        trimap: at 3 pixels, label-change and void; the same for every mode.
        boundary_iou: at 3 pixels.
    """

    ignore_mode: str
    shift: int
    contour_pixels: int
    classes: int
    boundary_f: tuple[float, float]
    trimap: tuple[float, float]
    boundary_iou: float


def shift_scores(
    labels: Iterable[np.ndarray], num_classes: int, shifts: Sequence[int], ignore_value: int = 255
) -> list[ShiftScores]:
    """Score :func:`shifted_copy` of label maps [H,W] against them, for each mode and, within it, each shift.

    Raises:
        ValueError: there is no label map, or an argument does not fit.
    """
    common = {"num_classes": num_classes, "widths": WIDTHS, "ignore_value": ignore_value}
    modes = {(mode, shift): BoundaryStatistics(**common, ignore_mode=mode) for mode in IGNORE_MODES for shift in shifts}
    void = {shift: BoundaryStatistics(**common, trimap="void") for shift in shifts}
    for target in labels:
        for shift in shifts:
            prediction = shifted_copy(target, shift, ignore_value)
            for statistics in (*(modes[mode, shift] for mode in IGNORE_MODES), void[shift]):
                statistics.update(prediction, target)
    rows = []
    for (mode, shift), statistics in modes.items():
        if not statistics.num_images:
            raise ValueError("there are no label maps")
        totals, scores = statistics.counts["contour_totals"][1], statistics.compute()
        row = ShiftScores(
            ignore_mode=mode,
            shift=shift,
            contour_pixels=int(totals.sum()),
            classes=np.count_nonzero(totals),
            boundary_f=tuple(scores["boundary_f"].tolist()),
            trimap=(float(scores["trimap_miou"][1]), float(void[shift].compute()["trimap_miou"][1])),
            boundary_iou=float(scores["boundary_iou"][1]),
        )
        rows.append(row)
    return rows


def shifted_copy(labels: np.ndarray, shift: int, ignore_value: int = 255) -> np.ndarray:
    """A prediction [H,W] that is wrong by ``shift`` pixels: the labels moved to the right, ignored pixels filled.

    Every ignored pixel first takes the label of its nearest valid one, class 0 if there is none. What comes in at the
    left is the first column.
    """
    filled = nearest_valid(labels, ignore_value, max_distance=sum(labels.shape))
    filled[filled == ignore_value] = 0
    columns = np.maximum(np.arange(labels.shape[1]) - shift, 0)
    return filled[:, columns]
