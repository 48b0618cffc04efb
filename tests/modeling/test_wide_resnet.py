"""WideResNet-38: parameters of the reference network, its blocks by formula, strides, frozen stages, bad values."""

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_backbone
from torch import nn

from epl_d2 import get_cfg
from epl_d2.modeling import WideResNet38
from epl_d2.modeling.backbone.wide_resnet import PreActivationBlock

STAGES = tuple(f"mod{number}" for number in range(1, 8))


def on_meta(**arguments) -> WideResNet38:
    with torch.device("meta"):
        return WideResNet38(**arguments)


def test_parameters_of_every_stage_equal_the_reference():
    model = on_meta()
    counts = [sum(p.numel() for p in getattr(model, stage).parameters()) for stage in STAGES]
    assert counts == [1_728, 820_608, 3_279_616, 27_274_752, 26_484_736, 9_442_304, 37_758_976]
    assert sum(p.numel() for p in model.parameters()) == sum(counts) == 105_062_720


@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 93), (560, 560)])
def test_channels_strides_and_sizes(height, width):
    model = on_meta(out_features=STAGES)
    shapes = model.output_shape()
    assert tuple(shapes[name].channels for name in STAGES) == (64, 128, 256, 512, 1024, 2048, 4096)
    assert tuple(shapes[name].stride for name in STAGES) == (1, 2, 4, 8, 8, 8, 8)
    for name, feature in model(torch.empty(1, 3, height, width, device="meta")).items():
        stride = shapes[name].stride
        assert feature.shape == (1, shapes[name].channels, -(-height // stride), -(-width // stride))


def test_dilations_and_dropout_of_the_stages():
    model = on_meta()
    dilations = {
        stage: {m.dilation[0] for m in getattr(model, stage).modules() if getattr(m, "kernel_size", 1) == (3, 3)}
        for stage in STAGES
    }
    assert dilations == {"mod1": {1}, "mod2": {1}, "mod3": {1}, "mod4": {1}, "mod5": {2}, "mod6": {4}, "mod7": {4}}
    assert [len(getattr(model, stage)) for stage in STAGES[1:]] == [3, 3, 6, 3, 1, 1]
    dropouts = {name: m.p for name, m in model.named_modules() if isinstance(m, nn.Dropout2d)}
    assert dropouts == {"mod6.block1.convs.dropout": 0.3, "mod7.block1.convs.dropout": 0.5}


def block_by_formula(x: torch.Tensor, state: dict[str, torch.Tensor], stride: int, dilation: int) -> torch.Tensor:
    def norm_relu(x, name):
        names = [f"{name}.0.{entry}" for entry in ("running_mean", "running_var", "weight", "bias")]
        mean, variance, weight, bias = (state[entry][:, None, None] for entry in names)
        return ((x - mean) / (variance + 1e-5).sqrt() * weight + bias).clamp(min=0)

    def conv(x, name, stride=1):
        weight = state[f"{name}.weight"]
        spread = dilation if weight.shape[-1] == 3 else 1
        return F.conv2d(x, weight, stride=stride, dilation=spread, padding=spread * (weight.shape[-1] // 2))

    activated = norm_relu(x, "bn1")
    out = conv(activated, "convs.conv1", stride)
    out = conv(norm_relu(out, "convs.bn2"), "convs.conv2")
    if "convs.conv3.weight" in state:
        out = conv(norm_relu(out, "convs.bn3"), "convs.conv3")
    return out + (conv(activated, "proj_conv", stride) if "proj_conv.weight" in state else x)


@pytest.mark.parametrize(
    ("channels", "stride", "dilation", "projects"),
    [((6, 6), 1, 1, False), ((8, 8), 2, 1, True), ((4, 8), 1, 2, True), ((4, 5, 9), 1, 4, True)],
)
@torch.no_grad()
def test_block_equals_its_formula(channels, stride, dilation, projects):
    torch.manual_seed(0)
    block = PreActivationBlock(6, channels, norm="BN", stride=stride, dilation=dilation, dropout=0.3).double().eval()
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_var, module.weight):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.running_mean, module.bias):
                nn.init.uniform_(tensor, -0.5, 0.5)
    assert (block.proj_conv is not None) == projects
    x = torch.randn(2, 6, 13, 12, dtype=torch.float64)
    before = x.clone()
    torch.testing.assert_close(block(x), block_by_formula(x, block.state_dict(), stride, dilation))
    assert torch.equal(x, before)  # no activation in place on what other layers read


@torch.no_grad()
def test_features_equal_the_literal_network():
    torch.manual_seed(0)
    model = WideResNet38(out_features=("mod2", "mod4")).eval()
    assert not hasattr(model, "mod5")  # a stage that no feature needs would have parameters without a gradient
    state = model.state_dict()
    picture = torch.randn(1, 3, 33, 40)
    x = F.conv2d(picture, state["mod1.conv1.weight"], padding=1)
    expected = {}
    for stage, blocks, pooled, stride in (("mod2", 3, True, 1), ("mod3", 3, True, 1), ("mod4", 6, False, 2)):
        if pooled:
            padded = F.pad(x, (1, 1, 1, 1), value=float("-inf"))
            x = padded.unfold(2, 3, 2).unfold(3, 3, 2).amax(dim=(-2, -1))
        for block in range(1, blocks + 1):
            prefix = f"{stage}.block{block}."
            entries = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            x = block_by_formula(x, entries, stride if block == 1 else 1, dilation=1)
        expected[stage] = x
    features = model(picture)
    assert features.keys() == {"mod2", "mod4"}
    for name, feature in features.items():
        torch.testing.assert_close(feature, expected[name], rtol=1e-4, atol=1e-4 * feature.abs().max().item())


def test_freezing_stops_parameters_and_statistics_of_the_first_stages():
    model = on_meta(freeze_at=3).train()
    for number, stage in enumerate(STAGES, start=1):
        part = getattr(model, stage)
        assert all(p.requires_grad == (number > 3) for p in part.parameters())
        assert any(isinstance(m, FrozenBatchNorm2d) for m in part.modules()) == (number in (2, 3))
        assert any(isinstance(m, nn.BatchNorm2d) for m in part.modules()) == (number > 3)


def test_built_from_a_config():
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "WideResNet38"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.WIDE_RESNET38.NORM = "FrozenBN"
    cfg.MODEL.WIDE_RESNET38.OUT_FEATURES = ["mod3"]
    backbone = build_backbone(cfg)
    assert isinstance(backbone, WideResNet38)
    assert list(backbone.output_shape()) == ["mod3"]
    assert not any(isinstance(m, nn.BatchNorm2d) for m in backbone.modules())


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"out_features": ("mod8",)}, "OUT_FEATURES"),
        ({"out_features": ()}, "OUT_FEATURES"),
        ({"freeze_at": 8}, "FREEZE_AT"),
        ({"freeze_at": -1}, "FREEZE_AT"),
    ],
)
def test_bad_arguments_name_the_key(arguments, key):
    with pytest.raises(ValueError, match=key):
        WideResNet38(**arguments)
