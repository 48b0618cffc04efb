"""One run of a grid: `train_net.py` in a process of its own, gone on with where it stopped, and its record.

Nothing heavy is imported here, for every run has a process that only waits for its training.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epl_d2.files import write_whole

from .provenance import describe_commit, describe_device
from .scores import read_run_scores

__all__ = ["RECORD_FILE", "Run", "execute", "read_record"]

RECORD_FILE = "run.json"


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
        return Path(self.folder, "run_config.yaml")

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
    file = Path(folder, RECORD_FILE)
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{file}: not JSON ({error})") from error
    if not isinstance(record, dict) or not {"method", "seed", "metrics", "commits"} <= record.keys():
        raise ValueError(f"{file} is no record of a run")
    return record


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
    with _alone(folder / ".lock") as lock:
        if read_record(folder) is not None:
            return
        write_whole(run.configuration_file, lambda path: path.write_text(run.configuration, encoding="utf-8"))
        environment = {**os.environ, "OMP_NUM_THREADS": str(run.threads)}
        if gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        command = [*run.command, *_weight_options(run, environment)]
        attempt = _note_attempt(folder, {**describe_commit(Path(run.train_net).parent), "started": time.time()})
        log = run.log_file(attempt)
        with log.open("wb") as file:
            # The training inherits the lock, and so keeps it should it outlive this process.
            code = subprocess.run(
                command, stdout=file, stderr=subprocess.STDOUT, env=environment, pass_fds=(lock,), check=False
            ).returncode
        if code != 0:
            raise RuntimeError(f"{run.name} ended with code {code}, see {log}")
        record = {**_record(run), "command": command[1:], "device": describe_device(run.cuda, run.threads, environment)}
        write_whole(run.record_file, lambda path: path.write_text(json.dumps(record, indent=1) + "\n"))


def _record(run: Run) -> dict[str, Any]:
    attempts = _attempts(Path(run.folder))
    # A killed attempt has no end of its own; the last line of its log is the nearest thing.
    ends = [run.log_file(number).stat().st_mtime for number in range(1, len(attempts) + 1)]
    seconds = sum(max(0.0, end - attempt["started"]) for attempt, end in zip(attempts, ends, strict=True))
    return {
        "method": run.method,
        "seed": run.seed,
        "commits": list(dict.fromkeys(attempt["commit"] for attempt in attempts)),
        "dirty": any(attempt["dirty"] for attempt in attempts),
        "config_hash": run.config_hash,
        "minutes": round(seconds / 60, 2),
        "attempts": len(attempts),
        "threads": run.threads,
        "evaluate": run.evaluate,
        **({"loss_weights": json.loads(run.weights_file.read_text(encoding="utf-8"))} if run.sizes else {}),
        "metrics": {split: read_run_scores(run.results_folder(split)) for split in run.evaluate},
    }


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


def _attempts(folder: Path) -> list[dict[str, Any]]:
    file = folder / "attempts.jsonl"
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _note_attempt(folder: Path, attempt: dict[str, Any]) -> int:
    """Add to the list of attempts; returns their number."""
    attempts = [*_attempts(folder), attempt]
    text = "".join(json.dumps(entry) + "\n" for entry in attempts)
    write_whole(folder / "attempts.jsonl", lambda path: path.write_text(text, encoding="utf-8"))
    return len(attempts)


@contextmanager
def _alone(path: Path) -> Iterator[int]:
    """Hold a lock, and wait for it: a training of an earlier, killed grid may still be at work in this folder."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()
