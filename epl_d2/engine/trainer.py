"""Detectron2's trainer for segmentation with boundary evaluation, on CUDA, one CPU process or several."""

from __future__ import annotations

import logging
import weakref
from importlib.util import find_spec

import torch
from detectron2.config import CfgNode
from detectron2.engine import AMPTrainer, DefaultTrainer, SimpleTrainer, create_ddp_model, hooks
from detectron2.evaluation import DatasetEvaluator
from detectron2.projects.deeplab import build_lr_scheduler
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.utils import comm
from detectron2.utils.events import TensorboardXWriter
from torch.nn.parallel import DistributedDataParallel

from epl_d2.checkpoint.checkpointer import Checkpointer
from epl_d2.data.build import (
    build_instance_test_loader,
    build_instance_train_loader,
    build_sem_seg_test_loader,
    build_sem_seg_train_loader,
    start_at,
)
from epl_d2.modeling import with_test_time_protocol

from .evaluators import build_evaluator
from .hooks import BestCheckpointer, LRScheduler, SeededSteps
from .launch import has_lost_a_process
from .record import KeepRecord
from .setup import with_working_norms
from .stopping import StopOnSignal
from .writers import PictureRemover, WandbWriter

__all__ = ["Trainer"]

logger = logging.getLogger(__name__)


class Trainer(DefaultTrainer):
    """`DefaultTrainer` with epl_d2's data, optimizer groups and evaluator.

    Unlike `DefaultTrainer` it also runs several processes without CUDA (gloo).
    """

    def __init__(self, cfg: CfgNode):
        # DefaultTrainer's constructor hands a CUDA device to DDP, so that it cannot run on the CPU.
        super(DefaultTrainer, self).__init__()
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        seed_is_drawn = cfg.SEED < 0
        if seed_is_drawn:
            cfg = cfg.clone()
            cfg.defrost()
            cfg.SEED = comm.shared_random_seed()
            cfg.freeze()
        self._seeded_steps = SeededSteps(cfg.SEED, drawn=seed_is_drawn)
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        device_ids = [comm.get_local_rank()] if next(model.parameters()).is_cuda else None
        model = create_ddp_model(model, broadcast_buffers=False, device_ids=device_ids)
        trainer_class = AMPTrainer if cfg.SOLVER.AMP.ENABLED else SimpleTrainer
        self._trainer = trainer_class(model, data_loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = Checkpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    def resume_or_load(self, resume: bool = True) -> None:
        """Go on from the last checkpoint of OUTPUT_DIR that can be read, or begin with MODEL.WEIGHTS.

        Raises:
            FileNotFoundError, ValueError: see `Checkpointer.load` and `Checkpointer.get_checkpoint_file`.
        """
        found = self.checkpointer.get_checkpoint_file() if resume else ""
        if found:
            self.checkpointer.load(found)
            self.start_iter = self.iter + 1  # the checkpoint has the iteration that it was written after
            for hook in self._hooks:
                if isinstance(hook, BestCheckpointer):
                    hook.restore()
            if self.start_iter >= self.max_iter:
                logger.warning(
                    f"{found} has done {self.start_iter} iterations and SOLVER.MAX_ITER is {self.max_iter}: nothing is "
                    "left to train, only to evaluate; a larger SOLVER.MAX_ITER trains on"
                )
        else:
            self.checkpointer.load(self.cfg.MODEL.WEIGHTS, checkpointables=[])
        start_at(self.data_loader, self.start_iter, self._seeded_steps.seed)

    def before_train(self) -> None:
        super().before_train()
        if 0 < self.start_iter < self.max_iter:
            self._make_up_evaluation()

    def _make_up_evaluation(self) -> None:
        """Evaluate a checkpoint after whose step an undisturbed training evaluates: a kill may have come in between.

        Whether it did is written nowhere for sure, and a second evaluation finds the same as the first.
        """
        self.iter = self.storage.iter = self.start_iter - 1
        for hook in self._hooks:
            if isinstance(hook, (hooks.EvalHook, hooks.BestCheckpointer)):
                hook.after_step()

    def after_train(self) -> None:
        # Detectron2 counts a step where none was left, too; the last evaluation would be of another iteration.
        self.iter = min(self.iter, max(self.start_iter, self.max_iter))
        super().after_train()

    def run_step(self) -> None:
        super().run_step()
        self._steps_done = self.iter + 1

    def train(self):
        """As Detectron2's; where another process is lost, the main one keeps the steps that are done."""
        self._steps_done = self.start_iter
        try:
            return super().train()
        except Exception as error:
            if has_lost_a_process(error) and comm.is_main_process() and self._steps_done > self.start_iter:
                self.iter = self._steps_done - 1
                self.checkpointer.save(f"model_{self.iter:07d}", iteration=self.iter)
            raise

    def state_dict(self):
        # The last evaluation, which may find the best model, comes when Detectron2 has counted on.
        last = max(self.start_iter, self.max_iter) - 1
        return {**super().state_dict(), "iteration": min(self.iter, last)}

    def build_hooks(self):
        stop = StopOnSignal(self.checkpointer)
        ret = [LRScheduler() if isinstance(hook, hooks.LRScheduler) else hook for hook in super().build_hooks()]
        for hook in ret:
            if isinstance(hook, hooks.EvalHook):
                hook._func = stop.interruptible(hook._func)
        metric = self.cfg.TEST.BEST_CHECKPOINT_METRIC
        if metric and comm.is_main_process():
            # After the evaluation, before the writers, which come last.
            ret.insert(-1, BestCheckpointer(self.cfg.TEST.EVAL_PERIOD, self.checkpointer, metric))
        # Models of instances draw pictures of their own.
        if self.cfg.VIS_PERIOD > 0 and not self.cfg.MODEL.MASK_ON and comm.is_main_process():
            from .training_pictures import TrainingPictures  # drawing is slow to import, and only needed here

            model = self.model.module if isinstance(self.model, DistributedDataParallel) else self.model
            ret.insert(-1, TrainingPictures(self.cfg, model))
        if KeepRecord.is_wanted(self.cfg):
            ret.append(KeepRecord(self.cfg, self._seeded_steps.seed))
        # First the handlers, then the loader's workers, which are to inherit them.
        return [*ret, stop, self._seeded_steps]

    def build_writers(self):
        writers = super().build_writers()
        if find_spec("tensorboard") is None:
            logger.warning("tensorboard is not installed: scalars go to the terminal and to metrics.json alone")
            writers = [PictureRemover() if isinstance(one, TensorboardXWriter) else one for one in writers]
        if self.cfg.WANDB.ENABLED:
            # Before TensorBoard's writer, which takes the pictures away.
            writers.insert(0, WandbWriter(self.cfg))
        return writers

    @classmethod
    def build_model(cls, cfg: CfgNode):
        formats = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
        if cfg.MODEL.MEMORY_FORMAT not in formats:
            raise ValueError(f"MODEL.MEMORY_FORMAT is {cfg.MODEL.MEMORY_FORMAT!r}; it may be one of {list(formats)}")
        model = super().build_model(with_working_norms(cfg))
        return model.to(memory_format=formats[cfg.MODEL.MEMORY_FORMAT])

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: torch.nn.Module) -> torch.optim.Optimizer:
        """SGD as Detectron2's, with the head at SOLVER.HEAD_LR_FACTOR times the learning rate."""

        def lr_factor(name: str) -> float:
            head = cfg.SOLVER.HEAD_LR_FACTOR if name.startswith("sem_seg_head.") else 1.0
            # Detectron2's own argument for biases would take the place of the head's factor.
            return head * (cfg.SOLVER.BIAS_LR_FACTOR if name.endswith(".bias") else 1.0)

        params = get_default_optimizer_params(
            model,
            base_lr=cfg.SOLVER.BASE_LR,
            weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
            weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
            lr_factor_func=lr_factor,
        )
        optimizer = torch.optim.SGD(
            params,
            lr=cfg.SOLVER.BASE_LR,
            momentum=cfg.SOLVER.MOMENTUM,
            nesterov=cfg.SOLVER.NESTEROV,
            weight_decay=cfg.SOLVER.WEIGHT_DECAY,
            foreach=True,
        )
        return maybe_add_gradient_clipping(cfg, optimizer)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer):
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode):
        return build_instance_train_loader(cfg) if cfg.MODEL.MASK_ON else build_sem_seg_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str):
        build = build_instance_test_loader if cfg.MODEL.MASK_ON else build_sem_seg_test_loader
        return build(cfg, dataset_name)

    @classmethod
    def test(cls, cfg: CfgNode, model: torch.nn.Module, evaluators=None):
        """Evaluate `model` with the protocol of TEST.AUG and TEST.WINDOW."""
        return super().test(cfg, with_test_time_protocol(cfg, model), evaluators)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        """See `epl_d2.engine.evaluators.build_evaluator`."""
        return build_evaluator(cfg, dataset_name)
