"""The hook that shows, every VIS_PERIOD iterations, what the model makes of the first picture of its batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils.events import get_event_storage
from torch import nn

from epl_d2.data.class_names import names_and_colors
from epl_d2.visualization.training import training_pictures

__all__ = ["TrainingPictures"]


class TrainingPictures(HookBase):
    """Puts "pictures/input", "target", "prediction" and "potential" into the event storage.

    The logits are those that the loss of the step sees: nothing is computed twice, and between two pictures no module
    carries a hook.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module):
        """
        Args:
            cfg: VIS_PERIOD, INPUT.FORMAT, MODEL.EPL and the data set's class names are read.
            model: an `EPLSemanticSegmentor`, not wrapped for distributed training.

        Raises:
            ValueError: VIS_PERIOD is not positive.
        """
        if cfg.VIS_PERIOD < 1:
            raise ValueError(f"VIS_PERIOD is {cfg.VIS_PERIOD}; pictures need a number of iterations from 1 on")
        self._period = cfg.VIS_PERIOD
        self._model = model
        self._reverse_channels = cfg.INPUT.FORMAT == "BGR"
        classes, palette = names_and_colors(cfg)
        epl = cfg.MODEL.EPL
        self._drawing = {
            "classes": classes,
            "palette": palette,
            "kernel_size": epl.POINT.KERNEL_SIZE,
            "splitter": epl.SPLITTER,
            "convolution": epl.CONVOLUTION,
            "ignore_mode": epl.IGNORE_MODE,
            "ignore_value": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        }
        self._hooks: list[Any] = []
        self._record: dict[str, torch.Tensor] | None = None
        self._logits: torch.Tensor | None = None

    def before_step(self) -> None:
        if self.trainer.iter % self._period == 0:
            self._hooks = [
                self._model.register_forward_pre_hook(self._keep_record),
                self._model.sem_seg_head.loss.register_forward_pre_hook(self._keep_logits),
            ]

    def after_step(self) -> None:
        if not self._hooks:
            return
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        storage = get_event_storage()
        for name, picture in self._draw().items():
            storage.put_image(f"pictures/{name}", np.ascontiguousarray(picture.transpose(2, 0, 1)))
        self._record = self._logits = None

    def _keep_record(self, _model: nn.Module, arguments: tuple[list[dict[str, torch.Tensor]]]) -> None:
        self._record = arguments[0][0]

    def _keep_logits(self, _loss: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        if self._logits is None:  # a criterion that is called again is called for an auxiliary branch
            self._logits = arguments[0][0].detach()

    def _draw(self) -> dict[str, np.ndarray]:
        if self._record is None or self._logits is None:
            raise RuntimeError(
                f"VIS_PERIOD is {self._period}, but the training step of {type(self._model.sem_seg_head).__name__} "
                "did not call its criterion `loss(logits, labels)`: set VIS_PERIOD to 0"
            )
        image, labels = self._record["image"], self._record["sem_seg"]
        # The batch is padded to its largest picture.
        logits = self._logits[:, : image.shape[1], : image.shape[2]].float()
        picture = image.flip(0) if self._reverse_channels else image
        return training_pictures(
            picture.permute(1, 2, 0).to(torch.uint8).cpu().numpy(),
            labels.cpu().numpy(),
            logits.softmax(dim=0).cpu().numpy(),
            **self._drawing,
        )
