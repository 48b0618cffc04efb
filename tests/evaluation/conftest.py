"""Label maps on which boundary statistics are hard to get right, as (prediction, target) pairs of uint8."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

IGNORED = 255
Pair = tuple[np.ndarray, np.ndarray]


def blobs(rng: np.random.Generator, height: int, width: int, classes: int, smoothness: float = 4.0) -> np.ndarray:
    """Smooth random regions: the strongest of as many smoothed noise fields as there are classes."""
    fields = rng.normal(size=(classes, height, width))
    return np.argmax([ndimage.gaussian_filter(field, smoothness) for field in fields], axis=0).astype(np.uint8)


def perturbed(rng: np.random.Generator, target: np.ndarray, classes: int) -> np.ndarray:
    """A prediction: the target moved by a few pixels, with a wrong rectangle, and without ignored pixels."""
    moved = np.roll(target, rng.integers(-3, 4, size=2), axis=(0, 1))
    height, width = target.shape
    top, left = rng.integers(0, height), rng.integers(0, width)
    moved[top : top + height // 4 + 1, left : left + width // 4 + 1] = rng.integers(0, classes)
    return np.where(moved == IGNORED, rng.integers(0, classes), moved).astype(np.uint8)


def _with_ignored(rng: np.random.Generator, target: np.ndarray, share: float = 0.15) -> np.ndarray:
    field = ndimage.gaussian_filter(rng.normal(size=target.shape), 3.0)
    target = np.where(field > np.quantile(field, 1 - share), IGNORED, target)
    return np.where(rng.random(target.shape) < 0.003, IGNORED, target).astype(np.uint8)


def _void_rims(rng: np.random.Generator, target: np.ndarray) -> np.ndarray:
    edges = ndimage.morphological_gradient(target, size=3) > 0
    return np.where(edges, IGNORED, target).astype(np.uint8)


def _blobs(rng):
    target = blobs(rng, 70, 90, 4)
    return perturbed(rng, target, 4), target


def _blobs_with_ignored(rng):
    target = blobs(rng, 75, 140, 5)
    return perturbed(rng, target, 5), _with_ignored(rng, target)


def _blobs_with_void_rims(rng):
    target = blobs(rng, 60, 80, 4, 6.0)
    return perturbed(rng, target, 4), _void_rims(rng, target)


def _noise(rng):
    return rng.integers(0, 5, (40, 130)).astype(np.uint8), rng.integers(0, 5, (40, 130)).astype(np.uint8)


def _noise_on_blobs(rng):
    return rng.integers(0, 5, (60, 70)).astype(np.uint8), _with_ignored(rng, blobs(rng, 60, 70, 5))


def _noise_ignored(rng):
    target = rng.integers(0, 3, (30, 50)).astype(np.uint8)
    return perturbed(rng, target, 3), np.where(rng.random(target.shape) < 0.3, IGNORED, target).astype(np.uint8)


def _single_pixels(rng):
    prediction, target = np.zeros((2, 90, 200), np.uint8)
    for labels in (prediction, target):
        labels[rng.integers(0, 90, 12), rng.integers(0, 200, 12)] = rng.integers(1, 4, 12)
    prediction[-1, -1] = target[0, 0] = 2  # corners, where a contour has no neighbor to the east or south
    return prediction, target


def _stripes(rng):
    target = np.broadcast_to(np.arange(129) // 3 % 3, (33, 129)).astype(np.uint8)
    prediction = np.broadcast_to((np.arange(129) + 1) // 2 % 3, (33, 129)).astype(np.uint8)
    return prediction, target


def _one_column_stripes(rng):
    return np.tile(np.uint8([0, 1]), (20, 40)), np.tile(np.uint8([1, 0]), (20, 40))


def _far_apart(rng):
    prediction, target = np.zeros((2, 50, 300), np.uint8)
    prediction[20:30, 10:14] = 1
    target[22:31, 90:95] = 1  # farther than one 64-bit word, nearer than two
    target[5:9, 280:290] = 1
    return prediction, target


def _constant(rng):
    return np.zeros((20, 30), np.uint8), np.zeros((20, 30), np.uint8)


def _constant_other(rng):
    return np.ones((20, 30), np.uint8), np.full((20, 30), 2, np.uint8)


def _constant_against_blobs(rng):
    return np.zeros((40, 50), np.uint8), blobs(rng, 40, 50, 4)


def _all_ignored(rng):
    return blobs(rng, 20, 30, 4), np.full((20, 30), IGNORED, np.uint8)


def _ignored_bar(rng):
    target = np.zeros((30, 100), np.uint8)
    target[:, 50:] = 1
    target[:, 46:54] = IGNORED
    prediction = np.zeros_like(target)
    prediction[:, 48:] = 1
    return prediction, target


def _one_row(rng):
    target = np.repeat(rng.integers(0, 3, 40), 5)[None].astype(np.uint8)
    return np.roll(target, 2), np.where(rng.random(target.shape) < 0.05, IGNORED, target).astype(np.uint8)


def _one_column(rng):
    prediction, target = _one_row(rng)
    return prediction.T, target.T


def _one_pixel(rng):
    return np.zeros((1, 1), np.uint8), np.ones((1, 1), np.uint8)


def _exact_words(rng):
    target = blobs(rng, 64, 128, 3)
    return perturbed(rng, target, 3), target


_MAKERS: tuple[Callable[[np.random.Generator], Pair], ...] = (
    _blobs,
    _blobs_with_ignored,
    _blobs_with_void_rims,
    _noise,
    _noise_on_blobs,
    _noise_ignored,
    _single_pixels,
    _stripes,
    _one_column_stripes,
    _far_apart,
    _constant,
    _constant_other,
    _constant_against_blobs,
    _all_ignored,
    _ignored_bar,
    _one_row,
    _one_column,
    _one_pixel,
    _exact_words,
)


@pytest.fixture(params=range(len(_MAKERS)), ids=[maker.__name__.lstrip("_") for maker in _MAKERS])
def pair(request: pytest.FixtureRequest) -> Pair:
    """A (prediction, target) pair of at most 6 classes, 255 ignored."""
    return _MAKERS[request.param](np.random.default_rng(request.param))


@pytest.fixture
def all_pairs() -> list[Pair]:
    """Every pair, in one order."""
    return [maker(np.random.default_rng(index)) for index, maker in enumerate(_MAKERS)]
