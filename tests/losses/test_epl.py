"""The weighted and scheduled module."""

import math
import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from epl_d2.losses import EPLLoss, defaults, epl, line_loss, point_loss, terms
from epl_d2.losses.epl import scaled_kernel_size


def test_entries_are_the_weighted_losses(scene: Callable) -> None:
    logits, labels = scene(ignored=True)
    module = EPLLoss(
        point_weight=0.3,
        line_weight=2,
        point_kernel_size=5,
        line_kernel_size=9,
        splitter="B",
        norm="l1",
        point_region="lines",
        mu=4,
        formulation="contour",
    )
    losses = module(logits, labels)
    assert list(losses) == ["loss_epl_point", "loss_epl_line"]
    expected = 0.3 * point_loss(logits, labels, kernel_size=5, splitter="B", norm="l1", region="lines")
    torch.testing.assert_close(losses["loss_epl_point"], expected)
    expected = 2 * line_loss(logits, labels, kernel_size=9, splitter="B", mu=4, formulation="contour")
    torch.testing.assert_close(losses["loss_epl_line"], expected)


def test_defaults(scene: Callable) -> None:
    """Functions and module have the same ones."""
    logits, labels = scene(ignored=True)
    losses = EPLLoss(point_weight=0.5, line_weight=2)(logits, labels)
    torch.testing.assert_close(losses["loss_epl_point"], 0.5 * point_loss(logits, labels))
    torch.testing.assert_close(losses["loss_epl_line"], 2 * line_loss(logits, labels))
    module = EPLLoss()
    assert (module.point_weight, module.line_weight) == (defaults.POINT_WEIGHT, defaults.LINE_WEIGHT)


def test_both_losses_share_check_and_softmax(scene: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = scene(ignored=True)
    logits.requires_grad_()
    module = EPLLoss(point_weight=0.5, line_weight=2)
    calls = []
    check, softmax = terms.check_inputs, torch.Tensor.softmax
    monkeypatch.setattr(terms, "check_inputs", lambda *given: calls.append("check") or check(*given))
    monkeypatch.setattr(torch.Tensor, "softmax", lambda *x, **y: calls.append("softmax") or softmax(*x, **y))
    (together,) = torch.autograd.grad(sum(module(logits, labels).values()), logits)
    assert sorted(calls) == ["check", "softmax"]
    monkeypatch.undo()
    (alone,) = torch.autograd.grad(0.5 * point_loss(logits, labels) + 2 * line_loss(logits, labels), logits)
    torch.testing.assert_close(together, alone)


def test_state_dict_is_empty() -> None:
    assert not EPLLoss().state_dict()
    assert not list(EPLLoss().parameters())


@pytest.mark.parametrize("weights, other", [((0, 1), "loss_epl_line"), ((1, 0), "loss_epl_point")])
def test_weight_0_is_not_computed(
    scene: Callable, monkeypatch: pytest.MonkeyPatch, weights: tuple[int, int], other: str
) -> None:
    logits, labels = scene()
    logits.requires_grad_()

    computed = []
    evaluate = epl.evaluate_terms
    monkeypatch.setattr(epl, "evaluate_terms", lambda *given: computed.extend(given[2]) or evaluate(*given))
    losses = EPLLoss(point_weight=weights[0], line_weight=weights[1])(logits, labels)
    assert [term.name for term in computed] == [other.removeprefix("loss_epl_")]
    assert losses.pop(other) != 0
    (zero,) = losses.values()
    assert zero == 0
    zero.backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_schedule(scene: Callable) -> None:
    logits, labels = scene()
    logits.requires_grad_()
    module = EPLLoss(point_weight=0.1, start_iter=10, ramp_iters=4)
    full = module(logits, labels, math.inf)["loss_epl_point"].item()
    shares = [module(logits, labels, iteration)["loss_epl_point"].item() / full for iteration in (0, 9, 10, 11, 13, 50)]
    assert shares == pytest.approx([0, 0, 0.25, 0.5, 1, 1])
    early = module(logits, labels, 3)
    assert all(value == 0 and value.requires_grad for value in early.values())
    assert EPLLoss(start_iter=5).schedule(5) == 1
    assert EPLLoss().schedule(0) == 1


@pytest.mark.parametrize(
    "kernel_size, stride, expected",
    [(7, 1, 7), (1, 1, 1), (7, 2, 3), (11, 2, 5), (21, 2, 11), (7, 4, 3), (13, 4, 3), (21, 4, 5), (21, 8, 3)],
)
def test_scaled_kernel_size(kernel_size: int, stride: int, expected: int) -> None:
    assert scaled_kernel_size(kernel_size, stride) == expected


def test_stride_takes_the_middle_of_each_cell(scene: Callable) -> None:
    logits, _ = scene((1, 3, 4, 5))
    labels = torch.arange(12 * 15).view(1, 12, 15) % 3
    module = EPLLoss(point_weight=0.1, stride=3, point_kernel_size=9)
    sampled = labels[:, 1::3, 1::3]
    expected = 0.1 * point_loss(logits, sampled, kernel_size=3)
    torch.testing.assert_close(module(logits, labels)["loss_epl_point"], expected)
    assert torch.equal(module.at_stride(logits, labels.to(torch.uint8))[1].long(), sampled)


def test_stride_does_not_shift() -> None:
    """Sampled labels and resized logits of the same scene have their edges at the same place, on both sides."""
    labels = torch.zeros(1, 64, 64, dtype=torch.long)
    labels[:, 16:48, 16:48] = 1
    logits = 1000 * F.one_hot(labels, 2).permute(0, 3, 1, 2).float()
    for stride in (2, 4, 8):
        resized, sampled = EPLLoss(stride=stride).at_stride(logits, labels)
        assert torch.equal(resized.argmax(dim=1), sampled)


def test_stride_resizes_logits(scene: Callable) -> None:
    logits, labels = scene((1, 4, 33, 29))
    small = F.interpolate(logits, size=(9, 8), mode="bilinear", align_corners=False)
    module = EPLLoss(point_weight=0.1, stride=4)
    for name, value in module(logits, labels).items():
        torch.testing.assert_close(value, module(small, labels)[name])


def test_without_stride_sizes_must_agree(scene: Callable) -> None:
    logits, labels = scene()
    with pytest.raises(ValueError, match="labels must have the shape"):
        EPLLoss()(logits[..., ::2, ::2], labels)


@pytest.mark.parametrize("settings", [{}, {"stride": 2}, {"resize_logits": True}], ids=str)
def test_labels_of_no_size_are_refused_as_of_another_size(scene: Callable, settings: dict) -> None:
    logits, labels = scene()
    for empty in (labels[:, :0], labels[:, :, :0], labels[:0]):
        expected = (
            re.escape(f"labels must have the shape {[2, 30, 34]} to fit") + f".* got {re.escape(str([*empty.shape]))}"
        )
        with pytest.raises(ValueError, match=expected):
            EPLLoss(**settings)(logits, empty)


def test_shows_its_settings() -> None:
    assert "line_weight=0.7" in repr(EPLLoss(line_weight=0.7))


@pytest.mark.parametrize(
    ("size", "labels_size"), [((9, 11), (36, 44)), ((9, 11), (33, 41)), ((17, 21), (33, 41))], ids=str
)
@pytest.mark.parametrize("mode", ["multiclass", "binary", "multilabel"])
def test_resizes_logits_when_asked(
    scene: Callable, size: tuple[int, int], labels_size: tuple[int, int], mode: str
) -> None:
    small = scene((2, 3, *size))[0]
    labels = scene((2, 3, *labels_size), ignored=True)[1]
    if mode == "binary":
        small, labels = small[:, 0], labels.where(labels == 255, (labels == 0).long())
    elif mode == "multilabel":
        labels = torch.stack([labels.where(labels == 255, (labels == k).long()) for k in range(3)], dim=1)
    small.requires_grad_()
    grid = small.unsqueeze(1) if mode == "binary" else small
    full = F.interpolate(grid, size=labels_size, mode="bilinear", align_corners=False)
    settings = {"point_weight": 1, "line_weight": 1, "mode": mode}
    expected = EPLLoss(**settings)(full, labels)
    found = EPLLoss(**settings, resize_logits=True)(small, labels)
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name])
    gradients = (torch.autograd.grad(sum(losses.values()), small, retain_graph=True)[0] for losses in (found, expected))
    torch.testing.assert_close(*gradients)
    half = EPLLoss(**settings, resize_logits=True)(small.bfloat16(), labels)  # enlarged in full precision
    torch.testing.assert_close(half["loss_epl_point"], expected["loss_epl_point"], rtol=1e-2, atol=0)


@pytest.mark.parametrize("size", [(8, 32), (48, 64), (24, 96)], ids=str)
def test_what_is_not_resized(scene: Callable, size: tuple[int, int]) -> None:
    """Other proportions, and logits that are larger than the labels."""
    labels = scene((1, 3, 24, 32))[1]
    with pytest.raises(ValueError, match=r"have other proportions|labels must have the shape"):
        EPLLoss(resize_logits=True)(scene((1, 3, *size))[0], labels)


def test_a_schedule_needs_the_iteration(scene: Callable) -> None:
    """Nothing is guessed: the full weight from the first call on, or the number of calls."""
    logits, labels = scene()
    for schedule in ({"start_iter": 100}, {"ramp_iters": 10}):
        module = EPLLoss(**schedule)
        for mode in (module.train(), module.eval()):
            with pytest.raises(ValueError, match=r"iteration must be given .* got None: pass where training stands"):
                mode(logits, labels)
        assert torch.equal(
            module(logits, labels, math.inf)["loss_epl_line"], EPLLoss()(logits, labels)["loss_epl_line"]
        )
        assert not module.state_dict()
