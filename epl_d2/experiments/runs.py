"""One run of a grid: `train_net.py` in a process of its own, gone on with where it stopped, and its record.

Nothing heavy is imported here, for every run has a process that only waits for its training.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from epl_d2.files import write_whole
from epl_d2.provenance import describe_commit, describe_device
from epl_d2.run_record import (
    KEPT_ELSEWHERE,
    RECORD_FILE,
    load_record,
    note_attempt,
    read_attempts,
    sum_up,
    versions,
    write_attempts,
    write_record,
)

from .scores import read_run_scores

__all__ = [
    *("RECORD_FILE", "Run", "execute", "flat_configuration", "is_bound_to_configuration", "read_configuration"),
    "read_record",
]

_CONFIGURATION_FILE = "run_config.yaml"


@dataclass(frozen=True)
class Run:
    """One training with one seed. `options` are KEY VALUE pairs, `configuration` is the resolved config as YAML.

    `sizes` are those of the gradients of added losses, by the key of the weight, which is found when the run starts.
    `operations` is an estimate (epl_d2/experiments/cost.py), None where the model cannot be counted. `gpus` processes
    share its batches.
    """

    method: str
    seed: int
    folder: str
    train_net: str
    config_file: str
    options: tuple[str, ...]
    evaluate: dict[str, str]
    configuration: str
    config_hash: str
    max_iter: int
    threads: int
    cuda: bool
    sizes: tuple[tuple[str, float], ...] = ()
    operations: float | None = None
    gpus: int = 1

    @property
    def name(self) -> str:
        return f"{self.method}/seed_{self.seed}"

    @property
    def record_file(self) -> Path:
        return Path(self.folder, RECORD_FILE)

    @property
    def configuration_file(self) -> Path:
        return Path(self.folder, _CONFIGURATION_FILE)

    @property
    def lock_file(self) -> Path:
        return Path(self.folder, ".lock")

    @property
    def command(self) -> list[str]:
        own = ("SEED", str(self.seed), "OUTPUT_DIR", self.folder)
        return [
            *(sys.executable, self.train_net, "--config-file", self.config_file, "--resume"),
            *(("--num-gpus", str(self.gpus)) if self.gpus > 1 else ()),
            *(*self.options, *own),
        ]

    @property
    def weights_file(self) -> Path:
        return Path(self.folder, "loss_weights.json")

    @property
    def weights_command(self) -> list[str]:
        """Finds the weights at which the losses have their `sizes`, at the start of this run."""
        tool = Path(self.train_net).parent / "tools" / "find_loss_weights.py"
        sizes = (f"{key}={size!r}" for key, size in self.sizes)
        return [
            *(sys.executable, str(tool), "--config-file", self.config_file, "--output", str(self.weights_file)),
            *("--sizes", *sizes, "--opts", *self.options, "SEED", str(self.seed)),
        ]

    @property
    def iteration(self) -> int:
        """Iterations done so far, as its log of metrics says."""
        try:
            with Path(self.folder, "metrics.json").open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - 65536))
                lines = file.read().splitlines()
            return min(self.max_iter, int(json.loads(lines[-1])["iteration"]) + 1)
        except (OSError, ValueError, KeyError, IndexError):
            return 0

    def results_folder(self, split: str) -> Path:
        """Where the evaluators write their scores and counts of a split."""
        folder = Path(self.folder, "inference")
        return folder if len(self.evaluate) == 1 else folder / self.evaluate[split]

    def log_file(self, attempt: int) -> Path:
        return Path(self.folder, f"attempt_{attempt}.log")


def read_record(folder: str | Path) -> dict[str, Any] | None:
    """The record of a finished run, None where it has not finished.

    Raises:
        ValueError: the file is no record.
    """
    record = load_record(folder)
    return record if record is not None and {"method", "metrics"} <= record.keys() else None


def read_configuration(folder: str | Path) -> dict[str, Any]:
    """The resolved configuration of a run by full key; empty where its folder has none."""
    file = Path(folder, _CONFIGURATION_FILE)
    return flat_configuration(file.read_text(encoding="utf-8")) if file.is_file() else {}


def flat_configuration(text: str) -> dict[str, Any]:
    """The values of a configuration in YAML by full key, such as "MODEL.EPL.ENABLED"."""
    return dict(_flatten(yaml.safe_load(text)))


def is_bound_to_configuration(run: Run) -> bool:
    """Whether the folder of `run` holds what its earlier configuration made: a result, a checkpoint, or a training at
    work that may write one.

    Raises:
        ValueError: its record is none.
    """
    return read_record(run.folder) is not None or _has_checkpoint(run) or _is_at_work(run)


def _has_checkpoint(run: Run) -> bool:
    return any(Path(run.folder).glob("model_*.pth"))


def _is_at_work(run: Run) -> bool:
    try:
        with run.lock_file.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _flatten(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def execute(run: Run, gpu: str | None = None) -> None:
    """Train and evaluate, from the last checkpoint on if there is one, and write the record.

    Args:
        run: what to do; nothing is done where its record exists.
        gpu: value of CUDA_VISIBLE_DEVICES, as many devices as the run takes; None leaves that of the environment.

    Raises:
        RuntimeError: the training failed; names the log.
    """
    folder = Path(run.folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(run.lock_file) as lock:
        if read_record(folder) is not None:
            return
        _forget_another_configuration(run)
        write_whole(run.configuration_file, lambda path: path.write_text(run.configuration, encoding="utf-8"))
        environment = {**os.environ, "OMP_NUM_THREADS": str(run.threads), KEPT_ELSEWHERE: "1"}
        if gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        command = [*run.command, *_weight_options(run, environment)]
        attempt = note_attempt(folder, {**describe_commit(Path(run.train_net).parent), "started": time.time()})
        log = run.log_file(attempt)
        facts = {"command": command[1:], "device": describe_device(run.cuda, run.threads, environment)}
        with log.open("wb") as file:
            # The training inherits the lock, and so keeps it should it outlive this process.
            code = subprocess.run(
                command, stdout=file, stderr=subprocess.STDOUT, env=environment, pass_fds=(lock,), check=False
            ).returncode
        if code != 0:
            reason = _reason(log)
            write_record(folder, {**_record(run), **facts, "error": reason})
            raise RuntimeError(f"{run.name} ended with code {code} ({reason}), see {log}")
        metrics = {split: read_run_scores(run.results_folder(split)) for split in run.evaluate}
        write_record(folder, {**_record(run), "metrics": metrics, **facts})


def _forget_another_configuration(run: Run) -> None:
    """Remove what attempts of another configuration, which came to no checkpoint, would add to this one."""
    file = run.configuration_file
    if not file.is_file() or file.read_text(encoding="utf-8") == run.configuration or _has_checkpoint(run):
        return
    write_attempts(run.folder, [])
    for pattern in (run.weights_file.name, RECORD_FILE, "metrics.json", "events.out.*"):
        for path in Path(run.folder).glob(pattern):
            path.unlink()


def _record(run: Run) -> dict[str, Any]:
    """What is known whether or not the training succeeded."""
    attempts = read_attempts(run.folder)
    # A killed attempt has no end of its own; the last line of its log is the nearest thing.
    ends = [run.log_file(number).stat().st_mtime for number in range(1, len(attempts) + 1)]
    return {
        "method": run.method,
        "seed": run.seed,
        **sum_up([{**attempt, "ended": end} for attempt, end in zip(attempts, ends, strict=True)]),
        "config_hash": run.config_hash,
        "threads": run.threads,
        "versions": versions(),
        "evaluate": run.evaluate,
        **({"loss_weights": json.loads(run.weights_file.read_text(encoding="utf-8"))} if run.sizes else {}),
    }


def _reason(log: Path) -> str:
    """What `train_net.py` said of an error that it expects; else the last line of its log."""
    text = log.read_text(encoding="utf-8", errors="replace").strip() or "nothing said"
    return (re.findall(r"^error: (.*)$", text, re.MULTILINE) or text.splitlines())[-1]


def _weight_options(run: Run, environment: Mapping[str, str]) -> list[str]:
    """KEY VALUE pairs of the weights that belong to the run's sizes: found once, then kept."""
    if not run.sizes:
        return []
    if not run.weights_file.is_file():
        log = run.weights_file.with_suffix(".log")
        paths = [str(Path(run.train_net).parent), *filter(None, [environment.get("PYTHONPATH")])]
        with log.open("wb") as file:
            code = subprocess.run(
                run.weights_command,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**environment, "PYTHONPATH": os.pathsep.join(paths)},
                check=False,
            ).returncode
        if code != 0:
            said = (log.read_text(encoding="utf-8", errors="replace").splitlines() or ["nothing said"])[-1]
            raise RuntimeError(f"{run.name}: its losses got no weights: {said.removeprefix('error: ')}, see {log}")
    weights = json.loads(run.weights_file.read_text(encoding="utf-8"))["weights"]
    return [text for key, weight in weights.items() for text in (key, repr(weight))]


@contextmanager
def _alone(path: Path) -> Iterator[int]:
    """Hold a lock, and wait for it: a training of an earlier, killed grid may still be at work in this folder."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()
