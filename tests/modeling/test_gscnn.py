"""GSCNN: the reference's parameter counts, its layers by formula, its four losses, edge maps from loader and head."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model

from epl_d2 import get_cfg
from epl_d2.contours.edges import canny_of_normalized, label_edges
from epl_d2.data.maps import build_maps
from epl_d2.losses.criteria.gscnn import dual_task_loss, edge_attention_loss, edge_loss, image_weighted_cross_entropy
from epl_d2.modeling import EPLGSCNNHead
from epl_d2.modeling.layers.shape_stream import ShapeStream

CONFIGS = Path(__file__).parents[2] / "configs"
NUM_CLASSES = 4
SHAPES = {
    "first": ShapeSpec(channels=6, stride=1),
    "fine": ShapeSpec(channels=5, stride=2),
    "coarse": ShapeSpec(channels=7, stride=8),
}
OWN_LOSSES = {"loss_edge", "loss_attention", "loss_dual_task"}
CAMVID = "CamVid/gscnn_mobilenet_v2_os16_c64_240_200_bs4_epl.yaml"


def head_config(**gscnn):
    cfg = get_cfg()
    head = cfg.MODEL.SEM_SEG_HEAD
    head.NUM_CLASSES, head.NORM, head.CONVS_DIM, head.LOSS_TYPE = NUM_CLASSES, "BN", 6, "image_weighted"
    head.ASPP_CHANNELS, head.ASPP_DILATIONS, head.PROJECT_CHANNELS = 8, [1, 2, 3], [3]
    head.IN_FEATURES = ["fine", "coarse"]
    cfg.MODEL.GSCNN.SHAPE_FEATURES, cfg.MODEL.GSCNN.SHAPE_CHANNELS = ["first", "fine", "coarse"], [4, 2]
    cfg.MODEL.EPL.ENABLED = False
    for key, value in gscnn.items():
        cfg.MODEL.GSCNN[key] = value
    return cfg


def build(cfg) -> EPLGSCNNHead:
    torch.manual_seed(0)
    return EPLGSCNNHead(cfg, SHAPES)


def features_of(height: int, width: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    features = {
        name: torch.randn(2, s.channels, -(-height // s.stride), -(-width // s.stride), generator=generator)
        for name, s in SHAPES.items()
    }
    return {**features, "image": 2 * torch.randn(2, 3, height, width, generator=generator)}


def labels_of(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    coarse = torch.randint(0, NUM_CLASSES, (2, height // 8 + 1, width // 8 + 1), generator=generator)
    labels = coarse.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, :height, :width].clone()
    labels[:, :5] = 255
    return labels


@pytest.mark.parametrize("epl", ["", "_epl"])
def test_parameter_counts_of_the_reference(epl):
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / "Cityscapes" / f"gscnn_wide_resnet38_os8{epl}.yaml"))
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        model = build_model(cfg)

    def count(module):
        return sum(p.numel() for p in module.parameters())

    unused = 64 + 1  # the reference's 1x1 layer dsn1 on 64 channels, which nothing reads
    assert count(model) == 137_278_190 - unused
    head, stream = model.sem_seg_head, model.sem_seg_head.shape_stream
    parts = (head.aspp, head.bot_fine, head.bot_aspp, head.final)
    assert [count(part) for part in parts] == [30_412_032, 6_144, 393_216, 1_296_128]
    assert [count(part) for part in stream.sides] == [257, 513, 4_097]
    assert [count(part) for part in stream.blocks] == [73_984, 18_560, 4_672]
    assert [count(part) for part in stream.reductions] == [2_080, 528, 136]
    assert [count(part) for part in stream.gates] == [2_248, 616, 184]
    assert [count(stream.edges), count(stream.attention)] == [8, 2]


@torch.no_grad()
def test_shape_stream_equals_the_literal_one(layers_of, aligned):
    torch.manual_seed(0)
    model = ShapeStream(6, (5, 7), (4, 2), "BN").eval()
    layers, size = layers_of(model), (40, 33)
    first, sides = torch.randn(2, 6, 20, 17), [torch.randn(2, 5, 10, 9), torch.randn(2, 7, 5, 5)]
    canny = 255 * torch.randint(0, 2, (2, 1, *size), dtype=torch.uint8)
    x = aligned(first, size)
    for index, side in enumerate(sides):
        block, gate = f"blocks.{index}", f"gates.{index}.gate"
        y = layers.norm(layers.conv(x, f"{block}.conv1"), f"{block}.bn1").clamp(min=0)
        x = (layers.norm(layers.conv(y, f"{block}.conv2"), f"{block}.bn2") + x).clamp(min=0)
        x = layers.conv(x, f"reductions.{index}")
        side = aligned(layers.conv(side, f"sides.{index}"), size)
        hidden = layers.conv(layers.norm(torch.cat([x, side], dim=1), f"{gate}.0"), f"{gate}.1").clamp(min=0)
        alpha = 1 / (1 + torch.exp(-layers.norm(layers.conv(hidden, f"{gate}.3"), f"{gate}.4")))
        x = layers.conv((alpha + 1) * x, f"gates.{index}.conv")
    expected = 1 / (1 + torch.exp(-layers.conv(x, "edges")))
    weight = layers.entries["attention.weight"][0, :, 0, 0]
    edges, attention = model(first, sides, canny)
    torch.testing.assert_close(edges, expected)
    mixed = 1 / (1 + torch.exp(-(weight[0] * expected + weight[1] * canny.float())))
    torch.testing.assert_close(attention, mixed)


@pytest.mark.parametrize("size", [(64, 96), (63, 101)])
@torch.no_grad()
def test_last_upsampling_alone_does_not_align_corners(layers_of, aligned, size):
    head = build(head_config()).eval()
    layers, features = layers_of(head), features_of(*size)
    canny = torch.from_numpy(
        np.stack([canny_of_normalized(image.permute(1, 2, 0).numpy()) for image in features["image"]])
    )
    assert canny.eq(255).any()
    coarse, fine = features["coarse"], features["fine"]
    _, attention = head.shape_stream(features["first"], [fine, coarse], canny)
    branches = [
        layers.conv_norm_relu(coarse.mean((2, 3), keepdim=True), "aspp.img_conv").expand(-1, -1, *coarse.shape[-2:]),
        layers.conv_norm_relu(aligned(attention, coarse.shape[-2:]), "aspp.edge_conv"),
        *(layers.conv_norm_relu(coarse, f"aspp.features.{i}", dilation=(1, 1, 2, 3)[i]) for i in range(4)),
    ]
    context = aligned(layers.conv(torch.cat(branches, dim=1), "bot_aspp"), fine.shape[-2:])
    x = torch.cat([layers.conv(fine, "bot_fine"), context], dim=1)
    for first in (0, 3):
        x = layers.norm(layers.conv(x, f"final.{first}"), f"final.{first + 1}").clamp(min=0)
    expected = F.interpolate(layers.conv(x, "final.6"), size=size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(head(features)[0], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(head({**features, "canny": canny})[0], head(features)[0])  # the loader's map
    assert (head({**features, "canny": torch.zeros_like(canny)})[0] - expected).abs().max() > 1e-4


def test_losses_are_those_of_the_logits_and_edges():
    cfg = head_config(EDGE_WEIGHT=20.0, ATTENTION_WEIGHT=0.5, DUAL_TASK_WEIGHT=0.25)
    cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = 254
    head = build(cfg)
    with torch.no_grad():
        head.shape_stream.edges.weight.mul_(20)  # probabilities on both sides of the threshold
    features, labels = features_of(64, 96), labels_of(64, 96)
    labels[labels == 255] = 254
    captured = {}
    head.shape_stream.register_forward_hook(lambda module, args, out: captured.update(edges=out[0]))
    head.loss.register_forward_pre_hook(lambda module, args: captured.update(logits=args[0]))
    torch.manual_seed(3)
    _, losses = head(features, labels)
    logits, edges = captured["logits"], captured["edges"]
    assert 0 < (edges > 0.8).float().mean() < 1
    target = torch.from_numpy(np.stack([label_edges(y, ignore_value=254) for y in labels.numpy()]))
    torch.manual_seed(3)
    expected = {
        "loss_sem_seg": image_weighted_cross_entropy(logits, labels, ignore_value=254),
        "loss_edge": 20 * edge_loss(edges, target),
        "loss_attention": 0.5 * edge_attention_loss(logits, labels, edges, ignore_value=254),
        "loss_dual_task": 0.25 * dual_task_loss(logits, labels, ignore_value=254),
    }
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value)
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


def test_edge_target_of_the_loader_is_preferred_and_weights_of_zero_leave_losses_out():
    features, labels = features_of(64, 96), labels_of(64, 96)
    target = torch.zeros(2, 64, 96, dtype=torch.uint8)
    assert build(head_config())({**features, "edges": target}, labels)[1]["loss_edge"].item() == 0
    assert build(head_config())(features, labels)[1]["loss_edge"].item() > 1
    for key, name in (("EDGE", "edge"), ("ATTENTION", "attention"), ("DUAL_TASK", "dual_task")):
        head = build(head_config(**{f"{key}_WEIGHT": 0.0}))
        _, losses = head(features, labels)
        assert losses.keys() == {"loss_sem_seg"} | OWN_LOSSES - {f"loss_{name}"}
        sum(losses.values()).backward()
        assert all(p.grad is not None for p in head.parameters())  # no unused parameter stops distributed training


def test_edges_of_all_classes_is_a_choice():
    labels = torch.zeros(2, 64, 96, dtype=torch.long)
    assert not build(head_config()).edge_target(labels).any()
    assert build(head_config(EDGES_OF_ALL_CLASSES=True)).edge_target(labels).any()


def test_epl_adds_losses_but_no_parameter_and_no_change_of_inference():
    cfg = head_config()
    baseline = build(cfg)
    cfg.MODEL.EPL.ENABLED = True
    head = build(cfg)
    assert list(head.state_dict()) == list(baseline.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(head.parameters(), baseline.parameters(), strict=True))
    features, labels = features_of(64, 96), labels_of(64, 96)
    with torch.no_grad():
        assert torch.equal(head.eval()(features)[0], baseline.eval()(features)[0])
    losses = []
    for model in (baseline, head):
        torch.manual_seed(0)
        losses.append(model.train()(features, labels)[1])
    assert losses[1].keys() == losses[0].keys() | {"loss_epl_point", "loss_epl_line"}
    assert all(torch.equal(losses[1][name], value) for name, value in losses[0].items())


def test_a_batch_without_labels_has_finite_losses_and_gradients():
    head = build(head_config())
    _, losses = head(features_of(64, 96), torch.full((2, 64, 96), 255))
    assert losses["loss_sem_seg"].item() == losses["loss_attention"].item() == 0
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


def test_maps_of_the_loader_and_of_the_head_are_the_same():
    """On the small backbone of CamVid's config, which has no feature at stride 1."""
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / CAMVID))
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.SEM_SEG_HEAD.NORM = "BN"
    torch.manual_seed(0)
    model = build_model(cfg).train()
    picture = np.random.default_rng(0).integers(0, 256, (33, 50, 3), dtype=np.uint8)
    labels = labels_of(33, 50)[0].numpy().astype(np.uint8)
    computed = {m.name: torch.from_numpy(m.compute(picture, labels)) for m in build_maps(cfg)}
    assert computed.keys() == {"canny", "edges"}
    record = {"image": torch.from_numpy(picture).permute(2, 0, 1), "sem_seg": torch.from_numpy(labels).long()}
    losses = []
    for extra in ({}, {"maps": computed}):
        torch.manual_seed(1)
        losses.append(model([{**record, **extra}] * 2))
        sum(losses[-1].values()).backward()
    assert losses[0].keys() == {"loss_sem_seg", "loss_epl_point", "loss_epl_line"} | OWN_LOSSES
    assert all(torch.equal(losses[1][name], value) for name, value in losses[0].items())
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    with torch.no_grad():
        (result,) = model.eval()([{"image": record["image"], "height": 33, "width": 50}])
    assert result["sem_seg"].shape == (11, 33, 50)


def test_a_meta_architecture_without_the_image_is_refused():
    features = features_of(64, 96)
    del features["image"]
    with pytest.raises(ValueError, match="EPLSemanticSegmentor"):
        build(head_config())(features, labels_of(64, 96))


@pytest.mark.parametrize(
    ("gscnn", "message"),
    [
        ({"SHAPE_FEATURES": ["first", "mod9"]}, r"MODEL\.GSCNN\.SHAPE_FEATURES is .*no mod9; it has first, fine"),
        ({"SHAPE_CHANNELS": [4, 2, 1]}, r"MODEL\.GSCNN\.SHAPE_CHANNELS is \[4, 2, 1\]"),
    ],
)
def test_bad_values_fail_when_the_head_is_built(gscnn, message):
    with pytest.raises(ValueError, match=message):
        build(head_config(**gscnn))
