"""Bad input gets a ValueError that names the argument, what it was and what it may be."""

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch

from epl_d2 import losses
from epl_d2.losses import EPLLoss, epl, line_loss, ohem_cross_entropy, point_loss, potential_field
from epl_d2.losses.modules import FunctionLoss

LOGITS = torch.zeros(2, 3, 6, 7)
LABELS = torch.zeros(2, 6, 7, dtype=torch.long)


@pytest.mark.parametrize("loss", [point_loss, line_loss])
@pytest.mark.parametrize(
    "logits, labels, message",
    [
        (LOGITS.long(), LABELS, "logits must be a floating-point tensor, got torch.int64"),
        (LOGITS[0], LABELS, "logits must have the shape [N, K, H, W], got [3, 6, 7]"),
        (LOGITS[:, :0], LABELS, "logits must have at least one class"),
        (LOGITS.numpy(), LABELS, "logits must be a tensor, got ndarray"),
        (LOGITS, LABELS.float(), "labels must be an integer tensor of class ids, got torch.float32"),
        (LOGITS, LABELS.bool(), "labels must be an integer tensor of class ids, got torch.bool"),
        (LOGITS, LABELS[0], "labels must have the shape [N, H, W], got [6, 7]"),
        (
            LOGITS,
            LABELS[:, :5],
            "labels must have the shape [2, 6, 7] to fit logits of shape [2, 3, 6, 7], got [2, 5, 7]",
        ),
        (LOGITS, LABELS.to("meta"), "labels must be on the device of logits (cpu), got meta"),
        (LOGITS, LABELS + 3, "labels must be in 0..2 or 255 (ignored), got [3]"),
        (LOGITS, LABELS - 1, "labels must be in 0..2 or 255 (ignored), got [-1]"),
    ],
)
def test_tensors(loss, logits, labels, message) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        loss(logits, labels)


@pytest.mark.parametrize("size", [6, 0, -3, 7.0, True])
def test_kernel_sizes(size) -> None:
    with pytest.raises(ValueError, match=re.escape(f"kernel_size must be a positive odd integer, got {size!r}")):
        point_loss(LOGITS, LABELS, kernel_size=size)


@pytest.mark.parametrize("size", [6, 0, 1, -3, 7.0, True])
def test_kernel_sizes_where_there_must_be_a_line(size) -> None:
    for loss, name in (
        (lambda **kwargs: line_loss(LOGITS, LABELS, **kwargs), "kernel_size"),
        (lambda **kwargs: point_loss(LOGITS, LABELS, region="lines", **kwargs), "kernel_size"),
        (EPLLoss, "line_kernel_size"),
        (lambda **kwargs: EPLLoss(point_region="lines", **kwargs), "point_kernel_size"),
    ):
        with pytest.raises(ValueError, match=rf"^{name} must be an odd integer of at least 3, got {size!r}$"):
            loss(**{name: size})


@pytest.mark.parametrize("loss", [point_loss, line_loss])
@pytest.mark.parametrize(
    "name, value, allowed",
    [
        ("splitter", "D", "one of 'A', 'B', 'C'"),
        ("convolution", "dilated", "one of 'anisotropic', 'standard'"),
        ("ignore_value", 2.5, "an integer"),
    ],
)
def test_shared_settings(loss, name, value, allowed) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{name} must be {allowed}, got {value!r}")):
        loss(LOGITS, LABELS, **{name: value})


def test_own_settings() -> None:
    with pytest.raises(ValueError, match="norm must be one of 'l1', 'l2', got 2"):
        point_loss(LOGITS, LABELS, norm=2)
    with pytest.raises(ValueError, match="region must be one of 'image', 'lines', got 'band'"):
        point_loss(LOGITS, LABELS, region="band")
    with pytest.raises(ValueError, match="formulation must be one of 'official', 'contour', 'band', got 'paper'"):
        line_loss(LOGITS, LABELS, formulation="paper")
    for mu in (3, 0, -2, 2.0):
        with pytest.raises(ValueError, match=f"mu must be a positive even integer, got {mu}"):
            line_loss(LOGITS, LABELS, mu=mu)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((LOGITS.long(), 7), "fields must be a floating-point tensor"),
        ((LOGITS, 4), "kernel_size must be a positive odd integer, got 4"),
        ((LOGITS, 7, "a"), "splitter must be one of 'A', 'B', 'C', got 'a'"),
        ((LOGITS, 7, "A", "reflect"), "padding must be one of 'replicate', 'zero', got 'reflect'"),
    ],
)
def test_potential_field(arguments, message) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        potential_field(*arguments)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"point_weight": -0.1}, "point_weight must be a finite number of at least 0, got -0.1"),
        ({"line_weight": float("inf")}, "line_weight must be a finite number of at least 0, got inf"),
        ({"line_weight": "0.2"}, "line_weight must be a finite number of at least 0, got '0.2'"),
        ({"point_kernel_size": 8}, "point_kernel_size must be a positive odd integer, got 8"),
        ({"line_kernel_size": 0}, "line_kernel_size must be an odd integer of at least 3, got 0"),
        ({"point_region": "band"}, "point_region must be one of 'image', 'lines', got 'band'"),
        ({"splitter": None}, "splitter must be one of"),
        ({"norm": "L2"}, "norm must be one of 'l1', 'l2', got 'L2'"),
        ({"mu": 5}, "mu must be a positive even integer, got 5"),
        ({"formulation": ""}, "formulation must be one of"),
        ({"stride": 0}, "stride must be an integer of at least 1, got 0"),
        ({"start_iter": -1}, "start_iter must be an integer of at least 0, got -1"),
        ({"ramp_iters": 1.5}, "ramp_iters must be an integer of at least 0, got 1.5"),
        ({"ignore_value": "255"}, "ignore_value must be an integer, got '255'"),
    ],
)
def test_module_settings_fail_when_built(settings, message) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        EPLLoss(**settings)


MODULES = [
    module for module in map(losses.__dict__.get, losses.__all__) if isinstance(module, type) and module != EPLLoss
]


@pytest.mark.parametrize("module", MODULES)
def test_every_module_of_a_function_checks_the_ignored_label(module: type[FunctionLoss]) -> None:
    """And takes what its function takes: NumPy's numbers, any integer."""
    weights = {"class_weights": (1.0, 2.0)} if module is losses.ClassWeightedCrossEntropy else {}
    assert module(ignore_value=np.int64(-100), **weights).settings["ignore_value"] == -100
    for value in (None, "a", True, 2.5):
        with pytest.raises(ValueError, match=rf"^ignore_value must be an integer, got {value!r}"):
            module(ignore_value=value, **weights)


@pytest.mark.parametrize(
    "module, settings, message",
    [
        *(
            (module, {name: "zz"}, f"{name} must be one of ")
            for module in (losses.PointLoss, losses.LineLoss)
            for name in ("splitter", "convolution", "ignore_mode", "mode", "reduction")
        ),
        (
            losses.LineLoss,
            {"formulation": "official", "reduction": "none"},
            "reduction must be 'mean' for the formulation",
        ),
        (losses.LovaszSoftmaxLoss, {"per_image": "False"}, "per_image must be True or False, got 'False'"),
        (losses.ActiveBoundaryLoss, {"max_distance": "3"}, "max_distance must be a finite number above 0, got '3'"),
        (losses.ActiveBoundaryLoss, {"max_distance": np.inf}, "max_distance must be a finite number above 0, got inf"),
        (
            losses.ActiveBoundaryLoss,
            {"max_fraction": True},
            "max_fraction must be a number above 0 and at most 1, got True",
        ),
        (
            losses.ActiveBoundaryLoss,
            {"label_smoothing": None},
            "label_smoothing must be a number of at least 0 and below",
        ),
        (losses.OHEMCrossEntropy, {"threshold": "0.7"}, "threshold must be a number in [0, 1], got '0.7'"),
        (losses.BandCrossEntropy, {"width": True}, "width must be a number above 0, got True"),
        (losses.ClassWeightedCrossEntropy, {}, "class_weights must hold a number for each class, got ()"),
        (
            losses.ClassWeightedCrossEntropy,
            {"class_weights": 3.0},
            "class_weights must hold a number for each class, got 3.0",
        ),
        (
            losses.ClassWeightedCrossEntropy,
            {"class_weights": ["1"]},
            "class_weights must be finite and above 0, got '1'",
        ),
        (losses.ClassWeightedCrossEntropy, {"class_weights": torch.zeros(2)}, "must be finite and above 0, got 0.0"),
    ],
)
def test_modules_of_functions_refuse_settings_when_built(module, settings, message) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        module(**settings)


@pytest.mark.parametrize("integer", [np.int64, np.int8, np.uint8])
def test_numbers_of_numpy(scene: Callable, integer: type[np.integer]) -> None:
    """They are numbers as Python's are, and do not wrap where they are narrow."""
    logits, labels = scene((2, 3, 24, 26))
    settings = {
        **{"point_kernel_size": 21, "line_kernel_size": 5, "mu": 4, "ignore_value": 2, "stride": 2},
        **{"start_iter": 3, "ramp_iters": 4},
    }
    weights = {"point_weight": np.float32(0.5), "line_weight": np.float64(2)}
    expected = EPLLoss(point_weight=0.5, line_weight=2, **settings)(logits, labels, 1000)
    found = EPLLoss(**weights, **{name: integer(value) for name, value in settings.items()})(logits, labels, 1000)
    assert found == expected and all(value > 0 for value in found.values())
    for loss, numbers in (
        (point_loss, {"kernel_size": 61, "ignore_value": 2}),
        (line_loss, {"kernel_size": 61, "mu": 10, "ignore_value": 2}),
        (ohem_cross_entropy, {"min_kept": 127, "factor": 16, "ignore_value": 2}),
        (lambda x, y, kernel_size: potential_field(x, kernel_size).sum(), {"kernel_size": 61}),
    ):
        given = {name: integer(value) for name, value in numbers.items()}
        assert loss(logits, labels, **given) == loss(logits, labels, **numbers)
    with pytest.raises(ValueError, match=r"kernel_size must be a positive odd integer, got (np\.\w+\()?6"):
        point_loss(logits, labels, kernel_size=integer(6))
    with pytest.raises(ValueError, match="line_weight must be a finite number"):
        EPLLoss(line_weight=np.True_)


def test_hints() -> None:
    """What was perhaps meant."""
    large = torch.zeros(2, 24, 28, dtype=torch.long)
    cases = [
        (
            (LOGITS, large),
            {},
            "resized by F.interpolate(logits, [24, 28], mode='bilinear') or EPLLoss(resize_logits=True)",
        ),
        ((LOGITS, large), {}, "EPLLoss(stride=4) takes them as they are"),
        ((LOGITS[:, 0], large > 0), {"mode": "binary"}, "EPLLoss(stride=4) takes them as they are"),
        (
            (LOGITS, LABELS.unsqueeze(1).expand(-1, 3, -1, -1)[..., :3]),
            {"mode": "multilabel"},
            "labels must have the shape",
        ),
        ((LOGITS[:, :1], LABELS), {}, "for a sigmoid over one channel, mode='binary'"),
        (
            (LOGITS, LABELS.bool()),
            {},
            "labels.long() for classes 0 and 1, or, if the logits go through a sigmoid, mode='bin",
        ),
        (
            (LOGITS, LABELS),
            {"mode": "binary"},
            "for several channels, mode='multilabel' (a sigmoid each) or 'multiclass'",
        ),
        (
            (LOGITS[:, 0], LABELS[0]),
            {"mode": "binary"},
            "labels of mode 'binary' must have the shape [N, H, W] or [N, 1, H,",
        ),
        (
            (LOGITS, LABELS),
            {"mode": "multilabel"},
            "[N, K, H, W], a mask for each class, to fit logits of shape [2, 3, 6, 7]",
        ),
        ((LOGITS.permute(1, 0, 2, 3), torch.zeros_like(LOGITS)), {"mode": "multilabel"}, "got [2, 3, 6, 7]"),
        ((LOGITS[:, 0].numpy(), LABELS), {"mode": "binary"}, "logits must be a tensor, got ndarray"),
        ((LOGITS[:, 0], LABELS.numpy()), {"mode": "binary"}, "labels must be a tensor, got ndarray"),
        ((LOGITS[:, 0], LABELS.cfloat()), {"mode": "binary"}, "labels must be a real tensor, got torch.complex64"),
        (
            (LOGITS[:, 0], LABELS.to("meta")),
            {"mode": "binary"},
            "labels must be on the device of logits (cpu), got meta",
        ),
        ((LOGITS, LABELS), {"ignore_value": None}, "got None: any that no label has, such as -100, ignores nothing"),
        ((LOGITS[:, 0], LABELS), {"ignore_value": None, "mode": "binary"}, "got None: any that no label has"),
        (
            (LOGITS, LABELS),
            {"mode": "sigmoid"},
            "mode must be one of 'multiclass', 'binary', 'multilabel', got 'sigmoid'",
        ),
    ]
    for given, settings, message in cases:
        for loss in (point_loss, line_loss, lambda *x, **kwargs: EPLLoss(**kwargs)(*x)):
            with pytest.raises(ValueError, match=re.escape(message)):
                loss(*given, **settings)
    with pytest.raises(ValueError, match="resize_logits must be True or False, got 4"):
        EPLLoss(resize_logits=4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_probabilities_are_no_logits(dtype: torch.dtype) -> None:
    logits = torch.randn(2, 5, 40, 30, generator=torch.Generator().manual_seed(0))
    labels = logits.argmax(dim=1)
    p = logits.softmax(dim=1).to(dtype)
    for loss in (point_loss, line_loss, EPLLoss()):
        with pytest.raises(ValueError, match="logits must be given, got probabilities"):
            loss(p, labels)
    # One pixel is enough to know that they are none; log probabilities are logits.
    p[1, :, 7, 11] *= 1.1
    for given in (p, logits.log_softmax(dim=1), p - 0.01):
        assert point_loss(given, labels) > 0
    sigmoids = p[:, 0]
    assert point_loss(sigmoids, labels == 0, mode="binary") > 0


def test_probabilities_on_a_device_are_an_assertion(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made in the first call of a module, and not waited for: nothing can be read from these tensors."""
    asserted = []
    monkeypatch.setattr(torch, "_assert_async", lambda condition, message: asserted.append((condition.shape, message)))
    monkeypatch.setattr(epl, "evaluate_terms", lambda logits, labels, terms, *_: [logits.sum()] * len(terms))
    module = EPLLoss()
    for _ in range(2):
        module(LOGITS.to("meta"), LABELS.to("meta"))
    assert [(shape, "got probabilities" in message) for shape, message in asserted] == [((), True)]
