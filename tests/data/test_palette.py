"""The default colors, measured by formulas that do not make them: Viénot's dichromats and CIELAB."""

import cv2
import numpy as np
import pytest

from epl_d2.data.datasets.metadata import bit_reversal_palette
from epl_d2.data.datasets.palette import distinct_palette
from epl_d2.visualization.draw import IGNORED_COLOR, MATCHED_COLOR

# Viénot, Brettel and Mollon 1999: linear RGB to the responses of the cones, and what a dichromat has instead of one.
CONES = np.array(
    [[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]],
)
EYES = {
    "normal": np.eye(3),
    "protanope": np.array([[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]]),
    "deuteranope": np.array([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]]),
}


def lab(colors, eye: str) -> np.ndarray:
    """CIELAB [N, 3] of sRGB colors as an eye sees them."""
    values = np.asarray(colors) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ (np.linalg.inv(CONES) @ EYES[eye] @ CONES).T, 0, 1)
    gamma = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    return cv2.cvtColor(gamma.astype(np.float32)[None], cv2.COLOR_RGB2Lab)[0]


def smallest_distance(colors, eye: str) -> float:
    """The smallest difference of two colors, CIE76; 2.3 is just noticeable."""
    points = lab(colors, eye)
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    return distances[~np.eye(len(points), dtype=bool)].min()


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize(("count", "least"), [(2, 100), (4, 24), (8, 16), (12, 11), (21, 8)])
def test_every_eye_tells_them_apart(eye, count, least):
    assert smallest_distance(distinct_palette(count), eye) >= least


def test_the_measure_finds_colors_that_are_too_near():
    """Those of the VOC devkit, which were the default."""
    assert smallest_distance(bit_reversal_palette(8), "protanope") < 5
    assert smallest_distance(bit_reversal_palette(21), "deuteranope") < 2.3


@pytest.mark.parametrize("other", [(0, 0, 0), MATCHED_COLOR, IGNORED_COLOR])
def test_none_looks_like_shadow_contour_or_ignored(other):
    for color in distinct_palette(40):
        assert smallest_distance([color, other], "normal") > 15, color
    lightness = lab(distinct_palette(40), "normal")[:, 0]
    assert lightness.min() > 20 and lightness.max() < 96


def test_a_longer_palette_begins_with_the_shorter_one_and_repeats_none():
    longest = distinct_palette(300)
    assert all(distinct_palette(count) == longest[:count] for count in (1, 2, 3, 19))
    assert len(set(longest)) == 300
    assert len(distinct_palette(1000)) == 1000
