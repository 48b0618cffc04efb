"""What a run of Weights & Biases receives, with a stand-in that records it."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from detectron2.utils.events import EventStorage, TensorboardXWriter

from epl_d2 import get_cfg
from epl_d2.engine import Trainer
from epl_d2.engine.writers import WandbWriter


class Run:
    def __init__(self, arguments):
        self.arguments, self.logged, self.finished = arguments, [], False

    def log(self, values, step):
        # As the service does, which drops values of earlier steps.
        assert not self.logged or step >= self.logged[-1][0]
        self.logged.append((step, values))

    def finish(self):
        self.finished = True


@pytest.fixture
def runs(monkeypatch):
    """The runs that were started."""
    started = []
    wandb = ModuleType("wandb")
    wandb.init = lambda **arguments: started.append(Run(arguments)) or started[-1]
    wandb.Image = lambda array: SimpleNamespace(array=array)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    return started


def config(tmp_path):
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(tmp_path)
    cfg.WANDB.ENABLED = True
    cfg.WANDB.NAME = "first"
    return cfg


def test_scalars_and_pictures_reach_the_run_once_in_the_order_of_their_steps(tmp_path, runs):
    writer = WandbWriter(config(tmp_path))
    assert runs[0].arguments["project"] == "epl_d2" and runs[0].arguments["name"] == "first"
    assert runs[0].arguments["dir"] == str(tmp_path)
    assert runs[0].arguments["config"]["MODEL"]["EPL"]["LINE"]["MU"] == 2
    picture = np.arange(3 * 2 * 4, dtype=np.uint8).reshape(3, 2, 4)
    with EventStorage(0) as storage:
        for iteration in range(6):
            storage.iter = iteration
            storage.put_scalar("lr", 0.1 * iteration, smoothing_hint=False)
            storage.put_scalar("loss_sem_seg", [5, 1, 9, 2, 3, 4][iteration])
            if iteration in (1, 4):
                storage.put_image("pictures/input", picture + iteration)
            if iteration == 2:
                writer.write()
        writer.write()
        writer.write()
    steps = [step for step, _ in runs[0].logged]
    assert steps == [1, 2, 4, 5]
    values = dict(runs[0].logged)
    assert values[2] == {"lr": pytest.approx(0.2), "loss_sem_seg": 5}  # the median of 5, 1 and 9
    assert values[5] == {"lr": pytest.approx(0.5), "loss_sem_seg": 3.5}
    for step in (1, 4):
        assert np.array_equal(values[step]["pictures/input"].array, (picture + step).transpose(1, 2, 0))
    writer.close()
    assert runs[0].finished


def test_tensorboard_still_gets_the_pictures(tmp_path, runs):
    writer = WandbWriter(config(tmp_path))
    with EventStorage(0) as storage:
        storage.put_image("pictures/input", np.zeros((3, 2, 2), dtype=np.uint8))
        writer.write()
        assert len(storage._vis_data) == 1


@pytest.mark.parametrize("enabled", [True, False])
def test_the_trainer_writes_to_it_before_tensorboard_and_only_if_asked(tmp_path, runs, enabled):
    cfg = config(tmp_path)
    cfg.WANDB.ENABLED = enabled
    trainer = Trainer.__new__(Trainer)  # without model and data
    trainer.cfg, trainer.max_iter = cfg, 1
    writers = trainer.build_writers()
    kinds = [type(writer) for writer in writers]
    assert (WandbWriter in kinds) == enabled and len(runs) == enabled
    if enabled:
        assert kinds.index(WandbWriter) < kinds.index(TensorboardXWriter)


def test_a_training_without_tensorboard_keeps_its_other_writers(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("epl_d2.engine.trainer.find_spec", lambda name: None)
    trainer = Trainer.__new__(Trainer)
    trainer.cfg, trainer.max_iter = get_cfg(), 2
    trainer.cfg.OUTPUT_DIR = str(tmp_path)
    writers = trainer.build_writers()
    assert "tensorboard is not installed" in caplog.text
    assert not any(isinstance(writer, TensorboardXWriter) for writer in writers)
    with EventStorage(0) as storage:
        storage.put_scalar("loss_sem_seg", 5)
        storage.put_image("pictures/input", np.zeros((3, 2, 2), dtype=np.uint8))
        storage.iter = 1
        for writer in writers:
            writer.write()
        assert storage._vis_data == []
    assert "loss_sem_seg" in (tmp_path / "metrics.json").read_text()


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match=r"WANDB.ENABLED is True.*pip install"):
        WandbWriter(config(tmp_path))
