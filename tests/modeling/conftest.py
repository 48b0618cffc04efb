"""Layers as formulas over a state dict, for the literal networks of several tests."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F


def interpolation(source: int, wanted: int) -> torch.Tensor:
    """[wanted, source]: linear interpolation at points that divide the way from the first to the last evenly."""
    places = torch.arange(wanted, dtype=torch.float64) * (source - 1) / max(1, wanted - 1)
    return (1 - (places[:, None] - torch.arange(source)).abs()).clamp(min=0)


@pytest.fixture
def aligned() -> Callable[[torch.Tensor, tuple[int, int]], torch.Tensor]:
    """(x [N, C, h, w], (H, W)) -> [N, C, H, W], bilinear, corners on corners."""

    def resized(x, size):
        rows, columns = (interpolation(*lengths).to(x) for lengths in zip(x.shape[-2:], size, strict=True))
        return torch.einsum("Hh,nchw,Ww->ncHW", rows, x, columns)

    return resized


class Layers:
    """The layers of a network in evaluation, by the names of a state dict."""

    def __init__(self, state_dict: dict[str, torch.Tensor]):
        self.entries = state_dict

    def conv(self, x: torch.Tensor, name: str, *, stride: int = 1, dilation: int = 1) -> torch.Tensor:
        weight = self.entries[f"{name}.weight"]
        padding = [dilation * (side // 2) for side in weight.shape[-2:]]
        return F.conv2d(x, weight, self.entries.get(f"{name}.bias"), stride, padding, dilation)

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        mean, variance, weight, bias = (
            self.entries[f"{name}.{entry}"][:, None, None]
            for entry in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * weight + bias

    def conv_norm_relu(self, x: torch.Tensor, name: str, *, dilation: int = 1) -> torch.Tensor:
        return self.norm(self.conv(x, f"{name}.0", dilation=dilation), f"{name}.1").clamp(min=0)


@pytest.fixture
def layers_of() -> Callable[[torch.nn.Module], Layers]:
    """Gives the layers of a module, whose norms get statistics, weights and biases that are not the identity."""

    def made(module):
        generator = torch.Generator().manual_seed(5)
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                for tensor, least in ((part.running_mean, -0.2), (part.running_var, 0.6), (part.bias, -0.2)):
                    tensor.data.uniform_(least, least + 0.4, generator=generator)
                part.weight.data.uniform_(0.5, 1.5, generator=generator)
        return Layers(module.state_dict())

    return made
