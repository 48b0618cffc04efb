"""The Triton kernels of the losses: dispatch, the interpreter's run, compilation without a GPU, and a real GPU."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from epl_d2.losses import EPLLoss, kernels, line_loss, point_loss, reference
from epl_d2.losses.kernels import choose, guarded, plain
from epl_d2.losses.line import LineTerm
from epl_d2.losses.point import PointTerm
from epl_d2.losses.target import make_target

# On a GPU the plain path would take over from kernels that fail, and pass every test.
pytestmark = pytest.mark.filterwarnings("error:EPL's Triton kernels are not used:RuntimeWarning")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
POINT = [
    {"norm": "l1"},
    {"ignore_mode": "exclude"},
    {"splitter": "C", "kernel_size": 11},
    {"splitter": "B", "kernel_size": 21},
    {"region": "lines"},
    {"region": "lines", "splitter": "C", "kernel_size": 11, "norm": "l1", "ignore_mode": "exclude"},
]
LINE = [
    {"formulation": "official", "mu": 10},
    {"formulation": "official", "splitter": "C", "kernel_size": 11, "mu": 2},
    {"formulation": "official", "ignore_mode": "background"},
    {"formulation": "contour", "splitter": "B", "mu": 20},
    {"formulation": "contour", "kernel_size": 21, "mu": 4},
    {"formulation": "band"},
    {"formulation": "band", "splitter": "C", "kernel_size": 11, "mu": 10, "ignore_mode": "exclude"},
]
TERMS = [
    PointTerm(7, "A", "anisotropic", "l2"),
    PointTerm(21, "C", "anisotropic", "l1"),
    PointTerm(7, "A", "anisotropic", "l2", "lines"),
    LineTerm(7, "A", "anisotropic", 2, "contour"),
    LineTerm(11, "B", "anisotropic", 10, "official"),
    LineTerm(7, "A", "anisotropic", 2, "band"),
]
CASES = [(point_loss, choice) for choice in POINT] + [(line_loss, choice) for choice in LINE]


def test_other_devices_take_other_paths(scene: Callable) -> None:
    logits, _ = scene()
    for term in (PointTerm(7, "A", "anisotropic", "l2"), LineTerm(7, "A", "anisotropic", 10, "official")):
        assert choose(logits, term) is kernels.cpu
        assert choose(logits.to("meta"), term) is plain


def test_what_the_kernels_support(scene: Callable) -> None:
    pytest.importorskip("triton")
    from epl_d2.losses.kernels.triton import supports

    logits, _ = scene()
    assert supports(logits, PointTerm(29, "C", "anisotropic", "l1"))
    assert not supports(logits, PointTerm(31, "A", "anisotropic", "l2"))
    assert not supports(logits, LineTerm(7, "A", "standard", 10, "contour"))
    assert not supports(logits.double(), PointTerm(7, "A", "anisotropic", "l2"))
    assert not supports(logits[:0], PointTerm(7, "A", "anisotropic", "l2"))


@pytest.mark.slow
def test_in_the_interpreter() -> None:
    pytest.importorskip("triton")
    path = Path(__file__).with_name("triton_interpreted.py")
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout[-5000:] + finished.stderr[-2000:]


FLOATS = ["logits", "shift", "scale", "scratch", "windows", "slopes", "gradient", "factor", "weights", "coefficients"]
TYPES = {
    **dict.fromkeys(FLOATS, "*fp32"),
    **dict.fromkeys(("seen", "position", "counts", "present", "target", "keys", "places", "rest", "sizes"), "*i32"),
    **dict.fromkeys(("lines", "bits"), "*u8"),
    **dict.fromkeys(("K", "H", "W", "pixels", "across", "first"), "i32"),
}
TILE = {"BH": 16, "BW": 128, "CHUNK": 1024}
BINS = {"ENERGY_BINS": 2048, "BINS": 1024, "TARGET_BINS": 16}
WINDOWS = {"AXES": 2, "R": 3, **TILE}
# Numbers that are 1 become constants of the kernel: a single class, and images of one column and one row.
ONES = {"K": 1, "H": 1, "W": 1, "across": 1}
KERNELS = [
    ("windows", "statistics_kernel", {"SIGMOID": False, "BINS": 32, "BLOCK": 256}),
    ("point", "point_value_kernel", {"L1": False, "LINES": False, **WINDOWS, "R": 5, "AXES": 4}),
    ("point", "point_value_kernel", {"L1": True, "LINES": True, **WINDOWS, **ONES}),
    ("point", "point_gradient_kernel", {"L1": False, "LINES": False, **WINDOWS}),
    ("point", "point_gradient_kernel", {"L1": True, "LINES": False, **WINDOWS, **ONES}),
    ("point", "point_gradient_kernel", {"L1": False, "LINES": True, **WINDOWS}),
    ("point", "line_sizes_kernel", WINDOWS),
    ("select", "count_kernel", {"ZERO": True, "LEVEL": 0, **BINS, **WINDOWS}),
    ("select", "count_kernel", {"ZERO": False, "LEVEL": 4, **BINS, **WINDOWS}),
    ("select", "narrow_kernel", {"R": 3, "LEVEL": 0, **BINS}),
    ("select", "narrow_kernel", {"R": 3, "LEVEL": 4, **BINS}),
    ("line", "line_sums_kernel", {"MU": 10, "OFFICIAL": True, "BAND": False, **WINDOWS}),
    ("line", "line_gradient_kernel", {"MU": 2, "OFFICIAL": False, "BAND": False, **WINDOWS}),
    ("line", "line_gradient_kernel", {"MU": 10, "OFFICIAL": True, "BAND": False, **WINDOWS, **ONES}),
    ("line", "line_sums_kernel", {"MU": 2, "OFFICIAL": False, "BAND": True, **WINDOWS}),
    ("line", "line_gradient_kernel", {"MU": 2, "OFFICIAL": False, "BAND": True, **WINDOWS}),
    ("band", "mark_lines_kernel", WINDOWS),
    ("band", "widen_kernel", {"TARGET_BINS": 16, **WINDOWS, "AXES": 4}),
    ("windows", "statistics_kernel", {"SIGMOID": True, "BINS": 2, "BLOCK": 256, "K": 1}),
]


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_compiles_for_gpus(capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter accepts what the compiler refuses. All kernels for one GPU, every third for the other."""
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from epl_d2.losses.kernels.triton import band as triton_band
    from epl_d2.losses.kernels.triton import line as triton_line
    from epl_d2.losses.kernels.triton import point as triton_point
    from epl_d2.losses.kernels.triton import select as triton_select
    from epl_d2.losses.kernels.triton import windows as triton_windows

    modules = {"windows": triton_windows, "point": triton_point, "select": triton_select}
    modules |= {"line": triton_line, "band": triton_band}
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    for module, name, constants in KERNELS[:: 1 if capability == 90 else 3]:
        kernel = getattr(modules[module], name)
        types = {**TYPES, "parts": "*fp64" if module == "point" else "*fp32"}
        types["band"] = "*u8" if constants.get("BAND") else "*i32"
        signature = {x: "constexpr" if x in constants else types[x] for x in kernel.arg_names}
        source = ASTSource(kernel, signature, dict(constants))
        compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 8})
        assert name in compiled.asm["ptx"]
        # What every GPU of the kind has for a program.
        assert compiled.metadata.shared <= 48 * 1024


@needs_cuda
@pytest.mark.parametrize(("loss", "choice"), CASES, ids=lambda value: getattr(value, "__name__", str(value)))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equals_the_cpu(scene: Callable, loss: Callable, choice: dict[str, Any], dtype: torch.dtype) -> None:
    for shape in ((2, 5, 40, 300), (1, 3, 5, 4)):
        logits, labels = scene(shape, ignored=True, dtype=dtype)
        inputs = [logits.to(device).requires_grad_() for device in ("cpu", "cuda")]
        values = [loss(x, labels.to(x.device), **choice) for x in inputs]
        for value in values:
            value.backward()
        torch.testing.assert_close(values[1].cpu(), values[0], rtol=1e-5, atol=1e-7)
        expected, mine = inputs[0].grad.double(), inputs[1].grad.cpu().double()
        tolerance = 1e-5 if dtype == torch.float32 else 1e-2
        assert (mine - expected).norm() <= tolerance * expected.norm() + 1e-9
        if choice.get("ignore_mode") != "background":
            assert not mine.movedim(1, -1)[labels == 255].any()


@needs_cuda
@pytest.mark.parametrize(("loss", "choice"), CASES, ids=lambda value: getattr(value, "__name__", str(value)))
def test_masks_equal_the_cpu(scene: Callable, loss: Callable, choice: dict[str, Any]) -> None:
    for shape in ((40, 2, 28, 28), (3, 2, 40, 150)):
        logits, labels = scene(shape, ignored=True)
        inputs = [(logits[:, 1] - logits[:, 0]).to(device).requires_grad_() for device in ("cpu", "cuda")]
        values = [loss(x, labels.to(x.device), mode="binary", **choice) for x in inputs]
        for value in values:
            value.backward()
        torch.testing.assert_close(values[1].cpu(), values[0], rtol=1e-5, atol=1e-7)
        expected, mine = inputs[0].grad.double(), inputs[1].grad.cpu().double()
        assert (mine - expected).norm() <= 1e-5 * expected.norm() + 1e-9


@needs_cuda
@pytest.mark.parametrize("loss", [point_loss, line_loss])
def test_other_input_takes_the_plain_path(scene: Callable, loss: Callable) -> None:
    logits, labels = (x.cuda() for x in scene(ignored=True, dtype=torch.float64))
    for choice in ({}, {"convolution": "standard"}, {"kernel_size": 31}):
        expected = loss(logits.cpu(), labels.cpu(), **choice)
        torch.testing.assert_close(loss(logits, labels, **choice).cpu(), expected)


@needs_cuda
@pytest.mark.parametrize(("loss", "choice"), CASES, ids=lambda value: getattr(value, "__name__", str(value)))
def test_deterministic_and_without_waiting(scene: Callable, loss: Callable, choice: dict[str, Any]) -> None:
    logits, labels = (x.cuda() for x in scene((2, 5, 60, 300), ignored=True))
    logits.requires_grad_()

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        value = loss(logits, labels, **choice)
        return value, torch.autograd.grad(value, logits)[0]

    first = run()
    torch.use_deterministic_algorithms(True)
    torch.cuda.set_sync_debug_mode("error")
    try:
        second = run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@needs_cuda
def test_ties_on_a_gpu(scene: Callable) -> None:
    logits, labels = scene((1, 3, 50, 200))
    for given_logits in (torch.zeros_like(logits), 100 * logits.sign(), 1e4 * logits):
        for formulation in ("official", "contour"):
            arguments = (7, "C", "anisotropic", 10, formulation, 255)  # nothing is ignored
            expected = reference.line_loss(given_logits, labels, *arguments)
            value = line_loss(given_logits.cuda(), labels.cuda(), splitter="C", formulation=formulation)
            torch.testing.assert_close(value.cpu(), expected, rtol=1e-4, atol=1e-6)


@needs_cuda
def test_autocast_and_module(scene: Callable) -> None:
    logits, labels = (x.cuda() for x in scene(ignored=True))
    expected = EPLLoss()(logits, labels)
    with torch.autocast("cuda", dtype=torch.float16):
        for name, value in EPLLoss()(logits, labels).items():
            assert torch.equal(value, expected[name])


@needs_cuda
@pytest.mark.parametrize("name", ["point", "line"])
def test_equals_the_plain_formulas_on_the_gpu(scene: Callable, name: str) -> None:
    logits, labels = (x.cuda() for x in scene((2, 5, 40, 150), ignored=True))
    term = (
        PointTerm(7, "A", "anisotropic", "l2") if name == "point" else LineTerm(7, "A", "anisotropic", 10, "official")
    )
    scene = plain.prepare(logits, make_target(labels, 255, "nearest", 3))
    value, (gradient,) = plain.evaluate(scene, term, need_gradient=True, last=True)
    logits.requires_grad_()
    mine = point_loss(logits, labels) if name == "point" else line_loss(logits, labels, mu=10, formulation="official")
    mine.backward()
    torch.testing.assert_close(mine.detach(), value, rtol=1e-5, atol=1e-7)
    assert (logits.grad - gradient).norm() <= 1e-5 * gradient.norm()


@needs_cuda
@pytest.mark.parametrize("term", TERMS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sigmoid", [False, True])
def test_the_kernels_pass_their_own_check(term: Any, dtype: torch.dtype, sigmoid: bool) -> None:
    for shape in ((1, 1, 512, 1024), (1, 1, 513, 769)):
        assert guarded._difference(torch.zeros(shape, device="cuda", dtype=dtype), term, sigmoid) is None


@needs_cuda
def test_out_of_memory_on_a_gpu(scene: Callable) -> None:
    logits, labels = (x.cuda() for x in scene((1, 19, 512, 512)))
    line_loss(logits, labels)  # checked and compiled
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(logits.device).total_memory
    torch.cuda.set_per_process_memory_fraction(torch.cuda.memory_reserved() / total)
    try:
        with pytest.raises(
            torch.cuda.OutOfMemoryError, match=r"EPL ran out of memory: it asked for .* MODEL.EPL.STRIDE"
        ):
            line_loss(logits, labels)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
