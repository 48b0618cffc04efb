"""Counts for Boundary IoU (Cheng et al., 2021, arXiv 2103.16562) of every class of a label map.

The band of a class at d holds its pixels within Chebyshev distance d of a pixel of another label or of the
outside of the image: what d erosions of the class's mask by a 3 x 3 square take away. A mask is kept as one bit
a pixel, so that an erosion handles 64 pixels with a handful of word operations.

Shape shorthand in this module:

    H, W: image size
    K: number of classes
    C: classes handled at once
    B: 64-bit words in a row, ceil(W / 64)
    D: number of widths
"""

from __future__ import annotations

import numpy as np

from ..compilation import compiled, count_ones

_CLASSES_AT_ONCE = 32  # bounds the bit planes to 16 MiB for a 1024 x 2048 pair, whatever the number of classes

_ONE = np.uint64(1)
_WORD = np.uint64(63)
_FULL = np.uint64(0xFFFFFFFFFFFFFFFF)
_NONE = np.uint64(0)


@compiled
def _draw_masks(labels, plane_of_label, planes):  # pragma: no cover - compiled
    """Set the bits [C,H,B] of the pixels of each label whose ``plane_of_label`` is not negative."""
    height, width = labels.shape
    for y in range(height):
        start = 0
        while start < width:
            label = labels[y, start]
            stop = start + 1
            while stop < width and labels[y, stop] == label:
                stop += 1
            plane = plane_of_label[label]
            if plane >= 0:
                first, last = start >> 6, (stop - 1) >> 6
                head = _FULL << (np.uint64(start) & _WORD)
                tail = _FULL >> (_WORD - (np.uint64(stop - 1) & _WORD))
                if first == last:
                    planes[plane, y, first] |= head & tail
                else:
                    planes[plane, y, first] |= head
                    for word in range(first + 1, last):
                        planes[plane, y, word] = _FULL
                    planes[plane, y, last] |= tail
            start = stop


@compiled
def _erode(inside, scratch, times):  # pragma: no cover - compiled
    """Erode ``inside`` by a 3 x 3 square, in place; its outermost rows and words are an empty margin."""
    rows, words = inside.shape
    for _ in range(times):
        for y in range(1, rows - 1):
            for word in range(1, words - 1):
                left = (inside[y, word] << _ONE) | (inside[y, word - 1] >> _WORD)
                right = (inside[y, word] >> _ONE) | (inside[y, word + 1] << _WORD)
                scratch[y, word] = inside[y, word] & left & right
        for y in range(1, rows - 1):
            for word in range(1, words - 1):
                inside[y, word] = scratch[y - 1, word] & scratch[y, word] & scratch[y + 1, word]


@compiled
def _count_band(prediction, target, prediction_core, target_core):  # pragma: no cover - compiled
    """Shared, target and predicted pixels of the masks that the cores (which have a margin) do not hold."""
    shared = wanted = given = 0
    for y in range(target.shape[0]):
        for word in range(target.shape[1]):
            given_bits = prediction[y, word] & ~prediction_core[y + 1, word + 1]
            wanted_bits = target[y, word] & ~target_core[y + 1, word + 1]
            given += np.int64(count_ones(given_bits))
            wanted += np.int64(count_ones(wanted_bits))
            shared += np.int64(count_ones(given_bits & wanted_bits))
    return shared, wanted, given


@compiled
def _count_widths(prediction, target, cores, scratch, widths, counts):  # pragma: no cover - compiled
    """Write the counts [D,3]; ``cores`` are the two masks with a margin of zeros, ``scratch`` is all zeros."""
    _, all_of_target, all_of_prediction = _count_band(prediction, target, scratch, scratch)
    shared = wanted = given = eroded = 0
    for index in range(widths.size):
        if wanted < all_of_target or given < all_of_prediction:  # something is left to erode
            _erode(cores[0], scratch, widths[index] - eroded)
            _erode(cores[1], scratch, widths[index] - eroded)
            shared, wanted, given = _count_band(prediction, target, cores[0], cores[1])
            eroded = widths[index]
        counts[index, 0] = shared
        counts[index, 1] = wanted
        counts[index, 2] = given


def _count_class(prediction: np.ndarray, target: np.ndarray, neutral: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Counts [3,D] (shared, target, predicted) of one class from its masks [H,B], not both empty."""
    either = prediction | target
    reach = int(widths[-1])
    # What lies farther than the largest width from every pixel of the class cannot matter.
    rows, words = _extent(either.any(axis=1), reach), _extent(either.any(axis=0), -(-reach // 64))
    prediction, target, neutral = prediction[rows, words], target[rows, words], neutral[rows, words]
    cores = np.zeros((3, target.shape[0] + 2, target.shape[1] + 2), np.uint64)
    cores[0, 1:-1, 1:-1] = prediction | neutral
    cores[1, 1:-1, 1:-1] = target | neutral
    counts = np.empty((widths.size, 3), np.int64)
    _count_widths(prediction, target, cores[:2], cores[2], widths, counts)
    return counts.T


def _extent(occupied: np.ndarray, margin: int) -> slice:
    """From the first to the last true entry, and ``margin`` more on each side."""
    first, last = np.flatnonzero(occupied)[[0, -1]]
    return slice(max(first - margin, 0), last + margin + 1)


def count_boundary_bands(
    prediction: np.ndarray,
    target: np.ndarray,
    num_classes: int,
    widths: np.ndarray,
    void: int,
    present: np.ndarray,
    void_is_label: bool,
) -> np.ndarray:
    """Count the pixels of each class's band in both maps, and those that the two bands share.

    Args:
        prediction, target: [H,W] of the same unsigned dtype, C-contiguous, values 0..K-1 or ``void``.
        num_classes: K.
        widths: [D] int64, ascending and unique, pixels.
        void: the value that marks ignored pixels in both maps; they are in no band.
        present: the classes that occur in either map; the others have no band.
        void_is_label: whether ``void`` counts as "another label". If not, the distance goes to the
            nearest pixel of another class, over ignored pixels.

    Returns:
        counts [3,K,D] int64: shared pixels, target pixels, predicted pixels.
    """
    counts = np.zeros((3, num_classes, widths.size), np.int64)
    shape = (target.shape[0], -(-target.shape[1] // 64))
    neutral = np.zeros((1, *shape), np.uint64)
    if not void_is_label:
        plane_of_label = np.full(void + 1, -1, np.int64)
        plane_of_label[void] = 0
        _draw_masks(target, plane_of_label, neutral)
    for first in range(0, present.size, _CLASSES_AT_ONCE):
        classes = present[first : first + _CLASSES_AT_ONCE]
        plane_of_label = np.full(void + 1, -1, np.int64)
        plane_of_label[classes] = np.arange(classes.size)
        planes = np.zeros((2, classes.size, *shape), np.uint64)
        _draw_masks(prediction, plane_of_label, planes[0])
        _draw_masks(target, plane_of_label, planes[1])
        for plane, label in enumerate(classes):
            counts[:, label] = _count_class(planes[0, plane], planes[1, plane], neutral[0], widths)
    return counts
