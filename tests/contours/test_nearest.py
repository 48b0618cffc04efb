"""Filling by the nearest valid pixel, against a search over all pairs of pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from epl_d2.contours.nearest import nearest_valid, nearest_valid_pixels
from epl_d2.losses import target


def brute_force(valid: np.ndarray, max_distance: int) -> tuple[list[int], list[int]]:
    """Every pair of an invalid and a valid pixel; the smallest (squared distance, row, column) wins."""
    candidates = np.argwhere(valid).tolist()
    pixels, sources = [], []
    for y, x in np.argwhere(~valid).tolist():
        nearest = min((((y - v) ** 2 + (x - u) ** 2, v, u) for v, u in candidates), default=None)
        if nearest is not None and nearest[0] <= max_distance**2:
            pixels.append(y * valid.shape[1] + x)
            sources.append(nearest[1] * valid.shape[1] + nearest[2])
    return pixels, sources


def assert_equals_brute_force(valid: np.ndarray, max_distance: int) -> None:
    pixels, sources = nearest_valid_pixels(valid, max_distance)
    assert (pixels.tolist(), sources.tolist()) == brute_force(valid, max_distance)


@settings(max_examples=120, deadline=None)
@given(
    valid=hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=11)),
    max_distance=st.sampled_from([0, 1, 2, 3, 5, 8, 300]),
)
def test_any_small_map(valid, max_distance):
    assert_equals_brute_force(valid, max_distance)


@pytest.mark.parametrize("shape", [(31, 45), (2, 400), (400, 2)])
@pytest.mark.parametrize("max_distance", [3, 8, 255, 100000])
def test_wide_areas_and_lone_valid_pixels(shape, max_distance):
    rng = np.random.default_rng(max_distance)
    for share in (0.002, 0.02):
        assert_equals_brute_force(rng.random(shape) < share, max_distance)


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1)])
@pytest.mark.parametrize("value", [True, False])
def test_nothing_to_fill_or_nothing_to_fill_with(shape, value):
    pixels, sources = nearest_valid_pixels(np.full(shape, value))
    assert pixels.size == sources.size == 0


def test_distances_are_those_of_a_distance_transform():
    rng = np.random.default_rng(0)
    valid = ndimage.gaussian_filter(rng.normal(size=(300, 420)), 6) > -0.01
    pixels, sources = nearest_valid_pixels(valid, 12)
    squares = np.rint(ndimage.distance_transform_edt(valid == 0) ** 2)
    assert 1000 < pixels.size < (~valid).sum()
    np.testing.assert_array_equal(pixels, np.flatnonzero(~valid & (squares <= 144)))
    (y, x), (v, u) = np.unravel_index(pixels, valid.shape), np.unravel_index(sources, valid.shape)
    np.testing.assert_array_equal((y - v) ** 2 + (x - u) ** 2, squares.ravel()[pixels])
    assert valid.ravel()[sources].all()


def test_the_losses_fill_by_the_same_rule():
    valid = np.random.default_rng(2).random((40, 50)) < 0.02
    pixels, sources = nearest_valid_pixels(valid, 4)
    of_losses = target.nearest_valid(torch.from_numpy(valid)[None], reach=3).numpy()  # 3 diagonal steps: 4 pixels
    assert pixels.size > 300
    np.testing.assert_array_equal(of_losses[pixels], sources)


def test_the_middle_of_a_rim_becomes_a_contour():
    labels = np.array([[3, 3, 255, 255, 255, 255, 255, 7, 7]] * 4, np.uint8)
    assert nearest_valid(labels)[0].tolist() == [3, 3, 3, 3, 3, 7, 7, 7, 7]  # the middle pixel: the smaller column
    assert nearest_valid(labels.T)[:, 0].tolist() == [3, 3, 3, 3, 3, 7, 7, 7, 7]  # the smaller row
    assert nearest_valid(labels, max_distance=2)[0].tolist() == [3, 3, 3, 3, 255, 7, 7, 7, 7]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_any_integers_any_layout_any_ignore_value(dtype):
    rng = np.random.default_rng(1)
    labels = rng.choice(np.array([0, 1, 100], dtype), (20, 30), p=[0.2, 0.2, 0.6])
    original = labels.copy()
    filled = nearest_valid(np.asfortranarray(labels), ignore_value=100, max_distance=2)
    assert filled.dtype == dtype
    valid = labels != 100
    pixels, sources = brute_force(valid, 2)
    original.ravel()[pixels] = labels.ravel()[sources]
    np.testing.assert_array_equal(filled, original)
    np.testing.assert_array_equal(filled[valid], labels[valid])
    assert (filled == 100).any()


@pytest.mark.parametrize(
    ("function", "argument", "message"),
    [
        (nearest_valid, np.zeros((2, 2)), r"labels must be an integer map \[H,W\], got float64"),
        (nearest_valid, np.zeros(3, int), r"labels .* got int64 of shape \(3,\)"),
        (nearest_valid_pixels, np.zeros((2, 2), np.uint8), r"valid must be a boolean map \[H,W\], got uint8"),
        (nearest_valid_pixels, np.zeros((0, 2), bool), r"valid .* got bool of shape \(0, 2\)"),
    ],
)
def test_bad_maps(function, argument, message):
    with pytest.raises(ValueError, match=message):
        function(argument)


@pytest.mark.parametrize("max_distance", [-1, 2.5, True, None])
def test_bad_distance(max_distance):
    with pytest.raises(ValueError, match="max_distance must be a whole number of pixels, at least 0, got"):
        nearest_valid(np.zeros((2, 2), int), max_distance=max_distance)
