"""Boundary errors against their definition in plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from epl_d2.contours import boundary_errors, contour_line


def as_set(mask: np.ndarray) -> set[tuple[int, int]]:
    return set(zip(*(axis.tolist() for axis in np.nonzero(mask)), strict=True))


@pytest.mark.parametrize("tolerance", [0, 1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_boundary_errors_follow_the_definition(seed: int, tolerance: int, contour_pixels) -> None:
    generator = np.random.default_rng(seed)
    target = generator.integers(0, 3, (4, 5)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
    prediction = np.roll(target, (1, 2), (0, 1))
    target[generator.random(target.shape) < 0.03] = 255
    missed, extra, on_target = set(), set(), set()
    for class_id in range(3):
        target_pixels = contour_pixels(target, target, class_id)
        predicted_pixels = contour_pixels(prediction, target, class_id)

        def far(pixel: tuple[int, int], others: set[tuple[int, int]]) -> bool:
            return all((pixel[0] - y) ** 2 + (pixel[1] - x) ** 2 > tolerance**2 for y, x in others)

        on_target |= target_pixels
        missed |= {p for p in target_pixels if far(p, predicted_pixels)}
        extra |= {p for p in predicted_pixels if far(p, target_pixels)}
    errors = boundary_errors(target, prediction, tolerance)
    assert as_set(errors.missed) == missed
    assert as_set(errors.extra) == extra
    assert as_set(errors.matched) == on_target - missed


def test_a_perfect_prediction_has_no_errors(target) -> None:
    errors = boundary_errors(target, np.where(target == 255, 1, target))
    assert not errors.missed.any()
    assert not errors.extra.any()
    assert np.array_equal(errors.matched, contour_line(target))


def test_bad_input_is_named(target) -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        boundary_errors(target, target[1:])
    with pytest.raises(ValueError, match="tolerance"):
        boundary_errors(target, target, tolerance=-1)
