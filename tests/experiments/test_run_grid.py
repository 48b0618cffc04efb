"""`tools/run_grid.py` as a user runs it: killed and started again, a run that fails, a folder in use."""

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from epl_d2.data.datasets import register_all_datasets
from epl_d2.data.shapes import write_shapes
from epl_d2.experiments.launch import lock_folder

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "run_grid.py"
GRID = """\
name: tiny
output: unused
config: configs/shapes/deeplab_v3_plus_mobilenet_v2.yaml
opts: [
  MODEL.DEVICE, cpu, MODEL.SEM_SEG_HEAD.CONVS_DIM, 8, MODEL.SEM_SEG_HEAD.ASPP_CHANNELS, 8,
  MODEL.SEM_SEG_HEAD.ASPP_DROPOUT, 0.0, INPUT.CROP.SIZE, [64, 64], DATALOADER.NUM_WORKERS, 0,
  MODEL.MOBILENETV2.NORM, LN, MODEL.SEM_SEG_HEAD.NORM, LN,
  SOLVER.IMS_PER_BATCH, 4, SOLVER.BASE_LR, 0.5, SOLVER.MAX_ITER, 4, SOLVER.CHECKPOINT_PERIOD, 1,
  TEST.EVAL_PERIOD, 0, TEST.BOUNDARY.WIDTHS, [1, 2, 3],
]
evaluate: {val: shapes_sem_seg_val}
widths: [1, 3]
seeds: [1, 2]
jobs: 2
baseline: cross_entropy
methods:
  cross_entropy: {}
  epl: {opts: [MODEL.EPL.ENABLED, True]}
"""


@pytest.fixture
def grid_file(tmp_path, monkeypatch):
    write_shapes(str(tmp_path / "datasets" / "shapes"), train=8, val=3, size=(64, 64), seed=0)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))
    register_all_datasets()
    (tmp_path / "tiny.yaml").write_text(GRID)
    yield tmp_path / "tiny.yaml"
    monkeypatch.undo()
    register_all_datasets()


def arguments_of(grid_file, output, *arguments):
    return [str(TOOL), str(grid_file), "--output", str(output), *arguments]


def run_here(monkeypatch, *arguments):
    """The tool's exit code, without the seconds that a new process needs to load Detectron2."""
    spec = importlib.util.spec_from_file_location("run_grid", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", arguments_of(*arguments))
    return module.main()


def table_rows(output):
    text = (output / "results.md").read_text()
    return [line.replace(" †", "").replace(" ‡", "") for line in text.splitlines() if line.startswith("|")]


def scores(output):
    with (output / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    varying = ("minutes", "attempts", "commit", "note")
    return [{key: value for key, value in row.items() if key not in varying} for row in rows]


@pytest.mark.slow
def test_killed_and_started_again_a_grid_gives_the_same_table(grid_file, tmp_path, monkeypatch, capsys):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert run_here(monkeypatch, grid_file, whole) == 0
    assert "4 of 4 runs finished, 0 failed, 100%" in capsys.readouterr().out
    assert len({row["val/mIoU"] for row in scores(whole)}) > 1  # enough was learnt to tell runs apart

    with (tmp_path / "killed.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *arguments_of(grid_file, halves)], stdout=log, stderr=log, start_new_session=True
        )
        try:
            while process.poll() is None and not half_done(halves):
                time.sleep(0.05)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, (tmp_path / "killed.log").read_text()[-2000:]
    done_before = {path: path.stat().st_mtime_ns for path in halves.glob("*/*/run.json")}
    started_before = {path.parent for path in halves.glob("*/*/last_checkpoint")} - {p.parent for p in done_before}
    assert 0 < len(done_before) < 4

    assert run_here(monkeypatch, grid_file, halves) == 0
    assert f"4 runs, {len(done_before)} finished before" in capsys.readouterr().out
    assert all(path.stat().st_mtime_ns == before for path, before in done_before.items())
    for folder in started_before:
        assert json.loads((folder / "run.json").read_text())["attempts"] == 2
        assert "Starting training from iteration 0" not in (folder / "attempt_2.log").read_text()
    assert table_rows(halves) == table_rows(whole)
    assert scores(halves) == scores(whole)
    for run in ("cross_entropy/seed_1", "cross_entropy/seed_2", "epl/seed_1", "epl/seed_2"):
        ours, expected = (torch.load(folder / run / "model_final.pth", weights_only=True) for folder in (halves, whole))
        assert all(torch.equal(ours["model"][key], value) for key, value in expected["model"].items())

    # The counts of single images add up to those of the data set.
    folder = whole / "epl" / "seed_1" / "inference"
    with np.load(folder / "image_counts.npz") as counts:
        confusion = counts["confusion"].sum(axis=0)
    assert confusion.tolist() == json.loads((folder / "boundary_curves.json").read_text())["confusion"]

    (whole / "results.md").unlink()
    assert run_here(monkeypatch, grid_file, whole, "--collect") == 0
    assert table_rows(whole) == table_rows(halves)


def half_done(output):
    """Whether one run has finished and another has a checkpoint only."""
    finished = {path.parent for path in output.glob("*/*/run.json")}
    return bool(finished) and any(path.parent not in finished for path in output.glob("*/*/last_checkpoint"))


def test_two_grids_in_one_folder_are_refused(tmp_path):
    with (
        lock_folder(tmp_path, "first"),
        pytest.raises(ValueError, match=r'in use by another grid: \{"pid": \d+, .*"grid": "first"'),
        lock_folder(tmp_path, "second"),
    ):
        pass
    with lock_folder(tmp_path, "second"):  # free again
        assert json.loads((tmp_path / "grid.lock").read_text())["grid"] == "second"


def test_dry_run_lists_the_runs_without_data(tmp_path, monkeypatch, capsys):
    (tmp_path / "tiny.yaml").write_text(GRID.replace("shapes_sem_seg_val", "camvid_sem_seg_val"))
    assert run_here(monkeypatch, tmp_path / "tiny.yaml", tmp_path / "out", "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "4 runs, 16 iterations"
    assert "MODEL.EPL.ENABLED True" in lines[1]
    assert not (tmp_path / "out").exists()
    arguments = (tmp_path / "tiny.yaml", tmp_path / "out", "--dry-run", "--methods")
    assert run_here(monkeypatch, *arguments, "epl") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "2 runs, 8 iterations" and all("EPL.ENABLED True" in line for line in lines[:-1])
    assert run_here(monkeypatch, *arguments, "elp") == 1
    assert "tiny.yaml has no elp; it has cross_entropy, epl" in capsys.readouterr().err


def test_mistakes_are_told_and_exit_with_1(tmp_path, monkeypatch, capsys):
    (tmp_path / "tiny.yaml").write_text(GRID.replace("seeds", "seed"))
    assert run_here(monkeypatch, tmp_path / "tiny.yaml", tmp_path / "out") == 1
    assert "tiny.yaml:13: a grid has the unknown key 'seed'" in capsys.readouterr().err
