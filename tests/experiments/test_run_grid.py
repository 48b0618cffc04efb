"""`tools/run_grid.py` as a user runs it: killed and started again, a run that fails, a folder in use."""

import csv
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from epl_d2.data.datasets import register_all_datasets
from epl_d2.data.shapes import write_shapes
from epl_d2.experiments.launch import lock_folder, run_all

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


@pytest.mark.slow
def test_a_size_is_found_at_the_start_trained_with_and_recorded(grid_file, tmp_path, monkeypatch):
    lovasz = "MODEL.EXTRA_LOSSES.LOVASZ.WEIGHT"
    text = GRID.replace("seeds: [1, 2]", "seeds: [1]").replace("SOLVER.MAX_ITER, 4", "SOLVER.MAX_ITER, 1")
    grid_file.write_text(
        text[: text.index("  epl:")]
        + f"""\
  "lovasz_s{{size}}":
    product: {{size: [0.5, 2]}}
    opts: [{lovasz}, 7.0]
    size: "{{size}}"
"""
    )
    output = tmp_path / "output"
    assert run_here(monkeypatch, grid_file, output, "--methods", "lovasz_*") == 0
    weights = {}
    for size in ("0.5", "2"):
        folder = output / f"lovasz_s{size}" / "seed_1"
        weights[size] = json.loads((folder / "run.json").read_text())["loss_weights"]["weights"][lovasz]
        trained = yaml.safe_load((folder / "config.yaml").read_text())["MODEL"]["EXTRA_LOSSES"]["LOVASZ"]["WEIGHT"]
        assert trained == weights[size] > 0
    assert weights["2"] == pytest.approx(4 * weights["0.5"])


def test_two_grids_in_one_folder_are_refused(tmp_path):
    with (
        lock_folder(tmp_path, "first"),
        pytest.raises(ValueError, match=r'in use by another grid: \{"pid": \d+, .*"grid": "first"'),
        lock_folder(tmp_path, "second"),
    ):
        pass
    with lock_folder(tmp_path, "second"):  # free again
        assert json.loads((tmp_path / "grid.lock").read_text())["grid"] == "second"


@pytest.fixture
def without_data(tmp_path):
    """The grid on data that are not there, which a dry run does not mind."""
    path = tmp_path / "tiny.yaml"
    data = "DATASETS.TRAIN, [camvid_sem_seg_train], MODEL.SEM_SEG_HEAD.NUM_CLASSES, 11,"
    text = GRID.replace("shapes_sem_seg_val", "camvid_sem_seg_val").replace("opts: [", f"opts: [\n  {data}", 1)
    path.write_text(text)
    return path


def test_dry_run_lists_the_runs_and_their_cost_without_data(without_data, tmp_path, monkeypatch, capsys):
    assert run_here(monkeypatch, without_data, tmp_path / "out", "--dry-run", "--tflops", "0.001") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "4 runs, 4 of them to start, 16 iterations"
    names = [f"{method}/seed_{seed}" for seed in (1, 2) for method in ("cross_entropy", "epl")]
    assert [line.split()[0] for line in lines[:4]] == names
    hours = [float(line.split()[1]) for line in lines[:4]]
    assert min(hours) > 0 and len(set(hours)) == 1  # EPL is not counted
    total = float(re.match(r"estimate: ([0-9.]+) GPU hours at 0.001 TFLOP/s", lines[-2])[1])
    assert total == pytest.approx(sum(hours), abs=0.03)
    assert "MODEL.EPL.ENABLED True" in lines[1]
    assert not (tmp_path / "out").exists()

    (tmp_path / "out" / "epl" / "seed_1").mkdir(parents=True)
    record = {"method": "epl", "seed": 1, "metrics": {}, "commits": []}
    (tmp_path / "out" / "epl" / "seed_1" / "run.json").write_text(json.dumps(record))
    assert run_here(monkeypatch, without_data, tmp_path / "out", "--dry-run", "--tflops", "0.001") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "4 runs, 3 of them to start, 12 iterations"
    assert lines[1].split()[1] == "finished"

    budget = 2.5 * hours[0]
    arguments = (without_data, tmp_path / "out", "--dry-run", "--tflops", "0.001", "--gpu-hours", f"{budget}")
    assert run_here(monkeypatch, *arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("2 of 3 runs are estimated to fit into ")
    assert lines[-1] == "3 runs, 2 of them to start, 8 iterations"
    assert [re.search(r"out/(\w+/seed_\d)", line)[1] for line in lines[1:4]] == [
        *("cross_entropy/seed_1", "epl/seed_1", "cross_entropy/seed_2"),
    ]


def test_methods_and_seeds_can_be_chosen(without_data, tmp_path, monkeypatch, capsys):
    arguments = (without_data, tmp_path / "out", "--dry-run", "--seeds", "2", "--methods")
    assert run_here(monkeypatch, *arguments, "cross*") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "1 runs, 1 of them to start, 4 iterations"
    assert "SEED 2" in lines[0] and "cross_entropy" in lines[0]
    assert run_here(monkeypatch, *arguments, "cross_entropy", "lovasz*") == 1
    assert "tiny.yaml has no lovasz*; it has cross_entropy, epl" in capsys.readouterr().err
    assert run_here(monkeypatch, without_data, tmp_path / "out", "--dry-run", "--seeds", "1", "7") == 1
    assert "tiny.yaml has no [7]; it has [1, 2]" in capsys.readouterr().err


def test_a_run_of_another_configuration_is_refused_also_where_others_are_chosen(
    without_data, tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "out" / "epl" / "seed_1"
    folder.mkdir(parents=True)
    (folder / "run_config.yaml").write_text("SOLVER: {MAX_ITER: 40}")
    (folder / "model_0000019.pth").touch()
    chosen = ("--dry-run", "--seeds", "2", "--methods", "cross*")
    assert run_here(monkeypatch, without_data, tmp_path / "out", *chosen) == 1
    assert f"{folder} holds a run of another configuration" in capsys.readouterr().err


def test_no_run_starts_when_the_time_is_used_up(tmp_path):
    run = types.SimpleNamespace(name="a", folder=str(tmp_path / "a"), max_iter=1, iteration=0, gpus=1)
    lines = []
    assert run_all([run], tmp_path / "submitit", 1, end=time.monotonic(), say=lines.append) == {}
    assert lines[-1] == "the time is used up: 1 runs are not started; the same command goes on with them"


def test_mistakes_are_told_and_exit_with_1(tmp_path, monkeypatch, capsys):
    (tmp_path / "tiny.yaml").write_text(GRID.replace("seeds", "seed"))
    assert run_here(monkeypatch, tmp_path / "tiny.yaml", tmp_path / "out") == 1
    assert "tiny.yaml:13: a grid has the unknown key 'seed'" in capsys.readouterr().err
