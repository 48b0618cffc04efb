"""The fast losses against the plain ones: the same value and gradient for any input."""

import itertools
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from epl_d2.losses import line_loss, point_loss, reference
from epl_d2.losses.kernels import plain
from epl_d2.losses.kernels.autograd import differentiable
from epl_d2.losses.kernels.cpu import line as cpu_line
from epl_d2.losses.kernels.cpu import strips
from epl_d2.losses.line import LineTerm
from epl_d2.losses.point import PointTerm
from epl_d2.losses.target import make_target

SETTINGS = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def compare(fast: Callable, plain: Callable, logits: Tensor, labels: Tensor, *arguments: object) -> Tensor:
    """Assert equality and return the gradient."""
    expected = logits.detach().clone().requires_grad_()
    value = plain(expected, labels, *arguments)
    value.backward()
    mine = logits.detach().clone().requires_grad_()
    result = fast(mine, labels, *arguments)
    result.backward()
    torch.testing.assert_close(result, value, rtol=1e-5, atol=1e-7)
    scale = expected.grad.double().norm()
    # The floor is for gradients that are 0 but for rounding: far below one part in a million of a single pixel's.
    assert (mine.grad - expected.grad).double().norm() <= 1e-5 * scale + 1e-9
    assert torch.isfinite(mine.grad).all()
    assert arguments[-1] == "background" or not mine.grad.movedim(1, -1)[labels == 255].any()
    return mine.grad


POINT = ("kernel_size", "splitter", "convolution", "norm", "region", "ignore_mode")
LINE = ("kernel_size", "splitter", "convolution", "mu", "formulation", "ignore_mode")


def fast_point(logits: Tensor, labels: Tensor, *settings: object) -> Tensor:
    return point_loss(logits, labels, **dict(zip(POINT, settings, strict=True)))


def plain_point(*arguments: object) -> Tensor:
    *arguments, ignore_mode = arguments
    return reference.point_loss(*arguments, 255, ignore_mode)


def fast_line(logits: Tensor, labels: Tensor, *settings: object) -> Tensor:
    return line_loss(logits, labels, **dict(zip(LINE, settings, strict=True)))


def plain_line(*arguments: object) -> Tensor:
    *arguments, ignore_mode = arguments
    return reference.line_loss(*arguments, 255, ignore_mode)


def compare_all(
    logits: Tensor, labels: Tensor, width: int = 7, splitter: str = "C", mu: int = 10, ignore_mode: str = "nearest"
) -> None:
    for convolution in ("anisotropic", "standard"):
        for choice in itertools.product(("l1", "l2"), ("image", "lines")):
            compare(fast_point, plain_point, logits, labels, width, splitter, convolution, *choice, ignore_mode)
        for formulation in ("official", "contour", "band"):
            compare(fast_line, plain_line, logits, labels, width, splitter, convolution, mu, formulation, ignore_mode)


@pytest.mark.parametrize("convolution", ["anisotropic", "standard"])
def test_plain_path(scene: Callable, convolution: str) -> None:
    """The path of devices other than the CPU, which runs on a CPU as well."""

    def run(term: type, logits: Tensor, labels: Tensor, *settings: object) -> Tensor:
        *settings, ignore_mode = settings
        scene = plain.prepare(logits.detach(), make_target(labels, 255, ignore_mode, 3))
        return differentiable(plain, logits, scene, term(*settings), last=True)

    point, line = partial(run, PointTerm), partial(run, LineTerm)
    logits, labels = scene(ignored=True)
    for given_labels, mode in itertools.product((labels, torch.full_like(labels, 255)), ("nearest", "exclude")):
        for splitter in "ABC":
            for choice in itertools.product(("l1", "l2"), ("image", "lines")):
                compare(point, plain_point, logits, given_labels, 7, splitter, convolution, *choice, mode)
            for formulation in ("official", "contour", "band"):
                compare(line, plain_line, logits, given_labels, 7, splitter, convolution, 10, formulation, mode)


@pytest.mark.parametrize("width", [3, 5, 7, 9, 11, 13, 15, 17, 19, 21])
@pytest.mark.parametrize("splitter", "AB")
def test_kernel_sizes(scene: Callable, width: int, splitter: str) -> None:
    compare_all(*scene(shape=(1, 4, 24, 26), ignored=True), width=width, splitter=splitter)


@pytest.mark.parametrize("convolution", ["anisotropic", "standard"])
def test_rays_of_one_pixel_compare_single_pixels(scene: Callable, convolution: str) -> None:
    logits, labels = scene(ignored=True)
    p, valid = logits.softmax(dim=1), labels < 255
    distance = (F.one_hot(labels.where(valid, 0), logits.shape[1]).movedim(-1, 1) - p).abs().movedim(1, -1)[valid]
    for norm, expected in (("l1", distance.mean()), ("l2", distance.square().mean())):
        torch.testing.assert_close(
            point_loss(logits, labels, kernel_size=1, norm=norm, convolution=convolution), expected
        )
        compare(fast_point, plain_point, logits, labels, 1, "C", convolution, norm, "image", "nearest")


@pytest.mark.parametrize("mu", [2, 4, 16, 20])
def test_exponents(scene: Callable, mu: int) -> None:
    compare_all(*scene(ignored=True), mu=mu)


def test_steep_lines_of_noise() -> None:
    """mu = 20 and energies up to 11 magnify each rounding of an energy some 20 times; the fast loss adds none."""
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(1, 4, 48, 52, generator=generator)
    labels = torch.randint(0, 4, (1, 48, 52), generator=generator)
    settings = (labels, 21, "B", "anisotropic", 20, "contour", "nearest")
    single, double = logits.clone().requires_grad_(), logits.double().requires_grad_()
    plain = torch.autograd.grad(plain_line(single, *settings), single)[0]
    exact = torch.autograd.grad(plain_line(double, *settings), double)[0]
    fast = torch.autograd.grad(fast_line(single, *settings), single)[0]
    assert (fast - plain).norm() <= 2e-6 * plain.norm()
    assert (fast - exact).norm() <= 1e-5 * exact.norm()


def test_short_strips(scene: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut into as many strips as possible, the sums stay the same."""
    monkeypatch.setattr(strips, "STRIP_SIZE", 1)
    compare_all(*scene(shape=(2, 4, 70, 20), ignored=True), width=5)


def test_histogram_of_large_images(scene: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has more bins than the one of small images, which all other tests take."""
    monkeypatch.setattr(cpu_line, "_SMALL", 0)
    logits, labels = scene(ignored=True)
    for given_logits in (logits, torch.zeros_like(logits), 100 * logits.sign()):
        compare_all(given_logits, labels)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads(scene: Callable, threads: int) -> None:
    """The same bits however many threads share the work (of a size that PyTorch's softmax cuts at whole vectors)."""
    logits, labels = scene(shape=(2, 4, 72, 32), ignored=True)
    results = []
    for number in (1, threads):
        torch.set_num_threads(number)
        mine = logits.clone().requires_grad_()
        value = point_loss(mine, labels) + line_loss(mine, labels)
        results.append((value.detach(), *torch.autograd.grad(value, mine)))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize(
    "shape", [(1, 2, 1, 1), (1, 2, 6, 5), (2, 3, 1, 1), (1, 3, 2, 30), (1, 3, 30, 2), (3, 2, 4, 4)], ids=str
)
@pytest.mark.parametrize("ignored", [False, True])
def test_tiny(scene: Callable, shape: tuple[int, int, int, int], ignored: bool) -> None:
    logits, labels = scene(shape=shape)
    if ignored:
        labels[0, 0, 0] = 255
    compare_all(logits, labels, width=9)


def test_saturated_logits(scene: Callable) -> None:
    logits, labels = scene(ignored=True)
    sign = torch.where(torch.rand(logits.shape, generator=torch.Generator().manual_seed(1)) < 0.7, -1.0, 1.0)
    compare_all(100 * sign, labels)


def test_exact_ties(scene: Callable) -> None:
    """Equal logits everywhere: all energies of a row tie, away from the frame."""
    logits, labels = scene(ignored=True)
    compare_all(torch.zeros_like(logits), labels)


def test_all_ignored(scene: Callable) -> None:
    logits, labels = scene()
    compare_all(logits, torch.full_like(labels, 255))


def test_one_image_all_ignored(scene: Callable) -> None:
    logits, labels = scene()
    labels[0] = 255
    compare_all(logits, labels)


def test_absent_classes_and_mixed_batch(scene: Callable) -> None:
    logits, labels = scene(shape=(3, 6, 25, 31))
    labels[0] = 2
    labels[1] = labels[1].clamp(max=1)
    compare_all(logits, labels)


def test_many_classes(scene: Callable) -> None:
    """More classes than fit a byte."""
    logits, labels = scene(shape=(1, 300, 12, 13), ignored=True)
    labels[labels == 255] = 1000
    expected = reference.line_loss(logits, labels, 7, "A", "anisotropic", 10, "contour", 1000, "nearest")
    torch.testing.assert_close(line_loss(logits, labels, mu=10, ignore_value=1000), expected, rtol=1e-5, atol=0)
    expected = reference.point_loss(logits, labels, 7, "A", "anisotropic", "l2", "image", 1000, "nearest")
    torch.testing.assert_close(point_loss(logits, labels, ignore_value=1000), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("ignore_value", [-1, 0, 2])
def test_other_ignore_values(scene: Callable, ignore_value: int) -> None:
    logits, labels = scene(ignored=True)
    labels[labels == 255] = ignore_value
    expected = reference.line_loss(logits, labels, 7, "A", "anisotropic", 10, "contour", ignore_value, "nearest")
    torch.testing.assert_close(line_loss(logits, labels, mu=10, ignore_value=ignore_value), expected, rtol=1e-5, atol=0)
    expected = reference.point_loss(logits, labels, 7, "A", "anisotropic", "l2", "image", ignore_value, "nearest")
    torch.testing.assert_close(point_loss(logits, labels, ignore_value=ignore_value), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kernel_size", [63, 67, 127, 511])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_wide_kernels(scene: Callable, kernel_size: int, dtype: torch.dtype) -> None:
    """Confident predictions: energies of r + 1, which a coarse histogram cannot tell from what is not a number."""
    logits, labels = scene((1, 3, 70, 9), dtype=dtype)
    confident = 50 * torch.nn.functional.one_hot(labels.roll(1, 1), 3).movedim(3, 1).to(dtype) + logits
    compare(fast_line, plain_line, confident, labels, kernel_size, "A", "anisotropic", 2, "contour", "nearest")


def test_memory_formats(scene: Callable) -> None:
    logits, labels = scene(ignored=True)
    for loss in (point_loss, line_loss):
        last = logits.to(memory_format=torch.channels_last).requires_grad_()
        first = logits.clone().requires_grad_()
        a, b = loss(last, labels), loss(first, labels)
        (a + b).backward()
        torch.testing.assert_close(a, b)
        torch.testing.assert_close(last.grad, first.grad)


@st.composite
def inputs(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Any logits and labels: blocks or noise, with or without ignored pixels, rounded so that ties are common."""
    n, k = draw(st.integers(1, 2)), draw(st.integers(2, 5))
    h, w = draw(st.integers(1, 14)), draw(st.integers(1, 14))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    scale = draw(st.sampled_from([0.0, 1.0, 5.0, 100.0]))
    logits = scale * torch.randn(n, k, h, w, generator=generator, dtype=torch.float64)
    if draw(st.booleans()):
        logits = logits.round()
    size = draw(st.sampled_from([1, 3, 6]))
    labels = torch.randint(0, k, (n, -(-h // size), -(-w // size)), generator=generator)
    labels = labels.repeat_interleave(size, 1).repeat_interleave(size, 2)[:, :h, :w].clone()
    labels[torch.rand(n, h, w, generator=generator) < draw(st.sampled_from([0.0, 0.1, 0.9]))] = 255
    return logits, labels


@SETTINGS
@given(
    inputs(),
    st.sampled_from([3, 5, 7, 21]),
    st.sampled_from("ABC"),
    st.sampled_from([2, 10, 20]),
    st.sampled_from(["nearest", "exclude", "background"]),
)
def test_any_input(data: tuple[Tensor, Tensor], width: int, splitter: str, mu: int, ignore_mode: str) -> None:
    compare_all(*data, width=width, splitter=splitter, mu=mu, ignore_mode=ignore_mode)


@SETTINGS
@given(
    inputs(),
    st.sampled_from("ABC"),
    st.sampled_from(["anisotropic", "standard"]),
    st.sampled_from(["nearest", "exclude"]),
)
def test_ignored_logits_change_nothing(
    data: tuple[Tensor, Tensor], splitter: str, convolution: str, ignore_mode: str
) -> None:
    logits, labels = data
    hidden = (labels == 255).unsqueeze(1)
    other = torch.where(hidden, torch.nan, logits)
    choices = {"splitter": splitter, "convolution": convolution, "ignore_mode": ignore_mode}
    losses = [(point_loss, {"norm": norm, "region": region}) for norm in ("l1", "l2") for region in ("image", "lines")]
    losses += [(line_loss, {"formulation": formulation}) for formulation in ("official", "contour", "band")]
    for loss, choice in losses:
        a, b = (x.detach().clone().requires_grad_() for x in (logits, other))
        value_a, value_b = loss(a, labels, **choices, **choice), loss(b, labels, **choices, **choice)
        (value_a + value_b).backward()
        assert torch.equal(value_a, value_b)
        assert torch.equal(a.grad, b.grad)
        assert not a.grad[hidden.expand_as(a)].any()


@SETTINGS
@given(inputs(), st.sampled_from("ABC"))
def test_bounds(data: tuple[Tensor, Tensor], splitter: str) -> None:
    """The contour formulation lies in [0, 1], the point losses in [0, (r + 1)^q], and a perfect prediction scores 0."""
    logits, labels = data
    contour = line_loss(logits, labels, splitter=splitter, formulation="contour")
    assert 0 <= contour <= 1
    for region in ("image", "lines"):
        assert 0 <= point_loss(logits, labels, splitter=splitter, region=region, norm="l1") <= 4
        assert 0 <= point_loss(logits, labels, splitter=splitter, region=region) <= 16
    classes = torch.arange(logits.shape[1])[:, None, None]
    perfect = 2000.0 * (labels.unsqueeze(1) == classes).double()
    assert line_loss(perfect, labels, splitter=splitter, formulation="contour").item() == pytest.approx(0, abs=1e-12)
    assert point_loss(perfect, labels, splitter=splitter) == 0
    assert point_loss(perfect, labels, splitter=splitter, region="lines") == 0
