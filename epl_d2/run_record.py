"""`run.json`: where the result of a training comes from. `train_net.py` and grids of experiments write it alike."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import epl_d2

from .files import write_whole
from .provenance import describe_commit

__all__ = [
    *("KEPT_ELSEWHERE", "RECORD_FILE", "RunRecord", "load_record", "note_attempt", "read_attempts", "sum_up"),
    *("versions", "write_attempts", "write_record"),
]

RECORD_FILE = "run.json"
# Set in the environment of a training whose record its grid keeps.
KEPT_ELSEWHERE = "EPL_D2_RECORD_KEPT_ELSEWHERE"

_ATTEMPTS_FILE = "attempts.jsonl"
_ROOT = Path(__file__).resolve().parents[1]


class RunRecord:
    """The record of a training that is started by hand, over all attempts at it."""

    def __init__(self, folder: str | os.PathLike, facts: Mapping[str, Any]):
        """
        Args:
            folder: of the run.
            facts: entries of the record besides those of `sum_up`.
        """
        self._folder = Path(folder)
        self._facts = dict(facts)
        self._attempts: list[dict[str, Any]] = []

    def begin(self, *, anew: bool) -> None:
        """Begin an attempt; nothing is written yet.

        Args:
            anew: nothing of earlier attempts is left in what is trained.
        """
        earlier = [] if anew else read_attempts(self._folder)
        now = time.time()
        # `ended` is moved on while the attempt lasts: a killed one has no last word.
        self._attempts = [*earlier, {**describe_commit(_ROOT), "started": now, "ended": now}]

    def update(self, **facts: Any) -> None:
        """Write the record as of now, with further `facts`. One that a grid has made stays.

        Raises:
            OSError: it cannot be written.
            ValueError: there is a file of its name that is no record.
        """
        if "method" in (load_record(self._folder) or {}):
            return
        self._attempts[-1]["ended"] = time.time()
        write_attempts(self._folder, self._attempts)
        write_record(self._folder, {**self._facts, **sum_up(self._attempts), "versions": versions(), **facts})


def load_record(folder: str | os.PathLike) -> dict[str, Any] | None:
    """The record of a run, finished or not; None where there is none.

    Raises:
        ValueError: the file is no record.
    """
    file = Path(folder, RECORD_FILE)
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{file}: not JSON ({error})") from error
    if not isinstance(record, dict) or not {"seed", "commits"} <= record.keys():
        raise ValueError(f"{file} is no record of a run")
    return record


def write_record(folder: str | os.PathLike, record: Mapping[str, Any]) -> None:
    write_whole(Path(folder, RECORD_FILE), lambda path: path.write_text(json.dumps(record, indent=1) + "\n"))


def read_attempts(folder: str | os.PathLike) -> list[dict[str, Any]]:
    """What is known of every attempt at a run: `commit`, `dirty`, `started` and perhaps `ended`, in seconds."""
    file = Path(folder, _ATTEMPTS_FILE)
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def write_attempts(folder: str | os.PathLike, attempts: Sequence[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(entry) + "\n" for entry in attempts)
    write_whole(Path(folder, _ATTEMPTS_FILE), lambda path: path.write_text(text, encoding="utf-8"))


def note_attempt(folder: str | os.PathLike, attempt: Mapping[str, Any]) -> int:
    """Add to the list of attempts; returns their number."""
    attempts = [*read_attempts(folder), attempt]
    write_attempts(folder, attempts)
    return len(attempts)


def sum_up(attempts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`commits`, `dirty`, `minutes` and `attempts` of a run, from attempts with `ended`."""
    seconds = sum(max(0.0, attempt["ended"] - attempt["started"]) for attempt in attempts)
    return {
        "commits": list(dict.fromkeys(attempt["commit"] for attempt in attempts)),
        "dirty": any(attempt["dirty"] for attempt in attempts),
        "minutes": round(seconds / 60, 2),
        "attempts": len(attempts),
    }


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of those that it computes with."""
    found = {"python": platform.python_version(), "epl_d2": epl_d2.__version__}
    for name, distributions in {
        "torch": ("torch",),
        "detectron2": ("detectron2", "sal-detectron2"),
        "numpy": ("numpy",),
    }.items():
        for distribution in distributions:
            try:
                found[name] = version(distribution)
                break
            except PackageNotFoundError:
                continue
    return found
