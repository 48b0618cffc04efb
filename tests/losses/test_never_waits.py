"""On CUDA nothing in EPL waits for the device: tensors without data, which nothing can be read from, pass through it.

What a GPU itself says of it is in test_triton.py (`torch.cuda.set_sync_debug_mode`).
"""

import ast
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from epl_d2.losses import EPLLoss, kernels

ROOT = Path(kernels.__file__).parents[1]
# What logits on CUDA pass through.
FILES = [
    *(
        ROOT / f"{name}.py"
        for name in ("arguments", "epl", "formulas", "modes", "potential", "schedule", "target", "terms")
    ),
    *ROOT.glob("kernels/*.py"),
    *ROOT.glob("kernels/triton/*.py"),
]
# Methods and functions of PyTorch whose result, or its shape, is known to the host.
WAITING = {
    *("item", "tolist", "cpu", "numpy", "nonzero", "argwhere", "masked_select", "unique", "bincount", "synchronize"),
    *("is_nonzero", "equal", "allclose", "repeat_interleave", "cuda", "pin_memory"),
}
# Where one of them stands on purpose: the CPU's branch of the checks of labels, and the one wait of the kernels' check
# (whose labels are made on a CPU).
ALLOWED = {
    ("arguments.py", "check_inputs", "tolist"),
    ("modes.py", "check_masks", "tolist"),
    ("guarded.py", "_difference", "tolist"),
    ("guarded.py", "tiny_scene", "repeat_interleave"),
}


def waiting_calls(path: Path) -> set[tuple[str, str, str]]:
    """(file, function, method) of every call of a method in WAITING."""
    found = set()
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in WAITING:
                    found.add((path.name, function.name, node.func.attr))
    return found


def test_no_call_that_waits_stands_in_the_code() -> None:
    assert set.union(*map(waiting_calls, FILES)) == ALLOWED


SETTINGS = [
    {"formulation": "official", "norm": "l1"},
    {"ignore_mode": "exclude", "splitter": "C"},
    {"ignore_mode": "background", "convolution": "standard"},
    {"stride": 2},
    {"mode": "multilabel"},
]


def run_without_data(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> torch.Tensor:
    """The gradient of both losses on meta tensors, of which nothing can be read."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # knows no such device
    logits = torch.empty(2, 3, 40, 150, device="meta", requires_grad=True)
    shape = (2, 3, 40, 150) if "mode" in settings else (2, 40, 150)
    labels = torch.empty(shape, device="meta", dtype=torch.uint8)
    sum(EPLLoss(point_weight=1, line_weight=1, **settings)(logits, labels).values()).backward()
    return logits.grad


def test_tensors_without_data_cannot_be_read() -> None:
    """What the following tests stand on."""
    mask = torch.empty(4, device="meta", dtype=torch.bool)
    for read in (bool, torch.Tensor.cpu, lambda x: x[x], lambda x: x.nonzero(), lambda x: x.sum().item()):
        with pytest.raises((RuntimeError, NotImplementedError)):
            read(mask.any() if read is bool else mask)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_plain_path(monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]) -> None:
    assert run_without_data(monkeypatch, **settings).shape == (2, 3, 40, 150)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_triton_path(monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]) -> None:
    """Everything but the kernels themselves, which are launched and not waited for."""
    pytest.importorskip("triton")
    from epl_d2.losses.kernels import guarded
    from epl_d2.losses.kernels.triton import line, point, select, windows

    launched = []

    class Launched(str):
        """A kernel's name in its place: `kernel[grid](...)` is noted."""

        def __getitem__(self, grid: Any) -> Any:
            return lambda *_, **__: launched.append(str(self))

    for module in (line, point, select, windows):
        for name in [name for name in vars(module) if name.endswith("_kernel")]:
            monkeypatch.setattr(module, name, Launched(name))
    monkeypatch.setitem(kernels.COMPILED, "meta", "triton")
    monkeypatch.setattr(guarded, "_difference", lambda *_: None)
    monkeypatch.setattr(guarded, "_obstacles", {})
    assert run_without_data(monkeypatch, **settings).shape == (2, 3, 40, 150)
    if "convolution" not in settings:
        expected = {"statistics_kernel", "point_value_kernel", "point_gradient_kernel", "count_kernel", "narrow_kernel"}
        assert set(launched) == expected | {"line_sums_kernel", "line_gradient_kernel"}
