import hashlib

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from epl_d2.data.datasets.voc import load_voc_2012
from epl_d2.data.label_io import read_record_label
from epl_d2.data.voc_aug import ImageList, check_list, read_sbd_label, train_aug_ids, write_train_aug


@pytest.fixture
def roots(tmp_path, save, rng) -> tuple[str, str]:
    """VOC with train {a, b} and val {c}; SBD with train {b, d} and val {c, e}."""
    voc, sbd = tmp_path / "VOC2012", tmp_path / "sbd"
    lists = voc / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nb\n")
    (lists / "val.txt").write_text("c\n")
    (sbd / "cls").mkdir(parents=True)
    (sbd / "train.txt").write_text("b\nd\n")
    (sbd / "val.txt").write_text("c\ne\n")
    for image_id in "abcde":
        save(voc / "JPEGImages" / f"{image_id}.jpg", np.zeros((5, 7, 3), np.uint8))
    for image_id in "abc":
        save(voc / "SegmentationClass" / f"{image_id}.png", np.full((5, 7), 255, np.uint8), [0] * 768)
    for image_id in "bcde":
        label = rng.integers(0, 21, (5, 7), dtype=np.uint8)
        savemat(sbd / "cls" / f"{image_id}.mat", {"GTcls": {"Segmentation": label, "CategoriesPresent": [1]}})
    return str(voc), str(sbd)


def test_lists_are_joined_without_the_validation_images(roots):
    assert train_aug_ids(*roots) == ["a", "b", "d", "e"]


def test_label_maps_come_from_voc_where_it_has_one(roots):
    voc, sbd = roots
    assert write_train_aug(voc, sbd, train_aug_ids(*roots)) == 4
    records = load_voc_2012(voc, "train_aug", "SegmentationClassAug")
    assert [record["image_id"] for record in records] == ["a", "b", "d", "e"]
    labels = {record["image_id"]: read_record_label(record) for record in records}
    assert (labels["a"] == 255).all() and (labels["b"] == 255).all()
    np.testing.assert_array_equal(labels["d"], read_sbd_label(f"{sbd}/cls/d.mat"))
    assert len(np.unique(labels["d"])) > 5
    with Image.open(records[2]["sem_seg_file_name"]) as picture:
        assert picture.mode == "P" and picture.getpalette()[3:6] == [128, 0, 0]
    assert write_train_aug(voc, sbd, train_aug_ids(*roots)) == 0


def test_missing_downloads_are_named(roots, tmp_path):
    voc, sbd = roots
    with pytest.raises(FileNotFoundError, match=r"(?s)nowhere/train\.txt is missing.*benchmark\.tgz"):
        train_aug_ids(voc, str(tmp_path / "nowhere"))
    (tmp_path / "sbd" / "cls" / "e.mat").unlink()
    with pytest.raises(FileNotFoundError, match=r"(?s)1 label maps.*cls/e\.mat.*VOCtrainval"):
        write_train_aug(voc, sbd, train_aug_ids(*roots))
    (tmp_path / "VOC2012" / "JPEGImages" / "d.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 1 photos, such as \['d'\]"):
        write_train_aug(voc, sbd, train_aug_ids(*roots))
    assert not (tmp_path / "VOC2012" / "ImageSets" / "Segmentation" / "train_aug.txt").exists()


def test_damaged_files_are_named(roots, tmp_path):
    path = tmp_path / "sbd" / "cls" / "d.mat"
    path.write_bytes(b"no matlab file")
    with pytest.raises(ValueError, match=r"d\.mat: not a readable file"):
        write_train_aug(*roots, train_aug_ids(*roots))
    savemat(path, {"GTcls": {"Segmentation": np.full((5, 7), 21, np.uint8)}})
    with pytest.raises(ValueError, match=r"d\.mat.*ids up to 21"):
        read_sbd_label(str(path))
    savemat(path, {"GTcls": {"Segmentation": np.zeros((7, 5), np.uint8)}})
    with pytest.raises(ValueError, match=r"d\.mat: the label map is \(5, 7\), its photo \(7, 5\)"):
        write_train_aug(*roots, train_aug_ids(*roots))
    with pytest.raises(FileNotFoundError, match=r"z\.mat: no such file"):
        read_sbd_label(str(tmp_path / "z.mat"))


def test_lists_are_checked_by_count_and_content():
    expected = ImageList(2, hashlib.sha256(b"x\ny").hexdigest())
    check_list("mine", ["y", "x", "y"], expected)
    with pytest.raises(ValueError, match="mine has 1 images, expected 2"):
        check_list("mine", ["x"], expected)
    with pytest.raises(ValueError, match="not the usual ones"):
        check_list("mine", ["x", "z"], expected)
