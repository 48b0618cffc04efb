import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from epl_d2.visualization.draw import IGNORED_COLOR

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(monkeypatch, capsys):
    """run(script, *arguments): its main(), as from the command line; (exit code, printed text, module)."""
    threads = torch.get_num_threads(), cv2.getNumThreads()

    def call(script: str, *arguments: object):
        spec = importlib.util.spec_from_file_location(Path(script).stem, ROOT / script)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        code = module.main()
        printed = capsys.readouterr()
        return code, printed.out + printed.err, module

    yield call
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])


@pytest.fixture
def described(pairs, tmp_path):
    """A YAML file that registers `pairs_all`: 6 random images of 3 classes."""
    pairs(6)
    path = tmp_path / "pairs.yaml"
    splits = {"all": {"images": "photos", "labels": "labels"}}
    path.write_text(yaml.safe_dump({"name": "pairs", "classes": ["sky", "road", "tree"], "splits": splits}))
    yield path
    for catalog in (DatasetCatalog, MetadataCatalog):
        if "pairs_all" in catalog.list():
            catalog.remove("pairs_all")


def test_check_passes_a_sound_data_set(run, described):
    code, text, _ = run("tools/check_dataset.py", "pairs_all", "--dataset-file", described, "--workers", 2)
    assert code == 0 and "pairs_all: 0 errors" in text
    assert "images: 6, usable: 6" in text and "tree" in text


def test_check_warns_of_images_of_another_split(run, described, tmp_path):
    text = described.read_text()
    described.write_text(text.replace("splits:", "splits:\n  half: {images: photos, labels: labels, list: half.txt}"))
    (tmp_path / "half.txt").write_text("1\n4\n")
    try:
        code, said, _ = run("tools/check_dataset.py", "pairs_all", "--dataset-file", described)
        assert code == 0 and "warning: pairs_all and pairs_half share 2 images: " in said and "photos/4.png" in said
        described.write_text(text)
        assert "warning" not in run("tools/check_dataset.py", "pairs_all", "--dataset-file", described)[1]
    finally:
        DatasetCatalog.remove("pairs_half")
        MetadataCatalog.remove("pairs_half")


def test_check_fails_and_names_the_files(run, described, tmp_path, save):
    (tmp_path / "photos" / "1.png").write_bytes(b"damaged")
    save(tmp_path / "labels" / "4.png", np.full((40, 56), 37, np.uint8))
    code, text, _ = run("tools/check_dataset.py", "pairs_all", "--dataset-file", described)
    assert code == 1 and "pairs_all: 2 errors" in text
    assert "photos/1.png: not a readable image" in text and "labels/4.png: label ids [37]" in text


def test_check_names_pipes_and_a_data_set_without_labels(run, described, tmp_path, save):
    for index in range(6):
        save(tmp_path / "labels" / f"{index}.png", np.full((40, 56), 255, np.uint8))
    (tmp_path / "photos" / "1.png").unlink()
    os.mkfifo(tmp_path / "photos" / "1.png")
    code, text, _ = run("tools/check_dataset.py", "pairs_all", "--dataset-file", described)
    assert code == 1 and "photos/1.png: not a regular file" in text
    assert "pairs_all: nothing is labeled, every pixel is ignored" in text


@pytest.mark.parametrize("script", ["tools/check_dataset.py", "tools/visualize_data.py"])
def test_unknown_names_are_refused(run, script):
    code, text, _ = run(script, "no_such_set")
    assert code == 1 and "no data set 'no_such_set'" in text and "camvid_sem_seg_train" in text


@pytest.mark.parametrize("name", ["shapes_instance_train", "cityscapes_fine_instance_seg_val"])
@pytest.mark.parametrize(
    "script", [f"tools/{tool}.py" for tool in ("check_dataset", "visualize_data", "benchmark_data")]
)
def test_instances_without_label_maps_are_refused(run, script, name):
    code, text, _ = run(script, name)
    assert code == 1 and f"error: {name} holds instances and no label maps; " in text
    said = text.split("registered with label maps are ")[1]
    assert "shapes_panoptic_val" in said and "camvid_sem_seg_train" in said and "_instance_" not in said


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("tools/visualize_data.py", ("x", "--images", 0), "--images is 0, expected at least 1"),
        ("tools/visualize_data.py", ("x", "--augmented", -1), "--augmented is -1, expected at least 0"),
        ("datasets/prepare_shapes.py", ("--train", 0), "--train is 0, expected at least 1"),
        ("datasets/prepare_shapes.py", ("--val", -1), "--val is -1, expected at least 1"),
        ("datasets/prepare_shapes.py", ("--root", "new", "--seed", -1), "--seed is -1, expected at least 0"),
        ("datasets/prepare_shapes.py", ("--root", "new", "--size", 64, 31), "--size is 64 31, expected at least 32 32"),
        ("datasets/prepare_label_noise.py", ("--seed", -1), "--seed is -1, expected at least 0"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(run, tmp_path, monkeypatch, capsys, script, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        run(script, *arguments)
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_sheet_shows_images_labels_and_augmentations(run, described, tmp_path):
    options = ("--dataset-file", described, "--crop", 32, 48, "--images", 3, "--output", tmp_path / "sheets")
    code, text, _ = run("tools/visualize_data.py", "pairs_all", *options)
    path = tmp_path / "sheets" / "pairs_all.png"
    assert code == 0 and str(path) in text
    first = path.read_bytes()
    run("tools/visualize_data.py", "pairs_all", *options)
    assert path.read_bytes() == first
    run("tools/visualize_data.py", "pairs_all", *options, "--seed", 1)
    assert path.read_bytes() != first
    sheet = np.asarray(Image.open(path))
    assert sheet.shape[0] > 3 * 32 and sheet.shape[1] > 6 * 48


@pytest.mark.parametrize("ignore_value", [255, 1000, -1])
def test_ignored_pixels_are_hatched(run, ignore_value):
    image = np.zeros((40, 60, 3), np.uint8)
    label = np.zeros((40, 60), np.int64)
    label[:, 30:] = ignore_value
    *_, module = run("tools/visualize_data.py", "no_such_set")
    picture = module.label_picture(image, label, [(100, 0, 0)], ignore_value, 1.0)
    assert (picture[:, :30] == (50, 0, 0)).all()
    hatched = (picture[:, 30:] == IGNORED_COLOR).all(axis=2)
    assert 0.4 < hatched.mean() < 0.6 and (picture[:, 30:][~hatched] == 0).all()


def test_benchmark_prints_both_mappers(run, described):
    options = ("--dataset-file", described, "--crop", 16, 16, "--images", 2, "--repetitions", 2)
    code, text, _ = run("tools/benchmark_data.py", "pairs_all", *options, "--max-ratio", 1000)
    assert code == 0 and "ours / stock" in text and "crop 16 x 16, 2 images" in text
    code, _, _ = run("tools/benchmark_data.py", "pairs_all", *options, "--max-ratio", 0)
    assert code == 1


def test_prepare_shapes_from_the_command_line(tmp_path):
    command = [sys.executable, str(ROOT / "datasets" / "prepare_shapes.py"), "--root", str(tmp_path)]
    command += ["--train", "2", "--val", "1", "--size", "32", "48"]
    first, again = (subprocess.run(command, check=True, capture_output=True, text=True) for _ in range(2))
    assert "written, 2 train and 1 val" in first.stdout and "already there" in again.stdout
    assert len(list((tmp_path / "shapes" / "train" / "images").iterdir())) == 2
    other = subprocess.run([*command, "--seed", "1"], capture_output=True, text=True)
    assert other.returncode == 1 and other.stderr.startswith("error: ")


def test_prepare_voc_aug_says_what_to_download(run, tmp_path):
    code, text, _ = run("datasets/prepare_voc_aug.py", "--root", tmp_path, "--sbd", tmp_path / "sbd")
    assert code == 1 and "train.txt is missing" in text and "benchmark.tgz" in text
