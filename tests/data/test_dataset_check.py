import os

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from epl_d2 import get_cfg
from epl_d2.data.dataset_check import check_dataset_before_training, shared_images
from epl_d2.data.datasets import register_from_yaml
from epl_d2.data.datasets.metadata import DatasetMetadata
from epl_d2.data.datasets.registration import register_sem_seg
from epl_d2.engine import check_datasets

NAME = "pairs_for_check_tests"


@pytest.fixture
def records(pairs):
    records = pairs(6)
    metadata = DatasetMetadata(("a", "b", "c"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))
    register_sem_seg(NAME, lambda: records, metadata)
    yield records
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def test_a_sound_data_set_passes(records):
    check_dataset_before_training(NAME, 3)
    del records[0]["sem_seg_file_name"]
    check_dataset_before_training(NAME, 3, needs_labels=False)


def test_the_config_must_fit(records):
    with pytest.raises(ValueError, match="NUM_CLASSES is 19, but pairs_for_check_tests has 3 classes"):
        check_dataset_before_training(NAME, 19)
    with pytest.raises(ValueError, match=r"IGNORE_VALUE is 254, but .* by 255"):
        check_dataset_before_training(NAME, 3, ignore_value=254)
    with pytest.raises(ValueError, match=r"no data set 'camvid'.*camvid_sem_seg_train"):
        check_dataset_before_training("camvid", 11)


def test_every_file_must_be_there(records):
    os.remove(records[4]["file_name"])
    with pytest.raises(FileNotFoundError, match=r"photos/4\.png does not exist"):
        check_dataset_before_training(NAME, 3)


def test_every_image_needs_a_label(records):
    del records[2]["sem_seg_file_name"]
    with pytest.raises(ValueError, match=r"photos/2\.png has no label map"):
        check_dataset_before_training(NAME, 3)


def test_an_empty_data_set_is_refused(records):
    records.clear()
    with pytest.raises(ValueError, match="has no images"):
        check_dataset_before_training(NAME, 3)


def test_a_data_set_without_any_label_is_refused(records, tmp_path, save):
    for index in range(6):
        save(tmp_path / "labels" / f"{index}.png", np.full((40, 56), 255, np.uint8))
    with pytest.raises(ValueError, match=r"nothing is labeled, .* 255, as in .*labels/0\.png"):
        check_dataset_before_training(NAME, 3)
    check_dataset_before_training(NAME, 3, needs_labels=False)
    save(tmp_path / "labels" / "3.png", np.zeros((40, 56), np.uint8))
    check_dataset_before_training(NAME, 3)


def test_a_pipe_is_named(records, tmp_path):
    os.remove(records[4]["sem_seg_file_name"])
    os.mkfifo(records[4]["sem_seg_file_name"])
    with pytest.raises(FileNotFoundError, match=r"labels/4\.png does not exist or is no file"):
        check_dataset_before_training(NAME, 3)


def test_a_sample_of_the_labels_is_read(records, tmp_path, save):
    save(tmp_path / "labels" / "5.png", np.full((40, 56), 37, np.uint8))
    with pytest.raises(ValueError, match=r"labels/5\.png holds the label ids \[37\], expected 0\.\.2 or 255"):
        check_dataset_before_training(NAME, 3)
    check_dataset_before_training(NAME, 3, sample=1)  # reads the first only


@pytest.fixture
def listed(records, tmp_path):
    """listed(**lists): registers each list of images as a split of the same folders."""
    registered = []

    def register(**lists: str) -> str:
        for split, images in lists.items():
            (tmp_path / f"{split}.txt").write_text("\n".join(images))
        splits = ", ".join(f"{split}: {split}.txt" for split in lists)
        text = f"name: listed\nclasses: [a, b, c]\nimages: photos\nlabels: labels\nsplits: {{{splits}}}\n"
        (tmp_path / "listed.yaml").write_text(text)
        registered.extend(register_from_yaml(tmp_path / "listed.yaml"))
        return str(tmp_path / "listed.yaml")

    yield register
    for name in registered:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_images_of_two_splits_are_named(listed, records, tmp_path):
    listed(train="0123", val="34", test="5", gone="9")
    others = ["listed_val", "listed_test", "listed_gone", NAME]
    photos = os.path.realpath(tmp_path / "photos")
    assert shared_images("listed_train", others) == [
        f"listed_train and listed_val share 1 images: {photos}/3.png",
        f"listed_train and {NAME} share 4 images: {photos}/0.png, {photos}/1.png, {photos}/2.png, ...",
    ]
    (tmp_path / "again").symlink_to(tmp_path / "photos")
    records[0]["file_name"] = str(tmp_path / "again" / "5.png")
    assert shared_images("listed_test", [NAME])[0].endswith(f"share 1 images: {photos}/5.png")


def test_images_that_are_trained_on_and_evaluated_with_get_a_warning(listed, caplog):
    listed(train="0123", val="34", test="5")
    cfg = get_cfg()
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 3
    cfg.DATASETS.TRAIN = ("listed_train",)
    for tests, training, warnings in (
        (("listed_val", "listed_test"), True, 1),
        (("listed_val", "listed_test"), False, 0),
        (("listed_test", "listed_train"), True, 0),  # as the config says
    ):
        caplog.clear()
        cfg.DATASETS.TEST = tests
        check_datasets(cfg, training=training)
        said = [record.message.split(":")[0] for record in caplog.records]
        assert said == ["listed_train and listed_val share 1 images"] * warnings
