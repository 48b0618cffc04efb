"""On the real data sets below DETECTRON2_DATASETS, as far as they are there."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.utils.events import EventStorage
from PIL import Image

from epl_d2 import get_cfg
from epl_d2.data.dataset_check import check_dataset_before_training
from epl_d2.data.datasets import dataset_root, register_all_datasets
from epl_d2.data.datasets.metadata import CITYSCAPES_LABEL_ID_TO_TRAIN_ID
from epl_d2.data.label_check import inspect_record, summarize
from epl_d2.data.label_io import make_label_map, read_label, read_record_label
from epl_d2.engine import Trainer

CONFIGS = Path(__file__).parents[2] / "configs"
FOLDERS = {"camvid": "camvid", "voc_2012": "VOC2012", "cityscapes": "cityscapes"}


@pytest.fixture
def need():
    """need(family): skip the test unless the data set is there."""

    def check(family: str) -> str:
        folder = os.path.join(dataset_root(), FOLDERS[family])
        if "DETECTRON2_DATASETS" not in os.environ:
            pytest.skip("DETECTRON2_DATASETS names no folder with real data sets")
        if not os.path.isdir(folder):
            pytest.skip(f"there is no folder {folder}")
        register_all_datasets()
        return folder

    return check


def test_camvid_has_the_known_pixel_counts(need):
    """Counted in the files of the SegNet tutorial (test split, ids 0..10, then void)."""
    need("camvid")
    records = DatasetCatalog.get("camvid_sem_seg_test")
    summary = summarize((inspect_record(record, 11, 255) for record in records), 11)
    assert (summary.images, summary.errors) == (233, [])
    expected = "6870982 9906732 473895 10390661 3731857 4530895 406612 476807 1599124 255232 76220 1543383"
    assert summary.pixels.tolist() == [int(count) for count in expected.split()]


def test_voc_labels_are_the_palette_indices(need):
    need("voc_2012")
    for record in DatasetCatalog.get("voc_2012_sem_seg_train")[:20]:
        with Image.open(record["sem_seg_file_name"]) as picture:
            assert picture.mode == "P"
            indices = np.asarray(picture)
        label = read_record_label(record)
        np.testing.assert_array_equal(label, indices)
        assert set(np.unique(label)) <= {*range(21), 255}
    check_dataset_before_training("voc_2012_sem_seg_train", 21)


def test_cityscapes_label_ids_map_to_the_train_ids(need):
    need("cityscapes")
    label_map = make_label_map(CITYSCAPES_LABEL_ID_TO_TRAIN_ID, default=255)
    compared = 0
    for record in DatasetCatalog.get("cityscapes_fine_sem_seg_train")[:8]:
        train_ids = record["sem_seg_file_name"].replace("labelIds", "labelTrainIds")
        label_ids = train_ids.replace("labelTrainIds", "labelIds")
        if os.path.isfile(train_ids) and os.path.isfile(label_ids):
            mapped = read_label(label_ids, label_map=label_map)
            np.testing.assert_array_equal(mapped, read_label(train_ids))
            compared += 1
    if not compared:
        pytest.skip("no frame has both labelIds and labelTrainIds")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["semantic_fpn_R_50", "deeplab_v3_plus_mobilenet_v2_os16"])
@pytest.mark.parametrize("family", FOLDERS)
def test_models_train_on_real_data(need, tmp_path, family, model):
    """Two steps with EPL and the paper's augmentations."""
    need(family)
    folder = {"camvid": "CamVid", "voc_2012": "VOC2012", "cityscapes": "Cityscapes"}[family]
    train = {"camvid": "camvid_sem_seg_train", "voc_2012": "voc_2012_sem_seg_train"}
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / folder / f"{model}_epl.yaml"))
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 2])
    cfg.merge_from_list(["INPUT.CROP.SIZE", [96, 96], "DATALOADER.NUM_WORKERS", 0, "OUTPUT_DIR", str(tmp_path)])
    cfg.DATASETS.TRAIN = (train.get(family, "cityscapes_fine_sem_seg_train"),)
    assert list(cfg.INPUT.AUGMENTATIONS) == ["scale", "rotate", "blur", "flip", "crop"]
    trainer = Trainer(cfg)
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    with EventStorage() as storage:
        for trainer.iter in range(2):
            trainer.run_step()  # raises FloatingPointError if a loss is not finite
            storage.step()
    assert {"loss_sem_seg", "loss_epl_point", "loss_epl_line"} <= set(storage.histories())
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))
