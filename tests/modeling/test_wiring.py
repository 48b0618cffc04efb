"""What the losses and the test-time protocol are made of, with every key of theirs off its default."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from epl_d2 import get_cfg, losses
from epl_d2.losses.line import LineTerm
from epl_d2.losses.point import PointTerm
from epl_d2.modeling import EPLSemanticSegmentor, with_test_time_protocol
from epl_d2.modeling.losses import build_criterion, build_epl_loss, build_extra_losses, build_mask_epl_loss
from epl_d2.modeling.meta_arch.sliding_window import WindowProtocol

IGNORE_VALUE = 254
EPL = {
    "SPLITTER": "C",
    "CONVOLUTION": "standard",
    "IGNORE_MODE": "exclude",
    "STRIDE": 2,
    "BACKEND": "plain",
    "START_ITER": 30,
    "RAMP_ITERS": 40,
    "POINT.WEIGHT": 0.3,
    "POINT.KERNEL_SIZE": 13,
    "POINT.NORM": "l1",
    "POINT.REGION": "lines",
    "LINE.WEIGHT": 0.4,
    "LINE.KERNEL_SIZE": 9,
    "LINE.MU": 6,
    "LINE.FORMULATION": "official",
}
EXTRA_LOSSES = {
    "GENERALIZED_DICE": {"WEIGHT": 0.21, "START_ITER": 21, "RAMP_ITERS": 211},
    "BOUNDARY": {"WEIGHT": 0.22, "START_ITER": 22, "RAMP_ITERS": 222},
    "ACTIVE_BOUNDARY": {
        **{"WEIGHT": 0.23, "START_ITER": 23, "RAMP_ITERS": 233},
        **{"MAX_DISTANCE": 7.0, "MAX_FRACTION": 0.2, "LABEL_SMOOTHING": 0.1},
    },
    "LOVASZ": {"WEIGHT": 0.24, "START_ITER": 24, "RAMP_ITERS": 244, "PER_IMAGE": True},
    "BOUNDARY_F": {"WEIGHT": 0.25, "START_ITER": 25, "RAMP_ITERS": 255, "TOLERANCE": 2},
    "BAND_CROSS_ENTROPY": {"WEIGHT": 0.26, "START_ITER": 26, "RAMP_ITERS": 266, "WIDTH": 4.0},
    "CLASS_WEIGHTED_CROSS_ENTROPY": {
        **{"WEIGHT": 0.27, "START_ITER": 27, "RAMP_ITERS": 277},
        "CLASS_WEIGHTS": [float(k) for k in range(1, 55)],
    },
}


def configured(node="", **keys):
    """A config with the ignore value and the keys of a node set."""
    cfg = get_cfg()
    cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = IGNORE_VALUE
    cfg.merge_from_list([part for key, value in keys.items() for part in (f"{node}{key}", value)])
    return cfg


def test_epl_holds_its_keys_under_their_names():
    loss = build_epl_loss(configured("MODEL.EPL.", **EPL))
    assert {name: value for name, value in vars(loss).items() if not name.startswith("_") and name != "training"} == {
        "point_weight": 0.3,
        "line_weight": 0.4,
        # The odd numbers nearest to 13 / 2 and 9 / 2.
        "point": PointTerm(kernel_size=7, splitter="C", convolution="standard", norm="l1", region="lines"),
        "line": LineTerm(kernel_size=5, splitter="C", convolution="standard", mu=6, formulation="official"),
        "ignore_value": 254,
        "ignore_mode": "exclude",
        "mode": "multiclass",
        "stride": 2,
        "resize_logits": False,
        "start_iter": 30,
        "ramp_iters": 40,
        "backend": "plain",
    }


def test_the_schedule_of_epl_can_be_given_in_shares_of_the_training():
    for max_iter, start, ramp in ((6000, 4000, 300), (300, 200, 15), (7, 5, 0)):
        keys = {"SOLVER.MAX_ITER": max_iter, "MODEL.EPL.START_FRACTION": 2 / 3, "MODEL.EPL.RAMP_FRACTION": 0.05}
        loss = build_epl_loss(configured(**keys))
        assert (loss.start_iter, loss.ramp_iters) == (start, ramp)
    assert build_epl_loss(configured(**{"SOLVER.MAX_ITER": 8, "MODEL.EPL.START_FRACTION": 1.0})).schedule(7) == 0


@pytest.mark.parametrize("share", ["START_FRACTION", "RAMP_FRACTION"])
def test_wrong_shares_of_the_training_are_refused_by_name(share):
    for value in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=rf"MODEL\.EPL\.{share} is {value}, expected a share"):
            build_epl_loss(configured("MODEL.EPL.", **{share: value}))
    for iterations in ("START_ITER", "RAMP_ITERS"):
        with pytest.raises(ValueError, match=r"MODEL\.EPL: START_ITER .* give one kind"):
            build_epl_loss(configured("MODEL.EPL.", **{share: 0.5, iterations: 10}))


def test_the_backend_reaches_the_losses(scene, monkeypatch):
    chosen = []
    choose = losses.kernels.choose
    monkeypatch.setattr(losses.kernels, "choose", lambda *given: chosen.append(given[2]) or choose(*given))
    build_epl_loss(configured("MODEL.EPL.", **EPL))(*scene, math.inf)
    assert chosen == ["plain", "plain"]
    with pytest.raises(ValueError, match=r"MODEL\.EPL\.BACKEND must be one of 'auto'.*got 'cuda'"):
        build_epl_loss(configured("MODEL.EPL.", BACKEND="cuda"))


def bad(value):
    """What no key of the type of `value` takes."""
    return "nonsense" if isinstance(value, str) else type(value)(-3)


@pytest.mark.parametrize("key", EPL)
def test_a_bad_value_is_refused_under_its_key(key):
    with pytest.raises(ValueError, match=rf"^MODEL\.EPL\.{key} must be .*, got {bad(EPL[key])!r}$"):
        build_epl_loss(configured("MODEL.EPL.", **{key: bad(EPL[key])}))


@pytest.mark.parametrize("key", [key for key in EPL if key not in ("IGNORE_MODE", "STRIDE")])
def test_a_bad_value_is_refused_under_the_key_that_masks_take_it_from(key):
    name = f"MASK.{key}" if key.endswith(("WEIGHT", "KERNEL_SIZE")) else key
    with pytest.raises(ValueError, match=rf"^MODEL\.EPL\.{name} must be .*, got {bad(EPL[key])!r}$"):
        build_mask_epl_loss(configured("MODEL.EPL.", **{name: bad(EPL[key])}))


POINT = {"kernel_size": 13, "splitter": "C", "norm": "l1", "region": "lines", "ignore_mode": "exclude"}
LINE = {"kernel_size": 9, "splitter": "C", "mu": 6, "formulation": "official", "ignore_mode": "exclude"}


@pytest.fixture(scope="module")
def scene():
    """Logits [2, 4, 24, 28] and labels of them, some of which are 254."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (2, 3, 4), generator=generator).repeat_interleave(8, 1).repeat_interleave(7, 2)
    labels[:, :7, 3:20] = 254  # wider than the rays of LINE (4) and POINT (6) reach
    return torch.randn(2, 4, 24, 28, generator=generator), labels


@pytest.mark.parametrize(
    ("convolution", "ignore_mode"), [("standard", "exclude"), ("anisotropic", "background"), ("anisotropic", "nearest")]
)
def test_epl_hands_every_setting_to_both_losses(scene, convolution, ignore_mode):
    keys = {**EPL, "STRIDE": 1, "CONVOLUTION": convolution, "IGNORE_MODE": ignore_mode}
    found = build_epl_loss(configured("MODEL.EPL.", **keys))(*scene, math.inf)
    common = {"convolution": convolution, "ignore_value": IGNORE_VALUE, "ignore_mode": ignore_mode}
    torch.testing.assert_close(found["loss_epl_point"], 0.3 * losses.point_loss(*scene, **{**POINT, **common}))
    torch.testing.assert_close(found["loss_epl_line"], 0.4 * losses.line_loss(*scene, **{**LINE, **common}))


@pytest.mark.parametrize(("loss", "settings"), [(losses.point_loss, POINT), (losses.line_loss, LINE)])
def test_no_setting_could_be_left_out_of_them_unnoticed(scene, loss, settings):
    value = loss(*scene, ignore_value=IGNORE_VALUE, **settings)
    for name in settings:
        rest = {other: settings[other] for other in settings if other != name}
        assert not torch.allclose(loss(*scene, ignore_value=IGNORE_VALUE, **rest), value), name
    assert not torch.allclose(loss(*scene, ignore_value=IGNORE_VALUE, convolution="standard", **settings), value)
    with pytest.raises(ValueError, match="254"):
        loss(*scene, **settings)


def test_extra_losses_hold_their_keys_under_their_names():
    keys = {f"{loss}.{key}": value for loss, node in EXTRA_LOSSES.items() for key, value in node.items()}
    found = build_extra_losses(configured("MODEL.EXTRA_LOSSES.", **keys)).losses
    schedules = {loss.name: (loss.weight, loss.start_iter, loss.ramp_iters, loss.map_name) for loss in found}
    assert schedules == {
        "loss_generalized_dice": (0.21, 21, 211, None),
        "loss_boundary": (0.22, 22, 222, "signed_distance"),
        "loss_active_boundary": (0.23, 23, 233, "contour_distance"),
        "loss_lovasz": (0.24, 24, 244, None),
        "loss_boundary_f": (0.25, 25, 255, None),
        "loss_band_cross_entropy": (0.26, 26, 266, "contour_distance"),
        "loss_class_weighted_cross_entropy": (0.27, 27, 277, None),
    }
    assert {loss.name: (loss.function.function, loss.function.settings) for loss in found} == {
        "loss_generalized_dice": (losses.generalized_dice_loss, {"ignore_value": 254}),
        "loss_boundary": (losses.boundary_loss, {"ignore_value": 254}),
        "loss_active_boundary": (
            losses.active_boundary_loss,
            {"ignore_value": 254, "max_distance": 7.0, "max_fraction": 0.2, "label_smoothing": 0.1},
        ),
        "loss_lovasz": (losses.lovasz_softmax_loss, {"ignore_value": 254, "per_image": True}),
        "loss_boundary_f": (losses.boundary_f_loss, {"ignore_value": 254, "tolerance": 2}),
        "loss_band_cross_entropy": (losses.band_cross_entropy, {"ignore_value": 254, "width": 4.0}),
        "loss_class_weighted_cross_entropy": (
            losses.class_weighted_cross_entropy,
            {"ignore_value": 254, "class_weights": [float(k) for k in range(1, 55)]},
        ),
    }


def hardest_fifth(logits, labels):
    costs = F.cross_entropy(logits, labels, ignore_index=254, reduction="none").flatten()
    return costs.sort(descending=True).values[: int(0.2 * len(costs))].mean()


def weighted_by_image(logits, labels):
    """Class c of an image weighs 2 - its share of the image's pixels that count."""
    found = []
    for one, target in zip(logits, labels, strict=True):
        counts = target[target != 254].bincount(minlength=4)
        weight = 2 - counts / counts.sum()
        found.append(F.cross_entropy(one[None], target[None], weight, ignore_index=254))
    return sum(found) / len(found)


@pytest.mark.parametrize(
    ("loss_type", "expected"),
    [
        ("cross_entropy", lambda x, y: F.cross_entropy(x, y, ignore_index=254)),
        ("hard_pixel_mining", hardest_fifth),
        ("image_weighted", weighted_by_image),
        ("ohem", lambda x, y: losses.ohem_cross_entropy(x, y, threshold=0.3, min_kept=400, factor=2, ignore_value=254)),
        ("label_relaxation", lambda x, y: losses.label_relaxation_loss(x, y, border=3, ignore_value=254)),
    ],
)
def test_criteria_get_their_settings(scene, loss_type, expected):
    keys = {"OHEM.THRESHOLD": 0.3, "OHEM.MIN_KEPT": 400, "OHEM.FACTOR": 2, "LABEL_RELAXATION.BORDER": 3}
    cfg = configured("MODEL.SEM_SEG_HEAD.", LOSS_TYPE=loss_type, **keys)
    torch.testing.assert_close(build_criterion(cfg)(*scene), expected(*scene))


def protocol(**keys):
    model = EPLSemanticSegmentor(
        backbone=nn.Identity(), sem_seg_head=nn.Identity(), pixel_mean=[0.0] * 3, pixel_std=[1.0] * 3
    )
    return with_test_time_protocol(configured("", **keys), model)


AUGMENTED = {
    "TEST.AUG.ENABLED": True,
    "TEST.AUG.FLIP": False,
    "TEST.AUG.SCALES": [0.5, 2.0],
    "TEST.AUG.BASE_SIZE": 640,
    "TEST.AUG.HALF": True,
}
WINDOWS = {
    "TEST.WINDOW.ENABLED": True,
    "TEST.WINDOW.SIZE": [40, 50],
    "TEST.WINDOW.STRIDE_FRACTION": 0.5,
    "TEST.WINDOW.BATCH": 6,
}


def test_the_protocol_holds_its_keys_under_their_names():
    built = protocol(**AUGMENTED, **WINDOWS)
    assert (built.scales, built.base_size) == ((0.5, 2.0), 640)
    assert built.protocol == WindowProtocol((40, 50), stride_fraction=0.5, batch=6, flip=False, dtype=torch.float16)


def test_parts_of_the_protocol_that_are_off_change_nothing():
    mirrored = {**AUGMENTED, "TEST.AUG.FLIP": True}
    alone = protocol(**mirrored, **{**WINDOWS, "TEST.WINDOW.ENABLED": False})
    assert alone.protocol.flip and alone.protocol.size is None
    alone = protocol(**WINDOWS, **{**mirrored, "TEST.AUG.ENABLED": False})
    assert (alone.scales, alone.base_size, alone.protocol.flip) == ((1.0,), 0, False)
    as_the_crop = {**WINDOWS, "TEST.WINDOW.SIZE": [], "INPUT.CROP.SIZE": [30, 20]}
    assert protocol(**as_the_crop).protocol.size == (30, 20)
