"""How many pixels each class has in the labels of registered data sets."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from multiprocessing.pool import ThreadPool
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog

from .label_io import read_record_label, unknown_ids

__all__ = ["class_pixels"]

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
