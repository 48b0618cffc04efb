"""Preparation of a config, and the order of the hooks."""

import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.engine import hooks
from detectron2.utils import comm

from epl_d2 import get_cfg
from epl_d2.data.datasets import register_all_datasets
from epl_d2.data.shapes import write_shapes
from epl_d2.engine import Trainer, complete_config, prepare_config, read_config, setup
from epl_d2.engine.setup import with_working_norms


def test_one_process_replaces_every_synchronized_norm_and_no_other():
    cfg = get_cfg()
    cfg.MODEL.RESNETS.NORM = "SyncBN"
    cfg.MODEL.SEM_SEG_HEAD.NORM = "naiveSyncBN"
    cfg.MODEL.FPN.NORM = "GN"
    cfg.MODEL.MOBILENETV2.NORM = "FrozenBN"
    ours = with_working_norms(cfg)
    assert (ours.MODEL.RESNETS.NORM, ours.MODEL.SEM_SEG_HEAD.NORM) == ("BN", "BN")
    assert (ours.MODEL.FPN.NORM, ours.MODEL.MOBILENETV2.NORM) == ("GN", "FrozenBN")
    assert cfg.MODEL.RESNETS.NORM == "SyncBN"


def test_without_cuda_the_cpu_is_taken_and_said(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cfg = get_cfg()
    cfg.MODEL.DEVICE, cfg.SOLVER.AMP.ENABLED = "cuda", True
    prepare_config(cfg)
    assert cfg.MODEL.DEVICE == "cpu"
    assert not cfg.SOLVER.AMP.ENABLED
    assert "no CUDA device" in caplog.text
    assert "SOLVER.AMP" in caplog.text


@pytest.mark.parametrize(("set_by_user", "threads"), [(None, 3), ("5", None)])
def test_processes_share_the_cores_that_may_be_used_unless_the_user_says_otherwise(monkeypatch, set_by_user, threads):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if set_by_user:
        monkeypatch.setenv("OMP_NUM_THREADS", set_by_user)
    said = []
    monkeypatch.setattr(torch, "set_num_threads", said.append)
    monkeypatch.setattr(setup, "usable_cores", lambda: 6)
    monkeypatch.setattr(comm, "get_world_size", lambda: 4)
    monkeypatch.setattr(comm, "get_local_size", lambda: 2)
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    prepare_config(cfg)
    assert said == ([threads] if threads else [])


def test_with_cuda_the_device_stays(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cuda"
    prepare_config(cfg)
    assert cfg.MODEL.DEVICE == "cuda"


@pytest.fixture
def shapes_config(tmp_path, monkeypatch):
    write_shapes(str(tmp_path / "shapes"), train=4, val=2, size=(32, 32), seed=0)
    register_all_datasets(str(tmp_path))
    cfg = get_cfg()
    cfg.merge_from_file("configs/shapes/deeplab_v3_plus_mobilenet_v2_epl.yaml")
    cfg.MODEL.DEVICE, cfg.OUTPUT_DIR, cfg.DATALOADER.NUM_WORKERS = "cpu", str(tmp_path / "output"), 0
    yield cfg
    monkeypatch.undo()
    register_all_datasets()


@pytest.mark.parametrize("metric", ["", "sem_seg/BF@3px"])
def test_best_checkpoint_follows_the_configured_metric(shapes_config, metric):
    shapes_config.TEST.BEST_CHECKPOINT_METRIC = metric
    trainer = Trainer(shapes_config)
    best = [hook for hook in trainer._hooks if isinstance(hook, hooks.BestCheckpointer)]
    assert len(best) == bool(metric)
    assert isinstance(trainer._hooks[-4], hooks.PeriodicWriter)  # then those that record, stop and seed
    if metric:
        evaluation = next(i for i, hook in enumerate(trainer._hooks) if isinstance(hook, hooks.EvalHook))
        assert trainer._hooks.index(best[0]) > evaluation


def config_on(count, monkeypatch, **options):
    monkeypatch.setattr(DatasetCatalog, "get", lambda name: [{}] * count)
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = ("camvid_sem_seg_train", "camvid_sem_seg_val")
    cfg.merge_from_list([part for pair in options.items() for part in pair])
    return cfg


def test_epochs_become_iterations(monkeypatch):
    options = {"SOLVER.EPOCHS": 10, "SOLVER.MAX_ITER": 0, "SOLVER.IMS_PER_BATCH": 4}
    cfg = config_on(7, monkeypatch, **options)
    complete_config(cfg, training=True)
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.EPOCHS) == (35, 0)  # 10 times 14 images by 4
    complete_config(cfg, training=True)  # as of the saved config
    assert cfg.SOLVER.MAX_ITER == 35
    cfg = config_on(3, monkeypatch, **{**options, "SOLVER.EPOCHS": 1})
    complete_config(cfg, training=True)
    assert cfg.SOLVER.MAX_ITER == 2  # 1.5, and no image is left out
    cfg = config_on(7, monkeypatch, **{**options, "SOLVER.MAX_ITER": 100})
    with pytest.raises(ValueError, match=r"SOLVER\.EPOCHS is 10 and SOLVER.MAX_ITER is 100"):
        complete_config(cfg, training=True)
    for images in (0, -4):
        cfg = config_on(7, monkeypatch, **{**options, "SOLVER.IMS_PER_BATCH": images})
        with pytest.raises(
            ValueError, match=rf"SOLVER\.IMS_PER_BATCH is {images}, expected a positive number of images"
        ):
            complete_config(cfg, training=True)
    cfg = config_on(7, monkeypatch, **{**options, "SOLVER.EPOCHS": -1})
    with pytest.raises(ValueError, match=r"SOLVER\.EPOCHS is -1, expected a positive number"):
        complete_config(cfg, training=True)
    cfg = config_on(7, monkeypatch, **options)
    cfg.DATASETS.TRAIN = ("nowhere_train",)
    with pytest.raises(ValueError, match="there is no data set 'nowhere_train'"):
        complete_config(cfg, training=True)


def test_an_evaluation_keeps_the_names_of_the_training():
    cfg = get_cfg()
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 11
    cfg.DATASETS.TEST = ("camvid_sem_seg_val",)
    cfg.DATASETS.CLASSES = [f"class {number}" for number in range(11)]
    complete_config(cfg, training=False)
    assert cfg.DATASETS.CLASSES[3] == "class 3"
    cfg.DATASETS.CLASSES = []
    complete_config(cfg, training=False)
    assert cfg.DATASETS.CLASSES[3] == "road"


def test_weights_may_lie_beside_the_config(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "model" / "config.yaml").write_text("MODEL: {WEIGHTS: mine.pth}\nVERSION: 2\n")
    monkeypatch.chdir(tmp_path / "elsewhere")

    def weights(*opts):
        return read_config("../model/config.yaml", [*opts, "MODEL.DEVICE", "cpu"]).MODEL.WEIGHTS

    assert weights() == "mine.pth"  # nowhere
    (tmp_path / "model" / "mine.pth").touch()
    assert weights() == "../model/mine.pth"
    assert weights("MODEL.WEIGHTS", "other.pth") == "other.pth"
    (tmp_path / "elsewhere" / "mine.pth").touch()
    assert weights() == "mine.pth"
    with pytest.raises(FileNotFoundError, match=r"--config-file none\.yaml: there is no such file"):
        read_config("none.yaml")


def test_one_checkpoint_alone_may_be_given(tmp_path):
    (tmp_path / "config.yaml").write_text("MODEL: {WEIGHTS: start.pth}\nVERSION: 2\n")

    def weights(given, *opts):
        return read_config(tmp_path / "config.yaml", ["MODEL.DEVICE", "cpu", *opts], weights=given).MODEL.WEIGHTS

    assert weights(None) == "start.pth"
    assert weights(tmp_path / "a.pth") == str(tmp_path / "a.pth")
    assert weights("a.pth", "MODEL.WEIGHTS", "") == "a.pth"  # none is no other one
    assert weights("a.pth", "OUTPUT_DIR", "MODEL.WEIGHTS") == "a.pth"
    with pytest.raises(ValueError, match=r"two checkpoints are given, 'a\.pth' and .* MODEL\.WEIGHTS 'b\.pth'"):
        weights("a.pth", "MODEL.WEIGHTS", "b.pth")
