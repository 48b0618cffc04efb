"""Binary and multilabel: sigmoids instead of a softmax. `test_brute_force.py` has their formulas."""

import itertools
import re
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from epl_d2.losses import EPLLoss, LineLoss, PointLoss, kernels, line_loss, point_loss
from epl_d2.losses.kernels import plain

LOSSES = [
    (point_loss, {}),
    (point_loss, {"norm": "l1", "splitter": "C", "kernel_size": 5}),
    (point_loss, {"region": "lines", "kernel_size": 5}),
    (line_loss, {}),
    (line_loss, {"mu": 10, "splitter": "B", "kernel_size": 11}),
    (line_loss, {"formulation": "band", "kernel_size": 5}),
    (line_loss, {"formulation": "official"}),
    (line_loss, {"convolution": "standard"}),
]
every_loss = pytest.mark.parametrize(("loss", "choice"), LOSSES, ids=lambda x: getattr(x, "__name__", str(x)))


@pytest.fixture
def masks(scene: Callable) -> Callable[..., tuple[Tensor, Tensor]]:
    """A factory of logits and targets ``[R, H, W]`` with contiguous objects, some with ignored pixels."""

    def make(count: int = 4, ignored: bool = True, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        logits, labels = scene((count, 3, 18, 21), ignored=ignored, dtype=dtype)
        # Labels of the same pictures, so that both fit each other roughly.
        targets = labels.where(labels == 255, (labels == 1).long())
        return logits[:, 1] - logits[:, 0], targets

    return make


def value_and_gradient(loss: Callable, logits: Tensor, *arguments: object, **settings: object) -> tuple[Tensor, Tensor]:
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, *arguments, **settings)
    return value.detach(), torch.autograd.grad(value, logits)[0]


@pytest.mark.parametrize("ignore_mode", ["nearest", "background"])
@pytest.mark.parametrize(("loss", "choice"), LOSSES[:6], ids=lambda x: getattr(x, "__name__", str(x)))
def test_binary_is_the_softmax_over_0_and_the_logit(
    masks: Callable, loss: Callable, choice: dict, ignore_mode: str
) -> None:
    """The two fields of that softmax mirror each other, so that their mean is the one of them."""
    logits, targets = masks(dtype=torch.float64)
    choice = {**choice, "ignore_mode": ignore_mode}
    value, gradient = value_and_gradient(loss, logits, targets, mode="binary", **choice)
    expected, of_two = value_and_gradient(
        lambda x: loss(torch.stack((torch.zeros_like(x), x), dim=1), targets, **choice), logits
    )
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    assert value > 0.01
    torch.testing.assert_close(gradient, of_two, rtol=1e-9, atol=1e-15)


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_plain_path(
    masks: Callable, loss: Callable, choice: dict, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ignore_mode in ("nearest", "exclude", "background"):
        logits, targets = masks(dtype=dtype)
        settings = {**choice, "mode": "binary", "ignore_mode": ignore_mode}
        fast = value_and_gradient(loss, logits, targets, **settings)
        with monkeypatch.context() as patch:
            patch.setattr(kernels, "choose", lambda *_: plain)
            slow = value_and_gradient(loss, logits, targets, **settings)
        torch.testing.assert_close(fast[0], slow[0], rtol=1e-5, atol=1e-7)
        tolerance = 1e-5 if dtype == torch.float32 else 1e-2
        assert (fast[1] - slow[1]).double().norm() <= tolerance * slow[1].double().norm()
        if ignore_mode != "background":
            assert not fast[1][targets == 255].any()


@every_loss
def test_shapes(masks: Callable, loss: Callable, choice: dict) -> None:
    """What is a channel and what an instance does not matter to the value."""
    logits, targets = masks()
    expected = loss(logits, targets, mode="binary", **choice)
    for x, y in itertools.product((logits, logits.unsqueeze(1)), (targets, targets.unsqueeze(1))):
        assert torch.equal(loss(x, y, mode="binary", **choice), expected)
    grouped = logits.unflatten(0, (2, 2)), targets.unflatten(0, (2, 2))
    assert torch.equal(loss(*grouped, mode="multilabel", **choice), expected)
    value, gradient = value_and_gradient(loss, grouped[0], grouped[1], mode="multilabel", **choice)
    assert torch.equal(value, expected)
    assert torch.equal(gradient.flatten(0, 1), value_and_gradient(loss, logits, targets, mode="binary", **choice)[1])


@pytest.mark.parametrize("loss", [point_loss, line_loss])
def test_each_instance_counts_alike(masks: Callable, loss: Callable) -> None:
    logits, targets = masks(ignored=False)
    each = loss(logits, targets, mode="binary", reduction="none")
    assert each.shape == (4,)
    torch.testing.assert_close(loss(logits, targets, mode="binary"), each.mean())
    of_images = loss(*(x.unflatten(0, (2, 2)) for x in (logits, targets)), mode="multilabel", reduction="none")
    torch.testing.assert_close(of_images, each.view(2, 2).mean(dim=1))


def test_an_instance_without_a_contour_has_no_line(masks: Callable) -> None:
    logits, targets = masks(2, ignored=False)
    for loss in (line_loss, partial(point_loss, region="lines")):
        expected = loss(logits, targets, mode="binary", reduction="none")
        for empty in (0, 1, 255):
            without = torch.stack((targets[0], torch.full_like(targets[1], empty)))
            torch.testing.assert_close(loss(logits, without, mode="binary"), expected[0])
            assert loss(logits, without, mode="binary", reduction="none")[1] == 0


@pytest.mark.parametrize("mode", ["binary", "multilabel"])
def test_perfect_and_opposite(masks: Callable, mode: str) -> None:
    _, targets = masks(ignored=False)
    logits = 100.0 * (2 * targets - 1).float()
    if mode == "multilabel":
        logits, targets = logits[None], targets[None]
    assert point_loss(logits, targets, mode=mode).item() == pytest.approx(0, abs=1e-6)
    assert line_loss(logits, targets, mode=mode).item() == pytest.approx(0, abs=1e-6)
    assert line_loss(-logits, targets, mode=mode).item() > 0.5


@every_loss
def test_what_is_ignored_changes_nothing(masks: Callable, loss: Callable, choice: dict) -> None:
    logits, targets = masks()
    results = [
        value_and_gradient(loss, logits.masked_fill(targets == 255, bad), targets, mode="binary", **choice)
        for bad in (0.0, torch.nan, torch.inf)
    ]
    for value, gradient in results:
        assert torch.equal(value, results[0][0])
        assert torch.equal(gradient, results[0][1])
        assert not gradient[targets == 255].any()


@every_loss
def test_saturated_logits(masks: Callable, loss: Callable, choice: dict) -> None:
    logits, targets = masks()
    for scale in (100, 1e4):
        value, gradient = value_and_gradient(loss, scale * logits, targets, mode="binary", **choice)
        assert value.isfinite()
        assert gradient.isfinite().all()


TYPES = [torch.bool, torch.uint8, torch.int8, torch.int64, torch.uint16, torch.uint64, torch.float32, torch.bfloat16]


@pytest.mark.parametrize("loss", [point_loss, line_loss])
def test_types_of_targets(masks: Callable, loss: Callable) -> None:
    logits, targets = masks(ignored=False)
    expected = loss(logits, targets, mode="binary")
    for dtype in TYPES:
        for ignore_value in (255, -100, 257):  # 257 is not 1, as uint8 would have it
            value = loss(logits, targets.to(dtype), mode="binary", ignore_value=ignore_value)
            assert torch.equal(value, expected), (dtype, ignore_value)
    logits, targets = masks()
    expected = loss(logits, targets, mode="binary")
    for dtype in (torch.uint8, torch.int32, torch.uint32, torch.float32, torch.bfloat16):
        assert torch.equal(loss(logits, targets.to(dtype), mode="binary"), expected), dtype
    other = targets.masked_fill(targets == 255, -100)
    for dtype in (torch.int8, torch.int64, torch.float32):
        assert torch.equal(loss(logits, other.to(dtype), mode="binary", ignore_value=-100), expected), dtype
    module = EPLLoss(mode="binary", point_weight=1, line_weight=1, ignore_value=-100)
    assert torch.equal(module(logits, other)[f"loss_epl_{loss.__name__.removesuffix('_loss')}"], expected)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (2, "must be 0, 1 or 255 (ignored), got [2]"),
        (-1, "must be 0, 1 or 255 (ignored), got [-1]"),
        (0.25, "must be 0, 1 or 255 (ignored), got [0.25]"),
        (torch.nan, "must be 0, 1 or 255 (ignored), got [nan]"),
    ],
)
@pytest.mark.parametrize("mode", ["binary", "multilabel"])
def test_targets_beyond_0_and_1(masks: Callable, found: float, message: str, mode: str) -> None:
    logits, targets = masks()
    targets = targets.to(torch.float32 if isinstance(found, float) else torch.int64)
    targets[1, 3, 4] = found
    if mode == "multilabel":
        logits, targets = logits[None], targets[None]
    for loss in (point_loss, line_loss, EPLLoss(mode=mode), PointLoss(mode=mode), LineLoss(mode=mode)):
        settings = {} if isinstance(loss, torch.nn.Module) else {"mode": mode}
        with pytest.raises(ValueError, match=re.escape(message)):
            loss(logits, targets, **settings)
    with pytest.raises(ValueError, match=re.escape("got [255]: labels > 0 makes a mask of 0 and 255")):
        point_loss(logits, torch.full_like(targets, 255).int(), mode=mode, ignore_value=-100)
    with pytest.raises(ValueError, match=re.escape("got [18446744073709551615]")):
        point_loss(logits, torch.full(targets.shape, 2**64 - 1, dtype=torch.uint64), mode=mode, ignore_value=-1)


def test_as_modules(masks: Callable) -> None:
    logits, targets = masks()
    logits.requires_grad_()
    losses = EPLLoss(mode="binary", point_weight=0.5, line_weight=2, line_kernel_size=5)(logits, targets)
    assert torch.equal(losses["loss_epl_point"], 0.5 * point_loss(logits, targets, mode="binary"))
    assert torch.equal(losses["loss_epl_line"], 2 * LineLoss(mode="binary", kernel_size=5)(logits, targets))
    (together,) = torch.autograd.grad(sum(losses.values()), logits)
    parts = 0.5 * PointLoss(mode="binary")(logits, targets) + 2 * line_loss(
        logits, targets, mode="binary", kernel_size=5
    )
    torch.testing.assert_close(together, torch.autograd.grad(parts, logits)[0])


@pytest.mark.parametrize(
    ("mode", "shape"), [("binary", (0, 28, 28)), ("binary", (0, 1, 28, 28)), ("multilabel", (0, 3, 9, 9))]
)
@pytest.mark.parametrize("settings", [{}, {"resize_logits": True}, {"stride": 2}], ids=str)
def test_no_instances(mode: str, shape: tuple[int, ...], settings: dict) -> None:
    """A batch without foreground: an exact 0 that is connected, so that distributed training does not hang."""
    logits = torch.zeros(shape, requires_grad=True)
    size = [4 * shape[-2], 4 * shape[-1]] if settings else shape[-2:]
    targets = torch.zeros(*shape[:-2], *size, dtype=torch.bool)
    losses = EPLLoss(mode=mode, point_weight=1, **settings)(logits, targets)
    assert all(value == 0 and value.requires_grad for value in losses.values())
    sum(losses.values()).backward()
    assert logits.grad.shape == shape
    assert point_loss(
        torch.zeros(shape), targets[..., : shape[-2], : shape[-1]], mode=mode, reduction="none"
    ).shape == (0,)


def test_stride(masks: Callable) -> None:
    logits, targets = masks()
    module = EPLLoss(mode="binary", point_weight=1, line_weight=1, stride=3, line_kernel_size=9)
    small = F.interpolate(logits[:, None], size=(6, 7), mode="bilinear")[:, 0]
    sampled = targets[:, 1::3, 1::3]
    found = module(small, targets)
    torch.testing.assert_close(found["loss_epl_line"], line_loss(small, sampled, kernel_size=3, mode="binary"))
    of_channels = module(small[:, None], targets.float()[:, None])
    assert all(torch.equal(value, of_channels[name]) for name, value in found.items())
