import pytest
from detectron2.data.datasets.builtin_meta import CITYSCAPES_CATEGORIES

from epl_d2.data.datasets.metadata import (
    CITYSCAPES_LABEL_ID_TO_TRAIN_ID,
    CITYSCAPES_TRAIN_ID_TO_LABEL_ID,
    DATASETS,
    DatasetMetadata,
)


def test_cityscapes_agrees_with_detectron2():
    theirs = sorted(CITYSCAPES_CATEGORIES, key=lambda entry: entry["trainId"])
    ours = DATASETS["cityscapes"]
    assert ours.classes == tuple(entry["name"] for entry in theirs)
    assert ours.palette == tuple(tuple(entry["color"]) for entry in theirs)
    assert tuple(entry["id"] for entry in theirs) == CITYSCAPES_TRAIN_ID_TO_LABEL_ID
    assert {c["id"]: c["trainId"] for c in theirs} == CITYSCAPES_LABEL_ID_TO_TRAIN_ID


def test_voc_colors_are_the_devkits():
    voc = DATASETS["voc_2012"]
    assert len(voc.classes) == 21
    known = {
        "background": (0, 0, 0),
        "aeroplane": (128, 0, 0),
        "person": (192, 128, 128),
        "tvmonitor": (0, 64, 128),
    }
    assert {name: voc.palette[voc.classes.index(name)] for name in known} == known


@pytest.mark.parametrize("name", DATASETS)
def test_classes_and_colors_are_distinct(name):
    metadata = DATASETS[name]
    assert len(set(metadata.classes)) == len(set(metadata.palette)) == len(metadata.classes)
    assert metadata.ignore_value == 255


def test_contradictions_are_refused():
    with pytest.raises(ValueError, match="2 classes but 1 palette"):
        DatasetMetadata(("a", "b"), ((0, 0, 0),))
    with pytest.raises(ValueError, match="ignore_value 1 is the id of class 'b'"):
        DatasetMetadata(("a", "b"), ((0, 0, 0), (1, 1, 1)), ignore_value=1)
