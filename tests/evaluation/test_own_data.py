"""The tools on a data set of your own: classes, endings, ids and colors come from its file, in one vocabulary."""

from __future__ import annotations

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from epl_d2.data.shapes import render_scene
from epl_d2.evaluation import BoundaryStatistics
from epl_d2.evaluation.prediction_folders import find_own_files, find_own_predictions

TOOLS = Path(__file__).parents[2] / "tools"
CLASSES = ["sky", "ground", "disk", "polygon", "ring", "rod"]
COLORS = [[10 * k, 200 - 30 * k, 99] for k in range(6)]
NAMES = ("day/1", "day/2", "night/1")


def write(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture if picture.ndim == 2 else picture[..., ::-1])


@pytest.fixture
def streets(tmp_path):
    """streets(**keys): the YAML file of three scenes, whose files store id + 1 and 0 for what is ignored."""
    for index, name in enumerate(NAMES):
        image, labels = render_scene(index, (48, 64))
        labels[:4] = 255
        write(tmp_path / "photos" / f"{name}_image.png", image)
        write(tmp_path / "masks" / f"{name}_mask.png", np.where(labels == 255, 0, labels + 1).astype(np.uint8))
        colors = np.array([*COLORS, *[[1, 1, 1]] * 250], np.uint8)
        write(tmp_path / "colors" / f"{name}_mask.png", colors[labels])
        predicted = np.where(labels == 255, 0, labels)
        write(tmp_path / "good" / f"{name}_image.png", predicted)
        write(tmp_path / "bad" / f"{name}.png", np.roll(predicted, 3, axis=1))
        write(tmp_path / "ids" / f"{name}.png", labels)

    def describe(**keys) -> str:
        content = {
            **{"name": "streets", "classes": CLASSES, "images": "photos", "labels": "masks", "splits": {"all": 1}},
            **{
                "image_ending": "_image",
                "label_ending": "_mask",
                "label_map": {0: 255, **{k + 1: k for k in range(6)}},
            },
            **keys,
        }
        path = tmp_path / "streets.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
        return str(path)

    return describe


@pytest.fixture
def run(monkeypatch, capsys):
    """run(tool, *arguments): exit status, standard output and error."""

    def call(name, *arguments):
        spec = importlib.util.spec_from_file_location(f"own_{name}", TOOLS / f"{name}.py")
        tool = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, tool)
        spec.loader.exec_module(tool)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        message = ""
        try:
            code = tool.main() or 0
        except SystemExit as stop:
            code, message = (stop.code, "") if isinstance(stop.code, int) else (1, stop.code)
        captured = capsys.readouterr()
        return code, captured.out, captured.err + message

    return call


def expected(folder: Path, tmp_path: Path) -> BoundaryStatistics:
    statistics = BoundaryStatistics(6, [1, 2])
    for name in NAMES:
        (path,) = (path for path in (folder / f"{name}.png", folder / f"{name}_image.png") if path.exists())
        statistics.update(cv2.imread(str(path), -1), cv2.imread(str(tmp_path / "ids" / f"{name}.png"), -1))
    return statistics


RGB = {"rgb_masks": True, "palette": COLORS, "ignore_color": [1, 1, 1], "label_map": None, "labels": "colors"}


@pytest.mark.parametrize("keys", [{}, RGB], ids=["ids", "colors"])
@pytest.mark.parametrize("by_split", [True, False])
def test_predictions_are_scored_by_the_file(streets, run, tmp_path, keys, by_split):
    where = ["--split", "all"] if by_split else []
    folders = [tmp_path / "bad", tmp_path / "good", *([] if by_split else [tmp_path / keys.get("labels", "masks")])]
    options = ["--dataset-file", streets(**keys), *where, "--names", "cross entropy", "EPL", "--jobs", 1]
    options += ["--widths", "1-2", "--report-widths", "1", "--output", tmp_path / "out"]
    code, out, err = run("evaluate_predictions", *folders, *options)
    assert code == 0, err
    for name, folder in (("cross entropy", "bad"), ("EPL", "good")):
        record = json.loads((tmp_path / "out" / name / "boundary_curves.json").read_text())
        assert record["confusion"] == expected(tmp_path / folder, tmp_path).compute()["confusion"].tolist()
        assert record["images"] == 3 and f"{name}: 3 images" in out
    assert "sky" in out and "rod" in out


@pytest.mark.parametrize("by_split", [True, False])
def test_two_models_are_compared_by_the_file(streets, run, tmp_path, by_split):
    folders = [] if by_split else [tmp_path / "photos", tmp_path / "masks"]
    options = ["--dataset-file", streets(), *(["--split", "all"] if by_split else []), "--names", "Dice", "EPL"]
    folders += [tmp_path / "bad", tmp_path / "good"]
    code, out, err = run("compare_predictions", *folders, *options, "--output", tmp_path / "out", "--top", 1)
    assert code == 0, err
    scores = [expected(tmp_path / name, tmp_path).compute()["boundary_f"][1] for name in ("bad", "good")]
    assert f"over 3 images: {scores[0]:.4f} (Dice) -> {scores[1]:.4f} (EPL); 3 images better, 0 worse" in out
    with open(tmp_path / "out" / "ranking.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["image"] for row in rows} == set(NAMES) and {"dice_f", "epl_f"} <= rows[0].keys()
    assert (tmp_path / "out" / f"001_{rows[0]['image'].replace('/', '_')}.png").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "good/day/2_image.png").unlink(), "good lacks 1 of 3 images, the first ['day/2']"),
        (lambda root: (root / "masks/day/2_mask.png").unlink(), "masks lacks 1 of 3 images, the first ['day/2']"),
        (lambda root: (root / "photos/day/2_image.png").unlink(), "photos lacks 1 of 3 images, the first ['day/2']"),
        (lambda root: write(root / "bad/noon/4.png", np.zeros((48, 64), np.uint8)), "photos lacks 1 of 4 images"),
        (lambda root: [path.unlink() for path in (*root.glob("bad/*/*"), *root.glob("good/*/*"))], "no predictions"),
    ],
)
def test_no_image_is_dropped_in_silence(streets, run, tmp_path, change, message):
    file = streets()
    change(tmp_path)
    folders = [tmp_path / name for name in ("photos", "masks", "bad", "good")]
    code, _, err = run("compare_predictions", *folders, "--dataset-file", file, "--output", tmp_path / "out")
    assert code == 1 and message in err
    assert not (tmp_path / "out").exists()


def test_some_images_alone_are_compared_where_no_split_is_named(streets, run, tmp_path):
    """Both models have predictions of two of the three images; a split is compared whole."""
    for file in ("bad/day/2.png", "good/day/2_image.png"):
        (tmp_path / file).unlink()
    own = ["--dataset-file", streets(), "--output", tmp_path / "out", "--top", 0]
    code, out, err = run("compare_predictions", *(tmp_path / f for f in ("photos", "masks", "bad", "good")), *own)
    assert code == 0 and "over 2 images" in out, err
    code, _, err = run("compare_predictions", tmp_path / "bad", tmp_path / "good", *own, "--split", "all")
    assert code == 1 and "bad lacks 1 of 3 images" in err


def test_potential_fields_by_the_file(streets, run, tmp_path):
    pair = ["--image", tmp_path / "photos/day/1_image.png", "--label", tmp_path / "masks/day/1_mask.png"]
    code, out, err = run(
        "visualize_potential", *pair, "--dataset-file", streets(), "--class", "ground", "--output", tmp_path / "f.png"
    )
    assert code == 0 and "potential fields of 'ground'" in out, err
    pair[-1] = tmp_path / "colors/day/1_mask.png"
    command = [*pair, "--dataset-file", streets(**RGB), "--class", "ground", "--output", tmp_path / "g.png"]
    assert run("visualize_potential", *command)[0] == 0
    other = tmp_path / "h.png"
    assert run("visualize_potential", *command[:-1], other, "--class", "moon")[2].startswith("error: unknown class")


def test_ignored_pixels_by_the_file(streets, run, tmp_path):
    code, out, err = run("analyze_ignored", "contours", tmp_path / "masks", "--dataset-file", streets())
    ids = np.stack([cv2.imread(str(tmp_path / "ids" / f"{name}.png"), -1) for name in NAMES])
    assert code == 0, err
    assert out.splitlines()[-1].startswith(f"| 3 | {(ids == 255).mean():.1%} |")


@pytest.mark.parametrize("option", ["image", "label", "prediction"])
def test_former_spellings_name_the_present_ones(run, option):
    code, _, err = run("compare_predictions", "a", "b", "c", "d", f"--{option}-suffix", "_x")
    assert code == 2 and f"--{option}-suffix is called --{option}-ending" in err


EVALUATE, COMPARE, OWN = "evaluate_predictions", "compare_predictions", ("--dataset-file", "streets.yaml")
FOUR = ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        (EVALUATE, ["p", "--dataset", "camvid", "--split", "val"], "--split is one of --dataset-file"),
        (EVALUATE, ["p", *OWN], "at least one PRED_DIR and the GT_DIR"),
        (EVALUATE, ["p", "g", "--num-classes", "3", "--names", "a", "b"], "--names needs 1 different"),
        (EVALUATE, ["p", "g", "--num-classes", "3", "--names", "a/../b"], "below --output, got 'a/../b'"),
        (EVALUATE, ["p", "g", "--num-classes", "3", "--names", "/a"], "below --output, got '/a'"),
        (EVALUATE, ["p", "g", "--num-classes", "3", "--names", ""], "below --output, got ''"),
        (EVALUATE, ["good", *OWN, "--split", "val"], "no split 'val'; it has all"),
        (EVALUATE, ["gone", *OWN, "--split", "all"], "gone: no such folder"),
        (EVALUATE, ["good", "good", *OWN], "no label files *_mask.png"),
        (COMPARE, ["a", "b", *OWN], "2 folders are given, expected IMAGES_DIR"),
        (COMPARE, [*FOUR, "--dataset", "camvid", "--names", "x", "x"], "--names are both 'x'"),
        (COMPARE, [*FOUR, *OWN, "--label-ending", "_x"], "the endings are those of --dataset-file"),
        (COMPARE, ["bad", "gone", *OWN, "--split", "all"], "gone: no such folder"),
        (COMPARE, ["bad", "empty", *OWN, "--split", "all"], "empty lacks 3 of 3"),
    ],
)
def test_what_does_not_fit_is_said(streets, run, tmp_path, monkeypatch, tool, arguments, message):
    streets()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    output = ["--output", "out"] if tool == "compare_predictions" else []
    code, _, err = run(tool, *arguments, *output)
    assert code != 0 and message in err
    assert not (tmp_path / "out").exists()


def test_predictions_are_found_in_subfolders_or_anywhere_if_one_has_the_name(tmp_path):
    for name in ("day/1_image.png", "night/1.png", "2_image.png"):
        write(tmp_path / name, np.zeros((2, 2), np.uint8))
    found, missing = find_own_predictions(tmp_path, ["day/1", "night/1", "day/2", "day/3"], "_image")
    assert {key: path.relative_to(tmp_path).as_posix() for key, path in found.items()} == {
        "day/1": "day/1_image.png",
        "night/1": "night/1.png",
        "day/2": "2_image.png",
    }
    assert missing == ["day/3"]
    write(tmp_path / "other" / "2.png", np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match="two predictions for day/2"):
        find_own_predictions(tmp_path, ["day/2"], "_image")
    # Two images of one name do not share one prediction.
    assert find_own_predictions(tmp_path, ["noon/1", "dusk/1"], "_image") == ({}, ["noon/1", "dusk/1"])
    assert list(find_own_files(tmp_path, "_image")) == ["2", "day/1"]


def test_the_tools_need_neither_torch_nor_detectron2_for_it(streets, tmp_path):
    arguments = [str(tmp_path / "good"), "--dataset-file", streets(), "--split", "all", "--jobs", "1"]
    code = (
        "import runpy, sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'detectron2', 'fvcore'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "import epl_d2.evaluation\n"
        f"sys.argv = ['tool', *{arguments!r}]\n"
        f"runpy.run_path({str(TOOLS / 'evaluate_predictions.py')!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "good: 3 images" in done.stdout
