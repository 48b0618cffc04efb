"""What rays see at ignored pixels: nothing that the labels do not say, and no contour where there is none."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from epl_d2.losses import EPLLoss, line_loss, point_loss
from epl_d2.losses.kernels.cpu import find_nearest
from epl_d2.losses.target import make_target, nearest_valid

LOSSES = {
    "point": lambda x, y, **more: point_loss(x, y, **more),
    "point-standard": lambda x, y, **more: point_loss(x, y, convolution="standard", norm="l1", **more),
    "point-lines": lambda x, y, **more: point_loss(x, y, region="lines", **more),
    "line-A": lambda x, y, **more: line_loss(x, y, mu=2, formulation="contour", **more),
    "line-band": lambda x, y, **more: line_loss(x, y, mu=2, formulation="band", **more),
    "line-C": lambda x, y, **more: line_loss(x, y, mu=2, splitter="C", formulation="contour", **more),
    "line-standard": lambda x, y, **more: line_loss(x, y, mu=2, convolution="standard", formulation="contour", **more),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def confident(labels: Tensor, classes: int) -> Tensor:
    """Logits of a perfect prediction of labels that hold no ignored pixel."""
    return 50.0 * F.one_hot(labels, classes).movedim(3, 1)


@pytest.mark.parametrize("reach", [0, 1, 3, 5, 40])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
def test_nearest_against_brute_force(reach: int, share: float) -> None:
    valid = np.random.default_rng(0).random((2, 13, 17)) < share
    valid[1] = valid[1] & valid[0]
    everywhere = nearest_valid(torch.from_numpy(valid), reach).tolist()
    places, sources = find_nearest(torch.from_numpy(valid), reach)
    found = dict(zip(places.tolist(), sources.tolist(), strict=True))
    bound = int(reach * 2**0.5)
    for index, (image, y, x) in enumerate(np.ndindex(valid.shape)):
        candidates = [
            ((b - y) ** 2 + (a - x) ** 2, b, a)
            for b, a in zip(*np.nonzero(valid[image]), strict=True)
            if abs(b - y) <= bound and abs(a - x) <= bound
        ]
        _, b, a = min(candidates, default=(0, y, x))
        source = (image * 13 + b) * 17 + a
        assert everywhere[index] == source
        assert found.get(index, index) == source
        assert (index in found) == (not valid[image, y, x] and bool(candidates))


def test_targets_are_the_same_on_every_device(scene: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    _, labels = scene(ignored=True)
    fast = make_target(labels, 255, "nearest", 3)
    monkeypatch.setattr("epl_d2.losses.kernels.cpu", None)
    plain = make_target(labels, 255, "nearest", 3)
    assert torch.equal(fast.seen, plain.seen)
    assert torch.equal(fast.position, plain.position)
    field = torch.randn(2, 5, *labels.shape[1:], generator=torch.Generator().manual_seed(0))
    assert torch.equal(fast.fill.gather(field), plain.fill.gather(field))
    torch.testing.assert_close(fast.fill.adjoint(field), plain.fill.adjoint(field))


def test_the_adjoint_is_that_of_autograd(scene: Callable) -> None:
    _, labels = scene(ignored=True)
    fill = make_target(labels, 255, "nearest", 4).fill
    field = torch.randn(2, 3, *labels.shape[1:], dtype=torch.float64, requires_grad=True)
    given = torch.randn(field.shape, dtype=torch.float64)
    (expected,) = torch.autograd.grad(fill.gather(field), field, given)
    torch.testing.assert_close(fill.adjoint(given), expected)


@every_loss
def test_a_rim_is_as_the_edge_of_the_image(scene: Callable, loss: Callable) -> None:
    logits, labels = scene((2, 4, 20, 24))
    padded = F.pad(labels, (16, 16, 16, 16), value=255)
    around = F.pad(logits, (16, 16, 16, 16), value=3.0)
    torch.testing.assert_close(loss(around, padded, kernel_size=11), loss(logits, labels, kernel_size=11))
    assert (
        loss(around, padded, kernel_size=11, ignore_mode="exclude") - loss(logits, labels, kernel_size=11)
    ).abs() > 0.005


@every_loss
def test_a_perfect_prediction_scores_0_whatever_it_says_inside_the_rim(scene: Callable, loss: Callable) -> None:
    _, labels = scene((2, 4, 20, 24))
    logits = confident(labels, 4)
    logits[:, :, 4:9] = torch.randn(2, 4, 5, 24, generator=torch.Generator().manual_seed(0))
    labels[:, 4:9] = 255
    assert loss(logits, labels, kernel_size=11).item() == pytest.approx(0, abs=1e-7)


@every_loss
def test_a_contour_is_free_inside_a_rim_and_worse_the_further_beyond_it(loss: Callable) -> None:
    """An object of VOC: class 1 on the left, a rim of 5 pixels, background on the right."""
    labels = torch.zeros(1, 24, 40, dtype=torch.long)
    labels[..., :17] = 1
    labels[..., 17:22] = 255
    values = []
    for contour in range(17, 27):
        predicted = torch.zeros(1, 24, 40, dtype=torch.long)
        predicted[..., :contour] = 1
        values.append(loss(confident(predicted, 2), labels, kernel_size=11).item())
    inside, beyond = values[:6], values[5:]
    assert max(inside) == pytest.approx(0, abs=1e-6)
    assert beyond[1] > 0.1
    # The lines are r pixels wide: when all of them miss, the line loss has reached its end.
    assert all(b > a - 1e-6 for a, b in itertools.pairwise(beyond))


def test_a_kernel_must_see_across_a_rim() -> None:
    """The contour in the middle of a rim of 5 pixels is 3 pixels from the object: w = 7 finds no line, w = 11 does."""
    labels = torch.zeros(1, 24, 40, dtype=torch.long)
    labels[..., :17] = 1
    labels[..., 17:22] = 255
    logits = torch.zeros(1, 2, 24, 40)
    assert line_loss(logits, labels, kernel_size=5) == 0
    assert line_loss(logits, labels, kernel_size=11) > 0.5


def test_background_is_class_0_with_everything_that_follows(scene: Callable) -> None:
    logits, labels = scene(ignored=True)
    as_class_0 = labels.masked_fill(labels == 255, 0)
    for loss in (point_loss, line_loss):
        assert torch.equal(loss(logits, labels, ignore_mode="background"), loss(logits, as_class_0))
    assert (labels == 255).any()  # in place, the authors would have changed them for the cross entropy as well


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_stride_leaves_ignored_logits_out(scene: Callable, stride: int) -> None:
    logits, labels = scene((2, 4, 21, 26), ignored=True)
    hidden = (labels == 255).unsqueeze(1).expand_as(logits)
    results = []
    for bad in (0.0, torch.nan):
        mine = logits.masked_fill(hidden, bad).requires_grad_()
        value = sum(EPLLoss(point_weight=1, line_weight=1, stride=stride)(mine, labels).values())
        results.append((value.detach(), *torch.autograd.grad(value, mine)))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert not results[0][1][hidden].any()


def test_reduction(scene: Callable) -> None:
    logits, labels = scene((3, 4, 12, 14), ignored=True)
    for loss in (point_loss, line_loss):
        each = loss(logits, labels, reduction="none")
        torch.testing.assert_close(
            each, torch.stack([loss(x[None], y[None]) for x, y in zip(logits, labels, strict=True)])
        )
        for dtype, expected in ((torch.float16, torch.float32), (torch.float64, torch.float64)):
            none = loss(logits[:0].to(dtype), labels[:0], reduction="none")
            assert none.shape == (0,) and none.dtype == expected
    with pytest.raises(ValueError, match="pools the batch"):
        line_loss(logits, labels, formulation="official", reduction="none")
    with pytest.raises(ValueError, match="reduction must be one of 'mean', 'none', got 'sum'"):
        point_loss(logits, labels, reduction="sum")
