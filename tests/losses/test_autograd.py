"""The losses inside training: gradients, checkpointing, compiled models, distributed data parallel, CUDA."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from epl_d2.losses import EPLLoss, line_loss, point_loss, potential_field, reference

LOSSES = {
    "point-l1": lambda x, y: point_loss(x, y, kernel_size=5, norm="l1"),
    "point-standard": lambda x, y: point_loss(x, y, kernel_size=3, convolution="standard"),
    "point-C": lambda x, y: point_loss(x, y, kernel_size=5, splitter="C"),
    "point-lines": lambda x, y: point_loss(x, y, kernel_size=5, region="lines"),
    "line-official": lambda x, y: line_loss(x, y, kernel_size=5, mu=2, formulation="official"),
    "line-contour": lambda x, y: line_loss(x, y, kernel_size=5, mu=4, splitter="B", formulation="contour"),
    "line-band": lambda x, y: line_loss(x, y, kernel_size=5, mu=4, splitter="C", formulation="band"),
    "line-standard": lambda x, y: line_loss(x, y, kernel_size=5, mu=4, convolution="standard", formulation="contour"),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_gradcheck(scene: Callable, loss: Callable) -> None:
    logits, labels = scene((2, 3, 7, 6), seed=2, dtype=torch.float64)
    labels[0, 2:4, 1:3] = 255
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), logits.requires_grad_(), eps=1e-7, fast_mode=True)


def test_gradcheck_potential_field() -> None:
    fields = torch.randn(1, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    for padding in ("replicate", "zero"):
        assert torch.autograd.gradcheck(lambda x, p=padding: potential_field(x, 7, "C", p), fields)


def test_slope_of_the_sum(scene: Callable) -> None:
    """The incoming gradient counts, and a graph can be used twice."""
    logits, labels = scene()
    logits.requires_grad_()
    value = line_loss(logits, labels)
    (once,) = torch.autograd.grad(value, logits, retain_graph=True)
    (twice,) = torch.autograd.grad(-3 * value, logits)
    torch.testing.assert_close(twice, -3 * once)


@pytest.mark.parametrize("loss", [point_loss, line_loss])
def test_double_backward_is_refused(scene: Callable, loss: Callable) -> None:
    logits, labels = scene()
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(logits, labels), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="can be differentiated only once"):
        (logits.sum() + gradient.square().sum()).backward()


@pytest.mark.parametrize("loss", [point_loss, line_loss])
def test_without_gradient(scene: Callable, loss: Callable) -> None:
    logits, labels = scene(ignored=True)
    before = logits.clone(), labels.clone()
    expected = loss(logits.clone().requires_grad_(), labels)
    value = loss(logits, labels)
    assert not value.requires_grad
    torch.testing.assert_close(value, expected.detach())
    with torch.no_grad():
        assert torch.equal(loss(logits.clone().requires_grad_(), labels), value)
    assert torch.equal(logits, before[0])
    assert torch.equal(labels, before[1])


class TinyModel(nn.Module):
    """A convolution and EPL."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(5, 5, 3, padding=1)
        self.epl = EPLLoss(point_weight=1, line_weight=1)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return sum(self.epl(self.convolution(x), labels).values())


def gradients(model: nn.Module, *inputs: Tensor) -> list[Tensor]:
    model.zero_grad()
    model(*inputs).backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing(scene: Callable, reentrant: bool) -> None:
    x, labels = scene(ignored=True)
    model = TinyModel()
    expected = gradients(model, x, labels)
    x.requires_grad_()
    model.zero_grad()
    checkpoint(model, x, labels, use_reentrant=reentrant).backward()
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        assert torch.equal(parameter.grad, gradient)


def test_compiled_model(scene: Callable) -> None:
    x, labels = scene(ignored=True)
    model = TinyModel()
    expected = gradients(model, x, labels)
    torch._dynamo.reset()
    for parameter, gradient in zip(
        gradients(torch.compile(model, backend="aot_eager"), x, labels), expected, strict=True
    ):
        torch.testing.assert_close(parameter, gradient)


def test_one_graph_break(scene: Callable) -> None:
    """The loss as a whole is left out of the compiled graph, and nothing before or behind it."""
    x, labels = scene(ignored=True)
    torch._dynamo.reset()
    assert torch._dynamo.explain(TinyModel())(x, labels).graph_break_count == 1


def test_distributed_data_parallel(scene: Callable, tmp_path: Path) -> None:
    x, labels = scene(ignored=True)
    model = TinyModel()
    expected = gradients(model, x, labels)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(model)
        for _ in range(2):
            for parameter, gradient in zip(gradients(wrapped, x, labels), expected, strict=True):
                torch.testing.assert_close(parameter, gradient)
    finally:
        dist.destroy_process_group()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch.cuda.is_available() is False")
@pytest.mark.filterwarnings("error:EPL's Triton kernels are not used:RuntimeWarning")
@pytest.mark.parametrize("formulation", ["official", "contour", "band"])
def test_cuda_equals_cpu_and_never_waits(scene: Callable, formulation: str) -> None:
    logits, labels = scene(ignored=True)
    expected = point_loss(logits, labels), line_loss(logits, labels, formulation=formulation)
    on_device, labels = logits.cuda().requires_grad_(), labels.cuda()
    torch.cuda.set_sync_debug_mode("error")
    torch.use_deterministic_algorithms(True)
    try:
        values = point_loss(on_device, labels), line_loss(on_device, labels, formulation=formulation)
        sum(values).backward()
    finally:
        torch.use_deterministic_algorithms(False)
        torch.cuda.set_sync_debug_mode("default")
    for value, of_cpu in zip(values, expected, strict=True):
        torch.testing.assert_close(value.cpu(), of_cpu, rtol=1e-4, atol=1e-6)
    plain = logits.clone().requires_grad_()
    labels = labels.cpu()
    line = reference.line_loss(plain, labels, 7, "A", "anisotropic", 10, formulation, 255)
    (reference.point_loss(plain, labels, 7, "A", "anisotropic", "l2", "image", 255) + line).backward()
    torch.testing.assert_close(on_device.grad.cpu(), plain.grad, rtol=1e-3, atol=1e-5)
