"""The hook that keeps the record of a run: device, minutes, commit, command, seed, versions."""

from __future__ import annotations

import logging
import os
import sys
import time

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm

from epl_d2.provenance import describe_device
from epl_d2.run_record import KEPT_ELSEWHERE, RunRecord

__all__ = ["KeepRecord"]

logger = logging.getLogger(__name__)

_SECONDS = 60.0  # between two writes: what a killed run's minutes lack at most


class KeepRecord(HookBase):
    """Writes `run.json` to OUTPUT_DIR, unless a grid keeps it; its minutes are those of all attempts."""

    def __init__(self, cfg: CfgNode, seed: int):
        """
        Args:
            cfg: OUTPUT_DIR and MODEL.DEVICE are read.
            seed: of the training, drawn or given.
        """
        threads, processes = torch.get_num_threads(), comm.get_world_size()
        device = describe_device(cfg.MODEL.DEVICE.startswith("cuda"), threads, os.environ)
        facts = {
            "command": list(sys.argv),
            "seed": seed,
            "device": device if processes == 1 else f"{processes} processes, each {device}",
            "threads": threads,
        }
        self._record = RunRecord(cfg.OUTPUT_DIR, facts)
        self._last = 0.0

    @staticmethod
    def is_wanted(cfg: CfgNode) -> bool:
        """Whether this process keeps a record."""
        return bool(cfg.OUTPUT_DIR) and comm.is_main_process() and KEPT_ELSEWHERE not in os.environ

    def before_train(self) -> None:
        self._record.begin(anew=self.trainer.start_iter == 0)
        self._update(self.trainer.start_iter)

    def after_step(self) -> None:
        if time.monotonic() - self._last > _SECONDS:
            self._update(self.trainer.iter + 1)

    def after_train(self) -> None:
        # What ends the training early is on its way while this runs.
        error = sys.exc_info()[1]
        self._update(self.trainer.iter, **({} if error is None else {"error": f"{type(error).__name__}: {error}"}))

    def _update(self, iterations: int, **facts: str) -> None:
        self._last = time.monotonic()
        try:
            self._record.update(iterations=iterations, **facts)
        except (OSError, ValueError) as error:  # the training is worth more than its record
            logger.warning(f"{error}; the record of this run is not kept")
