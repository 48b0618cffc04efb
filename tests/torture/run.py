#!/usr/bin/env python
"""Torture: kill trainings, take their disk and their partners, feed them damaged files; count what holds.

    python tests/torture/run.py             # all, some ten minutes on two cores
    python tests/torture/run.py kills lost  # these alone

Prints a Markdown table test -> figure, which docs/reliability.md shows; the exit code is 1 unless everything holds.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from tabulate import tabulate
from torch import nn

from epl_d2.checkpoint.checkpointer import Checkpointer
from epl_d2.checkpoint.files import check_whole, read_checkpoint
from epl_d2.data.shapes import write_shapes

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "configs/shapes/deeplab_v3_plus_mobilenet_v2_epl.yaml"
# Seconds of training: the shipped model with its dropout, a narrow head, small crops.
OPTIONS = {
    "MODEL.DEVICE": "cpu",
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 8,
    "MODEL.SEM_SEG_HEAD.ASPP_CHANNELS": 8,
    "INPUT.CROP.SIZE": "[48,48]",
    "SOLVER.IMS_PER_BATCH": 4,
    "SOLVER.BASE_LR": 0.01,
    "SOLVER.MAX_ITER": 40,
    "SOLVER.CHECKPOINT_PERIOD": 2,
    "TEST.EVAL_PERIOD": 10,
    "TEST.BEST_CHECKPOINT_METRIC": "sem_seg/mIoU",
    "TEST.BOUNDARY.WIDTHS": "[1,2,3]",
    "TEST.BOUNDARY.REPORT_WIDTHS": "[1,3]",
    "DATALOADER.NUM_WORKERS": 1,
}
ENDLESS = {"SOLVER.MAX_ITER": 100000, "SOLVER.CHECKPOINT_PERIOD": 100000, "TEST.EVAL_PERIOD": 0}
STARTED = "Starting training from iteration"
EVALUATING = "Start inference on"
RUNNING = "  iter: "  # twenty steps on; before the first one, processes that load the data are still starting

Row = tuple[str, str, bool]


def command(folder: Path, *arguments: str, launcher: tuple[str, ...] = (), **options: object) -> list[str]:
    pairs = {**OPTIONS, **options, "OUTPUT_DIR": folder}
    opts = [str(part) for pair in pairs.items() for part in pair]
    return [sys.executable, *launcher, "train_net.py", "--config-file", CONFIG, *arguments, *opts]


def start(arguments: list[str], log: Path, environment: dict[str, str] | None = None, **keywords) -> subprocess.Popen:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        return subprocess.Popen(
            arguments,
            cwd=ROOT,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
            **keywords,
        )


def wait_for(log: Path, text: str, processes: list[subprocess.Popen], seconds: float = 180) -> None:
    """Until the log holds the text, or a process has ended."""
    end = time.monotonic() + seconds
    while text not in log.read_text(errors="replace"):
        if time.monotonic() > end or any(process.poll() is not None for process in processes):
            raise RuntimeError(f"{log} never said {text!r}:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.2)


def half_files(folder: Path) -> list[str]:
    """Checkpoints under a whole one's name that do not load."""
    broken = []
    for file in folder.glob("[!.]*.pth"):  # pathlib's * takes hidden temporaries, too
        try:
            check_whole(file)
            read_checkpoint(file)
        except ValueError:
            broken.append(file.name)
    return broken


def same_checkpoint(a: Path, b: Path, name: str = "model_final.pth") -> bool:
    """Whether two runs' files hold the same weights, and for the best model the same score and iteration."""
    ours, theirs = (read_checkpoint(folder / name) for folder in (a, b))
    return _equal(ours["model"], theirs["model"]) and ours.get("best") == theirs.get("best")


def running(text: str) -> list[int]:
    """Processes whose command line holds the text."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if text in (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def children(process: subprocess.Popen) -> list[int]:
    """The training processes that a launcher has started."""
    tasks = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in tasks if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def kills(work: Path, times: int = 6) -> Iterator[Row]:
    """SIGKILL at random moments and within evaluations, then --resume, against a training that nobody disturbed."""
    calm, torn, log = work / "calm", work / "torn", work / "torn.log"
    process = start(command(calm), work / "calm.log")
    process.wait()
    draw, killed, broken, named = random.Random(0), 0, set(), 0
    while True:
        before = log.stat().st_size if log.exists() else 0
        process = start(command(torn, "--resume"), log)
        if killed < times:
            moment, longest = (EVALUATING, 0.3) if killed % 2 else (STARTED, 2.5)
            while process.poll() is None and moment not in log.read_bytes()[before:].decode(errors="replace"):
                time.sleep(0.02)
            time.sleep(draw.uniform(0, longest))
            killed += process.poll() is None
            process.kill()
        if process.wait() == 0:
            break
        broken |= set(half_files(torn))
        named += (torn / "last_checkpoint").exists() and "best" in (torn / "last_checkpoint").read_text()
    yield f"{killed} kills, half of them within evaluations: checkpoints that are half", str(len(broken)), not broken
    yield "last_checkpoint naming model_best.pth", str(named), not named
    same = same_checkpoint(calm, torn, "model_final.pth")
    yield "final weights, with dropout, equal the undisturbed run's bit for bit", "yes" if same else "no", same
    same = same_checkpoint(calm, torn, "model_best.pth")
    yield "the best model, its score and iteration are the undisturbed run's", "yes" if same else "no", same
    left = list(torn.glob(".*"))
    yield "temporary files left after the last resume", str(len(left)), not left


def signals(work: Path) -> Iterator[Row]:
    """SIGTERM and Ctrl-C, with one process and with two."""
    for number in (signal.SIGTERM, signal.SIGINT):
        for processes in (1, 2):
            folder, log = work / f"{number.name}{processes}", work / f"{number.name}{processes}.log"
            meet = ("--num-gpus", str(processes), "--dist-url", f"file://{work}/{number.name}")
            process = start(command(folder, *meet, **ENDLESS), log)
            wait_for(log, RUNNING, [process])
            time.sleep(2)
            process.send_signal(number)
            code = process.wait(timeout=120)
            text = log.read_text(errors="replace")
            good = code == 128 + number and "--resume" in text and not half_files(folder)
            good &= (folder / "last_checkpoint").exists()
            yield f"{number.name}, {processes} process(es): exit code, checkpoint, how to go on", str(code), good


def disk(work: Path) -> Iterator[Row]:
    """Files that cannot grow beyond 1 MB, as on a disk that is full in the middle of a checkpoint."""
    folder, log = work / "disk", work / "disk.log"
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    process = start(command(folder, **{"SOLVER.MAX_ITER": 4}), log, preexec_fn=limit)
    code = process.wait()
    text = log.read_text(errors="replace")
    good = code == 1 and "model_0000001.pth" in text and "checkpoints that are kept: none" in text
    yield "a disk that fills up during a checkpoint: named, no half file", str(len(half_files(folder))), good


def lost(work: Path) -> Iterator[Row]:
    """Launchers and partners that vanish."""
    folder, log = work / "orphans", work / "orphans.log"
    # In the background of a script, where Ctrl-C is ignored.
    ignore = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    meet = ("--num-gpus", "2", "--dist-url", f"file://{work}/orphans_meet")
    process = start(command(folder, *meet, **ENDLESS), log, preexec_fn=ignore)
    wait_for(log, RUNNING, [process])
    time.sleep(2)
    ranks = children(process)
    process.kill()
    process.wait()
    begin = time.monotonic()
    while any(Path(f"/proc/{rank}").exists() for rank in ranks) and time.monotonic() < begin + 100:
        time.sleep(0.2)
    seconds = time.monotonic() - begin
    good = seconds < 60 and (folder / "last_checkpoint").exists()
    yield "launcher killed: its two processes end with a checkpoint, after", f"{seconds:.0f} s", good

    for name, number in (("killed", signal.SIGKILL), ("silent, as with its cable pulled", signal.SIGSTOP)):
        folder, log = work / f"lost{number}", work / f"lost{number}.log"
        meet = ("--num-machines", "2", "--dist-url", f"tcp://127.0.0.1:{29600 + number}", "--dist-timeout", "0.5")
        machines = [
            start(command(folder, *meet, "--machine-rank", str(rank), **ENDLESS), Path(f"{log}{rank}"))
            for rank in (0, 1)
        ]
        wait_for(Path(f"{log}0"), RUNNING, machines)
        time.sleep(3)
        gone = [*children(machines[1]), machines[1].pid]  # the training first: its launcher's end would end it in order
        for pid in gone:
            os.kill(pid, number)
        begin = time.monotonic()
        code = machines[0].wait(timeout=200)
        seconds = time.monotonic() - begin
        for pid in gone:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        text = Path(f"{log}0").read_text(errors="replace")
        good = code == 1 and (folder / "last_checkpoint").exists() and "process 1 of 2, on" in text and seconds < 90
        yield f"a machine that is {name}: named, steps kept, after (--dist-timeout 0.5)", f"{seconds:.0f} s", good

    meet = ("--num-machines", "2", "--dist-url", "tcp://127.0.0.1:29650", "--dist-timeout", "0.4")
    process = start(command(work / "never", *meet), work / "never.log")
    code = process.wait()
    text = (work / "never.log").read_text(errors="replace")
    good = code == 1 and "waits for all 2 processes" in text and "not all came to tcp://127.0.0.1:29650" in text
    yield "a second machine that never comes: lines while waiting", str(text.count("waits for all")), good


def launchers(work: Path) -> Iterator[Row]:
    """One training, whoever starts its two processes."""
    options = {"SOLVER.MAX_ITER": 3, "TEST.EVAL_PERIOD": 0, "TEST.BEST_CHECKPOINT_METRIC": ""}
    ours = start(
        command(work / "ours", "--num-gpus", "2", "--dist-url", f"file://{work}/ours_meet", **options), work / "a"
    )
    ours.wait()
    run = ("-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29660")
    start(command(work / "torchrun", launcher=run, **options), work / "b").wait()
    slurm = {
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_TASKS_PER_NODE": "2",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_JOB_ID": "9661",
    }
    tasks = [
        start(command(work / "srun", **options), work / "c", {**slurm, "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)})
        for i in (0, 1)
    ]
    for task in tasks:
        task.wait()
    for name in ("torchrun", "srun"):
        same = same_checkpoint(work / "ours", work / name)
        label = f"two processes of {name}{' (its variables)' if name == 'srun' else ''} equal those of --num-gpus 2"
        yield f"{label} bit for bit", "yes" if same else "no", same


def workers(work: Path) -> Iterator[Row]:
    """Workers of evaluate_predictions whose parent is killed."""
    labels = work / "labels"
    labels.mkdir()
    label = next(Path(os.environ["DETECTRON2_DATASETS"], "shapes", "train", "labels").iterdir())
    for number in range(20000):
        os.link(label, labels / f"{number}.png")
    tool = [sys.executable, "tools/evaluate_predictions.py", str(labels), str(labels), "--num-classes", "6"]
    process = start([*tool, "--jobs", "2"], work / "workers.log")
    pids: list[int] = []
    while process.poll() is None and len(pids) < 2:
        time.sleep(0.2)
        pids = children(process)
    time.sleep(3)
    process.kill()
    process.wait()
    begin = time.monotonic()
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < begin + 60:
        time.sleep(0.1)
    seconds = time.monotonic() - begin
    name = f"evaluate_predictions killed: its {len(pids)} workers end after"
    yield name, f"{seconds:.1f} s", seconds < 5 and len(pids) == 2


def draws(work: Path, count: int = 300) -> Iterator[Row]:
    """Checkpoints that are cut off, or changed by a bit, at random: found, and the one before is taken."""
    folder = work / "draws"
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16))
    checkpointer = Checkpointer(model, str(folder))
    for name in ("model_0000001", "model_0000003"):
        checkpointer.save(name)
    good, bad = folder / "model_0000001.pth", folder / "model_0000003.pth"
    data = bad.read_bytes()
    start_of_index = data.rindex(b"PK\x01\x02") if b"PK\x01\x02" in data else len(data)
    draw, found = random.Random(0), 0
    logging.getLogger("epl_d2.checkpoint").setLevel(logging.ERROR)  # it says each time which file it takes instead
    for number in range(count):
        damaged = bytearray(data)
        if number % 2:
            del damaged[draw.randrange(len(data)) :]
        else:  # in what the checksums cover: not in the padding between records nor in the index
            record = draw.choice([m.end() for m in re.finditer(rb"FB[Z]*", data[:start_of_index])])
            damaged[record + draw.randrange(16)] ^= 1 << draw.randrange(8)
        bad.write_bytes(damaged)
        try:
            chosen = checkpointer.get_checkpoint_file()
            intact = chosen == str(good) or _equal(read_checkpoint(chosen)["model"], model.state_dict())
            found += intact
        except Exception as error:
            print(f"draw {number}: {type(error).__name__}: {error}", file=sys.stderr)
    yield (
        f"{count} checkpoints cut off or with a flipped bit: a whole one is taken",
        f"{found} of {count}",
        found == count,
    )


def _equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _suite(name: str, *arguments: str) -> Callable[[Path], Iterator[Row]]:
    def run(work: Path) -> Iterator[Row]:
        finished = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        last = finished.stdout.strip().splitlines()[-1]
        counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error)", last)}
        yield name, f"{counts.get('passed', 0)} of {sum(counts.values())}", finished.returncode == 0

    return run


PARTS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "kills": kills,
    "signals": signals,
    "disk": disk,
    "lost": lost,
    "launchers": launchers,
    "workers": workers,
    "draws": draws,
    "strangers": _suite(
        "weights of strangers: no code runs, each is refused by name or loads",
        "tests/checkpoint/test_checkpointer.py",
        "tests/checkpoint/test_loading.py",
    ),
    "mistakes": _suite("mistakes in a config: named before the first iteration", "tests/engine/test_config_check.py"),
    "corrupt": _suite(
        "corrupt data sets, lists and descriptions: named",
        *("tests/data/test_folder.py", "tests/data/test_dataset_check.py", "tests/data/test_label_io.py"),
        *("tests/data/test_data_tools.py", "tests/evaluation/test_prediction_folders.py"),
    ),
    "cache": _suite("a damaged or full Numba cache: said, and worked without", "tests/test_compilation.py"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART", help=f"of {', '.join(PARTS)}")
    parts = parser.parse_args().parts or list(PARTS)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        os.environ["DETECTRON2_DATASETS"] = folder
        write_shapes(str(Path(folder, "shapes")), train=8, val=3, size=(64, 64), seed=0)
        for part in parts:
            begin = time.monotonic()
            work = Path(folder, part)
            work.mkdir()
            try:
                for row in PARTS[part](work):
                    rows.append(row)
                    print(f"{part}: {row[0]}: {row[1]}, {'holds' if row[2] else 'FALLS'}", file=sys.stderr, flush=True)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                rows.append((part, f"{error}"[:200], False))
                print(f"{part}: {error}", file=sys.stderr)
            finally:
                for process in running(str(work)):  # a stopped one would stay
                    os.kill(process, signal.SIGKILL)
            print(f"{part}: {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    print(tabulate([(*row[:2], "yes" if row[2] else "NO") for row in rows], ["test", "figure", "holds"], "github"))
    return 0 if all(row[2] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
