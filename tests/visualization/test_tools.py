"""tools/visualize_potential.py and tools/compare_predictions.py from their command lines."""

from __future__ import annotations

import csv
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from epl_d2.data.shapes import render_scene
from epl_d2.evaluation import BoundaryStatistics

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "shapes" / "deeplab_v3_plus_mobilenet_v2_epl.yaml"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs tools/NAME.py with arguments in this process and returns its exit status."""

    def run(name: str, *arguments: object) -> int:
        spec = importlib.util.spec_from_file_location(f"tool_{name}", ROOT / "tools" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        return module.main()

    return run


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Three scenes: the baseline is wrong and EPL right, except in the second, where it is vice versa."""
    for folder in ("images", "labels", "baseline", "epl"):
        (tmp_path / folder).mkdir()
    for i in range(3):
        image, labels = render_scene(i, (64, 64))
        right = np.where(labels == 255, 0, labels)
        wrong = np.roll(right, 3 + i, axis=1)
        baseline, epl = (right, wrong) if i == 1 else (wrong, right)
        for folder, picture in (
            ("images", image[..., ::-1]),
            ("labels", labels),
            ("baseline", baseline),
            ("epl", epl),
        ):
            cv2.imwrite(str(tmp_path / folder / f"scene{i}.png"), picture)
    return tmp_path


def arguments(root: Path) -> list[object]:
    inputs = [root / name for name in ("images", "labels", "baseline", "epl")]
    return [*inputs, "--dataset", "shapes", "--output", root / "out"]


def read_ranking(root: Path) -> list[dict[str, str]]:
    with open(root / "out" / "ranking.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_ranking_holds_the_change_of_boundary_f(tool, folders: Path) -> None:
    assert tool("compare_predictions", *arguments(folders), "--top", 2) == 0
    rows = read_ranking(folders)
    changes = [float(row["change"]) for row in rows]
    assert [abs(change) for change in changes] == sorted((abs(change) for change in changes), reverse=True)
    for row, change in zip(rows, changes, strict=True):
        scores = []
        for folder in ("baseline", "epl"):
            statistics = BoundaryStatistics(6, [2])
            maps = (cv2.imread(str(folders / f / f"{row['image']}.png"), -1) for f in (folder, "labels"))
            statistics.update(*maps)
            scores.append(statistics.compute()["boundary_f"][0])
        assert change == pytest.approx(scores[1] - scores[0], abs=1e-6)
        better, worse = ("fixed_px", "introduced_px") if change > 0 else ("introduced_px", "fixed_px")
        assert (change < 0) == (row["image"] == "scene1")
        assert int(row[better]) > 0
        assert int(row[worse]) == int(row["kept_px"]) == 0
    sheets = sorted(path.name for path in (folders / "out").glob("*.png"))
    assert sheets == [f"{i:03d}_{row['image']}.png" for i, row in enumerate(rows[:2], start=1)]


def test_an_unreadable_prediction_is_named_and_the_others_go_on(tool, folders: Path, capsys) -> None:
    (folders / "epl" / "scene0.png").write_bytes(b"no picture")
    cv2.imwrite(str(folders / "baseline" / "scene2.png"), np.zeros((5, 5), np.uint8))
    assert tool("compare_predictions", *arguments(folders)) == 1
    errors = capsys.readouterr().err
    assert "epl/scene0.png: not a readable image" in errors
    assert "baseline/scene2.png has the size (5, 5)" in errors
    assert [row["image"] for row in read_ranking(folders)] == ["scene1"]


def sheets(root: Path) -> set[str]:
    return {path.name for path in (root / "out").iterdir()} - {"ranking.csv"}


def test_a_second_run_replaces_the_sheets_of_the_first_and_no_other_file(tool, folders: Path) -> None:
    """Other models, another order and fewer sheets."""
    assert tool("compare_predictions", *arguments(folders)) == 0
    before, first = read_ranking(folders), sheets(folders)
    assert len(first) == 3
    own = {"notes.txt", "001_mine.png", "004_scene0.png", "002_scene9.png"}
    for name in own:
        (folders / "out" / name).write_text("mine")
    last = before[-1]["image"]
    for row in before[:-1]:  # the image that changed least is now the only one that changes
        (folders / "epl" / f"{row['image']}.png").write_bytes(
            (folders / "baseline" / f"{row['image']}.png").read_bytes()
        )
    assert tool("compare_predictions", *arguments(folders), "--top", 1) == 0
    assert sheets(folders) == {f"001_{last}.png", *own} and f"001_{last}.png" not in first
    assert all((folders / "out" / name).read_text() == "mine" for name in own)


@pytest.mark.parametrize(
    "ranking", [b"", b"rank,name\n1,scene0\n", b"rank,image\n1\n", b"rank,image\nx,scene0\n", b"\xff\x00"]
)
def test_a_ranking_of_another_program_removes_nothing(tool, folders: Path, ranking: bytes) -> None:
    (folders / "out").mkdir()
    (folders / "out" / "ranking.csv").write_bytes(ranking)
    (folders / "out" / "001_scene0.png").write_text("mine")
    assert tool("compare_predictions", *arguments(folders), "--top", 0) == 0
    assert sheets(folders) == {"001_scene0.png"} and len(read_ranking(folders)) == 3


def test_sheets_that_cannot_be_drawn_are_not_counted(tool, folders: Path, capsys) -> None:
    cv2.imwrite(str(folders / "images" / "scene1.png"), np.zeros((5, 5, 3), np.uint8))
    assert tool("compare_predictions", *arguments(folders)) == 1
    said = capsys.readouterr()
    assert "ranking.csv and 2 of 3 sheets beside it" in said.out
    assert "left out: the sheet of scene1: " in said.err and "images/scene1.png has the size (5, 5)" in said.err
    assert len(sheets(folders)) == 2 and len(read_ranking(folders)) == 3
    assert tool("compare_predictions", *arguments(folders), "--top", 0) == 0
    assert "ranking.csv and 0 sheets beside it" in capsys.readouterr().out


def test_missing_files_and_folders_are_named(tool, folders: Path, capsys) -> None:
    (folders / "labels" / "scene1.png").unlink()
    assert tool("compare_predictions", *arguments(folders)) == 1
    assert "labels lacks 1 of 3 images, the first ['scene1']" in capsys.readouterr().err
    assert not (folders / "out").exists()
    inputs = arguments(folders)
    inputs[3] = folders / "nowhere"
    assert tool("compare_predictions", *inputs) == 1
    assert "no folder" in capsys.readouterr().err


def test_endings_pair_files(tool, folders: Path) -> None:
    for i in range(3):
        (folders / "images" / f"scene{i}.png").rename(folders / "images" / f"scene{i}_photo.png")
        for folder in ("baseline", "epl"):
            (folders / folder / f"scene{i}.png").rename(folders / folder / f"scene{i}_photo.png")
    assert tool("compare_predictions", *arguments(folders), "--image-ending", "_photo", "--top", 0) == 0
    assert {row["image"] for row in read_ranking(folders)} == {"scene0", "scene1", "scene2"}


def test_compare_predictions_needs_neither_torch_nor_detectron2(folders: Path) -> None:
    script = (
        "import runpy, sys\n"
        f"sys.argv = ['compare_predictions', *{list(map(str, arguments(folders)))!r}]\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / 'tools' / 'compare_predictions.py')!r}, run_name='__main__')\n"
        "except SystemExit as stop:\n"
        "    assert not stop.code and not {'torch', 'detectron2'} & set(sys.modules), stop.code\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "over 3 images" in done.stdout


def test_fields_of_a_generated_scene(tool, tmp_path: Path, capsys) -> None:
    output = tmp_path / "fields.png"
    assert tool("visualize_potential", "--shapes", 3, "--class", "disk", "--output", output) == 0
    assert "'disk' in scene 3" in capsys.readouterr().out
    sheet = cv2.imread(str(output))
    assert sheet.shape[1] > 800


def test_fields_of_an_image_and_the_class_of_the_longest_contour(tool, folders: Path, capsys) -> None:
    labels = np.zeros((64, 64), np.uint8)
    labels[10:50, 10:50] = 4
    labels[30:34, 20:24] = 2
    cv2.imwrite(str(folders / "labels" / "scene0.png"), labels)
    pair = ["--image", folders / "images" / "scene0.png", "--label", folders / "labels" / "scene0.png"]
    target = ["--dataset", "shapes", "--output", folders / "fields.png"]
    assert tool("visualize_potential", *pair, *target) == 0
    assert "potential fields of 'ring'" in capsys.readouterr().out
    for name, message in (("rod", "has no 'rod'; it has sky, disk, ring"), ("7", "unknown class '7'")):
        assert tool("visualize_potential", *pair, *target, "--class", name) == 1
        assert message in capsys.readouterr().err
    cv2.imwrite(str(folders / "labels" / "scene0.png"), labels[:, :60])
    assert tool("visualize_potential", *pair, *target) == 1
    assert "scene0.png is 60 x 64" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image", "a.png", "--output", "o.png"], "--image and --label go together"),
        (["--shapes", "1", "--weights", "w.pth", "--output", "o.png"], "--config-file and --weights"),
        (["--image", "a.png", "--label", "b.png", "--output", "o.png"], "--image needs --dataset"),
        (["--shapes", "1", "--dataset", "camvid", "--output", "o.png"], "--dataset and --dataset-file go with --image"),
        (
            ["--shapes", "0", "--dataset-file", "x.yaml", "--output", "o.png"],
            "scenes of --shapes have classes of their",
        ),
    ],
)
def test_incomplete_command_lines_are_refused(tool, arguments: list[str], message: str, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        tool("visualize_potential", *arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("size", [0, -3, 4])
def test_kernels_of_other_sizes_are_refused(tool, tmp_path: Path, capsys, size: int) -> None:
    output = tmp_path / "fields.png"
    assert tool("visualize_potential", "--shapes", 3, "--kernel-size", size, "--output", output) == 1
    assert f"kernel_size must be a positive odd integer, got {size}" in capsys.readouterr().err
    assert not output.exists()


@pytest.fixture
def trained(tmp_path: Path):
    """A model of CONFIG, its checkpoint, and the command line for its fields."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("detectron2")
    from detectron2.modeling import build_model

    from epl_d2 import get_cfg
    from epl_d2.engine.setup import prepare_config, with_working_norms

    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIG))
    cfg.MODEL.DEVICE = "cpu"
    prepare_config(cfg)
    torch.manual_seed(0)
    model = build_model(with_working_norms(cfg)).eval()
    torch.nn.init.normal_(model.sem_seg_head.predictor.weight)
    checkpoint = tmp_path / "model.pth"
    torch.save({"model": model.state_dict()}, checkpoint)
    command = ["--shapes", 3, "--size", 64, 64, "--class", "polygon", "--config-file", CONFIG]
    command += ["--weights", checkpoint, "--output", tmp_path / "fields.png", "--opts", "MODEL.DEVICE", "cpu"]
    return model, checkpoint, command


def test_fields_of_a_model_beside_the_ground_truth(tool, trained, tmp_path: Path, capsys) -> None:
    import torch

    model, checkpoint, command = trained
    weights = model.state_dict()
    output = tmp_path / "fields.png"
    assert tool("visualize_potential", *command) == 0
    assert cv2.imread(str(output)).shape[0] > 1000

    picture = output.read_bytes()
    output.unlink()
    torch.save({f"module.{name}": tensor for name, tensor in weights.items()}, checkpoint)
    assert tool("visualize_potential", *command) == 0
    assert output.read_bytes() == picture

    first = next(iter(weights))
    wrong = [
        (
            {name: tensor for name, tensor in weights.items() if name != first},
            "model.pth is no checkpoint of this model",
        ),
        ({**weights, first: weights[first] * torch.nan}, f"model.pth holds values that are not finite: {first}"),
    ]
    for entries, message in wrong:
        torch.save({"model": entries}, checkpoint)
        capsys.readouterr()
        assert tool("visualize_potential", *command) == 1
        errors = capsys.readouterr().err
        assert message in errors and first in errors


def test_fields_are_those_of_the_test_time_protocol(tool, trained, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from epl_d2.visualization import potential

    model, _, command = trained
    drawn = []
    sheet = potential.potential_sheet
    monkeypatch.setattr(
        potential,
        "potential_sheet",
        lambda *args, **kwargs: drawn.append(kwargs["probabilities"]) or sheet(*args, **kwargs),
    )
    assert tool("visualize_potential", *command) == 0
    assert tool("visualize_potential", *command, "TEST.AUG.ENABLED", True, "TEST.AUG.SCALES", [1.0]) == 0

    image = torch.from_numpy(render_scene(3, (64, 64))[0].transpose(2, 0, 1).copy())
    with torch.no_grad():
        plain, mirrored = (model([{"image": i}])[0]["sem_seg"].softmax(0) for i in (image, image.flip(2)))
    expected = (plain + mirrored.flip(2)) / 2
    assert (plain - expected).abs().max() > 0.01  # mirroring makes a difference
    np.testing.assert_allclose(drawn[0], plain, atol=1e-5)
    np.testing.assert_allclose(drawn[1], expected, atol=1e-5)
