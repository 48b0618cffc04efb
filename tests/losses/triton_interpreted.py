"""The Triton kernels of the losses on a CPU, in Triton's interpreter, against the plain losses.

`test_triton.py` runs this file in a process of its own, with TRITON_INTERPRET=1 from the start. The interpreter takes a
millisecond an operation, whatever its size: inputs are tiny, and a tile holds all of them unless a test says so.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from epl_d2.losses import reference
from epl_d2.losses.kernels import guarded
from epl_d2.losses.kernels import triton as triton_path
from epl_d2.losses.kernels.autograd import differentiable
from epl_d2.losses.kernels.triton import select as triton_select
from epl_d2.losses.kernels.triton import windows as triton_windows
from epl_d2.losses.line import LineTerm
from epl_d2.losses.modes import as_rows, mask_target
from epl_d2.losses.point import PointTerm
from epl_d2.losses.target import make_target

RECORDED = np.load(Path(__file__).parent / "official_values.npz")


@pytest.fixture(autouse=True)
def one_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_windows, "TILE", (32, 64))
    monkeypatch.setattr(triton_windows, "CHUNK", 4096)


def run(
    term: PointTerm | LineTerm, logits: Tensor, labels: Tensor, ignore_mode: str = "nearest", mode: str = "multiclass"
) -> Tensor:
    """The loss by the kernels."""
    if mode == "multiclass":
        target = make_target(labels.long(), 255, ignore_mode, term.radius)
    else:
        logits, labels = as_rows(logits, labels, mode)
        target = mask_target(logits, labels, 255, ignore_mode, term.radius)
    return differentiable(triton_path, logits, triton_path.prepare(logits.detach(), target), term, last=True)


def compare(
    term: PointTerm | LineTerm, logits: Tensor, labels: Tensor, ignore_mode: str = "nearest", mode: str = "multiclass"
) -> None:
    """The same value and gradient as the plain loss, and a gradient of exactly 0 where ignored."""
    mine = logits.clone().requires_grad_()
    value = run(term, mine, labels, ignore_mode, mode)
    (-3 * value).backward()
    expected = logits.clone().requires_grad_()
    plain = reference.point_loss if term.name == "point" else reference.line_loss
    plain_value = plain(expected, labels, *vars(term).values(), 255, ignore_mode, mode)
    (-3 * plain_value).backward()
    torch.testing.assert_close(value, plain_value, rtol=1e-5, atol=1e-7)
    half = logits.dtype != torch.float32
    error = (mine.grad.double() - expected.grad.double()).norm()
    assert error <= (1e-2 if half else 1e-5) * expected.grad.double().norm() + 3e-9
    assert torch.isfinite(mine.grad).all()
    ignored = labels == 255
    assert not (mine.grad.movedim(1, -1)[ignored] if mode == "multiclass" else mine.grad[ignored]).any()


def point_term(kernel_size: int, splitter: str, norm: str, region: str = "image") -> PointTerm:
    return PointTerm(kernel_size, splitter, "anisotropic", norm, region)


def line_term(kernel_size: int, splitter: str, mu: int, formulation: str) -> LineTerm:
    return LineTerm(kernel_size, splitter, "anisotropic", mu, formulation)


def point(logits: Tensor, labels: Tensor, *settings: Any, **modes: str) -> None:
    compare(point_term(*settings), logits, labels, **modes)


def line(logits: Tensor, labels: Tensor, *settings: Any, **modes: str) -> None:
    compare(line_term(*settings), logits, labels, **modes)


@pytest.mark.parametrize(
    "settings",
    [(3, "A", "l1"), (7, "C", "l2"), (11, "B", "l1"), (3, "C", "l1", "lines"), (7, "A", "l2", "lines")],
    ids=lambda settings: "-".join(map(str, settings)),
)
def test_point(scene: Callable, settings: tuple[Any, ...]) -> None:
    point(*scene((1, 3, 17, 23), ignored=True), *settings)


@pytest.mark.parametrize(
    "settings",
    [
        (3, "B", 2, "contour"),
        (3, "A", 10, "band"),
        (5, "C", 2, "band"),
        (5, "A", 4, "contour"),
        (7, "A", 10, "official"),
        (5, "B", 16, "official"),
    ],
    ids=lambda settings: "-".join(map(str, settings)),
)
def test_line(scene: Callable, settings: tuple[Any, ...]) -> None:
    line(*scene((1, 3, 14, 17), ignored=True), *settings)


def test_batch_with_absent_classes_in_several_tiles(scene: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_windows, "TILE", (8, 16))
    monkeypatch.setattr(triton_windows, "CHUNK", 128)
    logits, labels = scene((2, 2, 9, 14), seed=3)
    labels[1] = 1
    point(logits, labels, 5, "A", "l2")
    point(logits, labels, 5, "B", "l2", "lines")
    line(logits, labels, 5, "A", 4, "official")
    line(logits, labels, 5, "B", 4, "band")


@pytest.mark.parametrize("ignore_mode", ["nearest", "exclude"])
def test_masks(scene: Callable, ignore_mode: str) -> None:
    """Sigmoids, rows that have ignored pixels of their own, and one without any object."""
    logits, labels = scene((3, 2, 10, 13), ignored=True)
    logits = 3 * (logits[:, 1] - logits[:, 0])
    labels[2] = labels[2].clamp(max=0).where(labels[2] < 255, 255)
    modes = {"ignore_mode": ignore_mode, "mode": "binary"}
    point(logits, labels, 5, "A", "l2", **modes)
    point(logits, labels, 5, "A", "l2", "lines", **modes)
    line(logits, labels, 5, "A", 2, "contour", **modes)
    line(logits, labels, 3, "B", 4, "official", **modes)
    line(logits, labels, 3, "B", 4, "band", **modes)
    grouped = logits[:2].unsqueeze(0).half(), labels[:2].unsqueeze(0)
    point(*grouped, 3, "B", "l1", ignore_mode=ignore_mode, mode="multilabel")


def test_saturated_masks(scene: Callable) -> None:
    logits, labels = scene((2, 2, 9, 10))
    logits = 1e4 * (logits[:, 1] - logits[:, 0])
    for mode, given in (("binary", (logits, labels)), ("multilabel", (logits[None], labels[None]))):
        point(*given, 3, "A", "l2", mode=mode)
        line(*given, 5, "A", 20, "contour", mode=mode)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(scene: Callable, dtype: torch.dtype) -> None:
    """Computed in float32 and rounded once: also far from where the type is exact."""
    logits, labels = scene((1, 2, 8, 9), ignored=True)
    point((30 * logits).to(dtype), labels.int(), 3, "A", "l2")


def test_exact_ties(scene: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal logits: which of the pixels are chosen is decided by their places, in all three levels."""
    monkeypatch.setattr(triton_select, "_FEW_PLACES", 0)
    logits, labels = scene((1, 2, 9, 10))
    line(torch.zeros_like(logits), labels, 5, "A", 4, "contour")


def test_saturated_logits(scene: Callable) -> None:
    logits, labels = scene((1, 3, 9, 10), ignored=True)
    sign = torch.where(torch.rand(logits.shape, generator=torch.Generator().manual_seed(1)) < 0.7, -1.0, 1.0)
    point(100 * sign, labels, 3, "B", "l2")
    line(1e4 * sign, labels, 5, "A", 20, "contour")


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 2, 4, 3)], ids=str)
def test_smaller_than_the_kernel(scene: Callable, shape: tuple[int, int, int, int]) -> None:
    logits, labels = scene(shape)
    point(logits, labels, 9, "C", "l2")
    point(logits, labels, 9, "A", "l2", "lines")
    line(logits, labels, 9, "A", 2, "contour")


def test_all_ignored(scene: Callable) -> None:
    logits, labels = scene((1, 2, 6, 7))
    labels = torch.full_like(labels, 255)
    point(logits, labels, 5, "A", "l2")
    point(logits, labels, 5, "A", "l2", "lines")
    line(logits, labels, 5, "A", 2, "official")
    line(logits, labels, 5, "A", 2, "band")


def test_ignored_logits_change_nothing(scene: Callable) -> None:
    logits, labels = scene((1, 2, 8, 9), ignored=True)
    other = torch.where((labels == 255).unsqueeze(1), torch.nan, logits)
    for term in (
        point_term(3, "A", "l2"),
        point_term(3, "A", "l2", "lines"),
        line_term(3, "A", 4, "official"),
        line_term(3, "A", 4, "band"),
    ):
        inputs = logits.clone().requires_grad_(), other.clone().requires_grad_()
        values = [run(term, x, labels) for x in inputs]
        sum(values).backward()
        assert torch.equal(*values)
        assert torch.equal(inputs[0].grad, inputs[1].grad)


def test_ignored_pixels_that_no_ray_sees(scene: Callable) -> None:
    logits, labels = scene((1, 2, 8, 9), ignored=True)
    point(logits, labels, 3, "B", "l1", ignore_mode="exclude")
    line(logits, labels, 5, "A", 4, "contour", ignore_mode="exclude")


def test_both_losses_share_a_scene(scene: Callable) -> None:
    logits, labels = scene((1, 2, 6, 7), ignored=True)
    logits.requires_grad_()
    terms = [point_term(3, "A", "l2"), line_term(3, "A", 2, "contour")]
    shared = triton_path.prepare(logits.detach(), make_target(labels, 255, "nearest", 1))
    values = [differentiable(triton_path, logits, shared, term, last=term.name == "line") for term in terms]
    (together,) = torch.autograd.grad(2 * values[0] + 3 * values[1], logits)
    alone = [torch.autograd.grad(run(term, logits, labels), logits)[0] for term in terms]
    torch.testing.assert_close(together, 2 * alone[0] + 3 * alone[1])


def test_golden_values() -> None:
    """What the authors' released code computes."""
    logits = torch.tensor(RECORDED["case0/logits"], requires_grad=True)
    labels = torch.tensor(RECORDED["case0/labels"])
    for term in (point_term(5, "A", "l2"), line_term(5, "A", 2, "official")):
        value = run(term, logits, labels)
        (gradient,) = torch.autograd.grad(value, logits)
        assert value.item() == pytest.approx(float(RECORDED[f"case0/A-w5-mu2/{term.name}_loss"]), rel=1e-4)
        expected = RECORDED[f"case0/A-w5-mu2/{term.name}_grad"]
        np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_double_backward_is_refused(scene: Callable) -> None:
    logits, labels = scene((1, 1, 2, 2))
    logits.requires_grad_()
    value = run(point_term(3, "A", "l2"), logits, labels)
    (gradient,) = torch.autograd.grad(value, logits, create_graph=True)
    with pytest.raises(RuntimeError, match="can be differentiated only once"):
        gradient.sum().backward()


def test_the_check_of_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands before their first use passes them, and finds what is wrong with them."""
    monkeypatch.setattr(triton_windows, "TILE", (64, 256))
    monkeypatch.setattr(triton_windows, "CHUNK", 16384)
    like = torch.zeros(1, 1, 32, 32)
    for term in (point_term(3, "A", "l2"), point_term(3, "A", "l2", "lines"), line_term(3, "A", 2, "contour")):
        assert guarded.obstacle(like, term, False, warn=False) is None
    monkeypatch.setattr(guarded, "_obstacles", {})
    monkeypatch.setitem(triton_windows.AXES, "A", (2, 2))  # the diagonals
    assert "something else" in guarded.obstacle(like, point_term(3, "A", "l2"), False, warn=False)
