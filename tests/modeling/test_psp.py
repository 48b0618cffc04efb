"""PSPNet: the reference's parameter counts and names, its arithmetic written out, its training and inference."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from fvcore.nn import FlopCountAnalysis

from epl_d2 import get_cfg
from epl_d2.modeling import EPLPSPHead

CONFIGS = Path(__file__).parents[2] / "configs"
NUM_CLASSES = 5
SHAPES = {"res4": ShapeSpec(channels=12, stride=8), "res5": ShapeSpec(channels=16, stride=8)}


def head_config(*, enabled: bool = False, **head):
    cfg = get_cfg()
    cfg.MODEL.EPL.ENABLED = enabled
    cfg.MODEL.PSP.CHANNELS = 4
    cfg.MODEL.SEM_SEG_HEAD.update(
        {"NUM_CLASSES": NUM_CLASSES, "NORM": "BN", "CONVS_DIM": 8, "AUX_CONVS_DIM": 6, "DROPOUT": 0.0, **head}
    )
    cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES = ["res5"]
    cfg.MODEL.SEM_SEG_HEAD.AUX_IN_FEATURE = head.get("AUX_IN_FEATURE", "res4")
    return cfg


def build(cfg, seed: int = 0):
    torch.manual_seed(seed)
    return EPLPSPHead(cfg, SHAPES)


def inputs(height: int, width: int, batch: int = 2):
    generator = torch.Generator().manual_seed(height)
    size = -(-height // 8), -(-width // 8)
    features = {name: torch.randn(batch, shape.channels, *size, generator=generator) for name, shape in SHAPES.items()}
    features["image"] = torch.randn(batch, 3, height, width, generator=generator)
    labels = torch.randint(0, NUM_CLASSES, (batch, *size), generator=generator)
    labels = labels.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, :height, :width].clone()
    labels[:, 0] = 255
    return features, labels


@pytest.mark.parametrize(
    ("name", "total", "head"),
    [
        ("VOC2012/pspnet_R_50_os8", 49_081_578, (4_198_400, 18_886_165, 2_365_205)),
        ("Cityscapes/pspnet_R_50_os8", 49_080_038, (4_198_400, 18_885_139, 2_364_691)),
        ("VOC2012/pspnet_R_101_os8", 68_073_706, (4_198_400, 18_886_165, 2_365_205)),
        ("Cityscapes/pspnet_R_101_os8", 68_072_166, (4_198_400, 18_885_139, 2_364_691)),
    ],
)
@pytest.mark.parametrize("suffix", ["", "_epl"])
def test_parameter_counts_are_the_references(name, total, head, suffix):
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / f"{name}{suffix}.yaml"))
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        model = build_model(cfg)
    modules = (model.sem_seg_head.ppm, model.sem_seg_head.cls, model.sem_seg_head.aux)
    assert tuple(sum(p.numel() for p in module.parameters()) for module in modules) == head
    trainable = [p for p in model.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trainable) == total


def test_names_are_the_references():
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = {f"ppm.features.{i}.1.weight" for i in range(4)}
    expected |= {f"ppm.features.{i}.2.{entry}" for i in range(4) for entry in norm}
    for classifier in ("cls", "aux"):
        expected |= {f"{classifier}.0.weight", f"{classifier}.4.weight", f"{classifier}.4.bias"}
        expected |= {f"{classifier}.1.{entry}" for entry in norm}
    assert set(build(head_config()).state_dict()) == expected


def test_logits_are_the_formula_written_out():
    head = build(head_config()).eval()
    weights = {name: tensor.double() for name, tensor in head.double().state_dict().items()}
    features, _ = inputs(60, 84)
    x = features["res5"].double()

    def norm(y, name):
        mean, var = (weights[f"{name}.{key}"][:, None, None] for key in ("running_mean", "running_var"))
        scale, shift = (weights[f"{name}.{key}"][:, None, None] for key in ("weight", "bias"))
        return (((y - mean) / (var + 1e-5).sqrt()) * scale + shift).relu()

    parts = [x]
    for i, cells in enumerate((1, 2, 3, 6)):
        height, width = x.shape[-2:]
        grid = x.new_zeros(*x.shape[:2], cells, cells)
        for a in range(cells):
            for b in range(cells):
                rows = slice(a * height // cells, -(-(a + 1) * height // cells))
                columns = slice(b * width // cells, -(-(b + 1) * width // cells))
                grid[:, :, a, b] = x[:, :, rows, columns].mean((2, 3))
        grid = torch.einsum("nchw,dc->ndhw", grid, weights[f"ppm.features.{i}.1.weight"][:, :, 0, 0])
        grid = norm(grid, f"ppm.features.{i}.2")
        parts.append(F.interpolate(grid, size=(height, width), mode="bilinear", align_corners=True))
    hidden = norm(F.conv2d(torch.cat(parts, 1), weights["cls.0.weight"], padding=1), "cls.1")
    expected = F.conv2d(hidden, weights["cls.4.weight"], weights["cls.4.bias"])
    expected = F.interpolate(expected, size=(60, 84), mode="bilinear", align_corners=True)
    torch.testing.assert_close(head({"res5": x, "image": features["image"]})[0], expected)


@pytest.mark.parametrize("size", [(57, 57), (56, 72), (61, 43)])
def test_training_reaches_every_parameter_at_any_crop(size):
    head = build(head_config(enabled=True)).train()
    features, labels = inputs(*size)
    _, losses = head(features, labels)
    assert set(losses) == {"loss_sem_seg", "loss_sem_seg_aux", "loss_epl_point", "loss_epl_line"}
    sum(losses.values()).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_the_auxiliary_loss_has_its_weight_and_is_left_out_of_inference():
    head = build(head_config(AUX_LOSS_WEIGHT=0.25, IGNORE_VALUE=254))
    features, labels = inputs(57, 57)
    labels[labels == 255] = 254
    losses = head.train()(features, labels)[1]
    logits = F.interpolate(head.aux(features["res4"]), size=(57, 57), mode="bilinear", align_corners=True)
    expected = 0.25 * F.cross_entropy(logits, labels, ignore_index=254)
    torch.testing.assert_close(losses["loss_sem_seg_aux"], expected)
    head.eval()
    head.aux = None
    assert head(features)[0].shape == (2, NUM_CLASSES, 57, 57)


def test_epl_adds_no_parameter_and_leaves_inference_alone():
    baseline, ours = build(head_config(), seed=1).eval(), build(head_config(enabled=True), seed=2).eval()
    assert list(ours.state_dict()) == list(baseline.state_dict())
    ours.load_state_dict(baseline.state_dict(), strict=True)
    features, _ = inputs(50, 70)
    assert torch.equal(ours(features)[0], baseline(features)[0])


def test_flops_of_the_reference_head():
    """Multiply-adds of a 12 x 12 map, 2048 channels, 21 classes."""
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / "VOC2012/pspnet_R_50_os8.yaml"))
    head = EPLPSPHead(cfg, {"res4": ShapeSpec(channels=1024, stride=8), "res5": ShapeSpec(channels=2048, stride=8)})
    features = {"res5": torch.zeros(1, 2048, 12, 12), "image": torch.zeros(1, 3, 96, 96)}
    counted = FlopCountAnalysis(head.eval(), (features,)).unsupported_ops_warnings(False).by_operator()["conv"]
    assert counted == (1 + 4 + 9 + 36) * 2048 * 512 + 12 * 12 * (9 * 4096 * 512 + 512 * 21)


def test_one_image_and_batch_norm_say_what_to_do():
    features, labels = inputs(57, 57, batch=1)
    with pytest.raises(ValueError, match=r"at least 2 images per process \(SOLVER\.IMS_PER_BATCH\)"):
        build(head_config()).train()(features, labels)
    losses = build(head_config(NORM="FrozenBN")).train()(features, labels)[1]
    assert all(loss.isfinite() for loss in losses.values())


def test_bad_values_are_named():
    with pytest.raises(ValueError, match=r"AUX_IN_FEATURE is 'res3'.*res4, res5"):
        build(head_config(AUX_IN_FEATURE="res3"))
    cfg = head_config()
    cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES = ["p5"]
    with pytest.raises(ValueError, match=r"IN_FEATURES is \['p5'\]"):
        build(cfg)
    cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES = []
    with pytest.raises(ValueError, match=r"IN_FEATURES is empty; it may hold features of the backbone: res4, res5"):
        build(cfg)
    cfg = head_config()
    cfg.MODEL.PSP.BINS = [1, 0]
    with pytest.raises(ValueError, match=r"MODEL\.PSP\.BINS is \[1, 0\]"):
        build(cfg)
    assert not hasattr(build(head_config(AUX_IN_FEATURE="")), "aux")
