"""Make a configuration runnable on the machine at hand."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm

from epl_d2.commands import expected_reason
from epl_d2.config import get_cfg
from epl_d2.data.datasets import register_from_config
from epl_d2.files import usable_cores

__all__ = [
    "keep_expected_tracebacks_in_the_log",
    "leave_process_group",
    "norm_keys",
    "prepare_config",
    "read_config",
    "with_working_norms",
]

logger = logging.getLogger(__name__)


def read_config(config_file: str | os.PathLike, opts: Sequence[object] = ()) -> CfgNode:
    """The config of a file with KEY VALUE pairs applied, runnable on the machine at hand, not frozen."""
    cfg = get_cfg()
    cfg.merge_from_file(os.fspath(config_file))
    cfg.merge_from_list(list(opts))
    prepare_config(cfg)
    return cfg


def prepare_config(cfg: CfgNode) -> None:
    """Register the data sets that `cfg` describes and fall back to the CPU where there is no CUDA, in place."""
    register_from_config(cfg)
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
    affected = [(node, key) for node, key in norm_keys(cfg.MODEL, "MODEL") if _get(cfg, node)[key] in synchronised]
    if not affected:
        return cfg
    cfg = cfg.clone()
    cfg.defrost()
    for node, key in affected:
        _get(cfg, node)[key] = replacement
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


def _get(cfg: CfgNode, path: str) -> CfgNode:
    for key in path.split("."):
        cfg = cfg[key]
    return cfg
