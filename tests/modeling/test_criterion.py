"""The criterion that a config names."""

import pytest
import torch
import torch.nn.functional as F

from epl_d2 import get_cfg
from epl_d2.modeling.losses.criterion import CRITERIA, build_criterion


def criterion(loss_type):
    cfg = get_cfg()
    cfg.MODEL.SEM_SEG_HEAD.LOSS_TYPE = loss_type
    return build_criterion(cfg)


@pytest.mark.parametrize("loss_type", CRITERIA)
def test_a_batch_whose_labels_are_all_ignored_costs_nothing_and_trains_on(loss_type):
    logits = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = criterion(loss_type)(logits, torch.full((2, 8, 8), 255))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_cross_entropy_is_pytorchs_bit_for_bit():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (2, 9, 9), generator=generator)
    labels[0, :5] = 255
    ours, theirs = (torch.randn(2, 3, 9, 9, generator=generator.manual_seed(1)).requires_grad_() for _ in range(2))
    loss, expected = criterion("cross_entropy")(ours, labels), F.cross_entropy(theirs, labels, ignore_index=255)
    loss.backward()
    expected.backward()
    assert torch.equal(loss, expected)
    assert torch.equal(ours.grad, theirs.grad)
