"""The command line tools."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from epl_d2.data.datasets.metadata import CITYSCAPES_TRAIN_ID_TO_LABEL_ID, DATASETS
from epl_d2.evaluation import BoundaryStatistics
from epl_d2.evaluation.report import curves_record

TOOLS = Path(__file__).parents[2] / "tools"


@dataclass
class Done:
    """What a tool left behind."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run_tool(monkeypatch, capsys) -> Callable[..., Done]:
    """Run a tool's ``main()`` in this process, which is faster than a new one."""

    def run(name: str, *arguments: object) -> Done:
        specification = importlib.util.spec_from_file_location(f"tool_{Path(name).stem}", TOOLS / name)
        tool = importlib.util.module_from_spec(specification)
        monkeypatch.setitem(sys.modules, tool.__name__, tool)  # dataclasses look their module up
        specification.loader.exec_module(tool)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        code, message = 0, ""
        try:
            code = tool.main()
        except SystemExit as stop:
            code, message = (stop.code, "") if isinstance(stop.code, int) else (1, stop.code)
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err + message)

    return run


def run_in_a_new_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def write(path: Path, labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), labels)


@pytest.fixture
def folders(tmp_path, all_pairs):
    """Label files, two folders of predictions, and the statistics of the first, as they are for PASCAL VOC."""
    statistics = BoundaryStatistics(21, range(1, 21), ignore_mode="nearest", trimap="void")
    for index, (prediction, target) in enumerate(all_pairs):
        write(tmp_path / "gt" / f"im_{index}.png", target)
        write(tmp_path / "runs" / "ours" / f"im_{index}.png", prediction)
        write(tmp_path / "runs" / "perfect" / f"im_{index}.png", np.where(target == 255, 0, target))
        statistics.update(prediction, target)
    return tmp_path, statistics


def test_several_folders(folders, run_tool):
    root, statistics = folders
    runs = root / "runs" / "ours", root / "runs" / "perfect"
    done = run_tool(
        "evaluate_predictions.py",
        *runs,
        root / "gt",
        "--dataset",
        "voc_2012",
        "--output",
        root / "out",
        "--jobs",
        1,
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((root / "out" / "ours" / "boundary_curves.json").read_text())
    assert record == {**curves_record(statistics, DATASETS["voc_2012"].classes, "ours"), "left_out": []}
    perfect = json.loads((root / "out" / "perfect" / "boundary_curves.json").read_text())
    assert perfect["mIoU"] == 100 and perfect["Trimap-mIoU"] == [100.0] * 20 and perfect["BF"][0] < 100
    assert done.stdout.count("19 images, ignored pixels nearest (up to 5 px), trimap void; percent") == 2
    with (root / "out" / "boundary_comparison.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["ours", "perfect"]
    assert [row["BF@3px"] for row in rows] == [f"{curve[2]:.2f}" for curve in (record["BF"], perfect["BF"])]
    assert re.search(rf"^ours +{statistics.num_images} +{record['mIoU']:.2f} ", done.stdout, re.MULTILINE)
    assert f"{statistics.num_images}/{statistics.num_images}" in done.stderr  # the progress bar
    assert cv2.imread(str(root / "out" / "boundary_curves.png")) is not None

    plot = root / "plots" / "both.png"
    done = run_tool("plot_boundary_curves.py", root / "out" / "ours", root / "out" / "perfect", "--output", plot)
    assert done.returncode == 0, done.stderr
    colors = {tuple(color) for color in cv2.imread(str(plot)).reshape(-1, 3)}
    assert {(180, 119, 31), (14, 127, 255)} <= colors  # the first two line colors of matplotlib, BGR


def test_a_folder_that_cannot_be_scored_leaves_nothing_of_the_others(folders, run_tool):
    root, _ = folders
    (root / "runs" / "perfect" / "im_3.png").unlink()
    runs = root / "runs" / "ours", root / "runs" / "perfect"
    done = run_tool(
        "evaluate_predictions.py", *runs, root / "gt", "--dataset", "voc_2012", "--jobs", 1, "--output", root / "out"
    )
    assert done.returncode == 1 and "perfect: 1 of 19 images have no prediction, such as im_3" in done.stderr
    assert not (root / "out").exists()


def test_explicit_settings_win_over_those_of_the_data_set(folders, run_tool, all_pairs):
    root, _ = folders
    settings = {"ignore_mode": "ignore", "trimap": "label-change"}
    done = run_tool(
        "evaluate_predictions.py", root / "runs" / "ours", root / "gt", "--dataset", "voc_2012", "--jobs", 1,
        "--ignore-mode", "ignore", "--trimap", "label-change", "--output", root / "out",
    )  # fmt: skip
    assert done.returncode == 0 and "ignored pixels ignore, trimap label-change; percent" in done.stdout
    statistics = BoundaryStatistics(21, range(1, 21), **settings)
    for pair in all_pairs:
        statistics.update(*pair)
    record = json.loads((root / "out" / "ours" / "boundary_curves.json").read_text())
    assert record == {**curves_record(statistics, DATASETS["voc_2012"].classes, "ours"), "left_out": []}


def test_labels_whose_contours_are_ignored_are_warned_of(tmp_path, run_tool):
    target = np.zeros((60, 80), np.uint8)
    target[10:45, 20:60] = 255
    target[15:40, 25:55] = 7
    write(tmp_path / "gt" / "a.png", target)
    write(tmp_path / "run" / "a.png", np.where(target == 7, 7, 0))
    common = "evaluate_predictions.py", tmp_path / "run", tmp_path / "gt", "--dataset", "voc_2012", "--jobs", 1
    assert "warning" not in run_tool(*common).stderr
    done = run_tool(*common, "--ignore-mode", "ignore")
    assert "warning: run: hardly any contour of the target counts: 0.0 pixels an image" in done.stderr


def test_cityscapes_encodings_give_the_same(tmp_path, run_tool):
    """Label ids and train ids of the same maps, under the names that Cityscapes and other frameworks use."""
    rng = np.random.default_rng(0)
    to_label_id = np.array([*CITYSCAPES_TRAIN_ID_TO_LABEL_ID, *[0] * 237], np.uint8)
    for index in range(2):
        frame = f"aachen_00000{index}_000019"
        target = np.kron(rng.integers(0, 19, (6, 8)), np.ones((8, 8))).astype(np.uint8)
        prediction = np.roll(target, 2, axis=1)
        target[rng.random(target.shape) < 0.05] = 255
        write(tmp_path / "gt" / "aachen" / f"{frame}_gtFine_labelTrainIds.png", target)
        write(tmp_path / "gt_ids" / "aachen" / f"{frame}_gtFine_labelIds.png", to_label_id[target])
        write(tmp_path / "train_ids" / f"{frame}_leftImg8bit.png", prediction)
        write(tmp_path / "label_ids" / f"{frame}_pred.png", to_label_id[prediction])
    records = []
    for name, gt, encoding in (("train_ids", "gt", "train-id"), ("label_ids", "gt_ids", "label-id")):
        done = run_tool(
            "evaluate_predictions.py", tmp_path / name, tmp_path / gt, "--dataset", "cityscapes",
            "--encoding", encoding, "--jobs", 1, "--output", tmp_path / "out",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        record = json.loads((tmp_path / "out" / name / "boundary_curves.json").read_text())
        records.append({key: value for key, value in record.items() if key != "name"})
    assert records[0] == records[1] and records[0]["mIoU"] > 0
    done = run_tool(
        "evaluate_predictions.py", tmp_path / "label_ids", tmp_path / "gt", "--dataset", "cityscapes", "--jobs", 1
    )
    assert done.returncode == 1 and "prediction holds ids outside the classes" in done.stderr


def test_bad_files(folders, run_tool):
    root, _ = folders
    ours = root / "runs" / "ours"
    common = ours, root / "gt", "--num-classes", 6, "--jobs", 1
    (ours / "im_2.png").write_bytes(b"spoiled")
    done = run_tool("evaluate_predictions.py", *common)
    assert done.returncode == 1 and "im_2.png" in done.stderr
    (ours / "im_4.png").unlink()
    done = run_tool("evaluate_predictions.py", *common)
    assert done.returncode == 1 and "1 of 19 images have no prediction, such as im_4" in done.stderr
    done = run_tool("evaluate_predictions.py", *common, "--skip-bad", "--output", root / "out")
    assert done.returncode == 0 and "2 of 19 images left out:" in done.stdout
    record = json.loads((root / "out" / "ours" / "boundary_curves.json").read_text())
    assert record["images"] == 17 and "im_4: no prediction" in record["left_out"]
    assert any("im_2.png" in message for message in record["left_out"])
    (root / "list.txt").write_text("im_0\nim_1\n")
    done = run_tool("evaluate_predictions.py", *common, "--list", root / "list.txt")
    assert done.returncode == 0 and "ours: 2 images" in done.stdout


def test_nothing_usable_fails_and_leaves_nothing(folders, run_tool):
    root, _ = folders
    for file in (root / "runs" / "ours").iterdir():
        file.write_bytes(b"spoiled")
    common = root / "runs" / "ours", root / "gt", "--num-classes", 6, "--jobs", 1
    done = run_tool("evaluate_predictions.py", *common, "--skip-bad", "--output", root / "out")
    assert done.returncode == 1 and re.search(
        r"runs/ours: none of the 19 images can be used:\n.*im_0\.png", done.stderr
    )
    assert not (root / "out").exists()
    (root / "list.txt").write_text("im_0\n", encoding="utf-16")
    done = run_tool("evaluate_predictions.py", *common, "--list", root / "list.txt")
    assert done.returncode == 1 and "list.txt: the list is no UTF-8 text" in done.stderr


def test_needs_neither_torch_nor_detectron2(folders):
    root, _ = folders
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['tool', {str(root / 'runs' / 'ours')!r}, {str(root / 'gt')!r}, '--num-classes', '6',"
        f" '--jobs', '1', '--output', {str(root / 'out')!r}]\n"
        f"try:\n    runpy.run_path({str(TOOLS / 'evaluate_predictions.py')!r}, run_name='__main__')\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "print('LOADED', sorted({'torch', 'detectron2', 'torchvision'} & set(sys.modules)))\n"
    )
    done = run_in_a_new_process("-c", code)
    assert done.returncode == 0, done.stderr
    assert "LOADED []" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pred", "gt", "--dataset", "voc_2012", "--widths", "0-3"], "widths must be positive integers"),
        (
            ["pred", "gt", "--dataset", "voc_2012", "--report-widths", "40"],
            r"report_widths \[40\] are not among",
        ),
        (["pred", "--dataset", "voc_2012"], "at least one PRED_DIR and the GT_DIR"),
        (["pred", "gt", "--dataset", "voc_2012", "--encoding", "label-id"], "is for --dataset cityscapes"),
        (["pred", "gt", "--dataset", "voc_2012"], "gt: no such folder"),
    ],
)
def test_bad_arguments(arguments, message, run_tool):
    done = run_tool("evaluate_predictions.py", *arguments)
    assert done.returncode != 0 and re.search(message, done.stderr)


def test_plot_of_no_curves(tmp_path, run_tool):
    (tmp_path / "boundary_curves.json").write_text('{"widths": [1]}')
    done = run_tool("plot_boundary_curves.py", tmp_path)
    assert done.returncode == 1 and "boundary_curves.json: has no 'BF'" in done.stderr


def test_benchmark_runs_and_its_comparison_agrees():
    done = run_in_a_new_process(
        TOOLS / "benchmark_evaluation.py", "--images", 1, "--repeats", 1, "--max-width", 2, "--shrink", 8
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the same counts") == 2
