"""Confusion matrix of label maps, and the scores that Detectron2 reads from one.

Shape shorthand in this module:

    H, W: image size
    K: number of classes
"""

from __future__ import annotations

import numpy as np

from ..compilation import compiled


@compiled
def _count_pairs(prediction, target, void, ends, eight, masked, confusion):  # pragma: no cover - compiled
    """Count runs of equal pairs of labels.

    ``ends`` is scratch for a row: a byte a pixel (a run ended before it), then 1 for the end of the row, then
    zeros; ``eight`` is the same memory, 8 bytes a word.
    """
    height, width = target.shape
    classes = confusion.shape[0]
    void = target.dtype.type(void)
    for y in range(height):
        target_row, predicted_row, masked_row = target[y], prediction[y], masked[y]
        for x in range(width):
            masked_row[x] = void if target_row[x] == void else predicted_row[x]
        for x in range(1, width):
            ends[x] = (target_row[x] != target_row[x - 1]) | (predicted_row[x] != predicted_row[x - 1])
        start = 0
        for group in range(eight.size):
            if eight[group] == 0:
                continue
            for x in range(8 * group, 8 * group + 8):
                if ends[x] == 0:
                    continue
                if target_row[start] != void:
                    if target_row[start] >= classes or predicted_row[start] >= classes:
                        return False
                    confusion[target_row[start], predicted_row[start]] += x - start
                start = x
    return True


def count_confusion(
    prediction: np.ndarray, target: np.ndarray, void: int, masked: np.ndarray, confusion: np.ndarray
) -> bool:
    """Count the (target, prediction) pairs of valid pixels, and copy the prediction with the target's void.

    Args:
        prediction, target: [H,W] of the same unsigned dtype; ``target`` is ``void`` where it is ignored.
        void: the ignored value, at least K.
        masked: [H,W], receives the prediction, and ``void`` where the target is ignored.
        confusion: [K,K] int64, rows are the target; counts are added.

    Returns:
        Whether every valid pixel holds a class 0..K-1 in both maps; if not, the counts are incomplete.
    """
    width = target.shape[1]
    ends = np.zeros((width // 8 + 1) * 8, np.uint8)
    ends[width] = 1
    return _count_pairs(prediction, target, void, ends, ends.view(np.uint64), masked, confusion)


def iou_from_counts(shared: np.ndarray, target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Intersection over union from pixel counts of one shape; NaN for what is not in the target."""
    union = target + predicted - shared
    return np.divide(shared, union, out=np.full(shared.shape, np.nan), where=target > 0)


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis of the values that are not NaN; NaN where there are none."""
    defined = ~np.isnan(values)
    count = defined.sum(axis=0)
    total = np.where(defined, values, 0.0).sum(axis=0)
    return np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)


def confusion_scores(confusion: np.ndarray) -> dict[str, float | np.ndarray]:
    """mIoU, fwIoU, mACC, pACC and per-class IoU [K] and ACC [K] of a matrix [K,K] with rows for the target.

    Fractions in [0, 1], defined as in Detectron2's ``SemSegEvaluator``: a class that is not in the target has
    no IoU and no accuracy (NaN) and is in no mean; its predicted pixels still count against the others.
    """
    shared, target, predicted = np.diagonal(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    iou = iou_from_counts(shared, target, predicted)
    accuracy = np.divide(shared, target, out=np.full(shared.shape, np.nan), where=target > 0)
    pixels = target.sum()
    defined = target > 0
    return {
        "mIoU": float(mean_of_defined(iou)),
        "fwIoU": float((iou[defined] * target[defined]).sum() / pixels) if pixels else float("nan"),
        "mACC": float(mean_of_defined(accuracy)),
        "pACC": float(shared.sum() / pixels) if pixels else float("nan"),
        "IoU": iou,
        "ACC": accuracy,
    }
