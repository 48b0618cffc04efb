"""DRN-D-54 against a literal forward pass over a state dict with fyu/drn's names."""

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_backbone
from torch import nn

from epl_d2 import get_cfg
from epl_d2.checkpoint import convert_state_dict
from epl_d2.modeling import DRN

SHAPES = {
    "layer0": (16, 1),
    "layer1": (16, 1),
    "layer2": (32, 2),
    "layer3": (256, 4),
    "layer4": (512, 8),
    "layer5": (1024, 8),
    "layer6": (2048, 8),
    "layer7": (512, 8),
    "layer8": (512, 8),
}


class LiteralDRN:
    """DRN-D-54 as one walk that makes its weights on the way, under the reference's names."""

    def __init__(self, seed: int = 0):
        self.generator = torch.Generator().manual_seed(seed)
        self.state_dict = {}

    def norm(self, x, name):
        entries = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
        for entry, center in entries.items():
            noise = torch.rand(x.shape[1], generator=self.generator) - 0.5
            self.state_dict[f"{name}.{entry}"] = center + 0.4 * noise
        mean, var, weight, bias = (
            self.state_dict[f"{name}.{entry}"][:, None, None]
            for entry in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    def conv(self, x, name, out_channels, size, stride=1, dilation=1):
        fan_in = x.shape[1] * size * size
        weight = torch.randn(out_channels, x.shape[1], size, size, generator=self.generator) * (2 / fan_in) ** 0.5
        self.state_dict[f"{name}.weight"] = weight
        return F.conv2d(x, weight, stride=stride, padding=dilation * (size - 1) // 2, dilation=dilation)

    def __call__(self, x):
        features = []
        for name, channels, size, stride in (("layer0", 16, 7, 1), ("layer1", 16, 3, 1), ("layer2", 32, 3, 2)):
            x = self.norm(self.conv(x, f"{name}.0", channels, size, stride), f"{name}.1").relu()
            features.append(x)
        residual = (
            ("layer3", 64, 3, 2, 1),
            ("layer4", 128, 4, 2, 1),
            ("layer5", 256, 6, 1, 2),
            ("layer6", 512, 3, 1, 4),
        )
        for layer, planes, blocks, first_stride, dilation in residual:
            for block in range(blocks):
                name, stride = f"{layer}.{block}", first_stride if block == 0 else 1
                y = self.norm(self.conv(x, f"{name}.conv1", planes, 1), f"{name}.bn1").relu()
                y = self.norm(self.conv(y, f"{name}.conv2", planes, 3, stride, dilation), f"{name}.bn2").relu()
                y = self.norm(self.conv(y, f"{name}.conv3", 4 * planes, 1), f"{name}.bn3")
                if block == 0:
                    x = self.norm(self.conv(x, f"{name}.downsample.0", 4 * planes, 1, stride), f"{name}.downsample.1")
                x = (x + y).relu()
            features.append(x)
        for name, dilation in (("layer7", 2), ("layer8", 1)):
            x = self.norm(self.conv(x, f"{name}.0", 512, 3, dilation=dilation), f"{name}.1").relu()
            features.append(x)
        return features


@torch.no_grad()
def test_features_equal_the_literal_network_and_the_converter_renames_all():
    literal = LiteralDRN()
    x = torch.randn(1, 3, 41, 30, generator=torch.Generator().manual_seed(1))
    expected = literal(x)
    state_dict = {**literal.state_dict, "fc.weight": torch.ones(1000, 512, 1, 1), "fc.bias": torch.ones(1000)}
    converted = convert_state_dict(state_dict, "drn")
    model = DRN(out_features=tuple(SHAPES)).eval()
    model.load_state_dict({key.removeprefix("backbone."): value for key, value in converted.items()}, strict=True)
    features = model(x)
    for (name, (channels, stride)), feature in zip(SHAPES.items(), expected, strict=True):
        torch.testing.assert_close(features[name], feature, rtol=1e-4, atol=1e-4 * feature.abs().max().item())
        shape = model.output_shape()[name]
        assert (shape.channels, shape.stride) == (channels, stride)
        assert features[name].shape == (1, channels, -(-41 // stride), -(-30 // stride))


def test_parameter_count_and_built_from_a_config():
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "DRN"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.DRN.NORM = "FrozenBN"
    with torch.device("meta"):
        assert sum(p.numel() for p in DRN().parameters()) == 35_296_176
        backbone = build_backbone(cfg)
    assert list(backbone.output_shape()) == ["layer3", "layer8"]
    assert not any(isinstance(m, nn.BatchNorm2d) for m in backbone.modules())


def test_layers_after_the_last_feature_are_not_built():
    model = DRN(out_features=("layer2",))
    assert {key.split(".")[0] for key in model.state_dict()} == {"layer0", "layer1", "layer2"}
    assert list(model(torch.zeros(1, 3, 9, 9))) == ["layer2"]


def test_freezing_stops_parameters_and_statistics_of_the_first_layers():
    with torch.device("meta"):
        model = DRN(freeze_at=4).train()
    for index in range(9):
        layer = getattr(model, f"layer{index}")
        assert all(p.requires_grad == (index >= 4) for p in layer.parameters()), index
        norm = FrozenBatchNorm2d if index < 4 else nn.BatchNorm2d
        assert any(isinstance(m, norm) for m in layer.modules()), index


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"out_features": ("layer9",)}, "OUT_FEATURES"),
        ({"out_features": ()}, "OUT_FEATURES"),
        ({"freeze_at": 10}, "FREEZE_AT"),
    ],
)
def test_bad_arguments_name_the_key(arguments, key):
    with pytest.raises(ValueError, match=key):
        DRN(**arguments)
