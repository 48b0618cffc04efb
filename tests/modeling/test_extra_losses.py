"""Extra losses and criteria chosen by the config: any number at once, each an entry of its own."""

import math

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.utils.events import EventStorage

from epl_d2 import get_cfg, losses
from epl_d2.modeling import EPLSemSegFPNHead
from epl_d2.modeling.losses.criterion import build_criterion
from epl_d2.modeling.losses.extra_losses import build_extra_losses

NUM_CLASSES = 4
SHAPES = {f"p{level}": ShapeSpec(channels=8, stride=2**level) for level in (2, 3)}
WEIGHTS = {"GENERALIZED_DICE": 0.7, "BOUNDARY": 0.01, "ACTIVE_BOUNDARY": 0.5, "LOVASZ": 0.3}


def config(weights: dict[str, float] | None = None):
    cfg = get_cfg()
    head = cfg.MODEL.SEM_SEG_HEAD
    head.NUM_CLASSES, head.NORM, head.CONVS_DIM, head.IN_FEATURES = NUM_CLASSES, "BN", 16, list(SHAPES)
    for name, weight in (weights or {}).items():
        cfg.MODEL.EXTRA_LOSSES[name].WEIGHT = weight
    return cfg


@pytest.fixture
def batch():
    """Features, maps among them, and labels of two 32 x 40 images."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, NUM_CLASSES, (2, 4, 5), generator=generator)
    labels = labels.repeat_interleave(8, 1).repeat_interleave(8, 2)
    labels[:, :2] = 255
    features = {
        name: torch.randn(2, 8, 32 // s.stride, 40 // s.stride, generator=generator) for name, s in SHAPES.items()
    }
    features["signed_distance"] = torch.randn(2, NUM_CLASSES, 32, 40, generator=generator).half()
    features["contour_distance"] = 9 * torch.rand(2, 32, 40, generator=generator)
    return features, labels


def expected_losses(logits, labels, features):
    return {
        "loss_generalized_dice": losses.generalized_dice_loss(logits, labels),
        "loss_boundary": losses.boundary_loss(logits, labels, features["signed_distance"]),
        "loss_active_boundary": losses.active_boundary_loss(logits, labels, features["contour_distance"]),
        "loss_lovasz": losses.lovasz_softmax_loss(logits, labels),
    }


@pytest.mark.parametrize("chosen", [[], ["BOUNDARY"], ["LOVASZ", "GENERALIZED_DICE"], list(WEIGHTS)], ids=str)
@pytest.mark.parametrize("with_epl", [False, True])
def test_any_number_at_once(batch, chosen, with_epl):
    features, labels = batch
    cfg = config({name: WEIGHTS[name] for name in chosen})
    cfg.MODEL.EPL.ENABLED = with_epl
    torch.manual_seed(0)
    head = EPLSemSegFPNHead(cfg, SHAPES).train()
    captured = {}
    head.loss.register_forward_pre_hook(lambda module, args: captured.update(logits=args[0]))
    found = head(features, labels)[1]
    epl = {"loss_epl_point", "loss_epl_line"} if with_epl else set()
    assert set(found) == {"loss_sem_seg", *epl, *(f"loss_{name.lower()}" for name in chosen)}
    expected = expected_losses(captured["logits"], labels, features)
    for name in chosen:
        entry = f"loss_{name.lower()}"
        torch.testing.assert_close(found[entry], WEIGHTS[name] * expected[entry])
    sum(found.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


def test_no_weight_no_module():
    assert build_extra_losses(config()) is None


def test_class_weights_are_needed_where_they_count():
    with pytest.raises(
        ValueError, match=r"CROSS_ENTROPY\.CLASS_WEIGHTS holds 0 numbers, .*tools/find_class_weights.py"
    ):
        build_extra_losses(config({"CLASS_WEIGHTED_CROSS_ENTROPY": 1.0}))


def test_state_dicts_stay_the_same():
    heads = [EPLSemSegFPNHead(config(weights), SHAPES) for weights in ({}, WEIGHTS)]
    assert list(heads[0].state_dict()) == list(heads[1].state_dict())


def test_settings_reach_the_losses(batch):
    features, labels = batch
    logits = torch.randn(2, NUM_CLASSES, 32, 40, generator=torch.Generator().manual_seed(1))
    labels[0, :20] = 255
    cfg = config({"ACTIVE_BOUNDARY": 1.0, "LOVASZ": 1.0})
    cfg.MODEL.EXTRA_LOSSES.ACTIVE_BOUNDARY.merge_from_list(
        ["MAX_DISTANCE", 5.0, "MAX_FRACTION", 0.2, "LABEL_SMOOTHING", 0.1]
    )
    cfg.MODEL.EXTRA_LOSSES.LOVASZ.PER_IMAGE = True
    cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = 254
    found = build_extra_losses(cfg)(logits, labels.masked_fill(labels == 255, 254), features)
    settings = {"max_distance": 5.0, "max_fraction": 0.2, "label_smoothing": 0.1}
    expected = losses.active_boundary_loss(logits, labels, features["contour_distance"], **settings)
    torch.testing.assert_close(found["loss_active_boundary"], expected)
    torch.testing.assert_close(found["loss_lovasz"], losses.lovasz_softmax_loss(logits, labels, per_image=True))


def test_each_has_its_own_schedule(batch):
    features, labels = batch
    cfg = config({"BOUNDARY": 0.01, "LOVASZ": 1.0})
    cfg.MODEL.EXTRA_LOSSES.BOUNDARY.START_ITER, cfg.MODEL.EXTRA_LOSSES.BOUNDARY.RAMP_ITERS = 10, 4
    head = EPLSemSegFPNHead(cfg, SHAPES).train()
    predictions = torch.randn(2, NUM_CLASSES, 8, 10, generator=torch.Generator().manual_seed(0), requires_grad=True)
    values = {}
    for iteration in (9, 10, 12, 13, 50):
        with EventStorage(iteration):
            values[iteration] = head.losses(predictions, labels, features)
    full = head.losses(predictions, labels, features)
    shares = {iteration: (v["loss_boundary"] / full["loss_boundary"]).item() for iteration, v in values.items()}
    assert shares == pytest.approx({9: 0, 10: 0.25, 12: 0.75, 13: 1, 50: 1})
    assert all(torch.equal(v["loss_lovasz"], full["loss_lovasz"]) for v in values.values())
    values[9]["loss_boundary"].backward()
    assert (predictions.grad == 0).all()


def test_a_schedule_needs_an_iteration_and_infinity_is_its_end(batch):
    features, labels = batch
    cfg = config({"LOVASZ": 0.5})
    logits = torch.randn(2, NUM_CLASSES, 32, 40, generator=torch.Generator().manual_seed(1))
    expected = 0.5 * losses.lovasz_softmax_loss(logits, labels)
    assert torch.equal(build_extra_losses(cfg)(logits, labels, features)["loss_lovasz"], expected)
    cfg.MODEL.EXTRA_LOSSES.LOVASZ.START_ITER = 10
    extra = build_extra_losses(cfg)
    assert torch.equal(extra(logits, labels, features, math.inf)["loss_lovasz"], expected)
    with pytest.raises(ValueError, match=r"iteration must be given .*start_iter 10.* got None: .* math\.inf"):
        extra(logits, labels, features)


def test_a_missing_map_is_named(batch):
    features, labels = batch
    del features["signed_distance"]
    extra = build_extra_losses(config({"BOUNDARY": 0.01}))
    with pytest.raises(ValueError, match=r"loss_boundary needs the map 'signed_distance'.*p2, p3, contour_distance"):
        extra(torch.zeros(2, NUM_CLASSES, 32, 40), labels, features)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("BOUNDARY.WEIGHT", -0.5),
        ("LOVASZ.START_ITER", -1),
        ("GENERALIZED_DICE.RAMP_ITERS", -2),
        ("ACTIVE_BOUNDARY.MAX_FRACTION", 1.5),
        ("ACTIVE_BOUNDARY.MAX_DISTANCE", 0.0),
    ],
)
def test_bad_values_fail_when_the_head_is_built(key, value):
    cfg = config()
    cfg.merge_from_list([f"MODEL.EXTRA_LOSSES.{key}", value])
    loss, name = key.split(".")
    with pytest.raises(ValueError, match=rf"(?i)MODEL\.EXTRA_LOSSES\.{loss}: {name} must be .*, got {value}"):
        EPLSemSegFPNHead(cfg, SHAPES)


@pytest.mark.parametrize(
    ("loss_type", "keys", "function"),
    [
        (
            "ohem",
            ["OHEM.THRESHOLD", 0.3, "OHEM.MIN_KEPT", 200, "OHEM.FACTOR", 2],
            lambda x, y: losses.ohem_cross_entropy(x, y, threshold=0.3, min_kept=200, factor=2),
        ),
        (
            "label_relaxation",
            ["LABEL_RELAXATION.BORDER", 2],
            lambda x, y: losses.label_relaxation_loss(x, y, border=2),
        ),
    ],
)
def test_criteria(batch, loss_type, keys, function):
    _, labels = batch
    cfg = config()
    cfg.MODEL.SEM_SEG_HEAD.LOSS_TYPE = loss_type
    cfg.MODEL.SEM_SEG_HEAD.merge_from_list(keys)
    cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = 254
    logits = torch.randn(2, NUM_CLASSES, 32, 40, generator=torch.Generator().manual_seed(1))
    found = build_criterion(cfg)(logits, labels.masked_fill(labels == 255, 254))
    torch.testing.assert_close(found, function(logits, labels))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["LOSS_TYPE", "focal"], r"LOSS_TYPE is 'focal'; it may be 'cross_entropy', 'hard_pixel_mining', 'ohem', "),
        (
            ["LOSS_TYPE", "ohem", "OHEM.THRESHOLD", 1.5],
            r"SEM_SEG_HEAD\.OHEM: threshold must be a number in \[0, 1\], got 1\.5",
        ),
        (["LOSS_TYPE", "label_relaxation", "LABEL_RELAXATION.BORDER", -1], r"LABEL_RELAXATION: border must be .* -1"),
    ],
)
def test_bad_criteria_are_named(keys, message):
    cfg = config()
    cfg.MODEL.SEM_SEG_HEAD.merge_from_list(keys)
    with pytest.raises(ValueError, match=message):
        build_criterion(cfg)
