"""Lovász-Softmax against the definition of the Lovász extension: an integral of the set function over level sets."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch

from epl_d2.losses import lovasz_softmax_loss


def jaccard_loss(target: np.ndarray, wrong: np.ndarray) -> float:
    """1 - Jaccard index of the target and the target with its wrong pixels exchanged (Berman et al., eq. 6)."""
    return wrong.sum() / (target | wrong).sum()


def brute(logits: np.ndarray, labels: np.ndarray) -> float:
    """The integral over t in [0, 1] of the Jaccard loss of {x : error(x) >= t}, in steps between the errors."""
    pixels = np.moveaxis(logits, 1, 0)[:, labels != 255]
    labels = labels[labels != 255]
    p = np.exp(pixels) / np.exp(pixels).sum(0)
    values = []
    for category in np.unique(labels):
        target = labels == category
        errors = np.abs(target - p[category])
        levels = np.unique(np.append(errors, 0.0))
        steps = itertools.pairwise(levels)
        values.append(sum((above - below) * jaccard_loss(target, errors >= above) for below, above in steps))
    return float(np.mean(values))


@pytest.mark.parametrize("ignored", [False, True])
def test_value(scene: Callable, ignored: bool) -> None:
    logits, labels = scene((2, 4, 9, 8), ignored=ignored, dtype=torch.float64)
    labels[labels == 1] = 3
    assert lovasz_softmax_loss(logits, labels).item() == pytest.approx(brute(logits.numpy(), labels.numpy()), rel=1e-10)


def test_per_image(scene: Callable) -> None:
    logits, labels = scene((3, 4, 9, 8), dtype=torch.float64)
    labels[1] = 255
    expected = np.mean([brute(logits[i : i + 1].numpy(), labels[i : i + 1].numpy()) for i in (0, 2)])
    assert lovasz_softmax_loss(logits, labels, per_image=True).item() == pytest.approx(expected, rel=1e-10)


def test_of_hard_predictions_it_is_one_minus_the_mean_iou() -> None:
    labels = torch.tensor([[[0, 0, 0, 1, 1, 2]]])
    predicted = torch.tensor([[[0, 0, 1, 1, 1, 2]]])
    logits = 200 * torch.nn.functional.one_hot(predicted, 3).movedim(3, 1).double()
    assert lovasz_softmax_loss(logits, labels).item() == pytest.approx(1 - np.mean([2 / 3, 2 / 3, 1]))


def test_large_images_in_float32(scene: Callable) -> None:
    """The steps of the Jaccard loss are below float32's rounding of it there."""
    logits, labels = scene((1, 3, 400, 400), dtype=torch.float64)
    single = logits.float().requires_grad_()
    value = lovasz_softmax_loss(single, labels)
    assert value.item() == pytest.approx(lovasz_softmax_loss(logits, labels).item(), rel=1e-6)
    expected = torch.autograd.grad(lovasz_softmax_loss(logits.requires_grad_(), labels), logits)[0]
    found = torch.autograd.grad(value, single)[0]
    assert (found - expected).norm() < 1e-2 * expected.norm()
