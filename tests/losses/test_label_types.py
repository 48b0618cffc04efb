"""Labels of every integer type: the same numbers, or an error that says why not."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from epl_d2 import losses
from epl_d2.losses.criteria import gscnn


def with_map(loss: Callable, per_class: bool) -> Callable:
    def call(logits: Tensor, labels: Tensor, **ignore: int) -> Tensor:
        shape = logits.shape if per_class else labels.shape
        return loss(logits, labels, torch.linspace(0, 3, shape.numel()).view(shape), **ignore)

    return call


def dual_task(logits: Tensor, labels: Tensor, **ignore: int) -> Tensor:
    return gscnn.dual_task_loss(logits, labels, uniform_noise=torch.full_like(logits, 0.5), **ignore)


def edge_attention(logits: Tensor, labels: Tensor, **ignore: int) -> Tensor:
    return gscnn.edge_attention_loss(logits, labels, logits[:, :1].sigmoid(), threshold=0.3, **ignore)


LOSSES = {
    "point": losses.point_loss,
    "line": losses.line_loss,
    "epl at a stride": lambda x, y, **ignore: sum(losses.EPLLoss(point_weight=0.5, stride=2, **ignore)(x, y).values()),
    "generalized dice": losses.generalized_dice_loss,
    "boundary": with_map(losses.boundary_loss, per_class=True),
    "active boundary": with_map(losses.active_boundary_loss, per_class=False),
    "lovasz": losses.lovasz_softmax_loss,
    "boundary f": losses.boundary_f_loss,
    "band": with_map(losses.band_cross_entropy, per_class=False),
    "class weighted": lambda x, y, **ignore: losses.class_weighted_cross_entropy(
        x, y, class_weights=[0.5 + k for k in range(x.shape[1])], **ignore
    ),
    "ohem": losses.ohem_cross_entropy,
    "label relaxation": losses.label_relaxation_loss,
    "image weighted": losses.image_weighted_cross_entropy,
    "dual task": dual_task,
    "edge attention": edge_attention,
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


@every_loss
def test_types(scene: Callable, loss: Callable) -> None:
    logits, labels = scene(ignored=True)
    expected = loss(logits, labels)
    for dtype in (torch.uint8, torch.int16, torch.int32, torch.uint16, torch.uint32, torch.uint64):
        assert torch.equal(loss(logits, labels.to(dtype)), expected), dtype
    with pytest.raises(ValueError, match=r"labels must be in 0\.\.4 or 255"):
        loss(logits, labels.to(torch.int8))  # 255 has become -1
    with pytest.raises(ValueError, match=r"labels must be an integer tensor of class ids, got torch\.bool"):
        loss(logits, labels > 0)


@every_loss
def test_an_ignore_value_that_does_not_fit_the_type_ignores_nothing(scene: Callable, loss: Callable) -> None:
    """256 + 1 is not class 1, and -100 is not 156, although uint8 would wrap them so."""
    logits, labels = scene()
    expected = loss(logits, labels, ignore_value=1000)
    for dtype in (torch.uint8, torch.int8):
        for ignore_value in (257, -255):
            assert torch.equal(loss(logits, labels.to(dtype), ignore_value=ignore_value), expected)
    many = torch.zeros(1, 160, 4, 4).index_fill(1, torch.tensor(156), 2.0)
    ids = torch.full((1, 4, 4), 156)
    assert torch.equal(loss(many, ids.to(torch.uint8), ignore_value=-100), loss(many, ids, ignore_value=-100))


@every_loss
def test_labels_beyond_every_class(scene: Callable, loss: Callable) -> None:
    logits, labels = scene()
    labels = labels.to(torch.uint64)
    labels[0, 1, 1] = 2**64 - 1
    with pytest.raises(ValueError, match="18446744073709551615"):
        loss(logits, labels, ignore_value=-1)


@every_loss
def test_whatever_is_ignored_changes_nothing(scene: Callable, loss: Callable) -> None:
    logits, labels = scene(ignored=True)
    hidden = (labels == 255).unsqueeze(1).expand_as(logits)
    results = []
    for bad in (0.0, torch.nan, torch.inf):
        mine = logits.masked_fill(hidden, bad).requires_grad_()
        value = loss(mine, labels)
        value.backward()
        results.append((value.detach(), mine.grad))
        assert value.isfinite()
        assert not mine.grad[hidden].any()
    for value, gradient in results[1:]:
        assert torch.equal(value, results[0][0])
        assert torch.equal(gradient, results[0][1])


@every_loss
@pytest.mark.parametrize("shape", [(0, 5, 8, 8), (2, 5, 0, 8), (2, 5, 8, 0)], ids=str)
def test_nothing_at_all(loss: Callable, shape: tuple[int, int, int, int]) -> None:
    logits = torch.zeros(shape, requires_grad=True)
    value = loss(logits, torch.zeros(shape[0], *shape[2:], dtype=torch.long))
    assert value == 0
    value.backward()
