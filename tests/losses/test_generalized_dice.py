"""Generalized Dice against its formula with loops, in NumPy."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch

from epl_d2.losses import generalized_dice_loss


def brute(logits: np.ndarray, labels: np.ndarray) -> float:
    n, k, h, w = logits.shape
    volume, common, sums = np.zeros(k), np.zeros(k), np.zeros(k)
    for i, a, b in itertools.product(range(n), range(h), range(w)):
        if labels[i, a, b] == 255:
            continue
        p = np.exp(logits[i, :, a, b]) / np.exp(logits[i, :, a, b]).sum()
        y = np.eye(k)[labels[i, a, b]]
        volume, common, sums = volume + y, common + y * p, sums + y + p
    weights = np.array([1 / v**2 if v else 0 for v in volume])
    return 1 - 2 * (weights * common).sum() / (weights * sums).sum()


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("absent", [False, True])
def test_value(scene: Callable, ignored: bool, absent: bool) -> None:
    logits, labels = scene((2, 4, 9, 8), ignored=ignored, dtype=torch.float64)
    if absent:
        labels[labels == 1] = 3
    value = generalized_dice_loss(logits, labels)
    assert value.item() == pytest.approx(brute(logits.numpy(), labels.numpy()), rel=1e-12)


def test_range() -> None:
    labels = torch.tensor([[[0, 0, 0, 1]]])
    right = 100 * torch.nn.functional.one_hot(labels, 2).movedim(3, 1).float()
    assert generalized_dice_loss(right, labels) == 0
    assert generalized_dice_loss(right.flip(1), labels) == 1


def test_rare_classes_count_as_much_as_frequent_ones_in_float32() -> None:
    """Volumes 1 and a million: squared weights of 1 and 1e-12."""
    labels = torch.zeros(1, 1000, 1000, dtype=torch.long)
    labels[0, 0, 0] = 1
    logits = torch.zeros(1, 2, 1000, 1000)
    rare, frequent = 1.0, 1e6 - 1
    weights = np.array([1 / frequent**2, 1 / rare**2])
    sums = np.array([frequent + 5e5, rare + 5e5])
    expected = 1 - 2 * (weights * [frequent / 2, rare / 2]).sum() / (weights * sums).sum()
    assert generalized_dice_loss(logits, labels).item() == pytest.approx(expected, rel=1e-5)
