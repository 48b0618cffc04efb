"""A small scene with touching classes, a thin line, an ignored rim, and a prediction with known mistakes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest


class Scene(NamedTuple):
    image: np.ndarray
    target: np.ndarray
    prediction: np.ndarray
    palette: list[tuple[int, int, int]]
    classes: list[str]


@pytest.fixture
def scene() -> Scene:
    generator = np.random.default_rng(0)
    target = np.zeros((40, 48), dtype=np.uint8)
    target[8:22, 6:20] = 1
    target[8:22, 20:34] = 2
    target[30, 4:40] = 3
    target[:, :2] = 255
    prediction = target.copy()
    prediction[:, :2] = 0
    prediction[8:22, 17:20] = 2
    prediction[30] = 0
    image = generator.integers(0, 256, (*target.shape, 3), dtype=np.uint8)
    palette = [(10, 20, 30), (200, 40, 40), (40, 200, 40), (240, 200, 60)]
    return Scene(image, target, prediction, palette, ["background", "box", "block", "wire"])
