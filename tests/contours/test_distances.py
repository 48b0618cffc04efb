"""Distances against brute force over pairs of pixels."""

import itertools

import numpy as np
import pytest

from epl_d2.contours import contour_distance, distance_to, signed_distance, within


def regions(rng: np.random.Generator, ignored: bool, size: tuple[int, int] = (17, 23)) -> np.ndarray:
    """Blocks of the classes 0, 1 and 3, some of them ignored."""
    coarse = rng.choice([0, 1, 3, 255] if ignored else [0, 1, 3], (-(-size[0] // 4), -(-size[1] // 4)))
    return np.kron(coarse, np.ones((4, 4), int))[: size[0], : size[1]].astype(np.uint8)


def nearest(here: tuple[int, int], mask: np.ndarray) -> float:
    """Distance to the nearest True."""
    return np.sqrt(((np.argwhere(mask) - here) ** 2).sum(1).min())


def test_distance_to_and_within_are_euclidean() -> None:
    mask = np.zeros((9, 9), dtype=bool)
    mask[4, 4] = True
    rows, columns = np.indices(mask.shape)
    squares = (rows - 4) ** 2 + (columns - 4) ** 2
    np.testing.assert_array_equal(distance_to(mask), np.sqrt(squares).astype(np.float32))
    for distance in range(5):
        assert np.array_equal(within(mask, distance), squares <= distance**2)
    mask[4, 4] = False
    assert np.isinf(distance_to(mask)).all() and not within(mask, 3).any()


@pytest.mark.parametrize("ignored", [False, True])
def test_signed_distance(rng, ignored):
    label = regions(rng, ignored)
    maps = signed_distance(label, 5)
    assert maps.dtype == np.float16 and maps.shape == (5, 17, 23)
    assert not maps[[2, 4]].any()  # absent
    for class_id in (0, 1, 3):
        own, others = label == class_id, (label != class_id) & (label != 255)
        for here in np.ndindex(*label.shape):
            expected = 1 - nearest(here, others) if own[here] else nearest(here, own)
            assert maps[class_id][here] == np.float16(expected)


def test_the_contour_is_zero_inside_and_one_outside():
    label = np.array([[0, 0, 0, 1, 1, 1, 1]])
    np.testing.assert_array_equal(signed_distance(label, 2), [[[-2, -1, 0, 1, 2, 3, 4]], [[3, 2, 1, 0, -1, -2, -3]]])
    label[0, 2:4] = 255
    np.testing.assert_array_equal(signed_distance(label, 2), [[[-3, -2, 1, 2, 3, 4, 5]], [[4, 3, 2, 1, -2, -3, -4]]])


@pytest.mark.parametrize(
    "label", [np.full((6, 7), 2), np.full((6, 7), 255), np.where(np.eye(6), 2, 255), np.full((1, 1), 0)]
)
def test_without_two_classes_all_is_zero(label):
    assert not signed_distance(label, 3).any()
    assert not contour_distance(label).any()


def test_any_ignore_value(rng):
    label = regions(rng, ignored=True)
    expected = signed_distance(label, 5)
    np.testing.assert_array_equal(signed_distance(np.where(label == 255, -1, label.astype(int)), 5, -1), expected)


def test_large_distances_keep_eleven_bits():
    label = np.zeros((1, 2048), np.uint8)
    label[0, 0] = 1
    np.testing.assert_allclose(signed_distance(label, 2)[1, 0, 1:], np.arange(1, 2048), rtol=2**-11)


@pytest.mark.parametrize("ignored", [False, True])
def test_contour_distance(rng, ignored):
    label = regions(rng, ignored)
    contour = np.zeros(label.shape, dtype=bool)
    for y, x in np.ndindex(*label.shape):
        for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
            if 0 <= y + dy < label.shape[0] and 0 <= x + dx < label.shape[1]:
                pair = label[y, x], label[y + dy, x + dx]
                contour[y, x] |= pair[0] != pair[1] and 255 not in pair
    found = contour_distance(label)
    assert found.dtype == np.float32
    for here in itertools.product(range(17), range(23)):
        assert found[here] == np.float32(nearest(here, contour))
