"""Runs the runs of a grid through submitit: on this machine, so many at once, or on a Slurm cluster."""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import submitit

from .progress import Progress
from .runs import Run, execute, read_record

__all__ = ["lock_folder", "run_all", "visible_gpus"]

_POLL_SECONDS = 0.5
_MINUTES_A_YEAR = 60 * 24 * 365


@contextmanager
def lock_folder(folder: Path, grid_hash: str) -> Iterator[None]:
    """Keep other grids out of `folder`. The operating system drops the lock when this process ends, however it ends.

    Raises:
        ValueError: another process holds it; names that process and its grid.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "grid.lock"
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ValueError(f"{folder} is in use by another grid: {file.read().strip()} ({path})") from None
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "grid": grid_hash}))
        file.flush()
        yield


def visible_gpus() -> list[str]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES takes them."""
    import torch

    if not torch.cuda.is_available():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(index) for index in range(torch.cuda.device_count())]


def run_all(
    runs: Sequence[Run],
    folder: Path,
    jobs: int,
    *,
    gpus: Sequence[str] = (),
    slurm: Mapping[str, Any] | None = None,
    end: float = math.inf,
    say: Callable[[str], None] = print,
) -> dict[str, str]:
    """Execute what has not finished yet.

    Args:
        runs: in the order in which they start.
        folder: for submitit's files.
        jobs: runs at once.
        gpus: dealt out in turn, to each run as many as it takes, so that `jobs` runs share them; empty for a CPU.
        slurm: None runs on this machine; otherwise submitit's parameters for Slurm (`slurm_partition`, ...).
        end: of `time.monotonic()`, from which on no further run starts; of no effect on Slurm.
        say: receives a line now and then.

    Returns:
        Name of each failed run -> what happened.

    Raises:
        ValueError: a run takes more GPUs than there are.
    """
    groups = _groups(gpus, max((run.gpus for run in runs), default=1))
    pending = deque(run for run in runs if read_record(run.folder) is None)
    say(f"{len(runs)} runs, {len(runs) - len(pending)} finished before")
    executor = _executor(folder, runs, slurm)
    if slurm is not None:
        executor.update_parameters(slurm_array_parallelism=jobs)
        with executor.batch():
            active = {executor.submit(_Job(run)): (run, None) for run in pending}
        pending.clear()
    else:
        active = {}
    slots = deque(groups[number % len(groups)] for number in range(jobs))
    failed: dict[str, str] = {}
    progress = Progress(runs, say)
    try:
        while pending or active:
            if pending and time.monotonic() >= end:
                say(f"the time is used up: {len(pending)} runs are not started; the same command goes on with them")
                pending.clear()
            while pending and slots:
                run, slot = pending.popleft(), slots.popleft()
                active[executor.submit(_Job(run, slot))] = (run, slot)
            for job in [job for job in active if job.done()]:
                run, slot = active.pop(job)
                slots.append(slot)
                if read_record(run.folder) is None:
                    failed[run.name] = _reason(job, run)
                    say(f"FAILED {failed[run.name]}")
                else:
                    progress.finished(run)
            progress.report([run for run, _ in active.values()], len(failed))
            if active:
                time.sleep(_POLL_SECONDS)
    except BaseException:
        for job in active:
            job.cancel(check=False)
        raise
    return failed


def _groups(gpus: Sequence[str], size: int) -> list[str | None]:
    """Values of CUDA_VISIBLE_DEVICES with `size` GPUs each; a single None without GPUs."""
    if not gpus:
        return [None]
    if len(gpus) < size:
        raise ValueError(f"a run takes {size} GPUs, but there are {len(gpus)}: {', '.join(gpus)}")
    return [",".join(gpus[start : start + size]) for start in range(0, len(gpus) - size + 1, size)]


class _Job(submitit.helpers.Checkpointable):
    """What submitit pickles: a run, submitted again as it is when Slurm takes the machine away."""

    def __init__(self, run: Run, gpu: str | None = None):
        self.run = run
        self.gpu = gpu

    def __call__(self) -> None:
        execute(self.run, self.gpu)


def _executor(folder: Path, runs: Sequence[Run], slurm: Mapping[str, Any] | None) -> submitit.AutoExecutor:
    executor = submitit.AutoExecutor(folder, cluster="local" if slurm is None else "slurm")
    if slurm is None:
        executor.update_parameters(timeout_min=_MINUTES_A_YEAR)
    else:
        gpus = max(run.gpus for run in runs)
        own = {"timeout_min": 60 * 24, "cpus_per_task": gpus * max(run.threads for run in runs), "name": "epl_d2"}
        own |= {"gpus_per_node": gpus} if gpus > 1 else {}
        executor.update_parameters(**{**own, **slurm})
    return executor


def _reason(job: submitit.Job, run: Run) -> str:
    """What went wrong, with the log to look at."""
    try:
        error = str(job.exception())
    except Exception as failure:  # submitit raises what it likes for jobs that were killed
        error = str(failure)
    raised = re.findall(r"^(?:\w+\.)*\w+Error: (.*)$", error, re.MULTILINE)
    message = raised[-1] if raised else "it ended without a result"
    return message if message.startswith(run.name) else f"{run.name}: {message}, see {job.paths.stderr}"
