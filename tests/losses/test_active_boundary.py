"""The active boundary loss against a literal version with loops, and what its gradient does."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from epl_d2.losses import active_boundary_loss

STEPS = [step for step in itertools.product((-1, 0, 1), repeat=2) if step != (0, 0)]


def contour_distances(labels: np.ndarray) -> np.ndarray:
    """Distance to the pixels beside another class, which must be some; ignored pixels are in no class."""
    maps = []
    for image in labels:
        contour = np.zeros(image.shape, dtype=bool)
        for (y, x), label in np.ndenumerate(image):
            for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                if 0 <= y + dy < image.shape[0] and 0 <= x + dx < image.shape[1]:
                    other = image[y + dy, x + dx]
                    contour[y, x] |= label != 255 and other != 255 and label != other
        maps.append(distance_transform_edt(~contour))
    return np.array(maps)


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    return float((p * (np.log(p) - np.log(q))).sum())


def brute(
    logits: np.ndarray, labels: np.ndarray, distances: np.ndarray, theta: float, fraction: float, smoothing: float
) -> float:
    n, _, h, w = logits.shape
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    costs = []
    for i in range(n):

        def usable(y: int, x: int, i: int = i) -> bool:
            return 0 <= y < h and 0 <= x < w and labels[i, y, x] != 255

        strength = {}
        for y, x in itertools.product(range(h), range(w)):
            beside = [(y, x + 1), (y + 1, x)]
            found = [divergence(p[i, :, y, x], p[i, :, a, b]) for a, b in beside if usable(y, x) and usable(a, b)]
            strength[y, x] = max([0.0, *found])
        strongest = sorted(strength, key=strength.get, reverse=True)[: int(fraction * h * w)]
        seeds = [place for place in strongest if strength[place] > 1e-5]
        boundary = {(y + dy, x + dx) for y, x in seeds for dy, dx in [*STEPS, (0, 0)]}
        for y, x in sorted(boundary):
            around = [(y + dy, x + dx) for dy, dx in STEPS if usable(y + dy, x + dx)]
            if not usable(y, x) or distances[i, y, x] == 0 or len(around) < 2:
                continue
            best = min(around, key=lambda place: distances[i][place])
            if distances[i][best] >= distances[i, y, x]:
                continue
            scores = np.array([divergence(p[i, :, y, x], p[i, :, a, b]) for a, b in around])
            log_q = scores - math.log(np.exp(scores).sum())
            target = [1 - smoothing if place == best else smoothing / (len(around) - 1) for place in around]
            costs.append(-(target * log_q).sum() * min(distances[i, y, x], theta) / theta)
    return float(np.mean(costs)) if costs else 0.0


def tie_free(distances: np.ndarray) -> np.ndarray:
    """Moves the distances a little, as either of two equally near neighbors would be right; some pixels keep a 0."""
    moved = distances + 1e-3 * np.random.default_rng(0).random(distances.shape)
    moved[:, ::4, ::5] = np.where(distances[:, ::4, ::5] == 0, 0.0, moved[:, ::4, ::5])
    return moved


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("theta, fraction, smoothing", [(20.0, 0.05, 0.2), (2.0, 0.3, 0.0), (1.5, 1.0, 0.5)])
def test_value(scene: Callable, ignored: bool, theta: float, fraction: float, smoothing: float) -> None:
    logits, labels = scene((2, 3, 13, 15), seed=2, ignored=ignored, dtype=torch.float64)
    distances = tie_free(contour_distances(labels.numpy()))
    value = active_boundary_loss(
        logits,
        labels,
        torch.from_numpy(distances),
        max_distance=theta,
        max_fraction=fraction,
        label_smoothing=smoothing,
    )
    expected = brute(logits.numpy(), labels.numpy(), distances, theta, fraction, smoothing)
    assert expected > 0
    assert value.item() == pytest.approx(expected, rel=1e-9)


def test_gradient_takes_the_neighbors_as_constants(scene: Callable) -> None:
    """Against differences of the loops in which the logits of the chosen pixel alone are moved in its own terms."""
    logits = torch.tensor([[0.2, 1.0, -0.3, 2.0, 1.5], [0.0, 0.4, 0.1, -1.0, 0.3]], dtype=torch.float64)[None, :, None]
    labels, distances = torch.tensor([[[0, 0, 0, 0, 1]]]), torch.tensor([[[3.0, 2.0, 1.0, 0.0, 0.0]]]).double()
    logits.requires_grad_()
    value = active_boundary_loss(logits, labels, distances, max_distance=4.0, max_fraction=1.0)
    (gradient,) = torch.autograd.grad(value, logits)

    def cost(own: torch.Tensor, x: int) -> torch.Tensor:
        """Of pixel x, between its left and its right neighbor; the right one is the target."""
        left, right = (logits.detach()[0, :, 0, beside].log_softmax(0) for beside in (x - 1, x + 1))
        own = own.log_softmax(0)
        scores = torch.stack([(own.exp() * (own - other)).sum() for other in (left, right)]).log_softmax(0)
        return -(0.2 * scores[0] + 0.8 * scores[1]) * distances[0, 0, x] / 4

    # Pixel 0 has one neighbor alone; 3 and 4 lie on the contour.
    expected = torch.zeros_like(gradient)
    for x in (1, 2):
        for k in range(2):
            step = 1e-6 * torch.eye(2, dtype=torch.float64)[k]
            own = logits.detach()[0, :, 0, x]
            expected[0, k, 0, x] = (cost(own + step, x) - cost(own - step, x)) / 2e-6 / 2
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-9)


def test_training_moves_the_boundary_to_the_contour() -> None:
    """By gradient descent on this loss alone the predicted edge leaves column 6 for the contour at 12."""
    labels = torch.zeros(1, 12, 24, dtype=torch.long)
    labels[..., 12:] = 1
    distances = torch.from_numpy(contour_distances(labels.numpy()))
    steep = (torch.arange(24) - 6.5).clamp(-3, 3).expand(12, 24)
    logits = torch.stack([-steep, steep])[None].requires_grad_()

    def edge() -> float:
        return (logits[0, 1] > logits[0, 0]).float().sum(1).mean().item()

    before = edge()
    assert before == 17
    for _ in range(100):
        value = active_boundary_loss(logits, labels, distances, max_fraction=0.1)
        (gradient,) = torch.autograd.grad(value, logits)
        logits.data -= 20 * gradient
    assert abs(edge() - 12) < abs(before - 12)


def test_flat_predictions_and_images_without_a_contour_give_zero(scene: Callable) -> None:
    logits, labels = scene()
    assert active_boundary_loss(torch.zeros_like(logits), labels, torch.ones(labels.shape)) == 0
    assert active_boundary_loss(logits, torch.zeros_like(labels), torch.zeros(labels.shape)) == 0


@pytest.mark.parametrize(
    "distances, message",
    [
        (torch.zeros(1, 4, 4).long(), "distances must be a floating-point tensor, got torch.int64"),
        (None, "distances must be a floating-point tensor, got NoneType"),
        (torch.zeros(1, 4, 5), r"distances must have the shape of labels, \[1, 4, 4\], got \[1, 4, 5\]"),
        (torch.zeros(1, 4, 4, device="meta"), "distances must be on the device of labels"),
        (torch.full((1, 4, 4), -2.0), "distances must be at least 0, got -2.0"),
        (torch.full((1, 4, 4), torch.nan), "distances must be at least 0, got nan"),
    ],
)
def test_maps_that_do_not_fit_are_named(distances: torch.Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        active_boundary_loss(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long), distances)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"max_distance": 0}, "max_distance must be a finite number above 0, got 0"),
        ({"max_distance": float("nan")}, "max_distance must be a finite number above 0, got nan"),
        ({"max_fraction": 1.1}, "max_fraction must be a number above 0 and at most 1, got 1.1"),
        ({"label_smoothing": 1.0}, "label_smoothing must be a number of at least 0 and below 1, got 1.0"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        active_boundary_loss(
            torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long), torch.zeros(1, 4, 4), **settings
        )
