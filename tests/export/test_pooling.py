"""The matrix products against the poolings that they stand for."""

import pytest
import torch
from torch import nn

from epl_d2.export.pooling import AdaptiveAveragePooling, WindowAveragePooling, replace_pooling
from epl_d2.modeling.layers.image_pooling import ImagePooling

SIZES = [(1, 1), (3, 7), (6, 6), (13, 11), (24, 5)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cells", [2, 3, 6])
def test_adaptive_pooling_equals_pytorchs(cells, size):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    expected = nn.AdaptiveAvgPool2d(cells)(x)
    # The matrices are float32 constants such as 1/3.
    torch.testing.assert_close(AdaptiveAveragePooling(cells)(x), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("window", [(1, 1), (4, 6), (13, 2), (50, 50)])
def test_window_pooling_equals_the_heads(window, size):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(WindowAveragePooling(window)(x), ImagePooling(window)(x), rtol=0, atol=1e-6)


def test_a_traced_pooling_follows_the_size():
    traced = torch.jit.trace(nn.Sequential(WindowAveragePooling((4, 6))), torch.randn(1, 2, 3, 9))
    for size in SIZES:
        x = torch.randn(1, 2, *size)
        torch.testing.assert_close(traced(x), ImagePooling((4, 6))(x))


def test_poolings_are_found_at_any_depth_and_global_ones_stay():
    model = nn.ModuleList([nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.AdaptiveAvgPool2d(1)), ImagePooling((2, 5))])
    replace_pooling(model)
    kinds = [type(module) for module in (*model[0], model[1])]
    assert kinds == [AdaptiveAveragePooling, nn.AdaptiveAvgPool2d, WindowAveragePooling]
    assert model[0][0].cells == 3 and model[1].window == (2, 5)


def test_grids_that_are_not_square_are_refused():
    with pytest.raises(ValueError, match="only square grids"):
        replace_pooling(nn.Sequential(nn.AdaptiveAvgPool2d((2, 3))))
