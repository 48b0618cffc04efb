"""Processes that end when the one that started them has, whatever ended it."""

from __future__ import annotations

import os
import signal
import threading
import time

__all__ = ["end_with_parent"]


def end_with_parent(grace: float = 0.0) -> None:
    """Let this process end at most a second after its parent has.

    Args:
        grace: seconds between a SIGTERM to itself, upon which it may tidy up, and the end without asking; 0 ends it at
            once.
    """
    threading.Thread(target=_watch, args=(os.getppid(), grace), name="end with parent", daemon=True).start()


def _watch(parent: int, grace: float) -> None:
    while os.getppid() == parent:  # an orphan is given to another process
        time.sleep(1)
    if grace:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace)
    os._exit(128 + signal.SIGTERM)
