"""The EPL heads against Detectron2's own: same losses without EPL, same keys, same inference, any size."""

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
from detectron2.projects.deeplab import DeepLabV3Head, DeepLabV3PlusHead
from detectron2.utils.events import EventStorage

from epl_d2 import get_cfg
from epl_d2.losses import line_loss, point_loss
from epl_d2.modeling import EPLDeepLabV3Head, EPLDeepLabV3PlusHead, EPLSemSegFPNHead

NUM_CLASSES = 5
HEADS = {
    "fpn": (EPLSemSegFPNHead, SemSegFPNHead),
    "v3": (EPLDeepLabV3Head, DeepLabV3Head),
    "v3_plus": (EPLDeepLabV3PlusHead, DeepLabV3PlusHead),
}
SHAPES = {
    "fpn": {f"p{level}": ShapeSpec(channels=8, stride=2**level) for level in (2, 3, 4, 5)},
    "v3": {"res5": ShapeSpec(channels=16, stride=16)},
    "v3_plus": {"res2": ShapeSpec(channels=8, stride=4), "res5": ShapeSpec(channels=16, stride=16)},
}


def head_config(name: str, *, enabled: bool = False, crop: tuple[int, int] | None = None):
    cfg = get_cfg()
    head = cfg.MODEL.SEM_SEG_HEAD
    head.NUM_CLASSES, head.NORM, head.CONVS_DIM = NUM_CLASSES, "BN", 32
    head.ASPP_CHANNELS, head.ASPP_DILATIONS, head.ASPP_DROPOUT = 32, [1, 2, 3], 0.0
    head.PROJECT_CHANNELS = [8]
    head.IN_FEATURES = list(SHAPES[name])
    head.COMMON_STRIDE = 16 if name == "v3" else 4
    cfg.MODEL.EPL.ENABLED = enabled
    cfg.INPUT.CROP.ENABLED = crop is not None
    if crop:
        cfg.INPUT.CROP.SIZE = list(crop)
    return cfg


def features_of(name: str, height: int, width: int, batch: int = 2):
    generator = torch.Generator().manual_seed(height * width)

    def feature(shape):
        size = -(-height // shape.stride), -(-width // shape.stride)
        return torch.randn(batch, shape.channels, *size, generator=generator)

    return {key: feature(shape) for key, shape in SHAPES[name].items()}


def labels_of(height: int, width: int, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    coarse = torch.randint(0, NUM_CLASSES, (batch, 1, -(-height // 8), -(-width // 8)), generator=generator)
    labels = F.interpolate(coarse.float(), scale_factor=8, mode="nearest")[:, 0, :height, :width].long()
    labels[:, :3] = 255
    return labels


def build(head_class, cfg, name, seed: int = 0):
    torch.manual_seed(seed)
    return head_class(cfg, SHAPES[name]).train()


@pytest.mark.parametrize("crop", [None, (64, 96)])
@pytest.mark.parametrize("name", HEADS)
def test_without_epl_losses_and_gradients_equal_the_baseline_to_the_bit(name, crop):
    cfg = head_config(name, crop=crop)
    ours, baseline = (build(head_class, cfg, name) for head_class in HEADS[name])
    features, labels = features_of(name, 64, 96), labels_of(64, 96)
    losses = [head(features, labels)[1] for head in (ours, baseline)]
    assert losses[0].keys() == losses[1].keys() == {"loss_sem_seg"}
    assert torch.equal(losses[0]["loss_sem_seg"], losses[1]["loss_sem_seg"])
    for loss in losses:
        loss["loss_sem_seg"].backward()
    for (key, ours_parameter), baseline_parameter in zip(ours.named_parameters(), baseline.parameters(), strict=True):
        assert torch.equal(ours_parameter.grad, baseline_parameter.grad), key


@pytest.mark.parametrize("name", HEADS)
def test_checkpoints_load_both_ways_key_for_key(name):
    ours = build(HEADS[name][0], head_config(name, enabled=True, crop=(64, 96)), name, seed=1)
    baseline = build(HEADS[name][1], head_config(name, crop=(64, 96)), name, seed=2)
    assert list(ours.state_dict()) == list(baseline.state_dict())
    baseline.load_state_dict(ours.state_dict(), strict=True)
    ours.load_state_dict(baseline.state_dict(), strict=True)


@pytest.mark.parametrize("name", HEADS)
def test_inference_equals_the_baseline(name):
    ours, baseline = (build(c, head_config(name, enabled=True), name).eval() for c in HEADS[name])
    features = features_of(name, 64, 96)
    assert torch.equal(ours(features)[0], baseline(features)[0])


@pytest.mark.parametrize("name", HEADS)
def test_epl_terms_are_those_of_the_upsampled_logits(name):
    cfg = head_config(name, enabled=True)
    cfg.MODEL.EPL.POINT.WEIGHT, cfg.MODEL.EPL.LINE.WEIGHT = 0.3, 0.2
    cfg.MODEL.EPL.POINT.KERNEL_SIZE, cfg.MODEL.EPL.LINE.KERNEL_SIZE = 5, 9
    head = build(HEADS[name][0], cfg, name)
    features, labels = features_of(name, 64, 96), labels_of(64, 96)
    _, losses = head(features, labels)
    assert set(losses) == {"loss_sem_seg", "loss_epl_point", "loss_epl_line"}
    captured = {}
    head.loss.register_forward_pre_hook(lambda module, args: captured.update(logits=args[0]))
    head(features, labels)
    logits = captured["logits"]
    assert logits.shape == (2, NUM_CLASSES, 64, 96)
    torch.testing.assert_close(losses["loss_epl_point"], 0.3 * point_loss(logits, labels, kernel_size=5))
    torch.testing.assert_close(losses["loss_epl_line"], 0.2 * line_loss(logits, labels, kernel_size=9))
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


@pytest.mark.parametrize("size", [(65, 97), (63, 101), (129, 33)])
@pytest.mark.parametrize("name", ["v3", "v3_plus"])
def test_crops_and_images_of_any_size(name, size):
    cfg = head_config(name, enabled=True, crop=size)
    head = build(HEADS[name][0], cfg, name)
    _, losses = head(features_of(name, *size), labels_of(*size))
    assert all(value.isfinite() for value in losses.values())
    head.eval()
    for height, width in ((50, 70), (200, 64), size):
        logits, _ = head(features_of(name, height, width))
        assert logits.shape[-2] >= height and logits.shape[-1] >= width


def test_stock_head_refuses_what_ours_accepts():
    """The reason for `ImagePooling`: without it a 513 crop cannot be trained on."""
    with pytest.raises(ValueError, match="divisible"):
        build(DeepLabV3PlusHead, head_config("v3_plus", crop=(65, 65)), "v3_plus")


def test_start_iteration_and_ramp_follow_the_trainer():
    cfg = head_config("v3_plus", enabled=True)
    cfg.MODEL.EPL.START_ITER, cfg.MODEL.EPL.RAMP_ITERS = 10, 10
    head = build(EPLDeepLabV3PlusHead, cfg, "v3_plus").eval()
    predictions = torch.randn(1, NUM_CLASSES, 16, 16, generator=torch.Generator().manual_seed(0))
    labels = labels_of(64, 64, batch=1)
    values = {}
    for iteration in (0, 15, 30):
        with EventStorage(iteration):
            values[iteration] = head.losses(predictions, labels)["loss_epl_line"].item()
    assert values[0] == 0
    assert 0 < values[15] < values[30]
    assert head.losses(predictions, labels)["loss_epl_line"].item() == pytest.approx(values[30])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("POINT.KERNEL_SIZE", 6),
        ("POINT.KERNEL_SIZE", -3),
        ("POINT.KERNEL_SIZE", 1),
        ("LINE.KERNEL_SIZE", 1),
        ("LINE.KERNEL_SIZE", 8),
        ("LINE.MU", 3),
        ("SPLITTER", "D"),
        ("POINT.NORM", "l3"),
        ("POINT.REGION", "band"),
        ("LINE.FORMULATION", "literal"),
        ("CONVOLUTION", "dilated"),
    ],
)
def test_bad_values_fail_when_the_head_is_built(key, value):
    cfg = head_config("fpn", enabled=True)
    cfg.merge_from_list([f"MODEL.EPL.{key}", value])
    with pytest.raises(ValueError, match=rf"^MODEL\.EPL\.{key} must be .*, got {value!r}$"):
        build(EPLSemSegFPNHead, cfg, "fpn")


def test_config_without_epl_keys_says_what_to_call():
    cfg = head_config("fpn")
    del cfg.MODEL["EPL"]
    with pytest.raises(KeyError, match="add_epl_config"):
        build(EPLSemSegFPNHead, cfg, "fpn")


def test_relative_crops_are_refused_by_name():
    cfg = head_config("v3_plus", crop=(64, 64))
    cfg.INPUT.CROP.TYPE = "relative"
    with pytest.raises(ValueError, match=r"INPUT\.CROP\.TYPE"):
        build(EPLDeepLabV3PlusHead, cfg, "v3_plus")
