"""Never NaN or infinite, exact zeros, and the same bits twice."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from epl_d2.losses import EPLLoss, line_loss, point_loss

LOSSES = {
    "point-l1": lambda x, y, w: point_loss(x, y, kernel_size=w, norm="l1"),
    "point-l2": lambda x, y, w: point_loss(x, y, kernel_size=w),
    "point-lines": lambda x, y, w: point_loss(x, y, kernel_size=w, region="lines"),
    "line-official": lambda x, y, w: line_loss(x, y, kernel_size=w, mu=20, formulation="official"),
    "line-contour": lambda x, y, w: line_loss(x, y, kernel_size=w, mu=20, formulation="contour"),
    "line-band": lambda x, y, w: line_loss(x, y, kernel_size=w, mu=20, formulation="band"),
}


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("scale", [1, 1e4])
def test_finite(scene: Callable, loss: Callable, dtype: torch.dtype, scale: float) -> None:
    logits, labels = scene(ignored=True)
    logits = (logits if scale == 1 else scale * logits.sign()).to(dtype).requires_grad_()
    for kernel_size in (3, 21):
        value = loss(logits, labels, kernel_size)
        assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        (gradient,) = torch.autograd.grad(value, logits)
        assert torch.isfinite(value)
        assert gradient.dtype == dtype
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_half_precision_equals_single(scene: Callable, loss: Callable) -> None:
    """Half precision logits are computed in float32, not only converted at the end."""
    logits, labels = scene(dtype=torch.float16)
    assert torch.equal(loss(logits, labels, 7), loss(logits.float(), labels, 7))


@pytest.mark.parametrize("backend", ["plain", "numba"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("weights", [(3, 0), (0, 3)], ids=["point", "line"])
def test_gradient_of_half_precision_under_loss_scaling(
    scene: Callable, backend: str, dtype: torch.dtype, weights: tuple[int, int]
) -> None:
    """That of float32, rounded after the factor: 65536, which `GradScaler` begins with, is infinite in float16."""
    logits, labels = scene(ignored=True, dtype=dtype)
    epl = EPLLoss(point_weight=weights[0], line_weight=weights[1], backend=backend)
    single, half = logits.float().requires_grad_(), logits.clone().requires_grad_()
    for scale in (2.0**16, 2.0**-8):
        expected, found = (torch.autograd.grad(scale * sum(epl(x, labels).values()), x)[0] for x in (single, half))
        assert found.dtype == dtype
        assert torch.isfinite(found).all()
        assert torch.equal(found, expected.to(dtype))


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_autocast_changes_nothing(scene: Callable, loss: Callable) -> None:
    logits, labels = scene(ignored=True)
    logits.requires_grad_()
    expected = torch.autograd.grad(loss(logits, labels, 7), logits)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(logits, labels, 7)
    assert value.dtype == torch.float32
    assert torch.equal(torch.autograd.grad(value, logits)[0], expected)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_same_bits_twice(scene: Callable, loss: Callable, deterministic: None) -> None:
    logits, labels = scene(ignored=True)
    logits.requires_grad_()
    runs = []
    for _ in range(2):
        value = loss(logits, labels, 7)
        runs.append((value, *torch.autograd.grad(value, logits)))
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_nothing_to_learn_is_a_connected_zero(scene: Callable, loss: Callable) -> None:
    logits, labels = scene()
    logits.requires_grad_()
    value = loss(logits, torch.full_like(labels, 255), 7)
    assert value == 0
    value.backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_no_line_is_a_connected_zero(scene: Callable) -> None:
    """One class fills the image: with replicate padding it has no contour."""
    logits, labels = scene()
    logits.requires_grad_()
    value = line_loss(logits, torch.zeros_like(labels), formulation="contour")
    assert value == 0
    value.backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_empty_batch() -> None:
    logits = torch.zeros(0, 3, 8, 8, requires_grad=True)
    for value in EPLLoss()(logits, torch.zeros(0, 8, 8, dtype=torch.long)).values():
        assert value == 0
        value.backward()


@pytest.mark.parametrize("thickness", [1, 2])
def test_objects_thinner_than_the_kernel(thickness: int) -> None:
    """A stripe of 1 or 2 pixels has no line 3 across: the authors' quotient is 0 / 0 there."""
    labels = torch.zeros(1, 12, 2, dtype=torch.long)
    labels[:, ::4] = 1
    if thickness == 2:
        labels[:, 1::4] = 1
    logits = torch.randn(1, 2, 12, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    for formulation in ("official", "contour", "band"):
        value = line_loss(logits, labels, kernel_size=21, mu=20, formulation=formulation)
        (gradient,) = torch.autograd.grad(value, logits)
        assert torch.isfinite(value)
        assert abs(value) <= 10
        assert torch.isfinite(gradient).all()


def test_gradient_points_downhill(scene: Callable) -> None:
    """A small step against the gradient lowers each loss."""
    logits, labels = scene(dtype=torch.float64)
    logits.requires_grad_()
    for loss in LOSSES.values():
        value = loss(logits, labels, 7)
        gradient: Tensor = torch.autograd.grad(value, logits)[0]
        step = 1e-3 * gradient / gradient.norm()
        assert loss((logits - step).detach(), labels, 7) < value
