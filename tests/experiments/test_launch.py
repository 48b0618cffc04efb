"""Launching: a failed run is named and the rest goes on, GPUs are dealt out in turn, progress and its ETA."""

import fcntl
import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from epl_d2.experiments import launch
from epl_d2.experiments.launch import _groups, run_all
from epl_d2.experiments.progress import Progress
from epl_d2.experiments.runs import Run, execute

# Stands for train_net.py: notes what it was given and writes what the evaluator would.
TRAIN_NET = """\
import json, os, pathlib, sys
options = dict(zip(sys.argv[4::2], sys.argv[5::2]))
folder = pathlib.Path(options["OUTPUT_DIR"])
(folder / "seen.json").write_text(json.dumps([os.environ["OMP_NUM_THREADS"], os.environ.get("CUDA_VISIBLE_DEVICES")]))
if options.get("FAIL"):
    sys.exit("no luck")
(folder / "inference").mkdir()
curves = {name: [50.0] for name in ("BF", "BF-davis", "Trimap-mIoU", "Boundary-IoU")}
record = {"classes": ["a"], "IoU": [40.0], "ACC": [None], "widths": [1], **curves}
record.update(dict.fromkeys(("mIoU", "fwIoU", "mACC", "pACC"), 40.0))
(folder / "inference" / "boundary_curves.json").write_text(json.dumps(record))
"""


def make_run(folder: Path, method: str, *options: str, seed: int = 1) -> Run:
    (folder / "train_net.py").write_text(TRAIN_NET)
    return Run(
        method=method,
        seed=seed,
        folder=str(folder / method / f"seed_{seed}"),
        train_net=str(folder / "train_net.py"),
        config_file="unused.yaml",
        options=options,
        evaluate={"val": "data"},
        configuration="SEED: 1\n",
        config_hash="0123",
        max_iter=100,
        threads=3,
        cuda=False,
    )


def test_failed_runs_are_named_and_the_others_go_on(tmp_path):
    runs = [make_run(tmp_path, "good"), make_run(tmp_path, "bad", "FAIL", "1"), make_run(tmp_path, "fine")]
    said = []
    failed = run_all(runs, tmp_path / "submitit", 2, gpus=["4", "7"], say=said.append)
    assert list(failed) == ["bad/seed_1"]
    log = tmp_path / "bad" / "seed_1" / "attempt_1.log"
    assert f"bad/seed_1 ended with code 1 (no luck), see {log}" in failed["bad/seed_1"]
    assert log.read_text().strip() == "no luck"
    record = json.loads((tmp_path / "good" / "seed_1" / "run.json").read_text())
    assert record["metrics"]["val"]["BF@1px"] == 50.0
    assert record["metrics"]["val"]["ACC-a"] is None
    assert record["device"].endswith("3 threads")
    seen = [json.loads((tmp_path / name / "seed_1" / "seen.json").read_text()) for name in ("good", "bad", "fine")]
    assert {threads for threads, _ in seen} == {"3"}
    assert sorted(gpu for _, gpu in seen[:2]) == ["4", "7"]
    assert said[0] == "3 runs, 0 finished before"
    assert "2 of 3 runs finished, 1 failed" in said[-1]

    # Started again, only what failed is tried again.
    assert list(run_all(runs, tmp_path / "submitit", 2, say=said.append)) == ["bad/seed_1"]
    assert json.loads((tmp_path / "good" / "seed_1" / "run.json").read_text())["attempts"] == 1
    assert (tmp_path / "bad" / "seed_1" / "attempt_2.log").exists()


def test_runs_on_several_gpus(tmp_path):
    assert "--num-gpus" not in make_run(tmp_path, "one").command
    command = replace(make_run(tmp_path, "two"), gpus=2).command
    assert command[command.index("--num-gpus") + 1] == "2"
    assert command.index("--num-gpus") < command.index("SEED")
    assert _groups(["0", "1", "2", "5", "7"], 2) == ["0,1", "2,5"]
    assert _groups([], 4) == [None]
    with pytest.raises(ValueError, match="a run takes 4 GPUs, but there are 2: 0, 3"):
        run_all([replace(make_run(tmp_path, "four"), gpus=4)], tmp_path / "submitit", 1, gpus=["0", "3"])


def test_a_run_without_results_has_no_record(tmp_path):
    run = make_run(tmp_path, "silent")
    Path(run.train_net).write_text("pass")
    with pytest.raises(ValueError, match="was the model evaluated"):
        execute(run)
    assert not run.record_file.exists()


def test_time_left_follows_from_the_iterations_of_this_session(tmp_path):
    runs = [make_run(tmp_path, name) for name in ("done", "half", "new")]
    for run in runs:
        Path(run.folder).mkdir(parents=True)
    runs[0].record_file.write_text(json.dumps({"method": "", "seed": 1, "metrics": {}, "commits": []}))
    metrics = Path(runs[1].folder, "metrics.json")
    metrics.write_text('{"iteration": 19}\n')
    progress = Progress(runs, lambda line: None)
    assert "time left unknown" in progress.line(runs[1:], 0, 10.0)
    metrics.write_text('{"iteration": 19}\n{"iteration": 59, "lr": 0.1}\n')
    # 40 iterations took 60 s; 300 - 100 - 60 = 140 are left.
    line = progress.line(runs[1:], 1, 60.0)
    assert line == (
        "1 of 3 runs finished, 1 failed, 53%, time left 0:03:30, running: half/seed_1 60/100, new/seed_1 0/100"
    )


def test_time_left_where_a_run_goes_on_from_before_its_last_entry(tmp_path):
    run = make_run(tmp_path, "resumed")
    Path(run.folder).mkdir(parents=True)
    metrics = Path(run.folder, "metrics.json")
    metrics.write_text('{"iteration": 59}\n')
    progress = Progress([run], lambda line: None)
    metrics.write_text('{"iteration": 59}\n{"iteration": 29}\n')  # its checkpoint was of iteration 20 or so
    assert "30%, time left unknown" in progress.line([run], 0, 10.0)
    metrics.write_text('{"iteration": 59}\n{"iteration": 49}\n')
    assert "50%, time left 0:01:15" in progress.line([run], 0, 30.0)  # 20 iterations took 30 s, 50 are left


# Stands for tools/find_loss_weights.py: every weight is twice its size; a size of 9 cannot be had.
FIND_WEIGHTS = """\
import json, pathlib, sys
arguments = sys.argv[1:]
sizes = arguments[arguments.index("--sizes") + 1 : arguments.index("--opts")]
sizes = {key: float(size) for key, size in (pair.split("=") for pair in sizes)}
if 9 in sizes.values():
    sys.exit("error: no weight gives loss_x the size 9")
output = pathlib.Path(arguments[arguments.index("--output") + 1])
weights = {key: 2 * size for key, size in sizes.items()}
output.write_text(json.dumps({"sizes": sizes, "weights": weights, "opts": arguments[arguments.index("--opts") + 1 :]}))
"""


def test_sizes_become_weights_once_and_are_recorded(tmp_path):
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "find_loss_weights.py").write_text(FIND_WEIGHTS)
    run = replace(make_run(tmp_path, "sized", "A", "1", seed=5), sizes=(("LINE.WEIGHT", 1.5), ("LOVASZ.WEIGHT", 0.5)))
    execute(run)
    record = json.loads(run.record_file.read_text())
    assert record["loss_weights"]["weights"] == {"LINE.WEIGHT": 3.0, "LOVASZ.WEIGHT": 1.0}
    assert record["loss_weights"]["opts"] == ["A", "1", "SEED", "5"]
    assert record["command"][-4:] == ["LINE.WEIGHT", "3.0", "LOVASZ.WEIGHT", "1.0"]

    # What was found at the start holds for the later attempts of an interrupted run.
    run.record_file.unlink()
    shutil.rmtree(Path(run.folder, "inference"))
    run.weights_file.write_text(run.weights_file.read_text().replace("3.0", "4.0"))
    execute(run)
    assert "4.0" in json.loads(run.record_file.read_text())["command"]

    bad = replace(make_run(tmp_path, "bad"), sizes=(("LINE.WEIGHT", 9.0),))
    with pytest.raises(
        RuntimeError, match=r"bad/seed_1: .* no weight gives loss_x the size 9, see .*loss_weights\.log"
    ):
        execute(bad)
    assert not bad.record_file.exists()


class WaitingJob:
    """A submitted job that never ends."""

    def __init__(self):
        self.cancelled = False

    def done(self):
        return False

    def cancel(self, check):
        self.cancelled = True


def test_a_changed_configuration_starts_anew_where_nothing_was_trained(tmp_path):
    """Weights, minutes and scalars of the other one would count as its own."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "find_loss_weights.py").write_text(FIND_WEIGHTS)
    run = replace(make_run(tmp_path, "sized", "FAIL", "1"), sizes=(("A.WEIGHT", 0.5),))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no luck"):
            execute(run)
    (Path(run.folder) / "metrics.json").write_text('{"iteration": 3}\n')
    changed = replace(run, options=(), sizes=(("A.WEIGHT", 3.0),), configuration="SEED: 1\nLOSS_SIZES: {}\n")
    execute(changed)
    record = json.loads(run.record_file.read_text())
    assert (record["attempts"], record["loss_weights"]["weights"]) == (1, {"A.WEIGHT": 6.0})
    assert not (Path(run.folder) / "metrics.json").exists()
    assert run.configuration_file.read_text() == changed.configuration


def test_an_interrupted_grid_leaves_no_job_behind(tmp_path, monkeypatch):
    jobs = []

    class Executor:
        def submit(self, _):
            jobs.append(WaitingJob())
            return jobs[-1]

    def interrupt(_seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "_executor", lambda *_: Executor())
    monkeypatch.setattr(launch.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_all([make_run(tmp_path, name) for name in "abc"], tmp_path / "submitit", 2, say=lambda line: None)
    assert [job.cancelled for job in jobs] == [True, True]


WAITING_TRAIN_NET = """\
import pathlib, time
folder = pathlib.Path(__file__).parent
(folder / "started").touch()
while not (folder / "go_on").exists():
    time.sleep(0.02)
"""


def wait_for(happened, seconds=60.0):
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_training_that_outlives_its_grid_keeps_its_folder_locked(tmp_path):
    run = make_run(tmp_path, "orphan")
    Path(run.train_net).write_text(WAITING_TRAIN_NET)
    code = "import pickle, sys; from epl_d2.experiments.runs import execute; execute(pickle.load(sys.stdin.buffer))"
    grid = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, env={**os.environ, "EPL_D2_STANDALONE": "1"}
    )
    grid.stdin.write(pickle.dumps(run))
    grid.stdin.close()
    try:
        wait_for((tmp_path / "started").exists)
        grid.kill()
        grid.wait()
        with Path(run.folder, ".lock").open() as lock:

            def is_free():
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
                return True

            assert not is_free()
            (tmp_path / "go_on").touch()
            wait_for(is_free)
    finally:
        (tmp_path / "go_on").touch()
