"""Label relaxation against its formula with loops."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from epl_d2.losses import label_relaxation_loss


@pytest.mark.parametrize("border", [0, 1, 2])
@pytest.mark.parametrize("ignored", [False, True])
def test_value(scene: Callable, border: int, ignored: bool) -> None:
    logits, labels = scene((2, 4, 9, 8), ignored=ignored, dtype=torch.float64)
    p = logits.softmax(1)
    costs = []
    for n, y, x in itertools.product(range(2), range(9), range(8)):
        if labels[n, y, x] == 255:
            continue
        square = labels[n, max(0, y - border) : y + border + 1, max(0, x - border) : x + border + 1]
        classes = set(square.flatten().tolist()) - {255}
        costs.append(-math.log(sum(p[n, k, y, x].item() for k in classes)))
    value = label_relaxation_loss(logits, labels, border=border)
    assert value.item() == pytest.approx(sum(costs) / len(costs), rel=1e-12)


def test_without_a_border_it_is_cross_entropy(scene: Callable) -> None:
    logits, labels = scene(ignored=True)
    torch.testing.assert_close(
        label_relaxation_loss(logits, labels, border=0), F.cross_entropy(logits, labels, ignore_index=255)
    )


def test_either_side_is_right_at_a_contour() -> None:
    """A prediction whose contour lies one pixel off costs nothing, one that is two pixels off does."""
    labels = torch.tensor([[[0, 0, 0, 0, 1, 1, 1, 1]]])
    for shift, expected in ((0, 0.0), (1, 0.0), (-1, 0.0), (2, 100 / 8)):
        logits = 100 * F.one_hot(torch.tensor([[[int(x >= 4 + shift) for x in range(8)]]]), 2).movedim(3, 1).double()
        assert label_relaxation_loss(logits, labels).item() == pytest.approx(expected, abs=1e-9)


def test_border_out_of_range_is_named() -> None:
    with pytest.raises(ValueError, match="border must be an integer of at least 0, got -1"):
        label_relaxation_loss(torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3, dtype=torch.long), border=-1)
