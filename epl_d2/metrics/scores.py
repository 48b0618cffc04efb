"""Scores of predictions and references, called as the metrics of Hugging Face's `evaluate` are."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest
from typing import Any

import numpy as np

from ..contours.nearest import MAX_DISTANCE
from ..evaluation import BoundaryStatistics

__all__ = ["compute"]

# Name of a score -> name in `BoundaryStatistics.compute`; those with one value, and those with one value a width.
_OVERALL = {"mean_iou": "mIoU", "mean_accuracy": "mACC", "overall_accuracy": "pACC"}
_AT_WIDTHS = {
    "boundary_f": "boundary_f",
    "boundary_f_micro": "boundary_f_micro",
    "boundary_f_any": "boundary_f_any",
    "boundary_f_davis": "boundary_f_davis",
    "trimap_iou": "trimap_miou",
    "boundary_iou": "boundary_iou",
}
_PER_CATEGORY = {"iou": "IoU", "accuracy": "ACC"}
_PER_CATEGORY_AT_WIDTHS = {
    "boundary_f": "boundary_f_per_class",
    "trimap_iou": "trimap_iou_per_class",
    "boundary_iou": "boundary_iou_per_class",
}


def compute(
    *,
    predictions: Iterable[Any],
    references: Iterable[Any],
    num_labels: int,
    ignore_index: int = 255,
    widths: Iterable[int] = (1, 3, 5, 9),
    ignore_mode: str = "ignore",
    trimap: str = "label-change",
    ignore_distance: int = MAX_DISTANCE,
    per_category: bool = False,
) -> dict[str, float | list[float]]:
    """Every score of a data set.

    Args:
        predictions: an array or tensor ``[N, H, W]`` of ids or ``[N, K, H, W]`` of scores, of which the best is taken;
            or any iterable, a generator among them, over ``[H, W]`` or ``[K, H, W]`` of sizes that may differ.
        references: ids ``[N, H, W]``, or any iterable over ``[H, W]``.
        num_labels: K.
        ignore_index: the id of ignored pixels in the references; no class.
        widths: pixels.
        ignore_mode, trimap, ignore_distance: see :class:`epl_d2.evaluation.BoundaryStatistics`.
        per_category: also return lists with a value for each class.

    Returns:
        Fractions in [0, 1], NaN where undefined: ``mean_iou``, ``mean_accuracy``, ``overall_accuracy`` and, for each
        width such as 3, ``boundary_f_3px`` (mean over the classes), ``boundary_f_micro_3px``, ``boundary_f_any_3px``,
        ``boundary_f_davis_3px``, ``trimap_iou_3px``, ``boundary_iou_3px``. With ``per_category`` also
        ``per_category_iou``, ``per_category_accuracy``, ``per_category_boundary_f_3px`` and so on.

    Raises:
        ValueError: a setting is out of range, there is another number of references, or a pair does not fit: the
            message begins with its number.

    Example:
        >>> import numpy as np
        >>> references = np.zeros((1, 8, 8), np.uint8)
        >>> references[:, 2:6, 2:6] = 1
        >>> scores = compute(predictions=np.roll(references, 1, axis=2), references=references, num_labels=2)
        >>> round(scores["mean_iou"], 3), scores["boundary_f_1px"]
        (0.723, 1.0)
    """
    statistics = BoundaryStatistics(num_labels, widths, ignore_index, ignore_mode, trimap, ignore_distance)
    for number, (prediction, reference) in enumerate(zip_longest(predictions, references)):
        if prediction is None or reference is None:
            fewer, more = sorted(("predictions", "references"), reverse=reference is None)
            raise ValueError(f"there are more {more} than {fewer}, {number}")
        try:
            statistics.update(_ids(_array(prediction), num_labels), _array(reference))
        except ValueError as error:
            raise ValueError(f"pair {number}: {error}") from error
    values = statistics.compute()
    scores: dict[str, float | list[float]] = {name: float(values[key]) for name, key in _OVERALL.items()}
    if per_category:
        scores.update((f"per_category_{name}", values[key].tolist()) for name, key in _PER_CATEGORY.items())
    for column, width in enumerate(statistics.widths):
        scores.update((f"{name}_{width}px", float(values[key][column])) for name, key in _AT_WIDTHS.items())
        if per_category:
            for name, key in _PER_CATEGORY_AT_WIDTHS.items():
                scores[f"per_category_{name}_{width}px"] = values[key][:, column].tolist()
    return scores


def _array(values: Any) -> np.ndarray:
    """An array of an array or of a tensor on any device."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if values.is_floating_point() and values.element_size() < 4:
            values = values.float()  # exact; NumPy has no bfloat16
    return np.asarray(values)


def _ids(prediction: np.ndarray, num_labels: int) -> np.ndarray:
    if prediction.ndim != 3:
        return prediction
    if prediction.shape[0] != num_labels:
        raise ValueError(
            f"prediction must be [H,W] ids or [K,H,W] scores of the K = {num_labels} classes, "
            f"got {list(prediction.shape)}"
        )
    ids = prediction.argmax(axis=0)
    if np.isnan(np.take_along_axis(prediction, ids[None], axis=0)).any():  # the first NaN is the largest
        raise ValueError("the scores of the prediction are NaN in some pixels")
    return ids
