"""GSCNN's losses against versions with a loop for every image, class and pixel."""

import math

import numpy as np
import pytest
import torch

from epl_d2.losses import ImageWeightedCrossEntropy
from epl_d2.losses.criteria.gscnn import (
    dual_task_loss,
    edge_attention_loss,
    edge_loss,
    image_weighted_cross_entropy,
)

N, K, H, W = 3, 4, 5, 6


def case(seed: int, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(N, K, H, W, generator=generator, dtype=dtype)
    labels = torch.randint(0, K, (N, H, W), generator=generator)
    labels[torch.rand(N, H, W, generator=generator) < 0.2] = 255
    labels[1][labels[1] == 2] = 0  # a class that one image lacks
    edges = torch.rand(N, 1, H, W, generator=generator, dtype=dtype)
    return logits.requires_grad_(), labels, edges


def log_softmax(values: list[float]) -> list[float]:
    total = math.log(sum(math.exp(v) for v in values))
    return [v - total for v in values]


def weighted_cross_entropy_by_loops(logits, labels, counted=lambda n, y, x: True) -> float:
    images = []
    for n in range(N):
        pixels = [(y, x) for y in range(H) for x in range(W) if labels[n, y, x] != 255 and counted(n, y, x)]
        if not pixels:
            images.append(0.0)
            continue
        share = [sum(int(labels[n, y, x]) == c for y, x in pixels) / len(pixels) for c in range(K)]
        weight = [1 + (1 - f if f != 0 else 0) for f in share]
        numerator = denominator = 0.0
        for y, x in pixels:
            label = int(labels[n, y, x])
            numerator -= weight[label] * log_softmax(logits[n, :, y, x].tolist())[label]
            denominator += weight[label]
        images.append(numerator / denominator)
    return sum(images) / N


@pytest.mark.parametrize("seed", range(3))
def test_image_weighted_cross_entropy(seed):
    logits, labels, _ = case(seed)
    expected = weighted_cross_entropy_by_loops(logits.detach(), labels)
    assert image_weighted_cross_entropy(logits, labels).item() == pytest.approx(expected, rel=1e-12)
    assert ImageWeightedCrossEntropy()(logits, labels).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_attention_is_the_same_loss_on_predicted_edges(seed):
    logits, labels, edges = case(seed)
    expected = weighted_cross_entropy_by_loops(logits.detach(), labels, lambda n, y, x: edges[n, 0, y, x] > 0.8)
    assert expected > 0
    assert edge_attention_loss(logits, labels, edges).item() == pytest.approx(expected, rel=1e-12)


def test_images_without_edges_or_labels_add_zero_instead_of_nan():
    logits, labels, edges = case(0)
    edges[0] = 0
    labels[2] = 255
    expected = weighted_cross_entropy_by_loops(logits.detach(), labels, lambda n, y, x: edges[n, 0, y, x] > 0.8)
    assert edge_attention_loss(logits, labels, edges).item() == pytest.approx(expected, rel=1e-12)
    for loss in (
        edge_attention_loss(logits, labels, torch.zeros_like(edges)),
        image_weighted_cross_entropy(logits, torch.full_like(labels, 255)),
    ):
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss.item() == 0
        assert gradient.eq(0).all()


@pytest.mark.parametrize("seed", range(3))
def test_edge_loss_has_two_sigmoids_and_balances_the_batch(seed):
    _, _, edges = case(seed)
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 3, (N, H, W), generator=generator)  # 2 is ignored
    positive, negative = int((target == 1).sum()), int((target == 0).sum())
    total = 0.0
    for n, y, x in np.ndindex(N, H, W):
        probability = 1 / (1 + math.exp(-edges[n, 0, y, x].item()))
        if target[n, y, x] == 1:
            total -= negative / (positive + negative) * math.log(probability)
        elif target[n, y, x] == 0:
            total -= positive / (positive + negative) * math.log(1 - probability)
    assert edge_loss(edges, target).item() == pytest.approx(total / (N * H * W), rel=1e-12)
    assert edge_loss(edges, target[:, None].byte()).item() == pytest.approx(total / (N * H * W), rel=1e-12)


def test_edge_loss_of_an_empty_batch_is_a_connected_zero():
    for shape in ((0, 1, H, W), (N, 1, 0, W)):
        edges = torch.zeros(shape, requires_grad=True)
        loss = edge_loss(edges, torch.zeros(shape))
        loss.backward()
        assert loss.item() == 0
        assert edges.grad.shape == shape


@pytest.mark.parametrize("value", [0, 1, 2])
def test_edge_loss_without_one_of_its_sides_is_zero(value):
    edges = case(0)[2].requires_grad_()
    loss = edge_loss(edges, torch.full((N, H, W), value))
    loss.backward()
    assert loss.item() == 0
    assert edges.grad.eq(0).all()


@pytest.mark.parametrize("seed", range(3))
def test_dual_task_loss_by_loops(seed):
    logits, labels, _ = case(seed)
    uniform = torch.rand(N, K, H, W, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    predicted, target = np.zeros((N, K, H, W)), np.zeros((N, K, H, W))
    for n, y, x in np.ndindex(N, H, W):
        valid = labels[n, y, x] != 255
        scores = []
        for c in range(K):
            gumbel = -math.log(1e-10 - math.log(uniform[n, c, y, x].item() + 1e-10))
            scores.append(((logits[n, c, y, x].item() if valid else 0.0) + gumbel) / 0.5)
        for c, log_probability in enumerate(log_softmax(scores)):
            predicted[n, c, y, x] = math.sqrt(2 * math.exp(log_probability) ** 2 + 1e-6)
            target[n, c, y, x] = math.sqrt(2 * (c == (int(labels[n, y, x]) if valid else 0)) + 1e-6)
    predicted, target = predicted / predicted.max(), target / target.max()
    # Both halves of the reference's mean are restricted to values of at least 1e-8, which all are.
    assert min(predicted.min(), target.min()) > 1e-8
    expected = 0.5 * np.abs(predicted - target).mean() + 0.5 * np.abs(predicted - target).mean()
    assert dual_task_loss(logits, labels, uniform_noise=uniform).item() == pytest.approx(expected, rel=1e-9)


def test_dual_task_noise_follows_the_seed():
    logits, labels, _ = case(0)
    values = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        values.append(dual_task_loss(logits, labels).item())
    assert values[0] == values[1] != values[2]


def test_ignored_pixels_get_no_gradient_and_change_nothing():
    logits, labels, edges = case(0)
    other = logits.detach().clone()
    other.movedim(1, -1)[labels == 255] += 100.0
    uniform = torch.rand(N, K, H, W, dtype=torch.float64)
    losses = (
        image_weighted_cross_entropy,
        lambda *args: edge_attention_loss(*args, edges),
        lambda *args: dual_task_loss(*args, uniform_noise=uniform),
    )
    for loss in losses:
        value = loss(logits, labels)
        assert value.item() == loss(other, labels).item()
        (gradient,) = torch.autograd.grad(value, logits)
        assert gradient.movedim(1, -1)[labels == 255].eq(0).all()
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-24])
def test_extreme_noise_and_half_precision_stay_finite(uniform):
    logits, labels, edges = case(0, torch.float16)
    noise = torch.full((N, K, H, W), uniform)
    noise[:, 0] = 0.5
    values = (
        image_weighted_cross_entropy(logits, labels),
        edge_attention_loss(logits, labels, edges),
        edge_loss(edges, labels.eq(1)),
        dual_task_loss(logits, labels, uniform_noise=noise),
    )
    assert all(value.dtype == torch.float32 and value.isfinite() for value in values)


NOISE = torch.rand(N, K, H, W, generator=torch.Generator().manual_seed(9))
LOSSES = {
    "image_weighted": lambda logits, labels, edges, **keys: image_weighted_cross_entropy(logits, labels, **keys),
    "attention": lambda logits, labels, edges, **keys: edge_attention_loss(logits, labels, edges, **keys),
    "dual_task": lambda logits, labels, edges, **keys: dual_task_loss(logits, labels, uniform_noise=NOISE, **keys),
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_half_precision_costs_nothing_but_that_of_its_inputs(loss, dtype):
    logits, labels, edges = (x.detach() for x in case(0, torch.float32))
    logits = logits.to(dtype)
    assert loss(logits, labels, edges).item() == loss(logits.float(), labels, edges).item()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_of_edges(dtype):
    edges, target = case(0)[2].to(dtype), case(0)[1].eq(1)
    assert edge_loss(edges, target).item() == edge_loss(edges.float(), target).item()


@pytest.mark.parametrize("ignore_value", [-1, 7])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_any_value_may_be_the_ignored_one(loss, ignore_value):
    logits, labels, edges = case(0)
    other = labels.where(labels != 255, ignore_value)
    assert loss(logits, other, edges, ignore_value=ignore_value).item() == loss(logits, labels, edges).item()


@pytest.mark.parametrize("loss", [image_weighted_cross_entropy, dual_task_loss])
def test_logits_of_another_shape_are_named(loss):
    with pytest.raises(ValueError, match="logits must have the shape"):
        loss(torch.zeros(2, 3, 4), torch.zeros(2, 4, dtype=torch.long))
