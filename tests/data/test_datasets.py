import subprocess
import sys

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from epl_d2.data.datasets import register_all_datasets
from epl_d2.data.datasets.camvid import load_camvid
from epl_d2.data.datasets.cityscapes import load_cityscapes
from epl_d2.data.datasets.layout import files_by_stem
from epl_d2.data.datasets.metadata import DATASETS, DatasetMetadata
from epl_d2.data.datasets.registration import register_sem_seg
from epl_d2.data.datasets.shapes import load_shapes
from epl_d2.data.datasets.voc import load_voc_2012, register_voc_2012
from epl_d2.data.label_io import read_record_label

PHOTO = np.zeros((4, 6, 3), np.uint8)


@pytest.fixture
def label() -> np.ndarray:
    return np.array([[0, 1, 2, 10, 11, 255]] * 4, dtype=np.uint8)


@pytest.fixture
def _keep_catalogs():
    yield
    register_all_datasets()


def test_names_and_metadata():
    names = [
        *(f"cityscapes_fine_sem_seg_{split}" for split in ("train", "val", "test")),
        *(f"voc_2012_sem_seg_{split}" for split in ("train", "train_aug", "val", "trainval")),
        *(f"camvid_sem_seg_{split}" for split in ("train", "val", "test")),
        *(f"shapes_sem_seg_{split}" for split in ("train", "val")),
    ]
    assert set(names) <= set(DatasetCatalog.list())
    for name in names:
        family = DATASETS[name[: name.index("_fine_sem" if "_fine_" in name else "_sem_seg")]]
        metadata = MetadataCatalog.get(name)
        assert tuple(metadata.stuff_classes) == family.classes
        assert tuple(metadata.stuff_colors) == family.palette
        assert (metadata.ignore_label, metadata.evaluator_type) == (255, "sem_seg")


@pytest.mark.usefixtures("_keep_catalogs")
def test_root_is_a_choice_and_registering_again_changes_it(tmp_path, save, label):
    save(tmp_path / "camvid" / "val" / "a.png", PHOTO)
    save(tmp_path / "camvid" / "valannot" / "a.png", label)
    register_all_datasets(str(tmp_path))
    (record,) = DatasetCatalog.get("camvid_sem_seg_val")
    assert record["file_name"] == str(tmp_path / "camvid" / "val" / "a.png")
    assert MetadataCatalog.get("camvid_sem_seg_val").image_root == str(tmp_path / "camvid" / "val")


def test_importing_reads_no_data_and_needs_no_torch():
    code = (
        "import sys, builtins, os; os.environ['DETECTRON2_DATASETS'] = '/nowhere';"
        "import epl_d2.data, epl_d2.data.label_io, epl_d2.data.datasets.metadata, epl_d2.data.shapes;"
        "assert not {'torch', 'detectron2'} & set(sys.modules), 'heavy import'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_camvid_reads_both_kinds_of_void(tmp_path, save, label):
    for name in ("b", "a"):
        save(tmp_path / "train" / f"{name}.jpg", PHOTO)
        save(tmp_path / "trainannot" / f"{name}.png", label)
    records = load_camvid(str(tmp_path), "train")
    assert [record["image_id"] for record in records] == ["a", "b"]
    np.testing.assert_array_equal(read_record_label(records[0])[0], [0, 1, 2, 10, 255, 255])


def test_camvid_names_what_is_missing(tmp_path, save, label):
    with pytest.raises(FileNotFoundError, match=r"(?s)camvid_sem_seg_test.*does not exist.*testannot/"):
        load_camvid(str(tmp_path), "test")
    save(tmp_path / "test" / "a.jpg", PHOTO)
    save(tmp_path / "testannot" / "b.png", label)
    with pytest.raises(FileNotFoundError, match=r"1 of 1 label files.*testannot: a$"):
        load_camvid(str(tmp_path), "test")
    (tmp_path / "test" / "a.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="no images"):
        load_camvid(str(tmp_path), "test")


def make_cityscapes(root, save, frames: dict[str, str]) -> tuple[str, str]:
    for frame, kind in frames.items():
        city = frame.split("_")[0]
        save(root / "leftImg8bit" / "train" / city / f"{frame}_leftImg8bit.png", PHOTO)
        if kind:
            ids = np.array([[7, 8, 33, 0, 29, 255]] * 4, dtype=np.uint8)
            train_ids = np.array([[0, 1, 18, 255, 255, 255]] * 4, dtype=np.uint8)
            array = ids if kind == "labelIds" else train_ids
            save(root / "gtFine" / "train" / city / f"{frame}_gtFine_{kind}.png", array)
    return str(root / "leftImg8bit" / "train"), str(root / "gtFine" / "train")


def test_cityscapes_takes_either_kind_of_label(tmp_path, save):
    frames = {"ulm_000_001": "labelIds", "bonn_000_000": "labelTrainIds"}
    records = load_cityscapes("name", *make_cityscapes(tmp_path, save, frames))
    assert [record["image_id"] for record in records] == ["bonn_000_000", "ulm_000_001"]
    for record in records:
        np.testing.assert_array_equal(read_record_label(record)[0], [0, 1, 18, 255, 255, 255])
    unlabeled = load_cityscapes("name", *make_cityscapes(tmp_path, save, frames), labeled=False)
    assert len(unlabeled) == 2 and "sem_seg_file_name" not in unlabeled[0]


def test_cityscapes_names_what_is_missing(tmp_path, save):
    folders = make_cityscapes(tmp_path, save, {"ulm_000_001": "labelIds", "ulm_000_002": ""})
    with pytest.raises(FileNotFoundError, match=r"1 of 2 frames.*ulm_000_002_gtFine_labelTrainIds"):
        load_cityscapes("name", *folders)
    with pytest.raises(FileNotFoundError, match=r"(?s)cs.*leftImg8bit/\{train,val,test\}"):
        load_cityscapes("cs", str(tmp_path / "nowhere"), folders[1])


def test_voc_follows_its_lists(tmp_path, save, label):
    for image_id in ("2007_1", "2007_2", "2007_3"):
        save(tmp_path / "JPEGImages" / f"{image_id}.jpg", PHOTO)
        save(tmp_path / "SegmentationClass" / f"{image_id}.png", label, [0] * 768)
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_3\n2007_1\n\n")
    (lists / "odd.txt").write_text("2007_2\n2008_9\n")
    (lists / "empty.txt").write_text("\n")
    records = load_voc_2012(str(tmp_path), "train")
    assert [record["image_id"] for record in records] == ["2007_3", "2007_1"]
    np.testing.assert_array_equal(read_record_label(records[0]), label)
    with pytest.raises(FileNotFoundError, match=r"1 of 2 images.*2008_9"):
        load_voc_2012(str(tmp_path), "odd")
    with pytest.raises(FileNotFoundError, match="no images"):
        load_voc_2012(str(tmp_path), "empty")
    with pytest.raises(FileNotFoundError, match=r"there is no list .*val\.txt"):
        load_voc_2012(str(tmp_path), "val")
    (lists / "marked.txt").write_text("2007_3\n2007_1\n", encoding="utf-8-sig")
    assert load_voc_2012(str(tmp_path), "marked") == records
    (lists / "wide.txt").write_text("2007_3\n", encoding="utf-16")
    with pytest.raises(ValueError, match=r"wide\.txt: the list is no UTF-8 text"):
        load_voc_2012(str(tmp_path), "wide")
    (lists / "wider.txt").write_bytes("2007_3\n".encode("utf-16-le"))  # without a mark every byte is valid UTF-8
    with pytest.raises(ValueError, match=r"wider\.txt: the list is no UTF-8 text"):
        load_voc_2012(str(tmp_path), "wider")
    (lists / "double.txt").write_text("2007_3\n2007_1\n2007_3\n")
    with pytest.raises(ValueError, match=r"double\.txt: 1 names are in the list twice: 2007_3"):
        load_voc_2012(str(tmp_path), "double")
    with pytest.raises(FileNotFoundError, match=r"(?s)SegmentationClassAug.*prepare_voc_aug"):
        load_voc_2012(str(tmp_path), "train", "SegmentationClassAug")
    (lists / "mine.txt").write_text("2007_2\n")
    register_voc_2012(str(tmp_path), "mine")
    assert len(DatasetCatalog.get("voc_2012_sem_seg_mine")) == 1
    DatasetCatalog.remove("voc_2012_sem_seg_mine")
    MetadataCatalog.remove("voc_2012_sem_seg_mine")


def test_missing_shapes_say_how_to_make_them(tmp_path):
    with pytest.raises(FileNotFoundError, match="prepare_shapes"):
        load_shapes(str(tmp_path), "train")


def test_taken_names_are_refused():
    metadata = DatasetMetadata(("a",), ((0, 0, 0),))
    with pytest.raises(ValueError, match="camvid_sem_seg_val"):
        register_sem_seg("camvid_sem_seg_val", list, metadata)


def test_two_files_of_one_stem_are_refused(tmp_path, save):
    save(tmp_path / "a.jpg", PHOTO)
    save(tmp_path / "a.png", PHOTO)
    with pytest.raises(ValueError, match="same stem"):
        files_by_stem(str(tmp_path))
    assert list(files_by_stem(str(tmp_path), (".png",))) == ["a"]
