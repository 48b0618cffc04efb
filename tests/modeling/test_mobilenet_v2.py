"""MobileNetV2 against torchvision's, and against the strides and dilations of its reference implementation."""

import pytest
import torch
import torchvision
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_backbone
from torch import nn

from epl_d2 import get_cfg
from epl_d2.checkpoint import convert_state_dict
from epl_d2.modeling import MobileNetV2

ALL_FEATURES = ("res1", "res2", "res3", "res4", "res5")


def converted_torchvision(seed: int = 0):
    torch.manual_seed(seed)
    theirs = torchvision.models.mobilenet_v2(weights=None).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics that are not the identity, so that a mix-up shows
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    converted = convert_state_dict(theirs.state_dict(), "torchvision")
    return theirs, {key.removeprefix("backbone."): value for key, value in converted.items()}


def ours_with(state_dict, **kwargs) -> MobileNetV2:
    model = MobileNetV2(out_features=ALL_FEATURES, **kwargs).eval()
    missing, unexpected = model.load_state_dict(state_dict, strict=False)
    assert not unexpected
    assert all(key.endswith("num_batches_tracked") for key in missing)
    return model


def test_parameter_count():
    assert sum(p.numel() for p in MobileNetV2().parameters()) == 1_811_712


@torch.no_grad()
def test_undilated_network_equals_torchvision():
    theirs, state_dict = converted_torchvision()
    ours = ours_with(state_dict, output_stride=32, pad_before_expansion=False)
    x = torch.randn(2, 3, 97, 130, generator=torch.Generator().manual_seed(1))
    features = ours(x)
    for name, end in {"res1": 2, "res2": 4, "res3": 7, "res4": 14, "res5": 18}.items():
        torch.testing.assert_close(features[name], theirs.features[:end](x), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_padding_before_expansion_changes_the_border_only():
    _, state_dict = converted_torchvision()
    x = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    inside, before = (ours_with(state_dict, pad_before_expansion=flag)(x)["res2"] for flag in (False, True))
    difference = (inside - before).abs().amax(dim=(0, 1))
    assert difference[0].max() > 1e-3
    assert difference[8:-8, 8:-8].max() < 1e-5


@pytest.mark.parametrize(
    ("output_stride", "strides", "dilations"),
    [
        (32, (2, 4, 8, 16, 32), {7: 1, 11: 1, 14: 1, 17: 1}),
        (16, (2, 4, 8, 16, 16), {7: 1, 11: 1, 14: 1, 16: 1, 17: 2}),
        (8, (2, 4, 8, 8, 8), {7: 1, 10: 1, 11: 2, 14: 2, 16: 2, 17: 4}),
    ],
)
def test_output_strides_and_dilations(output_stride, strides, dilations):
    model = MobileNetV2(output_stride=output_stride, out_features=ALL_FEATURES)
    shapes = model.output_shape()
    assert tuple(shapes[name].stride for name in ALL_FEATURES) == strides
    assert tuple(shapes[name].channels for name in ALL_FEATURES) == (16, 24, 32, 96, 320)
    for index, dilation in dilations.items():
        depthwise = [m for m in model.features[index].modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
        assert depthwise[0].dilation == (dilation, dilation), index
    for height, width in ((64, 64), (65, 93)):
        for name, feature in model(torch.randn(2, 3, height, width)).items():
            stride = shapes[name].stride
            assert feature.shape == (2, shapes[name].channels, -(-height // stride), -(-width // stride))


def test_freezing_stops_parameters_and_statistics_of_the_first_stages():
    model = MobileNetV2(freeze_at=2).train()
    frozen, trained = model.features[:4], model.features[4:]
    assert not any(p.requires_grad for p in frozen.parameters())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in frozen.modules())
    assert any(isinstance(m, FrozenBatchNorm2d) for m in frozen.modules())
    assert all(p.requires_grad for p in trained.parameters())


def test_built_from_a_config():
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "MobileNetV2"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.MOBILENETV2.NORM = "FrozenBN"
    cfg.MODEL.MOBILENETV2.OUTPUT_STRIDE = 8
    backbone = build_backbone(cfg)
    assert isinstance(backbone, MobileNetV2)
    assert backbone.output_shape()["res5"].stride == 8


def test_feature_pyramid():
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_mobilenet_v2_fpn_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.MOBILENETV2.NORM = cfg.MODEL.FPN.NORM = "BN"
    cfg.MODEL.MOBILENETV2.OUTPUT_STRIDE = 32
    cfg.MODEL.MOBILENETV2.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    pyramid = build_backbone(cfg)
    shapes = {name: (shape.channels, shape.stride) for name, shape in pyramid.output_shape().items()}
    assert shapes == {"p2": (16, 4), "p3": (16, 8), "p4": (16, 16), "p5": (16, 32)}
    features = pyramid(torch.randn(2, 3, 64, 96))
    assert {name: tuple(f.shape) for name, f in features.items()} == {
        name: (2, 16, 64 // stride, 96 // stride) for name, (_, stride) in shapes.items()
    }
    # MobileNetV2's, and for each input a 1x1 and a 3x3 convolution without bias, each with a norm.
    pyramid_parameters = sum(16 * (c + 9 * 16) + 4 * 16 for c in (24, 32, 96, 320))
    assert sum(p.numel() for p in pyramid.parameters()) == 1_811_712 + pyramid_parameters


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"output_stride": 4}, "OUTPUT_STRIDE"),
        ({"out_features": ("res6",)}, "OUT_FEATURES"),
        ({"out_features": ()}, "OUT_FEATURES"),
        ({"freeze_at": 7}, "FREEZE_AT"),
    ],
)
def test_bad_arguments_name_the_key(arguments, key):
    with pytest.raises(ValueError, match=key):
        MobileNetV2(**arguments)
