"""`backend`: the plain formulas take over where the kernels of CUDA do not work. The failures are faked, on a CPU."""

import re
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from epl_d2.losses import EPLLoss, kernels, line_loss, point_loss
from epl_d2.losses.kernels import guarded, plain
from epl_d2.losses.line import LineTerm
from epl_d2.losses.point import PointTerm

TERMS = [
    PointTerm(7, "A", "anisotropic", "l2"),
    PointTerm(5, "C", "anisotropic", "l1"),
    PointTerm(7, "B", "anisotropic", "l2", "lines"),
    LineTerm(7, "A", "anisotropic", 2, "contour"),
    LineTerm(11, "B", "anisotropic", 20, "official"),
    LineTerm(7, "A", "anisotropic", 2, "band"),
]


class Kernels(SimpleNamespace):
    """Stands for Triton's path: the plain formulas, which keep the logits as it does, and fail where they are told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[int, ...]]] = []
        self.fail: Callable[[str, tuple[int, ...]], None] = lambda step, shape: None
        self.change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = lambda value, slopes: (value, slopes)

    def supports(self, logits: Tensor, term: Any) -> bool:
        return term.kernel_size < 31

    def step(self, name: str, logits: Tensor) -> None:
        self.calls.append((name, tuple(logits.shape)))
        self.fail(name, tuple(logits.shape))

    def prepare(self, logits: Tensor, target: Any) -> Any:
        self.step("prepare", logits)
        if target.fill is not None:
            logits = target.fill.gather(logits)
        return SimpleNamespace(target=target, logits=logits)

    def evaluate(self, scene: Any, term: Any, need_gradient: bool, last: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
        self.step("evaluate", scene.logits)
        value, slopes = plain.evaluate(plain.prepare(scene.logits, scene.target), term, need_gradient, last)
        if not need_gradient:
            return value, ()
        value, slopes = self.change(value, *slopes)
        return value, (scene.logits, slopes)

    def gradient(self, target: Any, term: Any, saved: list[Tensor], grad_output: Tensor) -> Tensor:
        self.step("gradient", saved[0])
        return saved[1] * grad_output


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernels]:
    """Kernels that "auto" takes on this CPU, as if it were a CUDA device that has never been used."""
    found = Kernels()
    monkeypatch.setitem(kernels.COMPILED, "cpu", "triton")
    monkeypatch.setattr(kernels, "_HAS_TRITON", True)
    monkeypatch.setattr(guarded, "kernels", lambda: found)
    monkeypatch.setattr(guarded, "_obstacles", {})
    yield found


def losses(scene: Callable, backend: str = "auto") -> list[Tensor]:
    """Both losses and the gradient of their weighted sum."""
    logits, labels = scene(ignored=True)
    logits.requires_grad_()
    found = list(EPLLoss(point_weight=2, line_weight=3, backend=backend)(logits, labels).values())
    sum(found).backward()
    return [*(value.detach() for value in found), logits.grad]


def assert_plain(scene: Callable, found: list[Tensor]) -> None:
    for one, expected in zip(found, losses(scene, "plain"), strict=True):
        torch.testing.assert_close(one, expected)


def messages(caught: list[warnings.WarningMessage]) -> list[str]:
    return [str(one.message) for one in caught if "EPL" in str(one.message)]


def test_working_kernels_are_checked_once_and_used(scene: Callable, fake: Kernels) -> None:
    state = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_plain(scene, losses(scene))
        first = len(fake.calls)
        losses(scene)
    tiny, real = (2, 3, 33, 145), (2, 5, 30, 34)
    assert [shape for name, shape in fake.calls[:first] if name == "evaluate"] == [tiny, tiny, real, real]
    assert {shape for _, shape in fake.calls[first:]} == {real}
    assert torch.equal(torch.get_rng_state(), state)


REAL = (2, 5, 30, 34)
FAILURES = {
    "nothing compiles": lambda step, shape: True,
    "no kernel of the gradient": lambda step, shape: step == "gradient",
    "launch refused at the first": lambda step, shape: shape == REAL and step == "prepare",
    "launch refused later": lambda step, shape: shape == REAL and step == "evaluate",
    "launch refused in the backward pass": lambda step, shape: shape == REAL and step == "gradient",
}


@pytest.mark.parametrize("fails", FAILURES.values(), ids=FAILURES)
def test_a_failure_is_said_once_and_training_goes_on(scene: Callable, fake: Kernels, fails: Callable) -> None:
    def fail(step: str, shape: tuple[int, ...]) -> None:
        if fails(step, shape):
            raise RuntimeError("out of resource: shared memory, Required: 229376\nand more lines")

    fake.fail = fail
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert_plain(scene, losses(scene))
        told = messages(caught)
        assert_plain(scene, losses(scene))
    assert messages(caught) == told
    assert len(told) == 2  # one a loss
    assert "PointTerm(kernel_size=7" in told[0] + told[1]
    assert all("RuntimeError: out of resource: shared memory, Required: 229376)" in text for text in told)
    assert all("MODEL.EPL.BACKEND" in text for text in told)


def test_a_triton_that_cannot_be_imported(scene: Callable, fake: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> None:
        raise AttributeError("module 'triton.language' has no attribute 'histogram'")

    monkeypatch.setattr(guarded, "kernels", load)
    with pytest.warns(RuntimeWarning, match="no attribute 'histogram'"):
        assert_plain(scene, losses(scene))


WRONG = {
    "value": lambda value, slopes: (1.01 * value, slopes),
    "gradient": lambda value, slopes: (value, 1.1 * slopes),
    "no number": lambda value, slopes: (value, slopes * torch.nan),
    "a tile not written": lambda value, slopes: (value, slopes.index_fill(2, torch.arange(16), 0.0)),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_wrong_result_is_found_before_it_counts(scene: Callable, fake: Kernels, change: Callable) -> None:
    fake.change = change
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert_plain(scene, losses(scene))
    assert len(messages(caught)) == 2
    assert all("they compute something else than the plain formulas" in text for text in messages(caught))
    with pytest.raises(ValueError, match=r"backend 'triton' .* they compute something else"):
        losses(scene, "triton")


@pytest.mark.parametrize("term", TERMS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rounding_is_no_wrong_result(fake: Kernels, term: Any, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    evaluate = fake.evaluate

    def with_noise(scene: Any, *given: Any, **named: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        noise = 1e-6 * torch.randn(scene.logits.shape, generator=generator)
        noisy = SimpleNamespace(target=scene.target, logits=scene.logits.float() + noise)
        value, (logits, slopes) = evaluate(noisy, *given, **named)
        return value, (logits, slopes.to(dtype))

    fake.evaluate = with_noise
    assert guarded.obstacle(torch.zeros(1, 1, 32, 32, dtype=dtype), term, False, warn=True) is None


@pytest.mark.parametrize(
    ("term", "other"),
    [
        (TERMS[0], PointTerm(5, "A", "anisotropic", "l2")),
        (TERMS[1], PointTerm(5, "A", "anisotropic", "l1")),
        (TERMS[2], PointTerm(7, "B", "anisotropic", "l2", "image")),
        (TERMS[3], LineTerm(7, "A", "anisotropic", 4, "contour")),
        (TERMS[4], LineTerm(11, "B", "anisotropic", 20, "contour")),
        (TERMS[5], LineTerm(7, "A", "anisotropic", 2, "contour")),
    ],
)
def test_another_setting_is_a_wrong_result(fake: Kernels, term: Any, other: Any) -> None:
    evaluate = fake.evaluate
    fake.evaluate = lambda scene, term, **named: evaluate(scene, other, **named)
    assert "something else" in guarded.obstacle(torch.zeros(1, 1, 32, 32), term, False, warn=False)


def test_the_check_compiles_what_the_real_input_needs() -> None:
    """Triton compiles a kernel anew for numbers that are multiples of 16, and for the number 1."""
    for h, w in ((512, 1024), (513, 1024), (512, 769), (33, 7)):
        logits, labels = guarded.tiny_scene(torch.zeros(1, 1, h, w, dtype=torch.bfloat16))
        assert [length % 16 == 0 for length in logits.shape[2:]] == [h % 16 == 0, w % 16 == 0]
        assert logits.dtype == torch.bfloat16
        assert (labels == 255).any() and labels.unique().tolist() == [0, 1, 2, 255]
        assert not (labels[1] == 2).any()
        assert min(logits.shape[2] / 16, logits.shape[3] / 128) > 1  # more than one tile each way


def test_a_broken_device_is_no_failure_of_the_kernels(scene: Callable, fake: Kernels, monkeypatch) -> None:
    """A label out of range, say, breaks every launch that follows."""
    losses(scene)  # checked

    def broken(*_: object) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    fake.fail = broken
    monkeypatch.setattr(plain, "prepare", broken)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with pytest.raises(RuntimeError, match=r"^CUDA error: device-side assert triggered$"):
            losses(scene)


def test_what_the_kernels_are_not_made_for_takes_the_plain_path_in_silence(scene: Callable, fake: Kernels) -> None:
    logits, labels = scene()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = EPLLoss(line_kernel_size=31)(logits, labels)["loss_epl_line"]
    assert fake.calls == []
    torch.testing.assert_close(value, 3 * line_loss(logits, labels, kernel_size=31))
    with pytest.raises(ValueError, match="kernel sizes up to 29"):
        EPLLoss(line_kernel_size=31, backend="triton")(logits, labels)


@pytest.mark.parametrize("step", ["prepare", "evaluate", "gradient"])
def test_out_of_memory_says_what_would_help(scene: Callable, fake: Kernels, step: str) -> None:
    """And is not followed by the plain path, which needs more."""
    losses(scene)  # checked

    def fail(at: str, shape: tuple[int, ...]) -> None:
        if at == step:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has ...")

    fake.fail = fail
    expected = re.escape(
        "EPL ran out of memory: it asked for 2.50 GiB, beside logits [2, 5, 30, 34] of 0.0 MiB on cpu."
    )
    with pytest.raises(torch.cuda.OutOfMemoryError, match=expected) as caught:
        losses(scene)
    assert "MODEL.EPL.STRIDE" in str(caught.value)
    assert "SOLVER.IMS_PER_BATCH" in str(caught.value)
    assert str(caught.value).count("EPL ran out of memory") == 1
    assert not any(guarded._obstacles.values())


def test_out_of_memory_at_a_stride(scene: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def resize(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("epl_d2.losses.epl.resize", resize)
    with pytest.raises(torch.cuda.OutOfMemoryError, match="EPL ran out of memory: it asked for more"):
        EPLLoss(stride=2)(*scene())


def test_no_check_while_a_graph_is_captured(scene: Callable, fake: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    capturing = [True]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing[0])
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    assert_plain(scene, losses(scene))
    assert {shape for _, shape in fake.calls} == {REAL}
    capturing[0] = False
    losses(scene)
    assert (2, 3, 33, 145) in {shape for _, shape in fake.calls}


def test_the_check_may_wait_where_waiting_is_forbidden(scene: Callable, fake: Kernels, monkeypatch) -> None:
    modes = [2]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: modes[-1])
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    fake.fail = lambda step, shape: fake.calls.append((modes[-1], shape))
    losses(scene)
    assert modes == [2, 0, 2, 0, 2]
    assert {mode for mode, shape in fake.calls if isinstance(mode, int) and shape == REAL} == {2}


def test_under_inference_mode_and_compile(scene: Callable, fake: Kernels) -> None:
    """The losses are no part of a compiled graph: the check runs as always."""
    logits, labels = scene()
    expected = 3 * line_loss(logits, labels)
    guarded._obstacles.clear()
    fake.change = WRONG["value"]
    with torch.inference_mode(), pytest.warns(RuntimeWarning, match="something else"):
        torch.testing.assert_close(EPLLoss()(logits, labels)["loss_epl_line"], expected)
    guarded._obstacles.clear()
    torch._dynamo.reset()
    compiled = torch.compile(EPLLoss(), backend="eager")
    with pytest.warns(RuntimeWarning, match="something else"):
        torch.testing.assert_close(compiled(logits, labels)["loss_epl_line"], expected)


def test_masks_have_a_check_of_their_own(scene: Callable, fake: Kernels) -> None:
    logits, labels = scene((2, 2, 30, 34), ignored=True)
    given = logits[:, 1], labels
    losses(scene)
    fake.calls.clear()
    found = EPLLoss(mode="binary")(*given)["loss_epl_line"]
    torch.testing.assert_close(found, EPLLoss(mode="binary", backend="plain")(*given)["loss_epl_line"])
    tiny, real = (6, 1, 33, 145), (2, 1, 30, 34)
    assert [shape for name, shape in fake.calls if name == "evaluate"] == [tiny, real]
    guarded._obstacles.clear()
    fake.change = WRONG["gradient"]
    with pytest.warns(RuntimeWarning, match=r"float32 logits of a sigmoid on cpu: .* something else"):
        EPLLoss(mode="binary")(*given)
    # No instance at all is nothing to compute, and nothing to complain of.
    none = EPLLoss(mode="binary", backend="triton")(logits[:0, 1], labels[:0])
    assert none["loss_epl_line"] == 0


def test_every_backend_of_a_cpu(scene: Callable) -> None:
    logits, labels = scene(ignored=True)
    expected = [2 * point_loss(logits, labels), 3 * line_loss(logits, labels)]
    for backend in ("auto", "numba", "plain"):
        found = list(EPLLoss(point_weight=2, backend=backend)(logits, labels).values())
        torch.testing.assert_close(found, expected)
    assert kernels.choose(logits, TERMS[0], "plain") is plain
    assert kernels.choose(logits, TERMS[0], "numba") is kernels.cpu


def test_backends_that_cannot_be_used_say_why(scene: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = scene()
    with pytest.raises(
        ValueError,
        match=re.escape(
            "backend 'triton' (MODEL.EPL.BACKEND) cannot be used: it computes on devices of type cuda, and the logits "
            "are on cpu. 'auto' takes what can"
        ),
    ):
        EPLLoss(backend="triton")(logits, labels)
    with pytest.raises(ValueError, match=r"backend 'numba' .* the logits are on meta"):
        kernels.choose(logits.to("meta"), TERMS[0], "numba")
    with pytest.raises(ValueError, match="backend must be one of 'auto', 'plain', 'numba', 'triton', got 'cuda'"):
        EPLLoss(backend="cuda")
    monkeypatch.setattr(kernels, "cpu", None)
    with pytest.raises(ValueError, match="numba is not installed"):
        EPLLoss(backend="numba")(logits, labels)
    monkeypatch.setitem(kernels.COMPILED, "cpu", "triton")
    monkeypatch.setattr(kernels, "_HAS_TRITON", False)
    with pytest.raises(ValueError, match="triton is not installed"):
        EPLLoss(backend="triton")(logits, labels)
