"""What the trainer builds, with every key that it reads off its default."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import hooks
from torch import nn

from epl_d2 import get_cfg
from epl_d2.engine import Trainer, evaluators, trainer
from epl_d2.engine.training_pictures import TrainingPictures
from epl_d2.engine.writers import WandbWriter

DATASET = "trainer_wiring"
CONFIG = Path(__file__).parents[2] / "configs" / "shapes" / "deeplab_v3_plus_mobilenet_v2.yaml"


@pytest.fixture(autouse=True)
def registered():
    """A data set of one record."""
    DatasetCatalog.register(DATASET, lambda: [{"file_name": "image.png", "sem_seg_file_name": "label.png"}])
    MetadataCatalog.get(DATASET).set(stuff_classes=["a", "b"], stuff_colors=[(1, 2, 3), (4, 5, 6)])
    yield
    DatasetCatalog.remove(DATASET)
    MetadataCatalog.remove(DATASET)


class TwoParts(nn.Module):
    """Stands for a model where only names of parameters count."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.sem_seg_head = nn.Sequential(nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2))


class TinyTrainer(Trainer):
    """The trainer without a model to speak of."""

    @classmethod
    def build_model(cls, cfg):
        return TwoParts()


def configured(**keys):
    cfg = get_cfg()
    head = {"MODEL.SEM_SEG_HEAD.NUM_CLASSES": 2, "MODEL.SEM_SEG_HEAD.IGNORE_VALUE": 254, "DATASETS.TRAIN": (DATASET,)}
    cfg.merge_from_list([part for item in {**head, **keys}.items() for part in item])
    return cfg


EVALUATION = {
    "TEST.BOUNDARY.WIDTHS": [1, 3, 5, 9, 15],
    "TEST.BOUNDARY.REPORT_WIDTHS": [3, 9],
    "TEST.BOUNDARY.IGNORE_MODE": "zero",
    "TEST.BOUNDARY.IGNORE_DISTANCE": 2,
    "TEST.BOUNDARY.TRIMAP": "void",
    "TEST.SAVE_PREDICTIONS": True,
    "TEST.SAVE_IMAGE_COUNTS": True,
    "DATASETS.TEST": (DATASET, "another"),
    "OUTPUT_DIR": "out",
}


def test_the_evaluator_holds_its_keys_under_their_names():
    built = Trainer.build_evaluator(configured(**EVALUATION), DATASET)
    statistics = built._statistics
    expected = {"num_classes": 2, "ignore_value": 254, "ignore_mode": "zero", "ignore_distance": 2, "trimap": "void"}
    assert {name: getattr(statistics, name) for name in expected} == expected
    assert list(statistics.widths) == [1, 3, 5, 9, 15] and list(built._report_widths) == [3, 9]
    assert built._save_predictions and built._save_image_counts
    assert (built._dataset_name, built._output_dir) == (DATASET, f"out/inference/{DATASET}")
    alone = {**EVALUATION, "DATASETS.TEST": (DATASET,)}
    assert Trainer.build_evaluator(configured(**alone), DATASET)._output_dir == "out/inference"


@pytest.mark.parametrize("key", ["TEST.AUG.ENABLED", "TEST.WINDOW.ENABLED"])
def test_the_evaluator_knows_whether_it_gets_probabilities(key):
    assert [Trainer.build_evaluator(configured(**{key: on}), DATASET)._probabilities for on in (False, True)] == [
        False,
        True,
    ]


def test_the_evaluator_gets_the_priors_of_the_training_set(monkeypatch):
    asked = []
    monkeypatch.setattr(evaluators, "class_pixels", lambda *arguments: asked.append(arguments) or np.array([100, 300]))
    built = Trainer.build_evaluator(configured(**{"TEST.PRIOR_SHIFT": 0.5}), DATASET)
    assert asked == [((DATASET,), 2, 254)]
    np.testing.assert_allclose(np.ravel(built._class_offsets), [0.5 * np.log(0.25), 0.5 * np.log(0.75)], rtol=1e-6)


def test_a_test_follows_the_protocol(monkeypatch):
    tested = []
    monkeypatch.setattr(trainer.DefaultTrainer, "test", classmethod(lambda cls, cfg, model, ev: tested.append(model)))
    monkeypatch.setattr(trainer, "with_test_time_protocol", lambda cfg, model: ("the protocol around", model))
    model = TwoParts()
    Trainer.test(configured(), model)
    assert tested == [("the protocol around", model)]


def test_a_model_is_built_with_norms_that_work():
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIG))
    cfg.MODEL.DEVICE = "meta"
    cfg.MODEL.MOBILENETV2.NORM = cfg.MODEL.SEM_SEG_HEAD.NORM = "SyncBN"
    with torch.device("meta"):
        model = Trainer.build_model(cfg)
    norms = {type(module) for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)}
    assert all(not issubclass(kind, nn.SyncBatchNorm) for kind in norms) and norms


SOLVER = {
    "BASE_LR": 0.02,
    "MOMENTUM": 0.8,
    "NESTEROV": True,
    "WEIGHT_DECAY": 0.003,
    "WEIGHT_DECAY_NORM": 0.004,
    "WEIGHT_DECAY_BIAS": 0.005,
    "BIAS_LR_FACTOR": 2.0,
    "HEAD_LR_FACTOR": 10.0,
    "MAX_ITER": 500,
    "CHECKPOINT_PERIOD": 70,
    "LR_SCHEDULER_NAME": "WarmupPolyLR",
    "POLY_LR_POWER": 0.7,
    "POLY_LR_CONSTANT_ENDING": 0.05,
    "WARMUP_FACTOR": 0.5,
    "WARMUP_ITERS": 11,
    "WARMUP_METHOD": "constant",
}


@pytest.fixture
def solver_config():
    keys = {f"SOLVER.{key}": value for key, value in SOLVER.items()}
    return configured(
        **keys, **{"TEST.EVAL_PERIOD": 30, "TEST.BEST_CHECKPOINT_METRIC": "sem_seg/mIoU", "VIS_PERIOD": 9}
    )


def test_the_optimizer_holds_the_solvers_keys(solver_config):
    model = TwoParts()
    built = Trainer.build_optimizer(solver_config, model)
    groups = {id(parameter): group for group in built.param_groups for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        group = groups[id(parameter)]
        part, layer, kind = name.split(".")
        # Detectron2: a bias has its own factor and decay, also that of a norm.
        rate = 0.02 * (10 if part == "sem_seg_head" else 1) * (2 if kind == "bias" else 1)
        decay = 0.005 if kind == "bias" else 0.004 if layer == "1" else 0.003
        assert (group["lr"], group["weight_decay"]) == (pytest.approx(rate), decay), name
        assert (group["momentum"], group["nesterov"]) == (0.8, True), name


@pytest.mark.parametrize("clip_type", ["value", "norm"])
def test_gradients_are_clipped_as_the_solver_says(clip_type):
    clip = ["ENABLED", True, "CLIP_TYPE", clip_type, "CLIP_VALUE", 0.5, "NORM_TYPE", 1.0]
    cfg = configured(**{"SOLVER.BASE_LR": 1.0, "SOLVER.MOMENTUM": 0.0})
    cfg.SOLVER.CLIP_GRADIENTS.merge_from_list(clip)
    model = nn.Linear(2, 1, bias=False)
    optimizer, before = Trainer.build_optimizer(cfg, model), model.weight.detach().clone()
    model.weight.grad = torch.tensor([[3.0, 1.0]])
    optimizer.step()
    step = [0.5, 0.5] if clip_type == "value" else [0.375, 0.125]
    torch.testing.assert_close(before - model.weight.detach(), torch.tensor([step]), atol=1e-3, rtol=0)


def test_the_scheduler_holds_the_solvers_keys(solver_config):
    built = Trainer.build_lr_scheduler(solver_config, torch.optim.SGD(TwoParts().parameters(), lr=1.0))
    expected = {
        "max_iters": 500,
        "power": 0.7,
        "constant_ending": 0.05,
        "warmup_factor": 0.5,
        "warmup_iters": 11,
        "warmup_method": "constant",
    }
    assert {name: getattr(built, name) for name in expected} == expected


KINDS_OF_HOOKS = (hooks.PeriodicCheckpointer, hooks.EvalHook, hooks.BestCheckpointer, TrainingPictures)


def test_the_trainer_holds_its_periods(solver_config, tmp_path):
    cfg = solver_config.clone()
    cfg.OUTPUT_DIR = str(tmp_path / "out")
    built = TinyTrainer(cfg)
    by_type = {base: [hook for hook in built._hooks if isinstance(hook, base)] for base in KINDS_OF_HOOKS}
    assert {base.__name__: len(found) for base, found in by_type.items()} == {b.__name__: 1 for b in by_type}
    one = {base: found[0] for base, found in by_type.items()}
    assert built.max_iter == 500 and built.checkpointer.save_dir == str(tmp_path / "out")
    assert one[hooks.PeriodicCheckpointer].period == 70
    assert one[hooks.EvalHook]._period == 30
    assert one[hooks.BestCheckpointer]._period == 30 and one[hooks.BestCheckpointer]._val_metric == "sem_seg/mIoU"
    assert one[hooks.BestCheckpointer]._checkpointer is built.checkpointer
    assert one[TrainingPictures]._period == 9
    cfg.VIS_PERIOD, cfg.TEST.BEST_CHECKPOINT_METRIC = 0, ""
    kinds = {type(hook) for hook in TinyTrainer(cfg)._hooks}
    assert not any(issubclass(kind, (TrainingPictures, hooks.BestCheckpointer)) for kind in kinds)


def test_pictures_are_drawn_with_the_settings_of_the_losses():
    keys = {"POINT.KERNEL_SIZE": 13, "SPLITTER": "C", "CONVOLUTION": "standard", "IGNORE_MODE": "exclude"}
    cfg = configured(**{f"MODEL.EPL.{key}": value for key, value in keys.items()}, VIS_PERIOD=9)
    settings = TrainingPictures(cfg, TwoParts())._drawing
    expected = {"kernel_size": 13, "splitter": "C", "convolution": "standard", "ignore_mode": "exclude"}
    expected["ignore_value"] = 254
    assert {name: settings[name] for name in expected} == expected
    assert list(settings["classes"]) == ["a", "b"]


def plain(node):
    return {key: plain(value) if isinstance(value, CfgNode) else value for key, value in node.items()}


def test_a_run_of_wandb_gets_its_keys(tmp_path, monkeypatch):
    wandb = ModuleType("wandb")
    wandb.init = lambda **arguments: SimpleNamespace(**arguments)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    keys = {"WANDB.ENABLED": True, "WANDB.PROJECT": "another", "WANDB.NAME": "third"}
    cfg = configured(**keys, OUTPUT_DIR=str(tmp_path))
    run = WandbWriter(cfg)._run
    assert (run.project, run.name, run.dir) == ("another", "third", str(tmp_path))
    assert type(run.config) is dict and run.config == plain(cfg)
