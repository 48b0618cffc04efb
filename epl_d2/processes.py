"""Processes that end when the one that started them has, whatever ended it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable

__all__ = ["end_with_parent"]


def end_with_parent(grace: float = 0.0) -> None:
    """Let this process end at most a second after its parent has.

    Args:
        grace: seconds between a SIGTERM to itself, upon which it may tidy up, and the end without asking; 0 ends it at
            once.
    """
    started_by, first = multiprocessing.parent_process(), os.getppid()
    # An orphan is given to another process, perhaps before it comes here; `multiprocessing` knows the one it had.
    lives = started_by.is_alive if started_by is not None else lambda: os.getppid() == first
    threading.Thread(target=_watch, args=(lives, grace), name="end with parent", daemon=True).start()


def _watch(lives: Callable[[], bool], grace: float) -> None:
    while lives():
        time.sleep(1)
    if grace:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace)
    os._exit(128 + signal.SIGTERM)
