"""Labels whose contours are off, against loops over the pixels."""

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from epl_d2.data.datasets.folder import register_from_yaml
from epl_d2.data.datasets.metadata import DATASETS
from epl_d2.data.label_noise import dilate_objects, shift_labels
from epl_d2.data.shapes import render_scene, write_shapes

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("distance", [0, 1, 2.4, 30])
def test_a_shift_moves_the_whole_map(distance):
    labels = render_scene(3, (32, 40))[1]
    seen = set()
    for seed in range(20):
        moved = shift_labels(labels, distance, np.random.default_rng(seed))
        angle = np.random.default_rng(seed).uniform(0, 2 * np.pi)
        down, right = round(distance * np.sin(angle)), round(distance * np.cos(angle))
        assert abs(np.hypot(down, right) - distance) <= 0.5**0.5
        seen.add((down, right))
        expected = [
            [labels[min(max(y - down, 0), 31), min(max(x - right, 0), 39)] for x in range(40)] for y in range(32)
        ]
        np.testing.assert_array_equal(moved, expected)
    assert len(seen) > 3 or distance == 0


@pytest.mark.parametrize("distance", [0, 1, 2, 3, 100])
def test_objects_grow_over_the_background(distance):
    labels = np.zeros((18, 21), np.uint8)
    labels[4:7, 3:9], labels[10, 12], labels[:, 20], labels[2, 2:6] = 3, 1, 255, 2
    labels[12:, :5] = 4
    grown = dilate_objects(labels, distance, background=(0, 4))
    objects = np.argwhere((labels != 0) & (labels != 255) & (labels != 4))
    for y, x in np.ndindex(labels.shape):
        away = np.hypot(*(objects - (y, x)).T)
        nearest = {labels[tuple(objects[at])] for at in np.flatnonzero(away < away.min() + 1e-6)}
        expected = nearest if labels[y, x] in (0, 4) and away.min() <= distance else {labels[y, x]}
        assert grown[y, x] in expected
    np.testing.assert_array_equal(dilate_objects(labels, distance, background=()), labels)


def test_nothing_grows_where_nothing_is():
    labels = np.full((4, 5), 255, np.uint8)
    np.testing.assert_array_equal(dilate_objects(labels, 2), labels)


@pytest.mark.parametrize("distance", [-1, float("nan"), float("inf")])
def test_distances_that_are_none(distance):
    labels = np.zeros((3, 3), np.uint8)
    for call in (
        lambda: shift_labels(labels, distance, np.random.default_rng(0)),
        lambda: dilate_objects(labels, distance),
    ):
        with pytest.raises(ValueError, match=f"distance is {distance}"):
            call()


def test_the_command_registers_what_it_writes(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("prepare", ROOT / "datasets" / "prepare_label_noise.py")
    command = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(command)
    with pytest.raises(FileNotFoundError, match="there are no shapes"):
        command.write_label_noise(tmp_path, 0)
    write_shapes(str(tmp_path / "shapes"), train=3, val=1, size=(32, 40), seed=0)
    folder = command.write_label_noise(tmp_path, 0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["shapes", "shapes_label_noise"]
    for kind in ("shift", "dilate"):
        for distance in (1, 2, 3):
            for number in range(3):
                true = cv2.imread(str(tmp_path / f"shapes/train/labels/{number:04d}.png"), cv2.IMREAD_UNCHANGED)
                found = cv2.imread(str(folder / f"{kind}_{distance}/{number:04d}.png"), cv2.IMREAD_UNCHANGED)
                assert found.shape == true.shape and (found != true).any()
    with pytest.raises(FileExistsError, match="is there already"):
        command.write_label_noise(tmp_path, 0)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    description = tmp_path / "elsewhere" / "copy.yaml"
    text = (ROOT / "datasets" / "shapes_label_noise.yaml").read_text()
    # A grid may have registered the data sets under their own names.
    description.write_text(text.replace("name: shapes_label_noise", "name: copy"))
    names = register_from_yaml(str(description))
    try:
        assert names == [f"copy_{kind}_{n}" for kind in ("shift", "dilate") for n in (1, 2, 3)]
        records = DatasetCatalog.get("copy_dilate_2")
        assert [Path(record["file_name"]).name for record in records] == [f"{number:04d}.png" for number in range(3)]
        assert all("dilate_2" in record["sem_seg_file_name"] for record in records)
        assert MetadataCatalog.get("copy_shift_1").stuff_classes == list(DATASETS["shapes"].classes)
    finally:
        for name in names:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
