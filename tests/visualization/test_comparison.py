"""The change of boundary errors from one prediction to another."""

from __future__ import annotations

import numpy as np
import pytest

from epl_d2.contours import boundary_errors
from epl_d2.visualization.comparison import (
    FIXED_COLOR,
    INTRODUCED_COLOR,
    change_of_errors,
    comparison_sheet,
    paint_change,
)


def errors_of(target: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    errors = boundary_errors(target, prediction, 2)
    return errors.missed | errors.extra


def test_against_a_perfect_prediction_every_error_is_fixed_or_introduced(scene) -> None:
    perfect = np.where(scene.target == 255, 0, scene.target)
    worse = errors_of(scene.target, scene.prediction)
    assert worse.any()
    better = change_of_errors(scene.target, scene.prediction, perfect)
    assert np.array_equal(better.fixed, worse)
    assert not better.introduced.any()
    assert not better.kept.any()
    back = change_of_errors(scene.target, perfect, scene.prediction)
    assert np.array_equal(back.introduced, worse)
    assert not back.fixed.any()


def test_equal_predictions_keep_their_errors(scene) -> None:
    change = change_of_errors(scene.target, scene.prediction, scene.prediction)
    assert np.array_equal(change.kept, errors_of(scene.target, scene.prediction))
    assert not change.fixed.any()
    assert not change.introduced.any()


def test_an_invented_contour_that_moves_a_little_is_the_same_error() -> None:
    target = np.zeros((20, 30), dtype=np.uint8)
    first, second, third = (target.copy() for _ in range(3))
    first[:, 10:], second[:, 12:], third[:, 20:] = 1, 1, 1
    near = change_of_errors(target, first, second, tolerance=2)
    assert near.kept.any()
    assert not near.fixed.any()
    assert not near.introduced.any()
    far = change_of_errors(target, first, third, tolerance=2)
    assert not far.kept.any()
    assert np.array_equal(np.unique(np.nonzero(far.fixed)[1]), [9])
    assert np.array_equal(np.unique(np.nonzero(far.introduced)[1]), [19])


def test_paint_change_uses_one_color_for_each_kind(scene) -> None:
    change = change_of_errors(scene.target, scene.prediction, np.roll(scene.target, 6, axis=0))
    picture = paint_change(scene.image, change)
    assert change.fixed.any()
    assert change.introduced.any()
    assert (picture[change.introduced] == INTRODUCED_COLOR).all()
    assert (picture[change.fixed & ~change.introduced] == FIXED_COLOR).all()


@pytest.mark.parametrize("size", [(40, 48), (1, 1), (2, 300), (200, 3)])
def test_comparison_sheet_of_any_size(size: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
    target, first, second = generator.integers(0, 3, (3, *size), dtype=np.uint8)
    palette = [(10, 20, 30), (200, 40, 40), (40, 200, 40)]
    sheet = comparison_sheet(image, target, first, second, palette, ["a", "b", "c"], title="size")
    assert sheet.dtype == np.uint8
    assert (sheet[0] == 255).all()
    assert (sheet[:, -1] == 255).all()


def test_comparison_sheet_refuses_another_size(scene) -> None:
    with pytest.raises(ValueError, match=r"labels \(39, 48\)"):
        comparison_sheet(
            scene.image, scene.target, scene.prediction[1:], scene.prediction, scene.palette, scene.classes
        )
