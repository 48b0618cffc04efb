"""What the losses that EPL is compared with have in common: checks, ignored pixels, precision, exact zeros."""

import re
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from epl_d2.losses import (
    active_boundary_loss,
    band_cross_entropy,
    boundary_f_loss,
    boundary_loss,
    class_weighted_cross_entropy,
    generalized_dice_loss,
    label_relaxation_loss,
    lovasz_softmax_loss,
    ohem_cross_entropy,
)


def signed(logits: Tensor) -> Tensor:
    """Some map [N, K, H, W] of distances."""
    return torch.arange(logits.numel(), dtype=torch.float32, device=logits.device).view(logits.shape) % 17 - 5


def unsigned(labels: Tensor) -> Tensor:
    """Some map [N, H, W] of distances."""
    return torch.arange(labels.numel(), dtype=torch.float32, device=labels.device).view(labels.shape) % 13


LOSSES = {
    "dice": generalized_dice_loss,
    "boundary": lambda x, y, **options: boundary_loss(x, y, signed(x), **options),
    "active": lambda x, y, **options: active_boundary_loss(x, y, unsigned(y), max_fraction=0.1, **options),
    "lovasz": lovasz_softmax_loss,
    "lovasz-image": lambda x, y, **options: lovasz_softmax_loss(x, y, per_image=True, **options),
    "boundary-f": boundary_f_loss,
    "band": lambda x, y, **options: band_cross_entropy(x, y, unsigned(y), **options),
    "weighted": lambda x, y, **options: class_weighted_cross_entropy(
        x, y, class_weights=[0.5 + k for k in range(x.shape[1])], **options
    ),
    "ohem": lambda x, y, **options: ohem_cross_entropy(x, y, threshold=0.4, min_kept=700, factor=1, **options),
    "ohem-zoom": lambda x, y, **options: ohem_cross_entropy(x, y, threshold=0.4, min_kept=900, factor=4, **options),
    "relaxed": label_relaxation_loss,
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def value_and_gradient(loss: Callable, logits: Tensor, labels: Tensor, **options) -> tuple[Tensor, Tensor]:
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, labels, **options)
    return value, torch.autograd.grad(value, logits)[0]


@every_loss
def test_logits_under_ignored_pixels_change_nothing(scene: Callable, loss: Callable) -> None:
    logits, labels = scene(ignored=True)
    ignored = (labels == 255).unsqueeze(1).expand_as(logits)
    changed = torch.where(ignored, 30 * torch.randn(logits.shape, generator=torch.Generator().manual_seed(9)), logits)
    value, gradient = value_and_gradient(loss, logits, labels)
    assert value != 0 and gradient.abs().sum() > 0
    other_value, other_gradient = value_and_gradient(loss, changed, labels)
    assert torch.equal(value, other_value)
    assert torch.equal(gradient, other_gradient)
    assert (gradient[ignored] == 0).all()


@every_loss
def test_ignore_value_may_be_any_number(scene: Callable, loss: Callable) -> None:
    """Also that of a class: its pixels take no part then."""
    logits, labels = scene(ignored=True)
    expected = loss(logits, labels)
    assert torch.equal(loss(logits, labels.masked_fill(labels == 255, -1), ignore_value=-1), expected)
    assert torch.equal(
        loss(logits, labels.masked_fill(labels == 255, 2), ignore_value=2),
        loss(logits, labels.masked_fill(labels == 2, 255)),
    )


@every_loss
@pytest.mark.parametrize("integer", [torch.uint8, torch.int16, torch.int32], ids=str)
def test_any_integer_labels(scene: Callable, loss: Callable, integer: torch.dtype) -> None:
    logits, labels = scene(ignored=True)
    assert torch.equal(loss(logits, labels.to(integer)), loss(logits, labels))


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("scale", [1, 1e4])
def test_finite(scene: Callable, loss: Callable, dtype: torch.dtype, scale: float) -> None:
    logits, labels = scene(ignored=True)
    logits = (logits if scale == 1 else scale * logits.sign()).to(dtype)
    value, gradient = value_and_gradient(loss, logits, labels)
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert value.isfinite() and gradient.dtype == dtype and gradient.isfinite().all()


@every_loss
def test_autocast_changes_nothing(scene: Callable, loss: Callable) -> None:
    logits, labels = scene(ignored=True)
    expected = value_and_gradient(loss, logits, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = value_and_gradient(loss, logits, labels)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    half = logits.half()
    assert torch.equal(loss(half, labels), loss(half.float(), labels))


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_gradient_of_half_precision_under_loss_scaling(scene: Callable, loss: Callable, dtype: torch.dtype) -> None:
    """That of float32, rounded after the factor."""
    logits, labels = scene(ignored=True, dtype=dtype)
    expected, found = (
        value_and_gradient(lambda x, y: 3 * 2**16 * loss(x, y), x, labels)[1] for x in (logits.float(), logits)
    )
    assert torch.equal(found, expected.to(dtype))


@every_loss
def test_same_bits_twice(scene: Callable, loss: Callable, deterministic: None) -> None:
    logits, labels = scene(ignored=True)
    runs = [value_and_gradient(loss, logits, labels) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@every_loss
@pytest.mark.parametrize("shape", [(2, 5, 12, 9), (1, 3, 1, 1), (0, 3, 8, 8), (1, 3, 0, 4), (1, 1, 4, 4)], ids=str)
def test_nothing_to_learn_is_a_connected_zero(loss: Callable, shape: tuple[int, ...]) -> None:
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    value, gradient = value_and_gradient(loss, logits, torch.full((shape[0], *shape[2:]), 255))
    assert value == 0 and value.ndim == 0
    assert torch.equal(gradient, torch.zeros_like(logits))


@every_loss
@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (2, 3, 1, 7), (1, 1, 5, 6), (2, 4, 6, 5)], ids=str)
def test_one_class_and_single_pixels_are_finite(loss: Callable, shape: tuple[int, ...]) -> None:
    """One class fills the image, of which a single pixel may be left."""
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(shape[0], *shape[2:], dtype=torch.long)
    single = torch.full_like(labels, 255)
    single[0, 0, 0] = 0
    for target in (labels, single):
        value, gradient = value_and_gradient(loss, logits, target)
        assert value.isfinite() and gradient.isfinite().all()


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "active"])
def test_gradient_is_that_of_the_value(scene: Callable, name: str) -> None:
    """All but the active boundary loss, for whose gradient the neighbors are constants (test_active_boundary.py)."""
    logits, labels = scene((2, 3, 6, 5), ignored=True, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, labels), logits.requires_grad_())


@every_loss
@pytest.mark.parametrize(
    "logits, labels, message",
    [
        (torch.zeros(2, 3, 6, 7).long(), torch.zeros(2, 6, 7).long(), "logits must be a floating-point tensor"),
        (torch.zeros(3, 6, 7), torch.zeros(2, 6, 7).long(), "logits must have the shape [N, K, H, W], got [3, 6, 7]"),
        (torch.zeros(2, 3, 6, 7), torch.zeros(2, 6, 7), "labels must be an integer tensor of class ids"),
        (torch.zeros(2, 3, 6, 7), torch.zeros(2, 5, 7).long(), "labels must have the shape [2, 6, 7]"),
        (torch.zeros(2, 3, 6, 7), torch.full((2, 6, 7), 3), "labels must be in 0..2 or 255 (ignored), got [3]"),
    ],
)
def test_tensors_that_do_not_fit_are_named(loss: Callable, logits: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        loss(logits, labels)
