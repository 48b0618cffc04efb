"""NVIDIA's DeepLabV3+: the reference's parameter counts, its layers by formula, EPL beside it."""

from pathlib import Path

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model

from epl_d2 import get_cfg
from epl_d2.modeling import EPLNVIDIADeepLabV3PlusHead

CONFIGS = Path(__file__).parents[2] / "configs"
NUM_CLASSES = 4
SHAPES = {"fine": ShapeSpec(channels=5, stride=2), "coarse": ShapeSpec(channels=7, stride=8)}


def head_config(**keys):
    cfg = get_cfg()
    head = cfg.MODEL.SEM_SEG_HEAD
    head.NUM_CLASSES, head.NORM, head.CONVS_DIM = NUM_CLASSES, "BN", 6
    head.ASPP_CHANNELS, head.ASPP_DILATIONS, head.PROJECT_CHANNELS = 8, [1, 2, 3], [3]
    head.IN_FEATURES = ["fine", "coarse"]
    cfg.MODEL.EPL.ENABLED = False
    for key, value in keys.items():
        head[key] = value
    return cfg


def build(cfg) -> EPLNVIDIADeepLabV3PlusHead:
    torch.manual_seed(0)
    return EPLNVIDIADeepLabV3PlusHead(cfg, SHAPES)


def features_of(height: int, width: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    features = {
        name: torch.randn(2, s.channels, -(-height // s.stride), -(-width // s.stride), generator=generator)
        for name, s in SHAPES.items()
    }
    return {**features, "image": torch.zeros(2, 3, height, width)}


@pytest.mark.parametrize(
    ("name", "total", "parts"),
    [
        (
            "nvidia_deeplab_v3_plus_wide_resnet38_os8",
            137_103_936,
            {"aspp": 30_411_264, "bot_fine": 6_144, "bot_aspp": 327_680, "final": 1_296_128},
        ),
        ("nvidia_deeplab_v3_plus_R_50_os8", 40_351_040, {}),
        ("nvidia_deeplab_v3_plus_R_101_os8", 59_343_168, {}),
    ],
)
@pytest.mark.parametrize("epl", ["", "_epl"])
def test_parameter_counts_of_the_reference(name, total, parts, epl):
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / "Cityscapes" / f"{name}{epl}.yaml"))
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        model = build_model(cfg)
    assert sum(p.numel() for p in model.parameters()) == total
    for part, count in parts.items():
        assert sum(p.numel() for p in getattr(model.sem_seg_head, part).parameters()) == count


@pytest.mark.parametrize("size", [(64, 96), (63, 101)])
@torch.no_grad()
def test_logits_equal_the_literal_head(layers_of, aligned, size):
    """Image pooling first, then the 1x1 and the dilated branches; projections without norms; no bias at the end."""
    head = build(head_config()).eval()
    layers, features = layers_of(head), features_of(*size)
    fine, coarse = features["fine"], features["coarse"]
    pooled = layers.conv_norm_relu(coarse.mean((2, 3), keepdim=True), "aspp.img_conv")
    branches = [pooled.expand(-1, -1, *coarse.shape[-2:])]
    for index, dilation in enumerate((1, 1, 2, 3)):
        branches.append(layers.conv_norm_relu(coarse, f"aspp.features.{index}", dilation=dilation))
    context = aligned(layers.conv(torch.cat(branches, dim=1), "bot_aspp"), fine.shape[-2:])
    x = torch.cat([layers.conv(fine, "bot_fine"), context], dim=1)
    for index in (0, 3):
        x = layers.norm(layers.conv(x, f"final.{index}"), f"final.{index + 1}").clamp(min=0)
    logits, losses = head(features)
    assert logits.shape == (2, NUM_CLASSES, *size)
    assert losses == {}
    torch.testing.assert_close(logits, aligned(layers.conv(x, "final.6"), size), rtol=1e-4, atol=1e-5)


def test_epl_adds_losses_but_no_parameter_and_no_change_of_inference():
    cfg = head_config()
    baseline = build(cfg)
    cfg.MODEL.EPL.ENABLED = True
    head = build(cfg)
    assert list(head.state_dict()) == list(baseline.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(head.parameters(), baseline.parameters(), strict=True))
    features = features_of(64, 96)
    with torch.no_grad():
        assert torch.equal(head.eval()(features)[0], baseline.eval()(features)[0])
    labels = torch.randint(0, NUM_CLASSES, (2, 64, 96), generator=torch.Generator().manual_seed(2))
    _, expected = baseline.train()(features, labels)
    _, losses = head.train()(features, labels)
    assert losses.keys() == expected.keys() | {"loss_epl_point", "loss_epl_line"}
    assert torch.equal(losses["loss_sem_seg"], expected["loss_sem_seg"])
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"IN_FEATURES": ["fine", "res9"]}, "no res9; it has fine, coarse"),
        ({"IN_FEATURES": ["coarse"]}, "a fine and a coarse feature"),
        ({"PROJECT_CHANNELS": [3, 3]}, "PROJECT_CHANNELS"),
    ],
)
def test_bad_values_fail_when_the_head_is_built(keys, message):
    with pytest.raises(ValueError, match=message):
        build(head_config(**keys))


@pytest.mark.slow
def test_the_whole_model_trains_a_step_and_takes_any_image():
    """On WideResNet-38, whose 137 million parameters all get a finite gradient."""
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / "Cityscapes" / "nvidia_deeplab_v3_plus_wide_resnet38_os8_epl.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.SEM_SEG_HEAD.NORM = cfg.MODEL.WIDE_RESNET38.NORM = "BN"
    model = build_model(cfg).train()
    labels = torch.randint(0, 19, (2, 17, 24), generator=torch.Generator().manual_seed(0))
    records = [{"image": torch.randint(0, 256, (3, 17, 24), dtype=torch.uint8), "sem_seg": y} for y in labels]
    losses = model(records)
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    with torch.no_grad():
        (result,) = model.eval()([{"image": records[0]["image"], "height": 17, "width": 24}])
    assert result["sem_seg"].shape == (19, 17, 24)
