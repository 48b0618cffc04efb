"""The loaders for training and testing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper, build_detection_test_loader, get_detection_dataset_dicts
from detectron2.data.build import trivial_batch_collator
from detectron2.data.common import DatasetFromList
from detectron2.utils import comm
from torch.utils.data import DataLoader

from .dataset_mapper import SemSegDatasetMapper
from .sampling import SeededDataset, StreamSampler

__all__ = [
    "build_instance_test_loader",
    "build_instance_train_loader",
    "build_sem_seg_test_loader",
    "build_sem_seg_train_loader",
    "start_at",
]


def build_sem_seg_train_loader(cfg: CfgNode, start_iteration: int = 0) -> DataLoader:
    """An endless loader of lists of SOLVER.IMS_PER_BATCH / processes mapped records.

    Its batches follow from SEED alone, whatever DATALOADER.NUM_WORKERS is; a negative SEED is drawn at
    random. Images of all aspect ratios share a batch, for the crop gives them one size.

    Args:
        cfg: DATASETS.TRAIN, INPUT.*, SOLVER.IMS_PER_BATCH, DATALOADER.{NUM_WORKERS,MAX_UNREADABLE}, SEED.
        start_iteration: go on as an uninterrupted run would after so many iterations.

    Raises:
        ValueError: the batch does not divide by the number of processes, or another sampler is asked for.
    """
    records = get_detection_dataset_dicts(list(cfg.DATASETS.TRAIN), filter_empty=False)
    return _seeded_loader(cfg, records, SemSegDatasetMapper(cfg, True), start_iteration)


def build_instance_train_loader(cfg: CfgNode, start_iteration: int = 0) -> DataLoader:
    """As `build_sem_seg_train_loader`, but of records with instances, mapped by Detectron2's `DatasetMapper`.

    Args:
        cfg: as there; DATALOADER.FILTER_EMPTY_ANNOTATIONS leaves out images without an object, ASPECT_RATIO_GROUPING
            keeps upright images out of the batches of wide ones.
        start_iteration: as there.

    Raises:
        ValueError: as there.
    """
    records = get_detection_dataset_dicts(
        list(cfg.DATASETS.TRAIN), filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    )
    groups = [record["width"] > record["height"] for record in records]
    return _seeded_loader(
        cfg,
        records,
        DatasetMapper(cfg, True),
        start_iteration,
        groups if cfg.DATALOADER.ASPECT_RATIO_GROUPING else None,
    )


def _seeded_loader(
    cfg: CfgNode,
    records: list[dict[str, Any]],
    mapper: Callable[[dict[str, Any]], dict[str, Any]],
    start_iteration: int,
    groups: Sequence[int] | None = None,
) -> DataLoader:
    processes, batch = comm.get_world_size(), cfg.SOLVER.IMS_PER_BATCH
    if batch < 1 or batch % processes:
        raise ValueError(f"SOLVER.IMS_PER_BATCH is {batch}, expected a positive multiple of the {processes} processes")
    if cfg.DATALOADER.SAMPLER_TRAIN != "TrainingSampler":
        raise ValueError(f'DATALOADER.SAMPLER_TRAIN is {cfg.DATALOADER.SAMPLER_TRAIN!r}, expected "TrainingSampler"')
    seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
    dataset = SeededDataset(DatasetFromList(records, copy=False), mapper, seed, cfg.DATALOADER.MAX_UNREADABLE)
    sampler = StreamSampler(len(records), seed, batch, groups)
    sampler.start_iteration = start_iteration
    _prepare_fork(cfg.DATALOADER.NUM_WORKERS)
    return DataLoader(
        dataset,
        batch_size=batch // processes,
        sampler=sampler,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=trivial_batch_collator,
    )


def start_at(loader: DataLoader, iteration: int, seed: int) -> None:
    """Make a loader of `build_sem_seg_train_loader` start as one of `seed` that has already given `iteration` batches.

    To be called before the first batch is drawn, e.g. when a checkpoint was found.
    """
    loader.sampler.start_iteration = iteration
    loader.sampler.seed = loader.dataset.seed = seed


def build_sem_seg_test_loader(cfg: CfgNode, dataset_name: str) -> DataLoader:
    """A loader of one mapped record at a time, in the data set's order, shared out over the processes."""
    return _test_loader(cfg, dataset_name, SemSegDatasetMapper(cfg, False))


def build_instance_test_loader(cfg: CfgNode, dataset_name: str) -> DataLoader:
    """As `build_sem_seg_test_loader`, with Detectron2's `DatasetMapper`, which resizes to INPUT.MIN_SIZE_TEST."""
    return _test_loader(cfg, dataset_name, DatasetMapper(cfg, False))


def _test_loader(cfg: CfgNode, dataset_name: str, mapper: Callable[[dict[str, Any]], dict[str, Any]]) -> DataLoader:
    records: list[dict[str, Any]] = get_detection_dataset_dicts([dataset_name], filter_empty=False)
    _prepare_fork(cfg.DATALOADER.NUM_WORKERS)
    return build_detection_test_loader(records, mapper=mapper, num_workers=cfg.DATALOADER.NUM_WORKERS)


def _prepare_fork(workers: int) -> None:
    """Stop OpenCV's threads: a forked worker would wait for them for ever, and workers need none of their own."""
    if workers > 0:
        cv2.setNumThreads(0)
