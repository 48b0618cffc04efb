"""Make a configuration runnable on the machine at hand."""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.utils import comm

from epl_d2.commands import expected_reason
from epl_d2.config import get_cfg
from epl_d2.data.class_names import keep_names_and_colors, use_names_of
from epl_d2.data.dataset_check import require_registered
from epl_d2.data.datasets import register_from_config
from epl_d2.data.datasets.description import read_description
from epl_d2.files import usable_cores

__all__ = [
    "complete_config",
    "keep_expected_tracebacks_in_the_log",
    "leave_process_group",
    "merge_config_file",
    "norm_keys",
    "prepare_config",
    "read_config",
    "value_at",
    "with_working_norms",
]

logger = logging.getLogger(__name__)


def read_config(
    config_file: str | os.PathLike,
    opts: Sequence[object] = (),
    dataset_file: str | os.PathLike | None = None,
    weights: str | os.PathLike | None = None,
) -> CfgNode:
    """The config of a trained model with KEY VALUE pairs applied, runnable on the machine at hand, not frozen.

    Args:
        config_file: one of configs/*/*.yaml, or the config.yaml of a run or of a published model.
        opts: the pairs.
        dataset_file: YAML file that describes the data set, in the place of those of the config, whose names may be
            those of another machine.
        weights: checkpoint, in the place of the file's MODEL.WEIGHTS.

    Raises:
        FileNotFoundError, ValueError: a file is missing or is not as it should be, the model has another number of
            classes than the data set, or `weights` and `opts` both name a checkpoint.
        KeyError: an option does not exist.
    """
    cfg = get_cfg()
    merge_config_file(cfg, config_file)
    cfg.merge_from_list(list(opts))
    if weights is not None:
        if cfg.MODEL.WEIGHTS and "MODEL.WEIGHTS" in opts[::2]:
            raise ValueError(
                f"two checkpoints are given, {os.fspath(weights)!r} and by the option MODEL.WEIGHTS "
                f"{cfg.MODEL.WEIGHTS!r}; give one of them"
            )
        cfg.MODEL.WEIGHTS = os.fspath(weights)
    if dataset_file:
        description = read_description(dataset_file)
        cfg.DATASETS.SEM_SEG_FILES = [description.path]
        use_names_of(cfg, description)
    prepare_config(cfg, needs_data=False)
    return cfg


def merge_config_file(cfg: CfgNode, config_file: str | os.PathLike) -> None:
    """Merge a file into `cfg`. Relative MODEL.WEIGHTS that are not in the current folder may lie beside the file.

    Raises:
        FileNotFoundError: there is no such file.
    """
    config_file = os.fspath(config_file)
    if "://" not in config_file and not os.path.isfile(config_file):
        raise FileNotFoundError(f"--config-file {config_file}: there is no such file")
    before = cfg.MODEL.WEIGHTS
    cfg.merge_from_file(config_file)
    weights = cfg.MODEL.WEIGHTS
    beside = os.path.join(os.path.dirname(config_file), weights)
    if weights not in ("", before) and not os.path.exists(weights) and os.path.isfile(beside):
        cfg.MODEL.WEIGHTS = beside


def complete_config(cfg: CfgNode, *, training: bool) -> None:
    """Write into `cfg` what follows from its data sets and is to be saved with a run, in place.

    That are the names and colors of the classes, where the files of DATASETS.SEM_SEG_FILES are, and the iterations that
    SOLVER.EPOCHS makes.

    Raises:
        FileNotFoundError, ValueError: a data set cannot be used, SOLVER.EPOCHS and MAX_ITER contradict each other, or
            there is no image in a batch to count epochs by.
    """
    register_from_config(cfg)
    cfg.DATASETS.SEM_SEG_FILES = [os.path.abspath(os.path.expanduser(path)) for path in cfg.DATASETS.SEM_SEG_FILES]
    if training:
        _set_iterations(cfg)
    if training or not cfg.DATASETS.CLASSES:
        keep_names_and_colors(cfg)


def _set_iterations(cfg: CfgNode) -> None:
    epochs, iterations = cfg.SOLVER.EPOCHS, cfg.SOLVER.MAX_ITER
    if not epochs:
        return
    if not epochs > 0:
        raise ValueError(f"SOLVER.EPOCHS is {epochs}, expected a positive number, or 0 for SOLVER.MAX_ITER iterations")
    if iterations:
        raise ValueError(
            f"SOLVER.EPOCHS is {epochs} and SOLVER.MAX_ITER is {iterations}: both say how long to train, one must be 0"
        )
    if cfg.SOLVER.IMS_PER_BATCH < 1:
        raise ValueError(f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}, expected a positive number of images")
    for name in cfg.DATASETS.TRAIN:
        require_registered(name)
    images = sum(len(DatasetCatalog.get(name)) for name in cfg.DATASETS.TRAIN)
    cfg.SOLVER.MAX_ITER = math.ceil(epochs * images / cfg.SOLVER.IMS_PER_BATCH)
    cfg.SOLVER.EPOCHS = 0


def prepare_config(cfg: CfgNode, *, needs_data: bool = True) -> None:
    """Register the data sets that `cfg` describes and fall back to the CPU where there is no CUDA, in place.

    Args:
        cfg: the config.
        needs_data: whether the files of DATASETS.SEM_SEG_FILES must be there.
    """
    register_from_config(cfg, needed=needs_data)
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        logger.warning("MODEL.DEVICE is %r, but PyTorch sees no CUDA device: running on the CPU", cfg.MODEL.DEVICE)
        cfg.MODEL.DEVICE = "cpu"
    if cfg.MODEL.DEVICE == "cpu":
        if cfg.SOLVER.AMP.ENABLED:
            logger.warning("SOLVER.AMP needs CUDA: training in float32")
            cfg.SOLVER.AMP.ENABLED = False
        if comm.get_world_size() > 1 and "OMP_NUM_THREADS" not in os.environ:
            # Processes that each start a thread per core would wait for one another.
            torch.set_num_threads(max(1, usable_cores() // comm.get_local_size()))


def keep_expected_tracebacks_in_the_log() -> None:
    """Let standard output do without the tracebacks of errors that the command ends with in one sentence.

    Detectron2 logs every error during the training with its traceback; the file of the log keeps it.
    """

    def is_shown(record: logging.LogRecord) -> bool:
        return not record.exc_info or expected_reason(record.exc_info[1]) is None

    for handler in logging.getLogger("detectron2").handlers:
        if getattr(handler, "stream", None) is sys.stdout:
            handler.addFilter(is_shown)


def with_working_norms(cfg: CfgNode) -> CfgNode:
    """`cfg` with synchronised batch norms replaced where they cannot synchronise.

    `SyncBN` needs several CUDA processes. A single process gets `BN`, which computes the same; gloo processes get
    Detectron2's `naiveSyncBN`. Parameters keep their names, so checkpoints fit either way.
    """
    world_size = comm.get_world_size()
    if world_size > 1 and torch.distributed.get_backend() != "gloo":
        return cfg
    replacement = "BN" if world_size == 1 else "naiveSyncBN"
    synchronised = ("SyncBN", "nnSyncBN") if world_size > 1 else ("SyncBN", "nnSyncBN", "naiveSyncBN", "naiveSyncBN_N")
    affected = [(node, key) for node, key in norm_keys(cfg.MODEL, "MODEL") if value_at(cfg, node)[key] in synchronised]
    if not affected:
        return cfg
    cfg = cfg.clone()
    cfg.defrost()
    for node, key in affected:
        value_at(cfg, node)[key] = replacement
    cfg.freeze()
    reason = "there is one process" if world_size == 1 else "gloo cannot run SyncBN"
    logger.warning(
        "%s: %s instead of SyncBN, because %s", ", ".join(".".join(a) for a in affected), replacement, reason
    )
    return cfg


def leave_process_group() -> None:
    """End distributed training together: a process that exits while gloo still talks to it may abort."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        comm.synchronize()
        torch.distributed.destroy_process_group()


def norm_keys(node: CfgNode, path: str) -> Iterator[tuple[str, str]]:
    """(path of the node, key) of every NORM of a layer below `node`."""
    for key, value in node.items():
        if isinstance(value, CfgNode) and path != "MODEL.EPL":  # where NORM is a distance
            yield from norm_keys(value, f"{path}.{key}")
        elif key == "NORM":
            yield path, key


def value_at(cfg: CfgNode, path: str) -> Any:
    """What stands under a key with dots, such as "SOLVER.BASE_LR"."""
    for key in path.split("."):
        cfg = cfg[key]
    return cfg
