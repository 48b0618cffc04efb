"""Contour pixels of every class, and the width at which each of them meets the other map's contour.

A pixel is a contour pixel of class c where membership in c differs between it and its east, south or
south-east neighbor inside the image (the ``seg2bmap`` rule of the DAVIS benchmark). Seen the other way
round: a 2 x 2 block that holds more than one label makes its upper left pixel a contour pixel of each of them.

A class's contour is kept as one bit a pixel. The nearest contour pixel within a row is then one bit scan
away, so the exact Euclidean distance of a pixel costs a few words per row.

Shape shorthand in this module:

    H, W: image size
    K: number of classes
    C: classes handled at once, of those with a contour in both maps
    B: 64-bit words in a row, ceil(W / 64)
    D: number of widths
"""

from __future__ import annotations

import itertools

import numpy as np

from ..compilation import compiled, count_ones, lowest_bit, zeros_above
from .distances import far_seeds, spread_square_distances

_CLASSES_AT_ONCE = 32  # bounds the bit planes to 16 MiB for a 1024 x 2048 pair, whatever the number of classes

_MANY = 1 / 32  # share of the pixels from which a distance transform is cheaper than searching around contour pixels

_ONE = np.uint64(1)
_WORD = np.uint64(63)
_NONE = np.uint64(0)
_FULL = ~_NONE
_FAR = 1 << 30

# (down, across) of the nearest neighbors, by distance. They settle most pixels, 64 at a time.
_NEAREST = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1), (2, 2), (0, 3), (3, 0))


@compiled
def _find_contours(labels, void, void_makes_contours, differs, eight, positions, totals):  # pragma: no cover - compiled
    """Write the flat indices of contour pixels to ``positions``, count them per class; returns how many.

    Those left out because of ``void``, which is no class, are counted in its entry of ``totals`` [void+1].

    ``differs`` is scratch for a row, a byte a pixel and zero at its end; ``eight`` is the same memory, 8
    bytes a word.
    """
    height, width = labels.shape
    void = labels.dtype.type(void)
    found = 0
    for y in range(height):
        row, below = labels[y], labels[min(y + 1, height - 1)]
        for x in range(width - 1):
            differs[x] = (row[x] != row[x + 1]) | (row[x] != below[x]) | (row[x] != below[x + 1])
        differs[width - 1] = row[width - 1] != below[width - 1]
        for group in range(eight.size):
            if eight[group] == _NONE:
                continue
            for x in range(8 * group, min(8 * group + 8, width)):
                if differs[x] == 0:
                    continue
                east = min(x + 1, width - 1)
                a, b, c, d = row[x], row[east], below[x], below[east]
                left_out = not void_makes_contours and (a == void or b == void or c == void or d == void)
                if not left_out:
                    positions[found] = y * width + x
                    found += 1
                if a != void:
                    totals[void if left_out else a] += 1
                if b != void and b != a:
                    totals[void if left_out else b] += 1
                if c != void and c != a and c != b:
                    totals[void if left_out else c] += 1
                if d != void and d != a and d != b and d != c:
                    totals[void if left_out else d] += 1
    return found


@compiled
def _draw_planes(labels, positions, plane_of_class, planes):  # pragma: no cover - compiled
    """Set the bits [C,H,B] of the contour pixels of the classes whose ``plane_of_class`` is not negative."""
    height, width = labels.shape
    for position in positions:
        y, x = position // width, position % width
        south, east = min(y + 1, height - 1), min(x + 1, width - 1)
        bit = _ONE << (np.uint64(x) & _WORD)
        for label in (labels[y, x], labels[y, east], labels[south, x], labels[south, east]):
            plane = plane_of_class[label]
            if plane >= 0:
                planes[plane, y, x >> 6] |= bit


@compiled
def _draw_plane(positions, width, plane):  # pragma: no cover - compiled
    """Set the bits [H,B] of all contour pixels, whatever their class."""
    for position in positions:
        x = position % width
        plane[position // width, x >> 6] |= _ONE << (np.uint64(x) & _WORD)


# The kernels below take a plane and a row number: a row as an array of its own would be counted as a reference.


@compiled
def _nearest_in_row(plane, row, x, limit):  # pragma: no cover - compiled
    """Distance from column ``x`` to the nearest set bit of a row; any number above ``limit`` if farther."""
    words = plane.shape[1]
    word, bit = x >> 6, np.uint64(x) & _WORD
    nearest = _FAR
    bits = plane[row, word] >> bit
    if bits != _NONE:
        nearest = np.int64(lowest_bit(bits))
    else:
        reach, other = 64 - np.int64(bit), word + 1
        while reach <= limit and other < words:
            if plane[row, other] != _NONE:
                nearest = reach + np.int64(lowest_bit(plane[row, other]))
                break
            reach, other = reach + 64, other + 1
    bits = plane[row, word] << (_WORD - bit)
    if bits != _NONE:
        nearest = min(nearest, np.int64(zeros_above(bits)))
    else:
        reach, other = np.int64(bit) + 1, word - 1
        while reach <= limit and reach < nearest and other >= 0:
            if plane[row, other] != _NONE:
                nearest = min(nearest, reach + np.int64(zeros_above(plane[row, other])))
                break
            reach, other = reach + 64, other - 1
    return nearest


@compiled
def _beside(plane, row, word, across):  # pragma: no cover - compiled
    """Bits of a word that have a set bit exactly ``across`` (0..63) columns to the left or to the right."""
    if across == 0:
        return plane[row, word]
    shift, rest = np.uint64(across), np.uint64(64 - across)
    bits = (plane[row, word] << shift) | (plane[row, word] >> shift)
    if word > 0:
        bits |= plane[row, word - 1] >> rest
    if word + 1 < plane.shape[1]:
        bits |= plane[row, word + 1] << rest
    return bits


@compiled
def _match_nearest(target, y, word, bits, limit, width_of_square, counts):  # pragma: no cover - compiled
    """Count and clear those ``bits`` of a word that a nearest neighbor matches; returns the others."""
    for down, across in _NEAREST:
        square = down * down + across * across
        if bits == _NONE or square > limit * limit:
            break
        around = _NONE
        if y >= down:
            around |= _beside(target, y - down, word, across)
        if down > 0 and y + down < target.shape[0]:
            around |= _beside(target, y + down, word, across)
        counts[width_of_square[square]] += np.int64(count_ones(bits & around))
        bits &= ~around
    return bits


@compiled
def _rows_near(target, y, first, last, limit, rows):  # pragma: no cover - compiled
    """Write to ``rows`` those within ``limit`` of y, nearest first, with a set bit in columns first..last."""
    height, width = target.shape[0], target.shape[1] * 64
    first, last = max(first, 0), min(last, width - 1)
    head, tail = _FULL << (np.uint64(first) & _WORD), _FULL >> (_WORD - (np.uint64(last) & _WORD))
    near = 0
    for step in range(limit + 1):
        for row in (y - step, y + step):
            if row < 0 or row >= height or (step == 0 and near > 0):
                continue
            found = _NONE
            for word in range(first >> 6, (last >> 6) + 1):
                bits = target[row, word]
                if word == first >> 6:
                    bits &= head
                if word == last >> 6:
                    bits &= tail
                found |= bits
            if found != _NONE:
                rows[near] = row
                near += 1
    return near


@compiled
def _search_plane(own, other, limit, width_of_square, rows, counts):  # pragma: no cover - compiled
    """Add to ``counts`` [D+1] the first width that reaches from each bit of ``own`` [H,B] to a bit of ``other``.

    ``rows`` [2*limit+1] is scratch.
    """
    for y in range(own.shape[0]):
        for word in range(own.shape[1]):
            bits = own[y, word]
            if bits == _NONE:
                continue
            same = bits & other[y, word]
            counts[0] += np.int64(count_ones(same))
            bits = _match_nearest(other, y, word, bits ^ same, limit, width_of_square, counts)
            if bits == _NONE:
                continue
            first = word * 64 + np.int64(lowest_bit(bits)) - limit
            last = word * 64 + 63 - np.int64(zeros_above(bits)) + limit
            near = _rows_near(other, y, first, last, limit, rows)
            while bits != _NONE:
                x = word * 64 + np.int64(lowest_bit(bits))
                bits &= bits - _ONE
                best = limit * limit + 1
                for index in range(near):
                    down = rows[index] - y
                    if down * down >= best:
                        break
                    across = _nearest_in_row(other, rows[index], x, limit)
                    if across <= limit:
                        best = min(best, across * across + down * down)
                counts[width_of_square[best]] += 1


@compiled
def _seed_plane(plane, seeds):  # pragma: no cover - compiled
    """Set ``seeds`` [H,W] to 0 at the set bits of a plane [H,B]."""
    for y in range(plane.shape[0]):
        for word in range(plane.shape[1]):
            bits = plane[y, word]
            while bits != _NONE:
                seeds[y, word * 64 + np.int64(lowest_bit(bits))] = 0
                bits &= bits - _ONE


@compiled
def _read_distances(plane, squares, width_of_square, counts):  # pragma: no cover - compiled
    """Add to ``counts`` [D+1] the first width that reaches as far as ``squares`` says, for each bit of a plane."""
    last = width_of_square.size - 1
    for y in range(plane.shape[0]):
        for word in range(plane.shape[1]):
            bits = plane[y, word]
            while bits != _NONE:
                square = np.int64(squares[y, word * 64 + np.int64(lowest_bit(bits))])
                counts[width_of_square[min(square, last)]] += 1
                bits &= bits - _ONE


def _match_plane(own: np.ndarray, other: np.ndarray, width: int, widths: np.ndarray, many: bool) -> np.ndarray:
    """Number of bits of ``own`` [H,B] that a bit of ``other`` matches, for each of ``widths`` [D].

    Searching the rows around each bit is fastest for the thin contours of a trained model; with ``many`` bits, as in
    the noise of an untrained one, the distances of all pixels are.
    """
    limit = int(widths[-1])
    # Squared distances are integers: entry q is the first width w with w * w >= q, the last entry means "none".
    width_of_square = np.searchsorted(widths * widths, np.arange(limit * limit + 2))
    counts = np.zeros(widths.size + 1, np.int64)
    if many:
        squares = far_seeds((own.shape[0], width), limit + 1)
        _seed_plane(other, squares)
        spread_square_distances(squares, limit + 1)
        _read_distances(own, squares, width_of_square, counts)
    else:
        _search_plane(own, other, limit, width_of_square, np.empty(2 * limit + 1, np.int64), counts)
    return counts[:-1].cumsum()


def match_contours(
    prediction: np.ndarray,
    target: np.ndarray,
    num_classes: int,
    widths: np.ndarray,
    void: int,
    void_makes_contours: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count the contour pixels of both maps and those that the other map's contour of the same class matches.

    The last row, K, does not ask for the class: the pixels that are on the contour of some class, and those of them
    that meet such a pixel of the other map.

    Args:
        prediction, target: [H,W] of the same unsigned dtype, C-contiguous, values 0..K-1 or ``void``.
        num_classes: K.
        widths: [D] int64, ascending and unique, pixels. A contour pixel is matched at d if a
            contour pixel of the same class of the other map lies within Euclidean distance d.
        void: the value that marks ignored pixels in both maps.
        void_makes_contours: whether the edge between a class and ``void`` is a contour of that class; if not, a
            pixel whose 2 x 2 block holds ``void`` is no contour pixel at all.

    Returns:
        totals [2,K+1], matched [2,K+1,D] and hidden [2], int64; index 0 is the prediction, 1 the target. Hidden are
        the contour pixels, of all classes together, that the edges of ``void`` would add.
    """
    totals = np.zeros((2, void + 1), np.int64)
    positions = []
    for labels, total in zip((prediction, target), totals, strict=True):
        buffer = np.empty(labels.size, np.int64)
        differs = np.zeros(-(-labels.shape[1] // 8) * 8, np.uint8)
        found = _find_contours(labels, void, void_makes_contours, differs, differs.view(np.uint64), buffer, total)
        positions.append(buffer[:found])
    matched = np.zeros((2, num_classes + 1, widths.size), np.int64)
    shared = np.flatnonzero((totals[:, :num_classes] > 0).all(axis=0))
    for first in range(0, shared.size, _CLASSES_AT_ONCE):
        classes = shared[first : first + _CLASSES_AT_ONCE]
        plane_of_class = np.full(void + 1, -1, np.int64)
        plane_of_class[classes] = np.arange(classes.size)
        planes = np.zeros((2, classes.size, target.shape[0], -(-target.shape[1] // 64)), np.uint64)
        _draw_planes(prediction, positions[0], plane_of_class, planes[0])
        _draw_planes(target, positions[1], plane_of_class, planes[1])
        for side, (plane, label) in itertools.product((0, 1), enumerate(classes)):
            many = totals[side, label] > _MANY * target.size
            matched[side, label] = _match_plane(
                planes[side, plane], planes[1 - side, plane], target.shape[1], widths, many
            )
    totals[:, num_classes] = [found.size for found in positions]
    if totals[:, num_classes].all():
        planes = np.zeros((2, target.shape[0], -(-target.shape[1] // 64)), np.uint64)
        for plane, found in zip(planes, positions, strict=True):
            _draw_plane(found, target.shape[1], plane)
        for side in (0, 1):
            many = totals[side, num_classes] > _MANY * target.size
            matched[side, num_classes] = _match_plane(planes[side], planes[1 - side], target.shape[1], widths, many)
    return totals[:, : num_classes + 1], matched, totals[:, void]
