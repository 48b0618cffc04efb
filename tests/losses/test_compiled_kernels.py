"""The compiled losses: their parts against plain PyTorch, and where threads, forks or Numba come into play."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from epl_d2.losses import line_loss, point_loss, potential
from epl_d2.losses.kernels.cpu import strips
from epl_d2.losses.kernels.cpu.line_rows import order_statistic
from epl_d2.losses.kernels.cpu.threads import count_threads, run_jobs


@pytest.mark.parametrize("taps", [*range(1, 14), 21])
@pytest.mark.parametrize("axis", [(0, 1), (1, 0), (1, 1), (1, -1)])
def test_window_sums_are_those_of_the_plain_losses_bit_by_bit(taps: int, axis: tuple[int, int]) -> None:
    field = torch.rand(40, 50, generator=torch.Generator().manual_seed(taps))
    expected = potential.windows(field, axis, taps)
    flat = np.concatenate([field.flatten().numpy(), np.zeros(taps, np.float32)])
    rows = 40 - (taps - 1) * axis[0]
    out, *spares = (np.zeros((40 + 2 * taps) * 50, np.float32) for _ in range(4))
    strips.field_sums(flat, rows, 50, np.array(axis), taps, False, out, tuple(spares))
    sums = torch.from_numpy(out[: rows * 50]).view(rows, 50)
    # A window that runs to the left is kept at its first pixel, on the right.
    sums = sums[:, taps - 1 :] if axis[1] < 0 else sums[:, : 50 - (taps - 1) * axis[1]]
    assert torch.equal(sums, expected)


@pytest.mark.parametrize("dtype, bits", [(np.float32, np.int32), (np.float64, np.int64)])
@pytest.mark.parametrize("kind", ["noise", "ties", "constant"])
@pytest.mark.parametrize("known", [12, 13, 16])
def test_order_statistics(dtype: type, bits: type, kind: str, known: int) -> None:
    values = np.random.default_rng(0).random(300).astype(dtype) + 1
    if kind == "ties":
        values = values.round(1).astype(dtype)
    elif kind == "constant":
        values[:] = 1.25
    codes = values.view(bits)
    shift = 8 * codes.itemsize - known
    for prefix in np.unique(codes >> shift):
        ordered = np.sort(codes[codes >> shift == prefix])
        for rank, code in enumerate(ordered.tolist()):
            assert order_statistic(codes, prefix, rank, shift) == (code, rank - ordered.tolist().index(code))


def test_every_job_runs_once_and_slots_are_in_range() -> None:
    torch.set_num_threads(3)
    runs: list[tuple[int, int]] = []
    run_jobs(lambda slot, job: runs.append((slot, job)), 50)
    assert sorted(job for _, job in runs) == list(range(50))
    assert {slot for slot, _ in runs} <= {0, 1, 2}
    assert (count_threads(2), count_threads(0)) == (2, 1)


def test_an_error_in_a_thread_is_raised() -> None:
    torch.set_num_threads(2)

    def fail(slot: int, job: int) -> None:
        raise RuntimeError("in a job")

    with pytest.raises(RuntimeError, match="in a job"):
        run_jobs(fail, 4)


def _run_in_child(queue: multiprocessing.Queue) -> None:
    jobs: list[int] = []
    run_jobs(lambda slot, job: jobs.append(job), 8)
    queue.put(sorted(jobs))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="os.fork does not exist on this system")
def test_threads_after_a_fork() -> None:
    """A child has the pool of its parent but not its threads: it must not wait for them."""
    torch.set_num_threads(2)
    run_jobs(lambda slot, job: None, 8)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_run_in_child, args=(queue,))
    child.start()
    assert queue.get(timeout=30) == list(range(8))
    child.join(30)
    assert child.exitcode == 0


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("formulation", ["official", "contour", "band"])
def test_logits_that_are_no_numbers_give_nan(scene: Callable, bad: float, formulation: str) -> None:
    logits, labels = scene()
    logits[0, 1, 4, 5] = bad
    assert line_loss(logits, labels, formulation=formulation).isnan()
    assert point_loss(logits, labels).isnan()
    labels[0, 4, 5] = 255  # where they take no part they change nothing
    logits.requires_grad_()
    value = line_loss(logits, labels, formulation=formulation) + point_loss(logits, labels)
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()
    assert not logits.grad[0, :, 4, 5].any()


def test_without_numba_the_plain_formulas_run() -> None:
    code = (
        "import sys, torch\n"
        "sys.modules['numba'] = None\n"
        "from epl_d2.losses import kernels, line, point\n"
        "assert kernels.cpu is None\n"
        "logits, labels = torch.zeros(1, 2, 6, 6), torch.eye(6, dtype=torch.long)[None]\n"
        "print(float(point.point_loss(logits, labels)), float(line.line_loss(logits, labels)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    logits, labels = torch.zeros(1, 2, 6, 6), torch.eye(6, dtype=torch.long)[None]
    expected = [float(point_loss(logits, labels)), float(line_loss(logits, labels))]
    assert list(map(float, done.stdout.split())) == pytest.approx(expected, rel=1e-5)
