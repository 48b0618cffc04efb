"""The head of jfzhang95's form against literal formulas, and its parameter counts."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model

from epl_d2 import get_cfg
from epl_d2.modeling import EPLPyTorchDeepLabHead

CONFIGS = Path(__file__).parents[2] / "configs"
NUM_CLASSES = 4
SHAPES = {"res2": ShapeSpec(channels=6, stride=4), "res5": ShapeSpec(channels=10, stride=16)}
SIZE = 65, 41


def head_config(*, enabled: bool = False):
    cfg = get_cfg()
    head = cfg.MODEL.SEM_SEG_HEAD
    head.NUM_CLASSES, head.NORM, head.IN_FEATURES = NUM_CLASSES, "BN", ["res2", "res5"]
    head.ASPP_CHANNELS, head.ASPP_DILATIONS, head.PROJECT_CHANNELS, head.CONVS_DIM = 8, [2, 3, 4], [5], 7
    cfg.MODEL.EPL.ENABLED = enabled
    return cfg


def build(cfg, seed=0) -> EPLPyTorchDeepLabHead:
    torch.manual_seed(seed)
    return EPLPyTorchDeepLabHead(cfg, SHAPES)


def features_of(size=SIZE):
    generator = torch.Generator().manual_seed(0)
    features = {
        name: torch.randn(2, shape.channels, *(-(-side // shape.stride) for side in size), generator=generator)
        for name, shape in SHAPES.items()
    }
    return {**features, "image": torch.zeros(2, 3, *size)}


def labels_of(size=SIZE):
    labels = torch.randint(0, NUM_CLASSES, (2, *size), generator=torch.Generator().manual_seed(3))
    labels[:, :3] = 255
    return labels


@torch.no_grad()
def test_logits_equal_the_literal_head():
    head, features = build(head_config()), features_of()
    head.train()(features, labels_of())  # statistics that are not the initial ones
    head.eval()
    entries = head.state_dict()

    def block(x, conv, bn, dilation=1):
        weight = entries[f"{conv}.weight"]
        x = F.conv2d(x, weight, padding=dilation * (weight.shape[-1] // 2), dilation=dilation)
        statistics = (entries[f"{bn}.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *statistics, eps=1e-5).relu()

    def resize(x, size):
        return F.interpolate(x, size=size, mode="bilinear", align_corners=True)

    x, low = features["res5"], features["res2"]
    branches = [
        block(x, f"aspp.aspp{i}.atrous_conv", f"aspp.aspp{i}.bn", rate) for i, rate in enumerate((1, 2, 3, 4), start=1)
    ]
    pooled = block(x.mean(dim=(2, 3), keepdim=True), "aspp.global_avg_pool.1", "aspp.global_avg_pool.2")
    y = block(torch.cat([*branches, resize(pooled, x.shape[-2:])], dim=1), "aspp.conv1", "aspp.bn1")
    low = block(low, "decoder.conv1", "decoder.bn1")
    y = torch.cat([resize(y, low.shape[-2:]), low], dim=1)
    y = block(y, "decoder.last_conv.0", "decoder.last_conv.1")
    y = block(y, "decoder.last_conv.4", "decoder.last_conv.5")
    logits = F.conv2d(y, entries["decoder.last_conv.8.weight"], entries["decoder.last_conv.8.bias"])
    torch.testing.assert_close(head(features)[0], resize(logits, SIZE), rtol=1e-4, atol=1e-5)


def test_dropout_of_the_reference():
    cfg = head_config()
    cfg.MODEL.SEM_SEG_HEAD.ASPP_DROPOUT = 0.5
    head = build(cfg)
    rates = {name: m.p for name, m in head.named_modules() if isinstance(m, torch.nn.modules.dropout._DropoutNd)}
    assert rates == {"aspp.dropout": 0.5, "decoder.last_conv.3": 0.5, "decoder.last_conv.7": 0.1}


@pytest.mark.parametrize("enabled", [False, True])
def test_training_losses_and_gradients(enabled):
    head = build(head_config(enabled=enabled)).train()
    _, losses = head(features_of(), labels_of())
    assert set(losses) == {"loss_sem_seg"} | ({"loss_epl_point", "loss_epl_line"} if enabled else set())
    sum(losses.values()).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_loss_weight_expresses_the_references_division_by_the_batch():
    cfg = head_config()
    cfg.MODEL.SEM_SEG_HEAD.LOSS_WEIGHT = 1 / 16
    losses = []
    for config in (head_config(), cfg):
        torch.manual_seed(0)
        head = EPLPyTorchDeepLabHead(config, SHAPES).train()
        losses.append(head(features_of(), labels_of())[1]["loss_sem_seg"])
    torch.testing.assert_close(losses[0] / 16, losses[1])


@torch.no_grad()
def test_inference_and_keys_are_those_without_epl():
    with_epl, without = (build(head_config(enabled=enabled)).eval() for enabled in (True, False))
    assert list(with_epl.state_dict()) == list(without.state_dict())
    for size in (SIZE, (50, 33)):
        logits = with_epl(features_of(size))[0]
        assert logits.shape == (2, NUM_CLASSES, *size)
        assert torch.equal(logits, without(features_of(size))[0])


def count(module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("name", "total", "backbone", "aspp", "decoder"),
    [
        ("pytorch_deeplab_R_101_os16", 59_344_309, 42_500_160, 15_535_104, 1_309_045),
        ("pytorch_deeplab_mobilenet_v2_os16", 5_816_053, 1_811_712, 2_706_432, 1_297_909),
        ("pytorch_deeplab_drn_d_54_os8", 40_737_061, 35_296_176, 4_131_840, 1_309_045),
    ],
)
def test_parameter_counts_of_the_reference(name, total, backbone, aspp, decoder):
    for classes, difference in ((21, 0), (19, 514)):
        cfg = get_cfg()
        cfg.merge_from_file(str(CONFIGS / "VOC2012" / f"{name}.yaml"))
        cfg.MODEL.DEVICE, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = "meta", classes
        with torch.device("meta"):
            model = build_model(cfg)
        head = model.sem_seg_head
        assert count(model) == total - difference
        assert count(model.backbone) == backbone
        assert (count(head.aspp), count(head.decoder)) == (aspp, decoder - difference)


def test_output_stride_8_of_resnet_101_has_the_same_parameters():
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / "VOC2012" / "pytorch_deeplab_R_101_os16.yaml"))
    cfg.MODEL.DEVICE = "meta"
    cfg.MODEL.RESNETS.RES4_DILATION, cfg.MODEL.RESNETS.RES5_DILATION = 2, 4
    with torch.device("meta"):
        model = build_model(cfg)
    assert model.backbone.output_shape()["res5"].stride == 8
    aspp = model.sem_seg_head.aspp
    rates = [branch.atrous_conv.dilation[0] for branch in (aspp.aspp2, aspp.aspp3, aspp.aspp4)]
    assert rates == [12, 24, 36]  # follow from the stride, unless they are set
    assert count(model) == 59_344_309


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("IN_FEATURES", ["res5"]),
        ("IN_FEATURES", ["res2", "res4"]),
        ("ASPP_DILATIONS", [6, 12]),
        ("ASPP_DILATIONS", [1, 6, 12]),
        ("PROJECT_CHANNELS", []),
        ("NORM", ""),
    ],
)
def test_bad_values_fail_when_the_head_is_built(key, value):
    cfg = head_config()
    cfg.MODEL.SEM_SEG_HEAD[key] = value
    with pytest.raises(ValueError, match=rf"MODEL\.SEM_SEG_HEAD\.{key}"):
        build(cfg)
