"""The boundary-F surrogate, cross entropy on the band and class-weighted cross entropy against plain loops."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from epl_d2.contours import contour_distance
from epl_d2.losses import band_cross_entropy, boundary_f_loss, class_weighted_cross_entropy
from epl_d2.losses.compared.boundary_f import _largest


def largest(x: np.ndarray, valid: np.ndarray, radius: int, row: int, column: int) -> float:
    """The maximum of the valid pixels of a square."""
    rows, columns = (slice(max(0, at - radius), at + radius + 1) for at in (row, column))
    return x[rows, columns][valid[rows, columns]].max()


def boundary(m: np.ndarray, valid: np.ndarray) -> np.ndarray:
    b = np.zeros_like(m)
    for row, column in np.argwhere(valid):
        b[row, column] = largest(1 - m, valid, 1, row, column) - (1 - m[row, column])
    return b


def grown(b: np.ndarray, valid: np.ndarray, radius: int) -> np.ndarray:
    e = np.zeros_like(b)
    for row, column in np.argwhere(valid):
        e[row, column] = largest(b, valid, radius, row, column)
    return e


def boundary_f(p: np.ndarray, y: np.ndarray, valid: np.ndarray, tolerance: int) -> float | None:
    b_p, b_y = boundary(p, valid), boundary(y, valid)
    if b_y.sum() == 0:
        return None
    precision = (b_p * grown(b_y, valid, tolerance)).sum() / b_p.sum()
    recall = (b_y * grown(b_p, valid, tolerance)).sum() / b_y.sum()
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize("tolerance", [0, 1, 3])
@pytest.mark.parametrize("ignored", [False, True])
def test_boundary_f(scene: Callable, tolerance: int, ignored: bool) -> None:
    logits, labels = scene((2, 4, 11, 9), ignored=ignored, dtype=torch.float64)
    labels[1][labels[1] != 255] = 2  # an image without a contour
    rows = [
        boundary_f(p[k].numpy(), (label == k).double().numpy(), (label != 255).numpy(), tolerance)
        for p, label in zip(logits.softmax(1), labels, strict=True)
        for k in range(4)
    ]
    expected = np.mean([1 - f for f in rows if f is not None])
    assert boundary_f_loss(logits, labels, tolerance=tolerance).item() == pytest.approx(expected, rel=1e-10)


def test_boundary_f_of_hard_predictions_counts_pixels() -> None:
    """A contour that is off by two pixels is right from a tolerance of two on."""
    labels = torch.zeros(1, 8, 16, dtype=torch.long)
    labels[..., 8:] = 1
    predicted = labels.roll(2, dims=-1)
    predicted[..., :2] = 0
    logits = 300 * F.one_hot(predicted, 2).movedim(-1, 1).double()
    assert [boundary_f_loss(logits, labels, tolerance=t).item() for t in (0, 1, 2)] == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("radius", [0, 1, 3])
@pytest.mark.parametrize("shape", [(2, 3, 20, 31), (1, 1, 1, 9), (1, 2, 9, 1)])
def test_maxima_and_their_gradient_are_those_of_plain_pooling(shape: tuple[int, ...], radius: int) -> None:
    """Also where several pixels of a square are the largest."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randint(0, 5, shape, generator=generator).float().requires_grad_()
    weights = torch.randn(shape, generator=generator)
    size = 2 * radius + 1
    plain = F.max_pool2d(F.max_pool2d(x, (size, 1), 1, (radius, 0)), (1, size), 1, (0, radius))
    fast = _largest(x, radius)
    assert torch.equal(fast, plain)
    expected, found = (torch.autograd.grad((y * weights).sum(), x)[0] for y in (plain, fast))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("width", [0.5, 1, 3.0, 100])
def test_band(scene: Callable, width: float) -> None:
    logits, labels = scene((3, 4, 20, 17), ignored=True, dtype=torch.float64)
    labels[2] = 1
    distances = torch.stack([torch.from_numpy(contour_distance(label.numpy())) for label in labels])
    costs = [
        -logits[n].log_softmax(0)[labels[n, y, x], y, x].item()
        for n in range(2)  # the third has no contour
        for y in range(20)
        for x in range(17)
        if labels[n, y, x] != 255 and distances[n, y, x] < width
    ]
    assert 0 < len(costs) <= 2 * 20 * 17
    assert band_cross_entropy(logits, labels, distances, width=width).item() == pytest.approx(np.mean(costs), rel=1e-10)


def test_no_contour_is_no_band() -> None:
    logits = torch.randn(2, 3, 4, 5).requires_grad_()
    value = band_cross_entropy(logits, torch.ones(2, 4, 5, dtype=torch.long), torch.zeros(2, 4, 5))
    value.backward()
    assert value == 0 and not logits.grad.any()


def test_class_weights(scene: Callable) -> None:
    logits, labels = scene(ignored=True, dtype=torch.float64)
    weights = torch.linspace(0.3, 4, logits.shape[1], dtype=torch.float64)
    total = F.cross_entropy(logits, labels, weights, ignore_index=255, reduction="sum")
    value = class_weighted_cross_entropy(logits, labels, class_weights=weights.tolist())
    torch.testing.assert_close(value, total / (labels != 255).sum())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: boundary_f_loss(x, y, tolerance=-1), "tolerance must be"),
        (lambda x, y: band_cross_entropy(x, y, torch.zeros(1, 4, 4), width=0), "width must be a number above 0, got 0"),
        (lambda x, y: band_cross_entropy(x, y, torch.zeros(1, 4, 5)), "distances must have the shape of labels"),
        (lambda x, y: class_weighted_cross_entropy(x, y, class_weights=[1.0]), "must hold 2 numbers"),
        (lambda x, y: class_weighted_cross_entropy(x, y, class_weights=[1.0, 0.0]), "above 0, got 0.0"),
        (lambda x, y: class_weighted_cross_entropy(x, y, class_weights=[1.0, float("nan")]), "above 0, got nan"),
    ],
)
def test_settings_that_do_not_fit(call: Callable, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long))
