"""PSANet: psamask against its index definition, the reference's parameter counts and names, any size of input."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from fvcore.nn import FlopCountAnalysis

from epl_d2 import get_cfg
from epl_d2.modeling import EPLPSAHead
from epl_d2.modeling.layers.psa_mask import largest_mask, mask_index, shrunk_size, spread_masks
from epl_d2.modeling.sem_seg_head.psa import PointwiseSpatialAttention

CONFIGS = Path(__file__).parents[2] / "configs"
NUM_CLASSES = 5
SHAPES = {"res4": ShapeSpec(channels=12, stride=8), "res5": ShapeSpec(channels=16, stride=8)}
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def scatter_literally(masks: torch.Tensor, mask_size: tuple[int, int], *, distribute: bool) -> torch.Tensor:
    """psamask as published: every entry of every position's mask is put where it lies on the map."""
    batch, _, height, width = masks.shape
    out = masks.new_zeros(batch, height * width, height, width)
    for h in range(height):
        for w in range(width):
            for a in range(mask_size[0]):
                for b in range(mask_size[1]):
                    i, j = h + a - mask_size[0] // 2, w + b - mask_size[1] // 2
                    if 0 <= i < height and 0 <= j < width:
                        if distribute:
                            out[:, h * width + w, i, j] = masks[:, a * mask_size[1] + b, h, w]
                        else:
                            out[:, i * width + j, h, w] = masks[:, a * mask_size[1] + b, h, w]
    return out


@pytest.mark.parametrize("distribute", [False, True])
@pytest.mark.parametrize(
    ("size", "mask_size"), [((3, 4), (5, 7)), ((4, 3), (3, 5)), ((5, 5), (1, 9)), ((2, 3), (7, 7)), ((4, 6), (5, 3))]
)
def test_masks_and_their_gradients_equal_the_index_definition(size, mask_size, distribute):
    generator = torch.Generator().manual_seed(0)
    masks = torch.randn(2, mask_size[0] * mask_size[1], *size, generator=generator, requires_grad=True)
    expected = scatter_literally(masks, mask_size, distribute=distribute)
    spread = spread_masks(masks, *mask_index(size, mask_size))
    spread = (spread.transpose(1, 2) if distribute else spread).reshape(expected.shape)
    assert torch.equal(spread, expected)
    cotangent = torch.randn(expected.shape, generator=generator)
    gradients = [torch.autograd.grad(result, masks, cotangent)[0] for result in (spread, expected)]
    assert torch.equal(*gradients)


def test_masks_of_twice_the_map_reach_everything():
    assert mask_index((3, 4), (5, 7))[1] is None
    assert mask_index((3, 4), (5, 5))[1].sum() == 2 * 3 * 3  # the outer columns miss each other


def head_config(*, enabled: bool = False, crop: tuple[int, int] | None = (57, 57), **psa):
    cfg = get_cfg()
    cfg.MODEL.EPL.ENABLED = enabled
    head = {"NUM_CLASSES": NUM_CLASSES, "NORM": "BN", "CONVS_DIM": 8, "AUX_CONVS_DIM": 6, "DROPOUT": 0.0}
    cfg.MODEL.SEM_SEG_HEAD.update({**head, "IN_FEATURES": ["res5"], "AUX_IN_FEATURE": "res4"})
    cfg.MODEL.PSA.update({"CHANNELS": 4, **psa})
    cfg.INPUT.CROP.ENABLED = crop is not None
    if crop:
        cfg.INPUT.CROP.SIZE = list(crop)
    return cfg


def build(cfg, seed: int = 0):
    torch.manual_seed(seed)
    return EPLPSAHead(cfg, SHAPES)


def inputs(height: int, width: int, batch: int = 2):
    generator = torch.Generator().manual_seed(height)
    size = -(-height // 8), -(-width // 8)
    features = {name: torch.randn(batch, shape.channels, *size, generator=generator) for name, shape in SHAPES.items()}
    features["image"] = torch.randn(batch, 3, height, width, generator=generator)
    labels = torch.randint(0, NUM_CLASSES, (batch, *size), generator=generator)
    return features, labels.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, :height, :width]


@pytest.mark.parametrize(
    ("name", "options", "total", "psa"),
    [
        ("VOC2012/psanet_R_50_os8", [], 53_174_506, 8_291_328),
        ("VOC2012/psanet_R_101_os8", [], 72_166_634, 8_291_328),
        ("Cityscapes/psanet_R_50_os8", [], 54_770_406, 9_888_768),
        ("Cityscapes/psanet_R_101_os8_epl", [], 73_762_534, 9_888_768),
        ("Cityscapes/psanet_R_50_os8", ["INPUT.CROP.SIZE", [705, 705]], 57_719_526, 12_837_888),
        ("Cityscapes/psanet_R_101_os8", ["INPUT.CROP.SIZE", [705, 705]], 76_711_654, 12_837_888),
        ("VOC2012/psanet_R_50_os8_epl", ["MODEL.PSA.TYPE", "collect"], 49_030_890, 4_147_712),
        ("VOC2012/psanet_R_101_os8", ["MODEL.PSA.TYPE", "distribute"], 68_023_018, 4_147_712),
    ],
)
def test_parameter_counts_are_the_references(name, options, total, psa):
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / f"{name}.yaml"))
    cfg.merge_from_list([*options, "MODEL.DEVICE", "meta"])
    with torch.device("meta"):
        model = build_model(cfg)
    assert sum(p.numel() for p in model.sem_seg_head.psa.parameters()) == psa
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == total


@pytest.mark.parametrize(
    ("crop", "shrunk", "mask"),
    [(465, 30, 59), (473, 30, 59), (513, 33, 65), (560, 35, 69), (561, 36, 71), (705, 45, 89), (713, 45, 89)],
)
def test_masks_follow_the_crop(crop, shrunk, mask):
    with torch.device("meta"):
        psa = build(head_config(crop=(crop, crop))).psa
    assert psa.usual_size == (shrunk, shrunk)
    assert psa.mask_size == (mask, mask)
    assert psa.index.shape == (shrunk**2, shrunk**2)
    assert psa.outside is None
    assert shrunk_size((crop, crop), 16) == (shrunk, shrunk)  # the reference's formula, in pixels of the crop
    assert largest_mask((shrunk, shrunk)) == (mask, mask)


@pytest.mark.parametrize("attention_type", ["collect", "distribute", "bi-direction"])
def test_names_are_the_references(attention_type):
    suffixes = ("", "_p") if attention_type == "bi-direction" else ("",)
    units = [f"psa.{module}{suffix}" for suffix in suffixes for module in ("reduce", "attention")]
    expected = {f"psa.attention{suffix}.3.weight" for suffix in suffixes}
    for unit in (*units, "psa.proj", "cls", "aux"):
        expected |= {f"{unit}.0.weight", *(f"{unit}.1.{entry}" for entry in NORM)}
    expected |= {f"{classifier}.4.{entry}" for classifier in ("cls", "aux") for entry in ("weight", "bias")}
    assert set(build(head_config(TYPE=attention_type)).state_dict()) == expected


@pytest.mark.parametrize("mask_size", [(5, 7), (3, 3)])
def test_attention_is_the_formula_written_out(mask_size):
    torch.manual_seed(0)
    psa = PointwiseSpatialAttention(6, 4, mask_size=mask_size).double().eval()
    x = torch.randn(2, 6, 5, 7, dtype=torch.double)

    def resize(y, size):
        return F.interpolate(y, size=size, mode="bilinear", align_corners=True)

    attended = []
    for reduce, attention, distribute in ((psa.reduce, psa.attention, False), (psa.reduce_p, psa.attention_p, True)):
        reduced = resize(reduce(x), (3, 4))
        weights = scatter_literally(attention(reduced), mask_size, distribute=distribute).exp()
        weights = weights / weights.sum(1, keepdim=True)
        attended.append(torch.einsum("ncq,nqhw->nchw", reduced.flatten(2), weights))
    expected = torch.cat([x, resize(psa.proj(torch.cat(attended, 1)), (5, 7))], 1)
    torch.testing.assert_close(psa(x), expected)


@pytest.mark.parametrize("crop", [(57, 57), (65, 65), (56, 72)])
def test_training_reaches_every_parameter_at_any_crop(crop):
    head = build(head_config(enabled=True, crop=crop)).train()
    features, labels = inputs(*crop)
    _, losses = head(features, labels)
    assert set(losses) == {"loss_sem_seg", "loss_sem_seg_aux", "loss_epl_point", "loss_epl_line"}
    sum(losses.values()).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_index_is_computed_once_for_the_crop_and_any_image_is_taken(monkeypatch):
    head = build(head_config(crop=(57, 57))).eval()
    sizes = []

    def counted(size, *args):
        sizes.append(size)
        return mask_index(size, *args)

    monkeypatch.setattr("epl_d2.modeling.sem_seg_head.psa.mask_index", counted)
    for size in ((57, 57), (60, 40), (200, 129)):
        logits = head(inputs(*size)[0])[0]
        assert logits.shape == (2, NUM_CLASSES, *size) and logits.isfinite().all()
    assert sizes == [(4, 3), (13, 9)]
    assert not [name for name in head.state_dict() if "index" in name]


def test_softmax_stays_in_float32_under_autocast():
    psa = build(head_config()).psa.eval()
    x = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    seen = []
    original = torch.bmm
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "bmm", lambda a, b: seen.append(b) or original(a, b))
        psa(x)
    assert len(seen) == 2
    for weights in seen:
        assert weights.dtype == torch.float32
        torch.testing.assert_close(weights.sum(1), torch.ones_like(weights.sum(1)))


def test_epl_adds_no_parameter_and_leaves_inference_alone():
    baseline, ours = build(head_config(), seed=1).eval(), build(head_config(enabled=True), seed=2).eval()
    assert list(ours.state_dict()) == list(baseline.state_dict())
    ours.load_state_dict(baseline.state_dict(), strict=True)
    features, _ = inputs(50, 70)
    assert torch.equal(ours(features)[0], baseline(features)[0])


def test_flops_of_the_reference_attention():
    """Multiply-adds of a 9 x 9 map, 2048 channels, masks of 59 x 59."""
    psa = PointwiseSpatialAttention(2048, 512, mask_size=(59, 59)).eval()
    counted = FlopCountAnalysis(psa, torch.zeros(1, 2048, 9, 9)).unsupported_ops_warnings(False).by_operator()
    assert counted["conv"] == 2 * (81 * 2048 * 512 + 25 * 512 * (512 + 59**2)) + 25 * 1024 * 2048
    assert counted["bmm"] == 2 * 512 * 25 * 25


@pytest.mark.parametrize("mask_size", [[8, 7], [9, 7], [7], [-1, 7]])
def test_masks_that_do_not_fit_the_crop_are_refused(mask_size):
    with pytest.raises(ValueError, match=r"MODEL\.PSA\.MASK_SIZE is \[.*odd numbers up to \[7, 7\]"):
        build(head_config(crop=(57, 57), MASK_SIZE=mask_size))
    assert build(head_config(crop=(57, 57), MASK_SIZE=[5, 7])).psa.mask_size == (5, 7)


def test_bad_values_are_named():
    with pytest.raises(ValueError, match=r"MODEL\.PSA\.MASK_SIZE is \[\].*INPUT\.CROP\.ENABLED"):
        build(head_config(crop=None))
    with pytest.raises(ValueError, match=r"MODEL\.PSA\.TYPE is 'both'.*bi-direction"):
        build(head_config(TYPE="both"))
    with pytest.raises(ValueError, match=r"MODEL\.PSA\.SHRINK_FACTOR is 0"):
        build(head_config(SHRINK_FACTOR=0))
    relative = head_config()
    relative.INPUT.CROP.TYPE = "relative"
    with pytest.raises(ValueError, match=r"INPUT\.CROP\.TYPE is 'relative'"):
        build(relative)
