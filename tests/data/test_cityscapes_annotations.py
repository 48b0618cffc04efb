"""Instances and panoptic segments from Cityscapes' instanceIds."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from pycocotools import mask as mask_api

from epl_d2.data.cityscapes_annotations import segments_of, write_cityscapes_annotations
from epl_d2.data.datasets import register_all_datasets
from epl_d2.data.panoptic_annotations import Segment

# Road, sidewalk, two cars, a group of persons, and what is not evaluated: out of roi, parking, a caravan (29001).
IDS = np.array(
    [
        [3, 7, 7, 7, 8, 8],
        [7, 26000, 26000, 7, 26001, 8],
        [7, 26000, 26000, 24, 26001, 9],
        [7, 7, 29001, 24, 24, 9],
    ]
)


@pytest.fixture
def root(tmp_path):
    for split, city in (("train", "aachen"), ("val", "lindau")):
        frame = f"{city}_000000_000019"
        images, labels = (tmp_path / "cityscapes" / kind / split / city for kind in ("leftImg8bit", "gtFine"))
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        Image.new("RGB", (6, 4)).save(images / f"{frame}_leftImg8bit.png")
        Image.fromarray(np.zeros((4, 6), np.uint8)).save(labels / f"{frame}_gtFine_labelTrainIds.png")
        Image.fromarray(IDS.astype(np.uint16)).save(labels / f"{frame}_gtFine_instanceIds.png")
    register_all_datasets(str(tmp_path))
    yield tmp_path
    register_all_datasets()


def test_segments_are_those_of_the_evaluated_classes():
    assert segments_of(IDS) == [
        Segment(7, 7),
        Segment(8, 8),
        Segment(24, 24, iscrowd=True),
        Segment(26000, 26),
        Segment(26001, 26),
    ]


def test_files_hold_what_the_ids_say(root, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location(
        "prepare", Path(__file__).parents[2] / "datasets/prepare_cityscapes_panoptic.py"
    )
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(sys, "argv", ["prepare", "--root", str(root)])
    assert script.main() == 0 and "written" in capsys.readouterr().out
    assert script.main() == 0 and "already there" in capsys.readouterr().out

    (record,) = DatasetCatalog.get("cityscapes_fine_panoptic_separated_val")
    metadata = MetadataCatalog.get("cityscapes_fine_panoptic_separated_val")
    assert metadata.thing_classes[0] == "person" and len(metadata.thing_classes) == 8
    assert metadata.stuff_classes[:3] == ["things", "road", "sidewalk"] and len(metadata.stuff_classes) == 12
    stuff = np.asarray(Image.open(record["sem_seg_file_name"]))
    expected = [[255, 1, 1, 1, 2, 2], [1, 0, 0, 1, 0, 2], [1, 0, 0, 0, 0, 255], [1, 1, 255, 0, 0, 255]]
    assert (stuff == expected).all()
    cars = [a for a in record["annotations"] if metadata.thing_classes[a["category_id"]] == "car"]
    assert sorted(mask_api.area(a["segmentation"]) for a in cars) == [2, 4]
    persons = [a for a in record["annotations"] if metadata.thing_classes[a["category_id"]] == "person"]
    assert [a["iscrowd"] for a in persons] == [1]
    content = json.loads((root / "cityscapes/gtFine_coco/panoptic_train.json").read_text())
    assert {s["category_id"] for s in content["annotations"][0]["segments_info"]} == {7, 8, 24, 26}
    assert record["file_name"].endswith("leftImg8bit/val/lindau/lindau_000000_000019_leftImg8bit.png")
    assert Path(record["file_name"]).is_file() and len(DatasetCatalog.get("cityscapes_fine_instance_coco_train")) == 1


def test_frames_without_instance_ids_are_named(root):
    next((root / "cityscapes/gtFine/val/lindau").glob("*instanceIds.png")).unlink()
    with pytest.raises(
        FileNotFoundError, match=r"cityscapes_fine_sem_seg_val: 1 of 1 frames have no instanceIds.*lindau"
    ):
        write_cityscapes_annotations(str(root / "cityscapes"))
    assert not (root / "cityscapes/gtFine_coco").exists()
    with pytest.raises(FileNotFoundError, match=r"prepare_cityscapes_panoptic.py"):
        DatasetCatalog.get("cityscapes_fine_panoptic_separated_val")
