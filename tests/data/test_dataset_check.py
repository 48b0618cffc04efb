import os

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from epl_d2.data.dataset_check import check_dataset_before_training
from epl_d2.data.datasets.metadata import DatasetMetadata
from epl_d2.data.datasets.registration import register_sem_seg

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
