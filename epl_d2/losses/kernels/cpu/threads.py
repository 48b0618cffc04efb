"""Runs compiled kernels, which release the interpreter lock, on several threads.

Numba's own parallel loops are not used: most of their threading layers break after a fork (the workers of a data
loader) or when two threads call at once.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch


def count_threads(jobs: int) -> int:
    """How many threads `run_jobs` uses: those of PyTorch, but no more than there are jobs."""
    return max(1, min(torch.get_num_threads(), jobs))


def run_jobs(kernel: Callable[..., None], jobs: int, *arguments: Any) -> None:
    """Call ``kernel(slot, job, *arguments)`` for each job; ``slot`` (0..threads - 1) tells the threads apart.

    A thread takes the next job when it is done with one, so a kernel must give the same result in whatever order and
    slot its jobs run: no two jobs may write to the same place.
    """
    queue = iter(range(jobs))

    def work(slot: int) -> None:
        for job in queue:
            kernel(slot, job, *arguments)

    threads = count_threads(jobs)
    others = [_pool(threads).submit(work, slot) for slot in range(1, threads)]
    work(0)
    for other in others:
        other.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads - 1, thread_name_prefix="epl_d2")


if hasattr(os, "register_at_fork"):  # a child process inherits the pools, but not their threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
