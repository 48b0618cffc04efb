"""OHEM against a literal version in NumPy; the zoom of CCNet's form against SciPy's."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import zoom

from epl_d2.losses import ohem_cross_entropy


def true_class_probability(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of the valid pixels, ``[P]``."""
    valid = labels != 255
    return np.moveaxis(p, 1, -1)[valid][np.arange(valid.sum()), labels[valid]]


def brute(logits: np.ndarray, labels: np.ndarray, threshold: float, min_kept: int, factor: int) -> float:
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    small_p, small_labels = p, labels
    if factor > 1:
        small_p = zoom(p, (1, 1, 1 / factor, 1 / factor), order=1)
        small_labels = zoom(labels, (1, 1 / factor, 1 / factor), order=0)
    ranked = np.sort(true_class_probability(small_p, small_labels))
    rank = min_kept // factor**2
    if rank >= len(ranked):
        threshold = 1.0
    elif rank > 0:
        threshold = max(threshold, ranked[rank - 1])
    found = true_class_probability(p, labels)
    return -np.log(found[found <= threshold]).mean()


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
@pytest.mark.parametrize("min_kept", [0, 300, 1200, 10**6])
@pytest.mark.parametrize("threshold", [0.1, 0.7])
def test_value(scene: Callable, threshold: float, min_kept: int, factor: int) -> None:
    logits, labels = scene((2, 5, 33, 41), dtype=torch.float64)
    value = ohem_cross_entropy(logits, labels, threshold=threshold, min_kept=min_kept, factor=factor)
    expected = brute(logits.numpy(), labels.numpy(), threshold, min_kept, factor)
    assert value.item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("min_kept", [0, 300, 1200, 10**6])
def test_value_with_ignored_pixels(scene: Callable, min_kept: int) -> None:
    logits, labels = scene((2, 5, 33, 41), ignored=True, dtype=torch.float64)
    value = ohem_cross_entropy(logits, labels, threshold=0.1, min_kept=min_kept, factor=1)
    assert value.item() == pytest.approx(brute(logits.numpy(), labels.numpy(), 0.1, min_kept, 1), rel=1e-10)


def test_keeping_everything_is_cross_entropy(scene: Callable) -> None:
    logits, labels = scene(ignored=True)
    expected = torch.nn.functional.cross_entropy(logits, labels, ignore_index=255)
    for settings in ({"threshold": 1.0, "min_kept": 0}, {"threshold": 0.0, "min_kept": 10**6}):
        torch.testing.assert_close(ohem_cross_entropy(logits, labels, **settings), expected)


def test_nothing_hard_is_a_connected_zero() -> None:
    logits = torch.tensor([9.0, 0.0]).view(1, 2, 1, 1).requires_grad_()
    value = ohem_cross_entropy(logits, torch.zeros(1, 1, 1, dtype=torch.long), min_kept=0)
    value.backward()
    assert value == 0 and (logits.grad == 0).all()


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"threshold": 1.5}, "threshold must be a number in"),
        ({"min_kept": -1}, "min_kept must be an integer of at least 0, got -1"),
        ({"factor": 0}, "factor must be an integer of at least 1, got 0"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ohem_cross_entropy(torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3, dtype=torch.long), **settings)
