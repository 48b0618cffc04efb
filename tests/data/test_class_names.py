"""Names and colors travel with the config of a trained model, and come from a data set's file where it lacks them."""

import pytest
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog

from epl_d2 import get_cfg
from epl_d2.data.class_names import keep_names_and_colors, names_and_colors, use_dataset_file, use_names_of
from epl_d2.data.datasets import register_from_config
from epl_d2.data.datasets.description import read_description
from epl_d2.data.datasets.metadata import DATASETS
from epl_d2.data.datasets.palette import distinct_palette

SPLITS = ("train", "val")


@pytest.fixture
def described(tmp_path):
    """described(**changes): a YAML file of three classes."""
    content = {"name": "mine", "classes": ["a", "b", "c"], "images": "photos", "labels": "masks"}

    def write(**changes) -> str:
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump({**content, "splits": {"train": 0.8, "val": 0.2}, **changes}))
        return str(path)

    yield write
    for name in ("mine_train", "mine_val", "mine_test"):
        for catalog in (DatasetCatalog, MetadataCatalog):
            if name in catalog.list():
                catalog.remove(name)


def config(classes: int):
    cfg = get_cfg()
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = classes
    return cfg


def test_those_of_the_data_set_then_numbers():
    cfg = config(11)
    cfg.DATASETS.TRAIN = ("camvid_sem_seg_train",)
    assert names_and_colors(cfg) == (DATASETS["camvid"].classes, DATASETS["camvid"].palette)
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 3
    assert names_and_colors(cfg) == (("0", "1", "2"), distinct_palette(3))


def test_those_of_the_config_come_first():
    cfg = config(11)
    cfg.DATASETS.TRAIN = ("camvid_sem_seg_train",)
    keep_names_and_colors(cfg)
    saved = get_cfg()
    saved.merge_from_other_cfg(cfg)
    saved.DATASETS.TRAIN = ("somewhere_else",)
    assert names_and_colors(saved) == (DATASETS["camvid"].classes, DATASETS["camvid"].palette)
    saved.DATASETS.TRAIN = ("camvid_sem_seg_train",)
    saved.DATASETS.CLASSES = [f"mine {number}" for number in range(11)]
    assert names_and_colors(saved)[0][3] == "mine 3"
    saved.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 12
    with pytest.raises(ValueError, match=r"DATASETS.CLASSES has 11 entries, but MODEL.SEM_SEG_HEAD.NUM_CLASSES is 12"):
        names_and_colors(saved)


def test_a_training_replaces_those_of_another_training():
    cfg = config(11)
    cfg.DATASETS.CLASSES = [f"other {number}" for number in range(11)]
    cfg.DATASETS.TRAIN = ("camvid_sem_seg_train",)
    keep_names_and_colors(cfg)
    assert tuple(cfg.DATASETS.CLASSES) == DATASETS["camvid"].classes


def test_a_data_sets_file_sets_all_that_depends_on_it(described, tmp_path):
    path = described(ignore_value=9)
    cfg = config(54)
    use_dataset_file(cfg, path)
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("mine_train",), ("mine_val",))
    assert (cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE) == (3, 9)
    assert [str(tmp_path / "mine.yaml")] == cfg.DATASETS.SEM_SEG_FILES
    register_from_config(cfg)
    assert names_and_colors(cfg) == (("a", "b", "c"), distinct_palette(3))
    use_dataset_file(cfg, described(splits={"train": 0.5, "test": 0.5}))
    assert cfg.DATASETS.TEST == ("mine_test",)
    use_dataset_file(cfg, described(splits={"train": 1}))
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("mine_train",), ())


def test_names_for_a_config_that_has_none(described):
    description = read_description(described(palette=[[1, 2, 3], [4, 5, 6], [7, 8, 9]]))
    cfg = config(3)
    use_names_of(cfg, description)
    assert names_and_colors(cfg) == (("a", "b", "c"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)))
    with pytest.raises(ValueError, match=r"mine.yaml has 3 classes, but the model's .*NUM_CLASSES is 4"):
        use_names_of(config(4), description)


def test_a_missing_file_is_an_error_only_where_data_is_needed(tmp_path, caplog):
    cfg = config(2)
    cfg.DATASETS.SEM_SEG_FILES = [str(tmp_path / "gone.yaml")]
    with pytest.raises(FileNotFoundError, match=r"gone\.yaml"):
        register_from_config(cfg)
    register_from_config(cfg, needed=False)
    assert "gone.yaml, which describes the data set, is not here" in caplog.text
    caplog.clear()
    cfg.DATASETS.CLASSES = ["a", "b"]
    register_from_config(cfg, needed=False)
    assert not caplog.text
