"""The layers that several heads share."""

import pytest
import torch
from torch import nn

from epl_d2.modeling.layers.conv_norm_relu import conv_norm_relu
from epl_d2.modeling.layers.resize import resize


@pytest.mark.parametrize("size", [(9, 13), (3, 4), (5, 7), (1, 1), (2, 20)])
def test_resizing_puts_corners_on_corners(aligned, size):
    x = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(resize(x, size), aligned(x, size), rtol=1e-12, atol=1e-12)


def test_without_aligned_corners_values_cover_areas():
    ramp = torch.arange(4.0).expand(1, 1, 2, 4)
    expected = torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])  # the ends are held
    torch.testing.assert_close(resize(ramp, (2, 8), align_corners=False)[0, 0, 1], expected)


@pytest.mark.parametrize(("kernel_size", "dilation"), [(1, 1), (3, 1), (3, 4), (5, 2)])
def test_conv_norm_relu_is_its_formula_at_the_same_size(layers_of, kernel_size, dilation):
    torch.manual_seed(0)
    module = conv_norm_relu(4, 6, kernel_size, "BN", dilation=dilation).eval()
    x = torch.randn(2, 4, 9, 11)
    expected = layers_of(nn.ModuleDict({"unit": module})).conv_norm_relu(x, "unit", dilation=dilation)
    assert expected.shape == (2, 6, 9, 11) and (expected == 0).any() and (expected > 0).any()
    torch.testing.assert_close(module(x), expected)


def test_without_a_norm_the_names_stay():
    assert list(conv_norm_relu(4, 6, 1, "").state_dict()) == ["0.weight"]
    assert isinstance(conv_norm_relu(4, 6, 1, "")[1], nn.Identity)
    assert "1.running_var" in conv_norm_relu(4, 6, 1, "BN").state_dict()
