"""Kervadec's boundary loss against its formula with loops, on maps from an independent distance transform."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from epl_d2.losses import boundary_loss


def distance_maps(labels: np.ndarray, classes: int) -> np.ndarray:
    """phi as in the paper's code; no ignored pixels."""
    maps = np.zeros((len(labels), classes, *labels.shape[1:]))
    for i, k in itertools.product(range(len(labels)), range(classes)):
        inside = labels[i] == k
        if inside.any() and not inside.all():
            outside = ~inside
            maps[i, k] = distance_transform_edt(outside) * outside - (distance_transform_edt(inside) - 1) * inside
    return maps


def test_value(scene: Callable) -> None:
    logits, labels = scene((2, 4, 9, 8), dtype=torch.float64)
    maps = distance_maps(labels.numpy(), 4)
    labels[:, 2] = 255
    total, terms = 0.0, 0
    for i, a, b in itertools.product(range(2), range(9), range(8)):
        if labels[i, a, b] != 255:
            exponents = np.exp(logits[i, :, a, b].numpy())
            total += (exponents / exponents.sum() * maps[i, :, a, b]).sum()
            terms += 4
    value = boundary_loss(logits, labels, torch.from_numpy(maps))
    assert value.item() == pytest.approx(total / terms, rel=1e-12)


def test_the_target_itself_is_the_minimum(scene: Callable) -> None:
    _, labels = scene((1, 3, 20, 20), seed=1)
    maps = torch.from_numpy(distance_maps(labels.numpy(), 3))
    one_hot = torch.nn.functional.one_hot(labels, 3).movedim(3, 1).double()
    lowest = boundary_loss(100 * one_hot, labels, maps)
    assert lowest.item() == pytest.approx((one_hot * maps).mean().item()) and lowest < 0
    for shift in (1, 3, 5):
        assert boundary_loss(100 * one_hot.roll(shift, -1), labels, maps) > lowest


def test_half_precision_maps_are_summed_in_float32(scene: Callable) -> None:
    logits, labels = scene((2, 3, 64, 64))
    maps = torch.full(logits.shape, 300.0, dtype=torch.float16)
    assert boundary_loss(logits, labels, maps).item() == pytest.approx(100.0, rel=1e-5)


@pytest.mark.parametrize(
    "distances, message",
    [
        (torch.zeros(1, 3, 4, 4).long(), "distances must be a floating-point tensor"),
        (torch.zeros(1, 4, 4), "distances must have the shape"),
        (torch.zeros(1, 2, 4, 4), r"distances must have the shape of logits, \[1, 3, 4, 4\], got \[1, 2, 4, 4\]"),
        (torch.zeros(1, 3, 4, 4, device="meta"), "distances must be on the device of logits"),
    ],
)
def test_maps_that_do_not_fit_are_named(distances: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        boundary_loss(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long), distances)
