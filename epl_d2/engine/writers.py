"""Scalars and pictures of a training run for Weights & Biases, and what is done where there is no TensorBoard."""

from __future__ import annotations

import importlib
from collections import defaultdict
from types import ModuleType
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.utils.events import EventWriter, get_event_storage

__all__ = ["PictureRemover", "WandbWriter"]


class WandbWriter(EventWriter):
    """Sends what the event storage holds to a run of Weights & Biases.

    It leaves the storage's pictures where they are: Detectron2's TensorBoard writer takes them away, so this one comes
    before it. Without network, WANDB_MODE=offline keeps the run in a folder.
    """

    def __init__(self, cfg: CfgNode, window_size: int = 20):
        """
        Args:
            cfg: WANDB.* and OUTPUT_DIR are read, and all of it is stored with the run.
            window_size: iterations over whose median losses are smoothed, as in Detectron2's writers.

        Raises:
            ImportError: wandb is not installed.
        """
        self._wandb = _import_wandb()
        self._window_size = window_size
        self._last_write = -1
        self._run = self._wandb.init(
            project=cfg.WANDB.PROJECT, name=cfg.WANDB.NAME or None, dir=cfg.OUTPUT_DIR, config=_plain(cfg)
        )

    def write(self) -> None:
        storage = get_event_storage()
        entries: dict[int, dict[str, Any]] = defaultdict(dict)
        for name, (value, iteration) in storage.latest_with_smoothing_hint(self._window_size).items():
            entries[iteration][name] = value
        for name, picture, iteration in storage._vis_data:  # the storage has no accessor for them
            entries[iteration][name] = self._wandb.Image(np.asarray(picture).transpose(1, 2, 0))
        for iteration in sorted(i for i in entries if i > self._last_write):
            self._run.log(entries[iteration], step=iteration)
            self._last_write = iteration

    def close(self) -> None:
        self._run.finish()


class PictureRemover(EventWriter):
    """Takes pictures and histograms out of the event storage, in the place of a TensorBoard writer."""

    def write(self) -> None:
        storage = get_event_storage()
        storage.clear_images()
        storage.clear_histograms()


def _import_wandb() -> ModuleType:
    try:
        return importlib.import_module("wandb")
    except ImportError as error:
        raise ImportError("WANDB.ENABLED is True, but wandb is missing: pip install -e '.[wandb]'") from error


def _plain(node: CfgNode) -> dict[str, Any]:
    return {key: _plain(value) if isinstance(value, CfgNode) else value for key, value in node.items()}
