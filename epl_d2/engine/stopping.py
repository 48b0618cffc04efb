"""Ending a training on request, by Slurm or by a person, without losing work."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm

from epl_d2.checkpoint.checkpointer import Checkpointer

__all__ = ["StopOnSignal", "Stopped"]

logger = logging.getLogger(__name__)


class Stopped(SystemExit):
    """The training has ended because of a signal; the exit code is 128 and its number, as by convention."""


class StopOnSignal(HookBase):
    """On SIGTERM or Ctrl-C the step is finished, a checkpoint written, and the process ends; evaluations end at once.

    A second Ctrl-C ends the process where it is. All processes end after the same step, whichever of them were told.
    This hook comes after all that a step does, and before the one that starts the loader's workers.
    """

    _SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self, checkpointer: Checkpointer):
        self._checkpointer = checkpointer
        self._received = 0
        self._interruptible = False
        self._process = os.getpid()
        self._previous: dict[int, Any] = {}

    def before_train(self) -> None:
        if threading.current_thread() is threading.main_thread():  # others cannot set handlers
            self._previous = {number: signal.signal(number, self._receive) for number in self._SIGNALS}

    def after_train(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def after_step(self) -> None:
        number = self._agree()
        if number and self.trainer.iter + 1 < self.trainer.max_iter:
            self._keep(number)
            comm.synchronize()  # a process that goes first may take the others along
            raise Stopped(128 + number)

    def interruptible(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """`function`, which is an evaluation between two steps, with a signal ending it where it is."""

        @functools.wraps(function)
        def wrapped() -> Any:
            with self._ending_at_once():
                return function()

        return wrapped

    @contextlib.contextmanager
    def _ending_at_once(self) -> Iterator[None]:
        try:
            self._interruptible = True
            if self._received:
                raise Stopped(128 + self._received)
            yield
        except Stopped:
            self._interruptible = False
            self._keep(self._received)
            raise
        finally:
            self._interruptible = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            self._receive_in_worker(number)
            return
        if number == signal.SIGINT and self._received == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            os.kill(self._process, number)
        if not self._received and comm.is_main_process():
            # A handler may interrupt a write to the same stream, which Python's own streams do not take.
            name = signal.Signals(number).name
            os.write(2, f"{name}: ending after this step with a checkpoint; Ctrl-C again ends at once\n".encode())
        self._received = self._received or number
        if self._interruptible:
            raise Stopped(128 + number)

    def _receive_in_worker(self, number: int) -> None:
        """A loader's worker, which is a fork, goes on: the step that is being finished may need its data.

        It ends with this process. A second SIGTERM comes from the loader itself, and ends it.
        """
        if number == signal.SIGTERM and self._received:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._received = number

    def _agree(self) -> int:
        """The signal that any process has received; 0 if none has."""
        if comm.get_world_size() == 1:
            return self._received
        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        received = torch.tensor(int(self._received), device=device)
        torch.distributed.all_reduce(received, op=torch.distributed.ReduceOp.MAX)
        return int(received)

    def _keep(self, number: int) -> None:
        """Write a checkpoint of the steps done, unless all are, and say how to go on."""
        if not comm.is_main_process():
            return
        iteration, name = self.trainer.iter, signal.Signals(number).name
        if iteration < self.trainer.max_iter:
            self._checkpointer.save(f"model_{iteration:07d}", iteration=iteration)
        done = min(iteration + 1, self.trainer.max_iter)
        logger.warning(
            f"stopped by {name} after {done} of {self.trainer.max_iter} iterations; go on by the same command with "
            "--resume (before its KEY VALUE pairs)"
        )
