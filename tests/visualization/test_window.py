"""Windows into pictures."""

from __future__ import annotations

import numpy as np
import pytest

from epl_d2.visualization.window import WINDOW_COLOR, Window, densest_window, framed_window


@pytest.mark.parametrize("seed", range(3))
def test_densest_window_holds_the_most(seed: int) -> None:
    weights = np.random.default_rng(seed).integers(0, 5, (12, 24))
    window = densest_window(weights, 8)
    assert (window.width, window.height) == (8, 4)
    best = max(weights[y : y + 4, x : x + 8].sum() for y in range(9) for x in range(17))
    assert window.cut(weights).sum() == best


def test_densest_window_centers_a_small_object_and_stays_inside() -> None:
    weights = np.zeros((30, 60))
    weights[20, 40] = 1
    window = densest_window(weights, 20)
    assert abs(window.x + 10 - 40) <= 1
    assert abs(window.y + 5 - 20) <= 1
    assert densest_window(weights, 500) == (0, 0, 60, 30)


def test_frame_is_drawn_around_the_window_only() -> None:
    picture = np.full((20, 40, 3), 90, dtype=np.uint8)
    framed = framed_window(picture, Window(10, 5, 20, 10), width=80)
    assert framed.shape == (40, 80, 3)
    assert (framed[10:29, 20] == WINDOW_COLOR).all()
    assert (framed[14:26, 24:56] == 90).all()
    assert (framed[:6] == 90).all()
    assert np.array_equal(framed_window(picture, Window(0, 0, 40, 20), width=40), picture)


@pytest.mark.parametrize("window", [(-1, 0, 3, 3), (0, 0, 0, 3), (38, 0, 3, 3), (0, 18, 3, 3)])
def test_window_outside_the_picture_is_refused(window: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="must lie in the 40 x 20 picture, got"):
        Window(*window).check((20, 40, 3))
