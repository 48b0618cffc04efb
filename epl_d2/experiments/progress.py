"""Progress of a whole grid, with the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from .runs import Run, read_record

__all__ = ["Progress"]


class Progress:
    """Says how far a grid is: now and then, and at once when a run has finished.

    The time left follows from the share of all iterations done since the start; evaluation counts with its training.
    """

    def __init__(self, runs: Sequence[Run], say: Callable[[str], None], seconds: float = 60.0):
        """
        Args:
            runs: all runs of the grid, those that finished earlier among them.
            say: receives the lines.
            seconds: between two lines while nothing finishes.
        """
        self.runs = runs
        self.say = say
        self.seconds = seconds
        self.total = sum(run.max_iter for run in runs)
        self.before = self._iterations()
        self.start = self.last = time.monotonic()
        self.news = False

    def finished(self, run: Run) -> None:
        """Note that a run has finished."""
        record = read_record(run.folder)
        self.say(f"finished {run.name} in {record['minutes']:.1f} minutes")
        self.news = True

    def report(self, active: Sequence[Run], failed: int) -> None:
        """Say where the grid is, if it is time."""
        now = time.monotonic()
        if not self.news and now - self.last < self.seconds:
            return
        self.last, self.news = now, False
        self.say(self.line(active, failed, now - self.start))

    def line(self, active: Sequence[Run], failed: int, elapsed: float) -> str:
        """The line after `elapsed` seconds."""
        now = self._iterations()
        self.before = [min(pair) for pair in zip(self.before, now, strict=True)]  # a resumed run starts at a checkpoint
        done = sum(now)
        fresh = done - sum(self.before)
        left = timedelta(seconds=round(elapsed * (self.total - done) / fresh)) if fresh else "unknown"
        finished = sum(read_record(run.folder) is not None for run in self.runs)
        running = ", ".join(f"{run.name} {run.iteration}/{run.max_iter}" for run in active) or "none"
        return (
            f"{finished} of {len(self.runs)} runs finished, {failed} failed, {100 * done / self.total:.0f}%, "
            f"time left {left}, running: {running}"
        )

    def _iterations(self) -> list[int]:
        return [run.max_iter if read_record(run.folder) else run.iteration for run in self.runs]
