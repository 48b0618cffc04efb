import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from PIL import Image

from epl_d2 import get_cfg
from epl_d2.data.dataset_mapper import SemSegDatasetMapper


def make_mapper(augmentations=(), is_train=True, image_format="RGB", num_classes=3) -> SemSegDatasetMapper:
    return SemSegDatasetMapper(
        is_train=is_train,
        augmentations=augmentations,
        image_format=image_format,
        num_classes=num_classes,
        ignore_value=255,
    )


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
def test_training_sample(pairs, image_format):
    record = pairs(1)[0]
    before = dict(record)
    sample = make_mapper([T.RandomFlip(prob=1.0)], image_format=image_format)(record)
    assert record == before
    photo = np.asarray(Image.open(record["file_name"]))[:, ::-1]
    label = np.asarray(Image.open(record["sem_seg_file_name"]))[:, ::-1]
    if image_format == "BGR":
        photo = photo[:, :, ::-1]
    assert sample["image"].dtype == torch.uint8 and sample["sem_seg"].dtype == torch.int64
    np.testing.assert_array_equal(sample["image"].permute(1, 2, 0), photo)
    np.testing.assert_array_equal(sample["sem_seg"], label)
    assert (sample["height"], sample["width"]) == (40, 56)
    assert sample["file_name"] == record["file_name"]


def test_palette_ids_survive(tmp_path, save, pairs):
    record = pairs(1)[0]
    ids = np.arange(40 * 56, dtype=np.int64).reshape(40, 56) % 21
    palette = [value for index in range(21) for value in (9 * index, 255 - index, index)]
    record["sem_seg_file_name"] = str(save(tmp_path / "voc.png", ids.astype(np.uint8), palette))
    np.testing.assert_array_equal(make_mapper(num_classes=21)(record)["sem_seg"], ids)


def test_inference_sample_has_the_original_size_and_no_label(pairs):
    record = pairs(1)[0]
    sample = make_mapper([T.ResizeShortestEdge(20)], is_train=False)(record)
    assert sample["image"].shape == (3, 20, 28) and "sem_seg" not in sample
    assert (sample["height"], sample["width"]) == (40, 56)
    assert sample["sem_seg_file_name"] == record["sem_seg_file_name"]


def test_from_config(pairs):
    cfg = get_cfg()
    cfg.INPUT.CROP.ENABLED = True
    cfg.INPUT.CROP.SIZE = [65, 33]
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 3
    sample = SemSegDatasetMapper(cfg, True)(pairs(1)[0])
    assert sample["image"].shape == (3, 65, 33) and sample["sem_seg"].shape == (65, 33)
    assert SemSegDatasetMapper(cfg, False)(pairs(1)[0])["image"].shape == (3, 40, 56)


def test_sizes_must_agree(pairs, tmp_path, save):
    record = pairs(1)[0]
    record["sem_seg_file_name"] = str(save(tmp_path / "small.png", np.zeros((20, 28), np.uint8)))
    with pytest.raises(ValueError, match=r"small\.png.*28 x 20.*0\.png 56 x 40"):
        make_mapper()(record)


def test_unknown_ids_are_named(pairs):
    record = pairs(1)[0]
    with pytest.raises(ValueError, match=r"labels/0\.png: label ids \[2\], expected 0\.\.1.*NUM_CLASSES"):
        make_mapper(num_classes=2)(record)


def test_training_needs_labels(pairs):
    record = pairs(1)[0]
    del record["sem_seg_file_name"]
    with pytest.raises(ValueError, match=r"photos/0\.png.*labels"):
        make_mapper()(record)
    assert "image" in make_mapper(is_train=False)(record)
