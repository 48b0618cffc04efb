"""How many pixels each class has in the labels of registered data sets, and weights that follow."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from multiprocessing.pool import ThreadPool
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog

from .label_io import read_record_label, unknown_ids

__all__ = ["class_pixels", "class_weights"]

_THREADS = 4


@functools.cache
def class_pixels(names: tuple[str, ...], num_classes: int, ignore_value: int) -> np.ndarray:
    """Labeled pixels of each class, at the labels' own size; every file is read once in a process.

    Args:
        names: registered data sets; what they hold is added up.
        num_classes: K.
        ignore_value: its pixels are not counted.

    Returns:
        int64 [K].

    Raises:
        ValueError: an image has no label map, or one with unknown ids; names the file.
    """

    def count(record: Mapping[str, Any]) -> np.ndarray:
        if "sem_seg_file_name" not in record:
            raise ValueError(f"{record['file_name']}: there is no label map")
        label = read_record_label(record)
        wrong = unknown_ids(label, num_classes, ignore_value)
        if wrong:
            file = record["sem_seg_file_name"]
            raise ValueError(f"{file}: label ids {wrong[:10]}, expected 0..{num_classes - 1} or {ignore_value}")
        return np.bincount(label[label != ignore_value], minlength=num_classes)

    total = np.zeros(num_classes, np.int64)
    with ThreadPool(_THREADS) as pool:  # decoding releases the interpreter lock
        for name in names:
            for pixels in pool.imap_unordered(count, DatasetCatalog.get(name)):
                total += pixels
    total.setflags(write=False)
    return total


def class_weights(pixels: np.ndarray, power: float) -> np.ndarray:
    """`share ** -power` of each class, scaled so that the mean over the counted pixels is 1.

    Args:
        pixels: int [K], what :func:`class_pixels` gives.
        power: finite; 0 weights all pixels alike, 1 gives every class the same total weight.

    Returns:
        float64 [K].

    Raises:
        ValueError: the power is not finite, or a class never occurs.
    """
    if not np.isfinite(power):
        raise ValueError(f"power is {power}, expected a finite number")
    missing = np.flatnonzero(pixels == 0)
    if len(missing):
        raise ValueError(f"no training pixel has the class {missing[0]}: there is no weight for it")
    share = pixels / pixels.sum()
    weights = share**-power
    return weights / (share * weights).sum()
