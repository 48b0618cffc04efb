import os
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog

from epl_d2 import get_cfg, register
from epl_d2.data.dataset_check import check_dataset_before_training
from epl_d2.data.dataset_mapper import SemSegDatasetMapper
from epl_d2.data.datasets import register_from_config, register_from_yaml, register_sem_seg_folder
from epl_d2.data.label_check import inspect_record
from epl_d2.data.label_io import read_record_label

PHOTO = np.zeros((4, 6, 3), np.uint8)


@pytest.fixture(autouse=True)
def _clean_catalogs():
    register()
    before = set(DatasetCatalog.list())
    yield
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture
def folders(tmp_path, save) -> tuple[str, str]:
    for stem in ("night/2", "day/1"):
        save(tmp_path / "photos" / f"{stem}_image.jpg", PHOTO)
        save(tmp_path / "masks" / f"{stem}_mask.png", np.array([[0, 1, 2, 1, 0, 255]] * 4, dtype=np.uint8))
    return str(tmp_path / "photos"), str(tmp_path / "masks")


TOGETHER = {"images": "photos", "labels": "masks"}
ENDINGS = {"image_ending": "_image", "label_ending": "_mask"}


def test_files_pair_by_stem_through_subfolders(folders):
    register_sem_seg_folder("mine", *folders, ["a", "b", "c"], [[1, 2, 3], [4, 5, 6], [7, 8, 9]], **ENDINGS)
    first, second = DatasetCatalog.get("mine")
    assert (first["image_id"], second["image_id"]) == ("day/1", "night/2")
    assert first["sem_seg_file_name"].endswith("masks/day/1_mask.png")
    metadata = MetadataCatalog.get("mine")
    assert metadata.stuff_classes == ["a", "b", "c"] and metadata.stuff_colors[1] == (4, 5, 6)
    assert (metadata.ignore_label, metadata.evaluator_type) == (255, "sem_seg")


def test_ids_can_be_mapped(folders):
    register_sem_seg_folder("mine", *folders, ["a", "b"], label_map={0: 255, 1: 0, 2: 1}, **ENDINGS)
    np.testing.assert_array_equal(read_record_label(DatasetCatalog.get("mine")[0])[0], [255, 0, 1, 0, 255, 255])


def test_rgb_masks(tmp_path, save):
    colors = np.array([[10, 20, 30], [40, 50, 60], [0, 0, 0]], dtype=np.uint8)
    save(tmp_path / "photos" / "1.png", PHOTO)
    save(tmp_path / "masks" / "1.png", colors[[[0, 1, 2, 1, 0, 2]] * 4])
    options = {"rgb_masks": True, "ignore_color": [0, 0, 0], "palette": colors[:2].tolist()}
    register_sem_seg_folder("mine", str(tmp_path / "photos"), str(tmp_path / "masks"), ["a", "b"], **options)
    np.testing.assert_array_equal(read_record_label(DatasetCatalog.get("mine")[0])[0], [0, 1, 255, 1, 0, 255])


@pytest.mark.parametrize("ignore_value", [256, 1000, 65_535, -1])
def test_ignored_pixels_of_rgb_masks_may_have_any_id(tmp_path, save, ignore_value):
    """They are ignored in the check of the files, and in training, with padding."""
    colors = np.array([[10, 20, 30], [40, 50, 60], [0, 0, 0]], dtype=np.uint8)
    save(tmp_path / "photos" / "1.png", PHOTO)
    save(tmp_path / "masks" / "1.png", colors[[[0, 1, 2, 1, 0, 2]] * 4])
    options = {"rgb_masks": True, "ignore_color": [0, 0, 0], "palette": colors[:2].tolist()}
    folders = str(tmp_path / "photos"), str(tmp_path / "masks")
    register_sem_seg_folder("mine", *folders, ["a", "b"], ignore_value=ignore_value, **options)
    [record] = DatasetCatalog.get("mine")
    report = inspect_record(record, 2, ignore_value)
    assert report.error == "" and report.pixels.tolist() == [8, 8, 8]
    check_dataset_before_training("mine", 2, ignore_value)
    cfg = get_cfg()
    cfg.INPUT.AUGMENTATIONS = ["crop"]
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.SIZE = True, [8, 10]
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = 2, ignore_value
    padded = SemSegDatasetMapper(cfg, True)(record)["sem_seg"]
    assert [(padded == i).sum().item() for i in (0, 1, ignore_value)] == [8, 8, 64]


def test_files_without_partner_are_listed(tmp_path, folders, save):
    save(tmp_path / "photos" / "extra_image.jpg", PHOTO)
    save(tmp_path / "masks" / "lonely_mask.png", np.zeros((4, 6), np.uint8))
    register_sem_seg_folder("mine", *folders, ["a", "b", "c"], **ENDINGS)
    with pytest.raises(ValueError, match=r"mine: 1 images without.*: extra; 1 labels without.*: lonely$"):
        DatasetCatalog.get("mine")


def test_a_link_that_leads_back_is_named(folders):
    """Followed, it would give every file forty times."""
    os.symlink(folders[0], os.path.join(folders[0], "night", "again"))
    register_sem_seg_folder("mine", *folders, ["a", "b", "c"], **ENDINGS)
    with pytest.raises(ValueError, match=r"night/again is a link to .*photos, which holds it"):
        DatasetCatalog.get("mine")


def test_a_link_to_another_folder_is_followed(folders, tmp_path):
    for folder in folders:
        os.rename(os.path.join(folder, "night"), str(tmp_path / f"night_{os.path.basename(folder)}"))
        os.symlink(tmp_path / f"night_{os.path.basename(folder)}", os.path.join(folder, "night"))
    register_sem_seg_folder("mine", *folders, ["a", "b", "c"], **ENDINGS)
    assert [record["image_id"] for record in DatasetCatalog.get("mine")] == ["day/1", "night/2"]


def test_missing_and_empty_folders(tmp_path, folders):
    register_sem_seg_folder("mine", folders[0], str(tmp_path / "nowhere"), ["a"])
    with pytest.raises(FileNotFoundError, match=r"mine.*nowhere' does not exist. Expected:\n") as error:
        DatasetCatalog.get("mine")
    assert "DETECTRON2_DATASETS" not in str(error.value)  # the folder is where the caller said
    (tmp_path / "empty").mkdir()
    register_sem_seg_folder("none", str(tmp_path / "empty"), folders[1], ["a"])
    with pytest.raises(FileNotFoundError, match="none: no images"):
        DatasetCatalog.get("none")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": []}, "classes"),
        ({"classes": "road"}, "classes"),
        ({"classes": ["a", "a"]}, "classes"),
        ({"palette": [[0, 0, 0]]}, "2 classes but 1 palette"),
        ({"palette": [[0, 0, 0], [0, 0, 300]]}, "300"),
        ({"ignore_value": 1}, "ignore_value 1"),
        ({"rgb_masks": True}, "rgb_masks needs a palette"),
        ({"ignore_color": [0, 0, 0]}, "ignore_color"),
        ({"label_map": {1: 256}}, "1 -> 256"),
        ({"rgb_masks": True, "palette": [[0, 0, 0], [0, 0, 0]]}, "share a palette color"),
        ({"rgb_masks": True, "palette": [[0, 0, 0], [1, 1, 1]], "ignore_color": [1, 1, 1]}, "color of 'b'"),
        (
            {"rgb_masks": True, "palette": [[0, 0, 0], [1, 1, 1]], "label_map": {0: 1}},
            "label_map does not apply",
        ),
    ],
)
def test_contradictions_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        register_sem_seg_folder("mine", "images", "labels", **{"classes": ["a", "b"], **options})
    assert "mine" not in DatasetCatalog.list()


@pytest.fixture
def described(tmp_path, folders):
    content = {
        "name": "streets",
        "classes": ["a", "b"],
        "label_map": {0: 255, 1: 0, 2: 1},
        "splits": {"train": {"images": "photos", "labels": "masks"}},
        **ENDINGS,
    }

    def write(**changes) -> str:
        path = tmp_path / "streets.yaml"
        said = {key: value for key, value in {**content, **changes}.items() if value is not None}
        path.write_text(yaml.safe_dump(said, sort_keys=False))
        return str(path)

    return write


def test_yaml_alone_registers_a_data_set(described):
    cfg = get_cfg()
    cfg.DATASETS.SEM_SEG_FILES = [described()]
    register_from_config(cfg)
    register_from_config(cfg)  # the same file again is no conflict
    records = DatasetCatalog.get("streets_train")
    assert len(records) == 2
    np.testing.assert_array_equal(read_record_label(records[0])[0], [255, 0, 1, 0, 255, 255])


def ids(name: str) -> list[str]:
    return [record["image_id"] for record in DatasetCatalog.get(name)]


@pytest.fixture
def ten_pairs(tmp_path, save):
    for number in range(10):
        save(tmp_path / "photos" / f"p {number}_image.png", PHOTO)
        save(tmp_path / "masks" / f"p {number}_mask.png", np.zeros((4, 6), np.uint8))
    return [f"p {number}" for number in range(10)]


def test_shares_of_one_folder_follow_the_seed(described, ten_pairs):
    shares = {"splits": {"train": 0.7, "val": 0.2, "test": 0.1}, **TOGETHER}
    drawn = []
    for seed in (None, 1, 1, 2):
        register_from_yaml(described(**shares, seed=seed))
        drawn.append([ids(f"streets_{split}") for split in shares["splits"]])
        everything = sorted(name for part in drawn[-1] for name in part)
        assert everything == sorted([*ten_pairs, "day/1", "night/2"])
        assert [len(part) for part in drawn[-1]] == [8, 3, 1]  # of 12
        assert all(part == sorted(part) for part in drawn[-1])
    assert drawn[1] == drawn[2] and drawn[0] != drawn[1] != drawn[3]


def test_a_share_without_an_image_is_an_error(described):
    register_from_yaml(described(**TOGETHER, splits={"train": 0.9, "val": 0.1}))
    with pytest.raises(ValueError, match=r"streets_val: none of the 2 images of .*photos falls into a share of 0\.1"):
        DatasetCatalog.get("streets_val")


def test_lists_divide_one_folder(described, ten_pairs, tmp_path, save):
    (tmp_path / "train.txt").write_text("p 3\n\np 1_image.png\nday/1_image\n")
    (tmp_path / "val.txt").write_text("p 4\n")
    save(tmp_path / "photos" / "unlabeled_image.png", PHOTO)
    register_from_yaml(described(**TOGETHER, splits={"train": "train.txt", "val": "val.txt"}))
    assert ids("streets_train") == ["day/1", "p 1", "p 3"] and ids("streets_val") == ["p 4"]
    register_from_yaml(described(splits={"train": {**TOGETHER, "list": "val.txt"}}))
    assert ids("streets_train") == ["p 4"]
    for text, message in (
        ("p 4\np 4_image.png", r"val.txt names images twice: p 4"),
        ("p 99", r"streets_val: 1 of 1 images of .*val.txt are not in .*photos: p 99"),
        ("unlabeled", r"streets_val: 1 of 1 label files are not in .*masks: unlabeled"),
        ("", r"val.txt names no image"),
    ):
        (tmp_path / "val.txt").write_text(text)
        register_from_yaml(described(**TOGETHER, splits={"val": "val.txt"}))
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            DatasetCatalog.get("streets_val")


@pytest.mark.parametrize("root", ["elsewhere", None])
def test_folders_may_lie_below_the_folder_of_all_data_sets(described, tmp_path, monkeypatch, root):
    (tmp_path / (root or "datasets")).mkdir()
    for name in TOGETHER.values():
        (tmp_path / name).rename(tmp_path / (root or "datasets") / name)
    (tmp_path / "train.txt").write_text("day/1\n")
    folders = {key: f"$DETECTRON2_DATASETS/{name}" for key, name in TOGETHER.items()}
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    if root:
        monkeypatch.setenv("DETECTRON2_DATASETS", root)  # relative to where the command runs, as for all data sets
    register_from_yaml(described(**folders, splits={"train": "train.txt"}))
    assert ids("streets_train") == ["day/1"]


def test_yaml_does_not_take_the_name_of_another_data_set(described):
    with pytest.raises(ValueError, match=r"camvid_sem_seg_train.*already registered"):
        register_from_yaml(described(name="camvid_sem_seg"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colors": [1]}, r"unknown keys \['colors'\]"),
        ({"classes": None}, r"missing keys \['classes'\]"),
        ({"splits": ["train"]}, "splits is"),
        ({"splits": {}}, "splits is"),
        ({"splits": {"train": 0.8}}, "splits is"),
        ({"images": "photos"}, "images is 'photos', but images and labels go together"),
        ({"seed": 1}, "seed is 1, but no split is a share"),
        ({**TOGETHER, "splits": {"train": 0.8, "val": 0.3}}, "sum is at most 1"),
        ({**TOGETHER, "splits": {"train": 0.8, "val": 0}}, "shares are above 0"),
        ({**TOGETHER, "splits": {"train": 0.8, "val": "val.txt"}}, "splits is"),
        ({**TOGETHER, "splits": {"train": {"images": "photos", "labels": "masks"}}}, "splits is"),
        ({**TOGETHER, "splits": {"train": 1}, "seed": "x"}, "seed is 'x', expected a whole number"),
        ({"splits": {"train": {"images": "photos"}}}, "splits is"),
        ({"splits": {"train": {"images": 1, "labels": 2}}}, "splits is"),
        ({"name": 3}, "name is 3, expected a name"),
        ({"classes": "a, b"}, "classes is 'a, b', expected a list of names"),
        ({"classes": [1, True]}, r"classes is \[1, True\], expected a list of names \(in quotes\)"),
        ({"palette": ["red", "blue"]}, r"palette is .*colors \[r, g, b\]"),
        ({"palette": 3}, "palette is 3"),
        ({"palette": [[1, 2, 300], [1, 2, 3]]}, "palette is .*0..255"),
        ({"ignore_value": "void"}, "ignore_value is 'void', expected an id"),
        ({"label_map": [1, 2]}, r"label_map is \[1, 2\]"),
        ({"label_map": {"road": 1}}, "label_map is {'road': 1}"),
        ({"rgb_masks": "yes please"}, "rgb_masks is 'yes please', expected true or false"),
        ({"ignore_color": 7}, r"ignore_color is 7, expected a color"),
        ({"image_ending": 1}, r"image_ending is 1, expected a text \(in quotes\)"),
    ],
)
def test_yaml_errors_name_file_and_key(described, changes, message):
    with pytest.raises(ValueError, match=rf"streets\.yaml: .*{message}"):
        register_from_yaml(described(**changes))


def test_yaml_must_be_yaml(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("name: [")
    with pytest.raises(ValueError, match=r"broken\.yaml: not a YAML file"):
        register_from_yaml(str(path))
    path.write_text("just text")
    with pytest.raises(ValueError, match=r"broken\.yaml: expected the keys"):
        register_from_yaml(str(path))
    path.write_text("name: streets", encoding="utf-16")
    with pytest.raises(ValueError, match=r"broken\.yaml: not a YAML file in UTF-8"):
        register_from_yaml(str(path))
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(FileNotFoundError, match=r"pipe\.yaml"):
        register_from_yaml(str(tmp_path / "pipe.yaml"))
    with pytest.raises(FileNotFoundError, match=r"missing\.yaml"):
        register_from_yaml(str(tmp_path / "missing.yaml"))


def test_documented_example_registers(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    (tmp_path / "streets.yaml").write_text(re.search(r"```yaml\n(# streets\.yaml.*?)```", text, re.S).group(1))
    assert register_from_yaml(str(tmp_path / "streets.yaml")) == ["streets_train", "streets_val"]
    assert MetadataCatalog.get("streets_val").label_root == str(tmp_path / "masks")
