"""Instances and panoptic segments of the generated scenes against the scenes; the files against their definitions."""

import json

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from pycocotools import mask as mask_api

from epl_d2.data import shape_annotations
from epl_d2.data.datasets import register_all_datasets
from epl_d2.data.datasets.metadata import DATASETS
from epl_d2.data.panoptic_annotations import Category, PanopticAnnotations, Segment
from epl_d2.data.shape_annotations import MIN_AREA, SHAPE_CATEGORIES, write_shape_annotations
from epl_d2.data.shapes import DISK, RIM, render_scene, scene_objects, write_shapes

SETTINGS = {"train": 2, "val": 1, "size": (64, 80), "seed": 5}
NAMES = {category.id: category.name for category in SHAPE_CATEGORIES}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    write_shapes(str(root / "shapes"), **SETTINGS)
    assert write_shape_annotations(str(root / "shapes" / "annotations"), **SETTINGS)
    register_all_datasets(str(root))
    yield root
    register_all_datasets()


def test_objects_are_those_of_the_label_map():
    owner, classes = scene_objects((5, 0, 1), (64, 80))
    label = render_scene((5, 0, 1), (64, 80))[1]
    inside = np.s_[RIM:-RIM, RIM:-RIM]
    assert (np.array(classes)[owner][inside] == label[inside]).all()
    assert classes[:2] == [0, 1] and len(classes) > 6


def test_instances_are_the_visible_parts_of_the_objects(root):
    records = DatasetCatalog.get("shapes_instance_train")
    assert len(records) == 2
    owner, classes = scene_objects((5, 0, 1), (64, 80))
    masks = {k: owner == k for k, c in enumerate(classes) if c >= DISK and (owner == k).sum() >= MIN_AREA}
    annotations = records[1]["annotations"]
    assert len(annotations) == len(masks)
    metadata = MetadataCatalog.get("shapes_instance_train")
    for annotation, (index, mask) in zip(annotations, masks.items(), strict=True):
        assert (mask_api.decode(annotation["segmentation"]) == mask).all()
        assert metadata.thing_classes[annotation["category_id"]] == DATASETS["shapes"].classes[classes[index]]
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        x, y, width, height = annotation["bbox"]
        assert [x, y, x + width, y + height] == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    content = json.loads((root / "shapes/annotations/instances_train.json").read_text())
    assert [a["area"] for a in content["annotations"] if a["image_id"] == 2] == [m.sum() for m in masks.values()]


def test_panoptic_segments_and_stuff_labels_are_those_of_the_scene(root):
    (record,) = DatasetCatalog.get("shapes_panoptic_val")
    metadata = MetadataCatalog.get("shapes_panoptic_val")
    content = json.loads((root / "shapes/annotations/panoptic_val.json").read_text())
    red, green, blue = np.moveaxis(
        np.asarray(Image.open(root / "shapes/annotations/panoptic_val/0000.png"), dtype=np.int64), 2, 0
    )
    ids = red + 256 * green + 65536 * blue
    stuff = np.asarray(Image.open(record["sem_seg_file_name"]))
    owner, classes = scene_objects((5, 1, 0), (64, 80))
    names = {info["id"]: NAMES[info["category_id"]] for info in content["annotations"][0]["segments_info"]}
    assert metadata.stuff_classes == ["things", "sky", "ground"]
    for index, class_id in enumerate(classes):
        mask = owner == index
        if mask.sum() < MIN_AREA:
            assert (ids[mask] == 0).all() and (stuff[mask] == 255).all()
            continue
        (segment,) = np.unique(ids[mask])
        assert (ids == segment).sum() == mask.sum() and names[segment] == DATASETS["shapes"].classes[class_id]
        assert (stuff[mask] == (0 if class_id >= DISK else 1 + class_id)).all()
    areas = {info["id"]: info["area"] for info in content["annotations"][0]["segments_info"]}
    assert areas == {id: (ids == id).sum() for id in areas} and set(np.unique(ids)) - {0} == set(areas)


def test_the_annotations_are_written_once_and_whole(root, tmp_path, monkeypatch):
    folder = root / "shapes" / "annotations"
    assert not write_shape_annotations(str(folder), **SETTINGS)
    with pytest.raises(ValueError, match=r"holds annotations made with .*'train': 2.*'train': 3"):
        write_shape_annotations(str(folder), **(SETTINGS | {"train": 3}))

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(shape_annotations, "scene_objects", interrupted)
        write_shape_annotations(str(tmp_path / "annotations"), **SETTINGS)
    assert list(tmp_path.iterdir()) == []


def test_missing_and_damaged_files_are_named(tmp_path):
    write_shapes(str(tmp_path / "shapes"), train=1, val=1, size=(32, 32))
    register_all_datasets(str(tmp_path))
    try:
        with pytest.raises(
            FileNotFoundError, match=r"shapes_instance_train: there is no .*instances_train.json.*Expected"
        ):
            DatasetCatalog.get("shapes_instance_train")
        write_shape_annotations(str(tmp_path / "shapes/annotations"), train=1, val=1, size=(32, 32))
        (tmp_path / "shapes/annotations/stuff_val/0000.png").unlink()
        with pytest.raises(FileNotFoundError, match=r"shapes_panoptic_val: 1 of 1 label maps are missing"):
            DatasetCatalog.get("shapes_panoptic_val")
        (tmp_path / "shapes/annotations/instances_val.json").write_text("{")
        with pytest.raises(ValueError, match=r"instances_val.json: no instances in COCO's format"):
            DatasetCatalog.get("shapes_instance_val")
    finally:
        register_all_datasets()


def test_ids_of_many_bits_groups_and_absent_segments(tmp_path):
    categories = [Category(24, "person", True, (220, 20, 60)), Category(7, "road", False, (128, 64, 128))]
    annotations = PanopticAnnotations(str(tmp_path), "x", categories)
    ids = np.array([[24001, 24001, 24], [7, 7, 99]])
    segments = [Segment(24001, 24), Segment(24, 24, iscrowd=True), Segment(7, 7), Segment(8, 7)]
    annotations.add("town/a.png", ids, segments)
    annotations.write()
    pixels = np.asarray(Image.open(tmp_path / "panoptic_x/a.png"), dtype=np.int64)
    assert (pixels @ [1, 256, 65536] == [[24001, 24001, 24], [7, 7, 0]]).all()
    assert (np.asarray(Image.open(tmp_path / "stuff_x/a.png")) == [[0, 0, 0], [1, 1, 255]]).all()
    instances = json.loads((tmp_path / "instances_x.json").read_text())
    assert [(a["category_id"], a["iscrowd"], a["area"]) for a in instances["annotations"]] == [(24, 0, 2), (24, 1, 1)]
    assert instances["images"] == [{"id": 1, "file_name": "town/a.png", "height": 2, "width": 3}]
    assert [c["id"] for c in instances["categories"]] == [24]
