"""The band of a mask against distances from SciPy, and its width against the published rule."""

import numpy as np
import pytest
from scipy import ndimage

from epl_d2.contours import band_width, inner_band


@pytest.mark.parametrize("distance", [1, 2, 3, 7])
def test_band_is_what_lies_near_the_outside(distance):
    rng = np.random.default_rng(distance)
    for height, width in ((1, 1), (1, 9), (20, 31), (40, 12)):
        mask = ndimage.gaussian_filter(rng.normal(size=(height, width)), 2) > 0
        to_outside = ndimage.distance_transform_cdt(np.pad(mask, 1), metric="chessboard")[1:-1, 1:-1]
        expected = mask & (to_outside <= distance)
        assert (inner_band(mask, distance) == expected).all()
        assert (inner_band(np.asfortranarray(mask, dtype=np.uint8), distance) == expected).all()


def test_a_part_of_the_image_that_holds_the_mask_is_enough():
    mask = np.zeros((30, 40), dtype=bool)
    mask[5:25, 10:30] = True
    whole = inner_band(mask, 3)
    assert (inner_band(mask[5:25, 10:30], 3) == whole[5:25, 10:30]).all() and whole.sum() == 20**2 - 14**2


@pytest.mark.parametrize(
    ("size", "pixels"), [((480, 640), 16), ((1024, 2048), 46), ((128, 128), 4), ((10, 10), 1), ((1, 1), 1)]
)
def test_width_is_two_percent_of_the_diagonal_and_at_least_a_pixel(size, pixels):
    assert band_width(*size) == pixels
