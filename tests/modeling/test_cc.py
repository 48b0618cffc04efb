"""Criss-cross attention against a loop over positions, and the CC head: counts, losses, EPL."""

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from epl_d2 import get_cfg
from epl_d2.modeling import EPLCCHead
from epl_d2.modeling.layers.criss_cross_attention import CrissCrossAttention, criss_cross_attention

NUM_CLASSES = 4
SHAPES = {"res4": ShapeSpec(channels=12, stride=8), "res5": ShapeSpec(channels=64, stride=8)}


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def literal_attention(query, key, value):
    batch, _, height, width = query.shape
    out = torch.zeros_like(value)
    for n in range(batch):
        for y in range(height):
            for x in range(width):
                places = [(y, j) for j in range(width)] + [(i, x) for i in range(height) if i != y]
                assert len(places) == height + width - 1
                energies = torch.stack([query[n, :, y, x] @ key[n, :, i, j] for i, j in places])
                weights = energies.exp() / energies.exp().sum()
                out[n, :, y, x] = sum(w * value[n, :, i, j] for w, (i, j) in zip(weights, places, strict=True))
    return out


@pytest.mark.parametrize("size", [(5, 3), (1, 4), (4, 1), (1, 1)])
def test_attention_equals_a_loop_over_row_and_column(size):
    query, key, value = (random(2, c, *size, seed=seed, dtype=torch.float64) for seed, c in enumerate((2, 2, 3)))
    expected = literal_attention(query, key, value)
    torch.testing.assert_close(criss_cross_attention(query, key, value), expected, rtol=1e-12, atol=1e-12)


def test_attention_gradient():
    inputs = [random(1, c, 3, 2, seed=seed, dtype=torch.float64).requires_grad_() for seed, c in enumerate((2, 2, 4))]
    assert torch.autograd.gradcheck(criss_cross_attention, inputs)


def test_two_rounds_see_every_pixel_and_one_round_the_cross():
    torch.manual_seed(0)
    module = CrissCrossAttention(8, 2)
    nn.init.ones_(module.gamma)
    x = random(1, 8, 5, 6).requires_grad_()
    for rounds in (1, 2):
        y = x
        for _ in range(rounds):
            y = module(y)
        (gradient,) = torch.autograd.grad(y[0, :, 2, 3].sum(), x)
        seen = gradient[0].abs().sum(0) > 0
        cross = torch.zeros(5, 6, dtype=torch.bool)
        cross[2], cross[:, 3] = True, True
        assert torch.equal(seen, cross if rounds == 1 else torch.ones_like(cross))


def test_module_starts_as_the_identity():
    x = random(1, 8, 5, 6)
    assert torch.equal(CrissCrossAttention(8, 1)(x), x)


def test_no_tensor_grows_with_the_square_of_the_pixels():
    height, width = 24, 20

    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            for leaf in tree_leaves(result):
                if isinstance(leaf, torch.Tensor):
                    self.elements = max(self.elements, leaf.numel())
            return result

    inputs = [random(1, c, height, width, seed=seed).requires_grad_() for seed, c in enumerate((2, 2, 8))]
    with Largest() as largest:
        criss_cross_attention(*inputs).sum().backward()
    assert largest.elements == height * width * (height + width)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mask_is_safe_in_half_precision(dtype):
    query, key, value = (random(1, 4, 6, 5, seed=seed).to(dtype).requires_grad_() for seed in range(3))
    result = criss_cross_attention(query, key, value)
    result.float().sum().backward()
    assert result.dtype == dtype
    assert all(x.isfinite().all() for x in (result, query.grad, key.grad, value.grad))
    expected = criss_cross_attention(query.float(), key.float(), value.float())
    torch.testing.assert_close(result.float(), expected, rtol=0, atol=0.05)


def head_config(*, enabled: bool = False, features=("res4", "res5")):
    cfg = get_cfg()
    head = cfg.MODEL.SEM_SEG_HEAD
    head.NUM_CLASSES, head.NORM, head.IN_FEATURES = NUM_CLASSES, "BN", list(features)
    cfg.MODEL.CC.OUT_CHANNELS = 24
    cfg.MODEL.EPL.ENABLED = enabled
    return cfg


def build(cfg, seed=0) -> EPLCCHead:
    torch.manual_seed(seed)
    head = EPLCCHead(cfg, SHAPES)
    nn.init.constant_(head.cca.gamma, 0.5)
    return head


def features_of(height=33, width=41):
    size = -(-height // 8), -(-width // 8)
    features = {name: random(2, shape.channels, *size, seed=shape.channels) for name, shape in SHAPES.items()}
    return {**features, "image": torch.zeros(2, 3, height, width)}


def labels_of(height=33, width=41):
    labels = torch.randint(0, NUM_CLASSES, (2, height, width), generator=torch.Generator().manual_seed(3))
    labels[:, :3] = 255
    return labels


def abn(x, conv):
    """Convolution, norm and leaky ReLU as formulas, in evaluation."""
    x = F.conv2d(x, conv.weight, conv.bias, padding=1)
    norm = conv.norm
    scale = norm.weight / (norm.running_var + 1e-5).sqrt()
    x = (x - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]
    return torch.where(x > 0, x, 0.01 * x)


@torch.no_grad()
@pytest.mark.parametrize("recurrence", [1, 2, 3])
def test_logits_equal_the_literal_head(recurrence):
    cfg = head_config()
    cfg.MODEL.CC.RECURRENCE = recurrence
    head, features = build(cfg), features_of()
    head.train()(features, labels_of())  # statistics that are not the initial ones
    head.eval()
    x = features["res5"]
    context = abn(x, head.conva)
    for _ in range(recurrence):
        query, key, value = (
            F.conv2d(context, conv.weight, conv.bias)
            for conv in (head.cca.query_conv, head.cca.key_conv, head.cca.value_conv)
        )
        context = context + 0.5 * literal_attention(query, key, value)
    combined = abn(torch.cat([x, abn(context, head.convb)], dim=1), head.bottleneck[0])
    logits = F.conv2d(combined, head.bottleneck[2].weight, head.bottleneck[2].bias)
    expected = F.interpolate(logits, size=(33, 41), mode="bilinear", align_corners=True)
    torch.testing.assert_close(head(features)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("enabled", [False, True])
def test_training_losses_and_gradients(enabled):
    head, features, labels = build(head_config(enabled=enabled)).train(), features_of(), labels_of()
    _, losses = head(features, labels)
    epl = {"loss_epl_point", "loss_epl_line"} if enabled else set()
    assert set(losses) == {"loss_sem_seg", "loss_sem_seg_aux"} | epl
    sum(losses.values()).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_auxiliary_loss_is_the_weighted_cross_entropy_of_the_upsampled_branch():
    cfg = head_config()
    cfg.MODEL.SEM_SEG_HEAD.AUX_LOSS_WEIGHT = 0.25
    head, features, labels = build(cfg).train(), features_of(), labels_of()
    captured = {}
    head.dsn.register_forward_hook(lambda module, args, output: captured.update(args=args, logits=output))
    _, losses = head(features, labels)
    assert captured["args"][0] is features["res4"]
    logits = F.interpolate(captured["logits"], size=(33, 41), mode="bilinear", align_corners=True)
    expected = 0.25 * F.cross_entropy(logits, labels, ignore_index=255)
    torch.testing.assert_close(losses["loss_sem_seg_aux"], expected)


@torch.no_grad()
def test_inference_is_that_without_epl_and_leaves_the_auxiliary_branch_out():
    with_epl, without = (build(head_config(enabled=enabled)).eval() for enabled in (True, False))
    assert list(with_epl.state_dict()) == list(without.state_dict())
    for head in (with_epl, without):
        head.dsn.register_forward_hook(lambda *args: pytest.fail("the auxiliary branch ran"))
    logits = with_epl(features_of())[0]
    assert logits.shape == (2, NUM_CLASSES, 33, 41)
    assert torch.equal(logits, without(features_of())[0])


def test_one_feature_means_no_auxiliary_branch():
    head = build(head_config(features=("res5",))).train()
    assert not any(key.startswith("dsn") for key in head.state_dict())
    assert set(head(features_of(), labels_of())[1]) == {"loss_sem_seg"}


def test_both_classifiers_drop_the_share_of_their_channels_that_the_config_says():
    cfg = head_config()
    shares = []
    for share in (cfg.MODEL.SEM_SEG_HEAD.DROPOUT, 0.25):
        cfg.MODEL.SEM_SEG_HEAD.DROPOUT = share
        head = build(cfg)
        shares.append({module.p for part in (head.bottleneck, head.dsn) for module in part if hasattr(module, "p")})
    assert shares == [{0.1}, {0.25}]  # 0.1 is the reference's, and that of the shipped configs


def count(module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("depth", "classes", "total"), [(101, 19, 71_287_911), (101, 21, 71_289_963), (50, 19, 52_295_783)]
)
def test_parameter_counts_of_the_reference(depth, classes, total):
    cfg = get_cfg()
    cfg.merge_from_list(
        f"""MODEL.DEVICE meta MODEL.BACKBONE.NAME build_ccnet_resnet_backbone MODEL.BACKBONE.FREEZE_AT 0
        MODEL.META_ARCHITECTURE EPLSemanticSegmentor MODEL.SEM_SEG_HEAD.NAME EPLCCHead MODEL.SEM_SEG_HEAD.NORM BN
        MODEL.RESNETS.DEPTH {depth} MODEL.RESNETS.NORM BN MODEL.RESNETS.STEM_TYPE deeplab
        MODEL.RESNETS.STEM_OUT_CHANNELS 128 MODEL.RESNETS.RES4_DILATION 2 MODEL.RESNETS.RES5_DILATION 4
        MODEL.RESNETS.RES5_MULTI_GRID [1,1,1] MODEL.RESNETS.OUT_FEATURES ['res4','res5']
        MODEL.SEM_SEG_HEAD.IN_FEATURES ['res4','res5'] MODEL.SEM_SEG_HEAD.NUM_CLASSES {classes}""".split()
    )
    with torch.device("meta"):
        model = build_model(cfg)
    assert count(model) == total
    head = model.sem_seg_head
    if classes == 19:
        parts = [count(part) for part in (head.conva, head.cca, head.convb, head.bottleneck, head.dsn)]
        assert parts == [9_438_208, 328_321, 2_360_320, 11_807_251, 4_729_875]


def test_parameter_counts_on_wide_resnet38():
    cfg = get_cfg()
    head = cfg.MODEL.SEM_SEG_HEAD
    head.NUM_CLASSES, head.NORM, head.IN_FEATURES = 19, "BN", ["mod5", "mod7"]
    shapes = {"mod5": ShapeSpec(channels=1024, stride=8), "mod7": ShapeSpec(channels=4096, stride=8)}
    with torch.device("meta"):
        head = EPLCCHead(cfg, shapes)
    assert count(head.dsn) == 4_729_875
    assert count(head) - count(head.dsn) == 72_105_748


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.CC.RECURRENCE", 0),
        ("MODEL.CC.CHANNELS", 12),
        ("MODEL.CC.CHANNELS", -8),
        ("MODEL.CC.OUT_CHANNELS", 0),
        ("MODEL.SEM_SEG_HEAD.IN_FEATURES", ["res3"]),
        ("MODEL.SEM_SEG_HEAD.IN_FEATURES", []),
    ],
)
def test_bad_values_fail_when_the_head_is_built(key, value):
    cfg = head_config()
    cfg.merge_from_list([key, value])
    with pytest.raises(ValueError, match=key.replace(".", r"\.")):
        build(cfg)
