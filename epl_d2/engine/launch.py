"""Starting a function in several processes, or joining those that torchrun or Slurm's srun have started.

Detectron2's launcher knows its own processes alone, so that `torchrun --nproc_per_node 2` would start two trainings in
one folder; they outlive it; and it says nothing of a process that never comes or that vanishes.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.utils import comm
from torch.distributed.rendezvous import rendezvous

from epl_d2.processes import end_with_parent

__all__ = ["DEFAULT_TIMEOUT", "Place", "has_lost_a_process", "launch", "place_from_environment"]

DEFAULT_TIMEOUT = 5.0  # minutes
# Seconds that a process whose launcher is gone has for its step and its checkpoint.
_GRACE = 120.0
# Seconds between two lines about waiting for others.
_PATIENCE = 10.0
# Seconds in which the others say that they have noticed, too.
_INQUIRY = 10.0


@dataclass(frozen=True)
class Place:
    """Where a process stands among all.

    Attributes:
        rank, world_size: of all processes.
        local_rank, local_size: of those on this machine.
        url: where they meet.
    """

    rank: int
    world_size: int
    local_rank: int
    local_size: int
    url: str


def launch(
    function: Callable[..., object],
    args: tuple,
    *,
    num_gpus: int = 1,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "",
    timeout: float = DEFAULT_TIMEOUT,
) -> None:
    """Run `function(*args)` in every process of a training.

    Args:
        function, args: can be pickled.
        num_gpus: processes to start on this machine; with torchrun or srun, which start them, 1. 0 stands for 1 as in
            Detectron2's `launch`.
        num_machines, machine_rank: as Detectron2's `launch`.
        dist_url: where the processes meet, such as "tcp://HOST:PORT".
        timeout: minutes after which a process that does not answer, or has not come, is given up.

    Raises:
        ValueError: an argument is out of range, or they contradict each other or the environment.
        RuntimeError: a process was lost; names it.
    """
    if timeout <= 0:
        raise ValueError(f"--dist-timeout is {timeout}, expected a positive number of minutes")
    if num_gpus < 0:
        raise ValueError(f"--num-gpus is {num_gpus}, expected a number of processes of at least 0")
    if num_machines < 1:
        raise ValueError(f"--num-machines is {num_machines}, expected a positive number of machines")
    num_gpus = max(1, num_gpus)
    place = place_from_environment(os.environ)
    if place is not None:
        if num_gpus * num_machines != 1:
            raise ValueError(
                f"--num-gpus {num_gpus} --num-machines {num_machines}, but torchrun or srun has started "
                f"{place.world_size} processes already: leave these options away"
            )
        end_with_parent(_GRACE)
        _run(function, args, place, timeout)
    elif num_gpus * num_machines == 1:
        function(*args)
    else:
        _spawn(function, args, num_gpus, num_machines, machine_rank, dist_url, timeout)


def place_from_environment(environment: Mapping[str, str]) -> Place | None:
    """The place that torchrun, or srun with several tasks, has given this process; None where neither started it.

    Raises:
        ValueError: Slurm's machines run different numbers of tasks.
    """
    if int(environment.get("WORLD_SIZE", 1)) > 1 and "RANK" in environment:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        if missing := [name for name in (*names, "MASTER_ADDR", "MASTER_PORT") if name not in environment]:
            raise ValueError(f"RANK and WORLD_SIZE are set, as torchrun does, but {', '.join(missing)} are not")
        return Place(*(int(environment[name]) for name in names), url="env://")
    # Set in the steps that srun starts, not in the script around them.
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS", 1))
    if tasks == 1:
        return None
    shares = re.fullmatch(r"(\d+)(?:\(x\d+\))?", environment["SLURM_STEP_TASKS_PER_NODE"])
    if shares is None:
        raise ValueError(
            f"Slurm runs {environment['SLURM_STEP_TASKS_PER_NODE']} tasks on the machines; every machine must run as "
            "many (srun --ntasks-per-node)"
        )
    # The first of "node[03-05,07],other1", and a port that two jobs hardly share.
    first = re.sub(r"\[(\d+).*", r"\1", environment["SLURM_STEP_NODELIST"].split(",")[0])
    port = 20000 + int(environment["SLURM_JOB_ID"]) % 20000
    return Place(
        rank=int(environment["SLURM_PROCID"]),
        world_size=tasks,
        local_rank=int(environment["SLURM_LOCALID"]),
        local_size=int(shares[1]),
        url=f"tcp://{first}:{port}",
    )


def has_lost_a_process(error: BaseException) -> bool:
    """Whether an error of this process says that another one does not answer."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())


def _spawn(
    function: Callable[..., object],
    args: tuple,
    num_gpus: int,
    num_machines: int,
    machine_rank: int,
    dist_url: str,
    timeout: float,
) -> None:
    world_size = num_gpus * num_machines
    places = [Place(machine_rank * num_gpus + i, world_size, i, num_gpus, dist_url) for i in range(num_gpus)]
    received = 0
    context: Any = None

    def receive(number: int, frame: FrameType | None) -> None:
        nonlocal received
        if number == signal.SIGINT and received == signal.SIGINT:
            for process in context.processes:
                process.kill()
            os._exit(128 + number)
        received = received or number
        for process in context.processes if context else ():
            if process.is_alive():
                # Not the same signal: Ctrl-C goes to all processes, and its second time ends them where they are.
                process.terminate()

    before = {number: signal.signal(number, receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        context = mp.start_processes(
            _spawned, args=(function, args, places, timeout), nprocs=num_gpus, join=False, start_method="spawn"
        )
        if received:  # while they started
            receive(signal.SIGTERM, None)
        while not context.join():
            pass
    except mp.ProcessExitedException as error:
        if received:
            sys.exit(128 + received)
        if error.exit_code > 128:  # told by another signal than this process, or by a process of another machine
            sys.exit(error.exit_code)
        rank = places[error.error_index].rank
        raise RuntimeError(
            f"process {rank} of {world_size} ended without a word ({error.msg}); go on from the last checkpoint by the "
            "same command with --resume"
        ) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _spawned(index: int, function: Callable[..., object], args: tuple, places: list[Place], timeout: float) -> None:
    end_with_parent(_GRACE)
    _run(function, args, places[index], timeout)


def _run(function: Callable[..., object], args: tuple, place: Place, timeout: float) -> None:
    """One process of the training."""
    store = _join(place, timeout)
    try:
        function(*args)
    except Exception as error:
        if not has_lost_a_process(error):
            with contextlib.suppress(Exception):  # the process that keeps the store may be gone
                store.set(f"end/{place.rank}", f"ended: {type(error).__name__}: {error}")
            raise
        raise RuntimeError(
            f"{_describe_lost(store, place)}; go on from the last checkpoint by the same command with --resume"
        ) from error


def _join(place: Place, timeout: float) -> dist.Store:
    """Meet the other processes; gives back what they share."""
    minutes = timedelta(minutes=timeout)
    has_gpu = torch.cuda.is_available()
    if has_gpu and place.local_size > torch.cuda.device_count():
        raise ValueError(f"{place.local_size} processes on a machine with {torch.cuda.device_count()} GPUs")
    try:
        with _saying_that_it_waits(place, timeout):
            store, _, _ = next(iter(rendezvous(place.url, place.rank, place.world_size, timeout=minutes)))
            store.set_timeout(minutes)
            dist.init_process_group(
                "nccl" if has_gpu else "gloo",
                store=dist.PrefixStore("default_pg", store),
                rank=place.rank,
                world_size=place.world_size,
                timeout=minutes,
            )
            comm.create_local_process_group(place.local_size)
            if has_gpu:
                torch.cuda.set_device(place.local_rank)
            comm.synchronize()
    except (dist.DistError, RuntimeError) as error:
        said = str(error).splitlines()[0]
        raise RuntimeError(
            f"process {place.rank} of {place.world_size}: not all came to {_address(place)} within {timeout:g} minutes "
            f"(--dist-timeout), or it cannot be reached ({said})"
        ) from error
    store = dist.PrefixStore("epl_d2", store)
    store.set(f"host/{place.rank}", socket.gethostname())
    return store


@contextlib.contextmanager
def _saying_that_it_waits(place: Place, timeout: float) -> Iterator[None]:
    met = threading.Event()

    def say() -> None:
        start = time.monotonic()
        while not met.wait(_PATIENCE):
            waited = time.monotonic() - start
            print(
                f"process {place.rank} waits for all {place.world_size} processes to come to {_address(place)}: "
                f"{waited:.0f} s of at most {60 * timeout:.0f} s (--dist-timeout)",
                file=sys.stderr,
                flush=True,
            )

    threading.Thread(target=say, name="waiting", daemon=True).start()
    try:
        yield
    finally:
        met.set()


def _describe_lost(store: dist.Store, place: Place) -> str:
    """Which of the others do not say, in a few seconds, that they have noticed a loss as this process has."""
    silent = set(range(place.world_size)) - {place.rank}
    ended = {}
    try:
        store.set(f"end/{place.rank}", "lost another")
        end = time.monotonic() + _INQUIRY
        while silent and time.monotonic() < end:
            for rank in [rank for rank in silent if store.check([f"end/{rank}"])]:
                silent.remove(rank)
                said = store.get(f"end/{rank}").decode()
                if said != "lost another":
                    ended[rank] = said
            time.sleep(0.2)
        hosts = {rank: store.get(f"host/{rank}").decode() for rank in (*silent, *ended)}
    except Exception:  # the process that keeps the store, and so all knowledge, is the one that is gone
        return f"process 0 of {place.world_size}, at {_address(place)}, does not answer: it was killed or is cut off"
    lost = dict.fromkeys(silent, "does not answer: it was killed or is cut off") | ended
    if not lost:
        return "the processes have lost one another"
    return "; ".join(
        f"process {rank} of {place.world_size}, on {hosts[rank]}, {said}" for rank, said in sorted(lost.items())
    )


def _address(place: Place) -> str:
    if place.url == "env://":
        return f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    return place.url
