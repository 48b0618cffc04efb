"""Contours and boundary errors against their definitions in plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from epl_d2.visualization.contours import boundary_errors, contours, within


def contour_pixels(labels: np.ndarray, target: np.ndarray, label: int | None = None) -> set[tuple[int, int]]:
    """Pixels that differ from an E, S or SE neighbour (in membership of `label`), all valid in `target`."""
    height, width = labels.shape
    found = set()
    for y in range(height):
        for x in range(width):
            block = [(y + dy, x + dx) for dy in (0, 1) for dx in (0, 1) if y + dy < height and x + dx < width]
            values = [labels[p] if label is None else labels[p] == label for p in block]
            if all(target[p] != 255 for p in block) and any(v != values[0] for v in values):
                found.add((y, x))
    return found


def as_set(mask: np.ndarray) -> set[tuple[int, int]]:
    return set(zip(*(axis.tolist() for axis in np.nonzero(mask)), strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_contours_follow_the_definition(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, (6, 7)).repeat(2, 0).repeat(2, 1).astype(np.uint8)
    labels[generator.random(labels.shape) < 0.05] = 255
    assert as_set(contours(labels)) == contour_pixels(labels, labels)


def test_the_frame_and_one_class_have_no_contour() -> None:
    assert not contours(np.full((5, 6), 2, dtype=np.int32)).any()
    assert not contours(np.array([[7]], dtype=np.uint16)).any()


def test_wide_contours_contain_the_thin_ones_and_avoid_ignored_pixels(scene) -> None:
    thin, wide = contours(scene.target), contours(scene.target, width=3)
    assert wide[thin].all()
    assert wide.sum() > 2 * thin.sum()
    assert not wide[scene.target == 255].any()


@pytest.mark.parametrize("tolerance", [0, 1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_boundary_errors_follow_the_definition(seed: int, tolerance: int) -> None:
    generator = np.random.default_rng(seed)
    target = generator.integers(0, 3, (4, 5)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
    prediction = np.roll(target, (1, 2), (0, 1))
    target[generator.random(target.shape) < 0.03] = 255
    missed, extra, on_target = set(), set(), set()
    for label in range(3):
        true_pixels = contour_pixels(target, target, label)
        predicted_pixels = contour_pixels(prediction, target, label)

        def far(pixel: tuple[int, int], others: set[tuple[int, int]]) -> bool:
            return all((pixel[0] - y) ** 2 + (pixel[1] - x) ** 2 > tolerance**2 for y, x in others)

        on_target |= true_pixels
        missed |= {p for p in true_pixels if far(p, predicted_pixels)}
        extra |= {p for p in predicted_pixels if far(p, true_pixels)}
    errors = boundary_errors(target, prediction, tolerance)
    assert as_set(errors.missed) == missed
    assert as_set(errors.extra) == extra
    assert as_set(errors.matched) == on_target - missed


def test_a_perfect_prediction_has_no_errors(scene) -> None:
    errors = boundary_errors(scene.target, np.where(scene.target == 255, 1, scene.target))
    assert not errors.missed.any()
    assert not errors.extra.any()
    assert np.array_equal(errors.matched, contours(scene.target))


def test_within_is_euclidean() -> None:
    mask = np.zeros((9, 9), dtype=bool)
    mask[4, 4] = True
    rows, columns = np.indices(mask.shape)
    for distance in range(5):
        assert np.array_equal(within(mask, distance), (rows - 4) ** 2 + (columns - 4) ** 2 <= distance**2)


def test_bad_input_is_named(scene) -> None:
    with pytest.raises(ValueError, match=r"labels must be an integer map .* float64"):
        contours(np.zeros((3, 3)))
    with pytest.raises(ValueError, match="width must be at least 1"):
        contours(scene.target, width=0)
    with pytest.raises(ValueError, match="differ in shape"):
        boundary_errors(scene.target, scene.prediction[1:])
    with pytest.raises(ValueError, match="tolerance"):
        boundary_errors(scene.target, scene.prediction, tolerance=-1)
