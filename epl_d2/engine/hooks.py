"""Detectron2's hooks where a training that goes on has to equal one that never stopped."""

from __future__ import annotations

import logging
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.engine import HookBase, hooks
from detectron2.utils import comm

from epl_d2.checkpoint.checkpointer import BEST
from epl_d2.checkpoint.files import read_checkpoint

__all__ = ["BestCheckpointer", "LRScheduler", "SeededSteps"]

logger = logging.getLogger(__name__)


class SeededSteps(HookBase):
    """The random numbers of a step, such as dropout's, follow from the seed, the process and the iteration alone.

    So a training that goes on draws what an uninterrupted one would have drawn, whatever evaluations and pictures draw
    in between, and no generator has to be stored but the seed.
    """

    def __init__(self, seed: int, *, drawn: bool = False):
        """
        Args:
            seed: not negative, the same in every process.
            drawn: it was drawn at random, so that a training that goes on takes that of its checkpoint instead.
        """
        self.seed, self._drawn = seed, drawn

    def before_train(self) -> None:
        # Making the loader's iterator draws a number, which a training that goes on would draw in another step.
        _ = self.trainer._trainer._data_loader_iter

    def before_step(self) -> None:
        words = np.random.SeedSequence((self.seed, comm.get_rank(), self.trainer.iter)).generate_state(3)
        torch.manual_seed(int(words[0]) << 32 | int(words[1]))
        np.random.seed(words)
        random.seed(int(words[2]))

    def state_dict(self) -> dict[str, Any]:
        return {"seed": self.seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self._drawn:
            self.seed = state_dict["seed"]


class LRScheduler(hooks.LRScheduler):
    """The schedule is that of the config, at the iteration of the checkpoint.

    Detectron2's takes the schedule's length from the checkpoint, and so cannot train longer than first planned.
    """

    _resumed = False

    def state_dict(self) -> dict[str, Any]:
        return {"last_epoch": self.scheduler.last_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.scheduler.last_epoch = state_dict["last_epoch"]
        self._resumed = True

    def before_train(self) -> None:
        super().before_train()
        # The optimizer came with the rates of its checkpoint, after the schedule.
        if self._resumed and self.scheduler.last_epoch <= self.trainer.max_iter:
            for group, rate in zip(self._optimizer.param_groups, self.scheduler.get_lr(), strict=True):
                group["lr"] = rate


class BestCheckpointer(hooks.BestCheckpointer):
    """Keeps the best model and its score in one file, so that a training that goes on knows what to beat."""

    def restore(self) -> None:
        """Take the score to beat from the best model that lies in the training's folder, if one does."""
        path = Path(self._checkpointer.save_dir, f"{BEST}.pth")
        try:
            best = read_checkpoint(path).get("best", {})
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            logger.warning(f"{error}; the next evaluation replaces it")
            return
        if best.get("metric") == self._val_metric:
            self.best_metric, self.best_iter = best["value"], best["iteration"]
            logger.info(f"the best {self._val_metric} so far is {self.best_metric:.3f}, of {path}")
        else:
            logger.warning(f"{path} is not the best by {self._val_metric}; the next evaluation replaces it")

    def _best_checking(self) -> None:
        latest = self.trainer.storage.latest().get(self._val_metric)
        if latest is None:
            logger.warning(f"TEST.BEST_CHECKPOINT_METRIC {self._val_metric} was not evaluated: no best model is kept")
            return
        value, iteration = float(latest[0]), int(latest[1])
        if not math.isfinite(value) or (self.best_metric is not None and value <= self.best_metric):
            return
        best = {"metric": self._val_metric, "value": value, "iteration": iteration}
        self._checkpointer.save(BEST, iteration=iteration, best=best)
        self.best_metric, self.best_iter = value, iteration
        logger.info(f"the best {self._val_metric} is {value:.3f} now, kept as {BEST}.pth")
