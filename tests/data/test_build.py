import itertools
import logging
import random

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm

from epl_d2 import get_cfg
from epl_d2.data.build import build_sem_seg_test_loader, build_sem_seg_train_loader, start_at
from epl_d2.data.datasets.metadata import DatasetMetadata
from epl_d2.data.datasets.registration import register_sem_seg
from epl_d2.data.sampling import StreamSampler, seeded

NAME = "pairs_for_loader_tests"


@pytest.fixture
def cfg(pairs):
    records = pairs(7)
    metadata = DatasetMetadata(("a", "b", "c"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))
    register_sem_seg(NAME, lambda: records, metadata)
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = (NAME,)
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 3
    cfg.INPUT.CROP.ENABLED = True
    cfg.INPUT.CROP.SIZE = [33, 49]
    cfg.SOLVER.IMS_PER_BATCH = 4
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SEED = 11
    yield cfg
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def take(loader, count: int) -> list[list[dict]]:
    return list(itertools.islice(loader, count))


def same(a: list[list[dict]], b: list[list[dict]]) -> bool:
    samples = list(zip(itertools.chain(*a), itertools.chain(*b), strict=True))
    return all(
        x["file_name"] == y["file_name"] and x["image"].equal(y["image"]) and x["sem_seg"].equal(y["sem_seg"])
        for x, y in samples
    )


def test_batches_follow_from_the_seed(cfg):
    first = take(build_sem_seg_train_loader(cfg), 5)
    assert [len(batch) for batch in first] == [4] * 5
    assert all(sample["image"].shape == (3, 33, 49) for batch in first for sample in batch)
    np.random.seed(123)
    random.seed(123)
    assert same(first, take(build_sem_seg_train_loader(cfg), 5))
    cfg.SEED = 12
    assert not same(first, take(build_sem_seg_train_loader(cfg), 5))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_the_workers(cfg, workers):
    alone = take(build_sem_seg_train_loader(cfg), 5)
    cfg.DATALOADER.NUM_WORKERS = workers
    assert same(alone, take(build_sem_seg_train_loader(cfg), 5))


@pytest.mark.parametrize("build", [build_sem_seg_train_loader, lambda cfg: build_sem_seg_test_loader(cfg, NAME)])
def test_opencv_has_no_threads_when_workers_fork(cfg, build):
    """A worker that is forked while OpenCV's threads live can wait for them for ever."""
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(3)
        build(cfg)
        assert cv2.getNumThreads() == 3
        cfg.DATALOADER.NUM_WORKERS = 1
        build(cfg)
        assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(before)


def test_resumed_stream_goes_on_where_it_stopped(cfg):
    whole = take(build_sem_seg_train_loader(cfg), 6)
    assert same(whole[4:], take(build_sem_seg_train_loader(cfg, start_iteration=4), 2))
    loader = build_sem_seg_train_loader(cfg)
    start_at(loader, 2, cfg.SEED)
    assert same(whole[2:], take(loader, 4))


def test_a_resumed_stream_takes_the_seed_of_the_first_run(cfg):
    whole = take(build_sem_seg_train_loader(cfg), 3)
    first, cfg.SEED = cfg.SEED, cfg.SEED + 1
    loader = build_sem_seg_train_loader(cfg)
    start_at(loader, 1, first)
    assert same(whole[1:], take(loader, 2))


def test_an_image_looks_different_every_epoch(cfg):
    samples = list(itertools.chain(*take(build_sem_seg_train_loader(cfg), 7)))  # 28 samples: 4 epochs of 7
    epochs = [samples[start : start + 7] for start in range(0, 28, 7)]
    assert all(len({s["file_name"] for s in epoch}) == 7 for epoch in epochs)
    assert len({tuple(s["file_name"] for s in epoch) for epoch in epochs}) == 4
    versions = [next(s["image"] for s in epoch if s["image_id"] == "0") for epoch in epochs]
    assert not any(a.equal(b) for a, b in itertools.combinations(versions, 2))


def test_processes_share_every_batch_without_overlap(monkeypatch):
    def stream(rank: int, processes: int, count: int, start: int = 0) -> list[tuple[int, int]]:
        monkeypatch.setattr(comm, "get_rank", lambda: rank)
        monkeypatch.setattr(comm, "get_world_size", lambda: processes)
        sampler = StreamSampler(5, seed=3, samples_per_iteration=4)
        sampler.start_iteration = start
        return list(itertools.islice(sampler, count))

    alone = stream(0, 1, 40)
    assert [position for position, _ in alone] == list(range(40))
    shared = sorted(stream(0, 2, 20) + stream(1, 2, 20))
    assert shared == alone
    assert sorted(stream(0, 4, 5, start=5) + stream(1, 4, 5, 5) + stream(2, 4, 5, 5) + stream(3, 4, 5, 5)) == alone[20:]
    counts = np.bincount([index for _, index in alone])
    np.testing.assert_array_equal(counts, [8] * 5)


def test_seeded_restores_the_generators():
    np.random.seed(5)
    random.seed(5)
    expected = np.random.rand(), random.random()
    np.random.seed(5)
    random.seed(5)
    with seeded(1, 2):
        inside = np.random.rand(), random.random()
    with seeded(1, 2):
        assert (np.random.rand(), random.random()) == inside
    with seeded(1, 3):
        assert (np.random.rand(), random.random()) != inside
    assert (np.random.rand(), random.random()) == expected


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_an_unreadable_file_stops_the_run_and_names_itself(cfg, workers):
    cfg.DATALOADER.NUM_WORKERS = workers
    damaged = DatasetCatalog.get(NAME)[3]["sem_seg_file_name"]
    with open(damaged, "wb") as file:
        file.write(b"damaged")
    with pytest.raises(ValueError, match=r"labels/3\.png.*MAX_UNREADABLE: 0"):
        take(build_sem_seg_train_loader(cfg), 4)


def test_unreadable_files_are_passed_over_up_to_a_count(cfg, caplog):
    records = DatasetCatalog.get(NAME)
    for index in (3, 4):
        with open(records[index]["file_name"], "wb") as file:
            file.write(b"damaged")
    cfg.DATALOADER.MAX_UNREADABLE = 2
    with caplog.at_level(logging.WARNING, "epl_d2"):
        samples = list(itertools.chain(*take(build_sem_seg_train_loader(cfg), 14)))
    assert {sample["image_id"] for sample in samples} == {"0", "1", "2", "5", "6"}
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 2 and all("photos/" in message for message in warnings)
    cfg.DATALOADER.MAX_UNREADABLE = 1
    with pytest.raises(ValueError, match=r"cannot be used: 2, DATALOADER\.MAX_UNREADABLE: 1"):
        take(build_sem_seg_train_loader(cfg), 14)


def test_test_loader_gives_every_image_once(cfg):
    samples = [batch[0] for batch in build_sem_seg_test_loader(cfg, NAME)]
    assert [sample["image_id"] for sample in samples] == [str(i) for i in range(7)]
    assert samples[0]["image"].shape == (3, 40, 56) and torch.is_tensor(samples[0]["image"])


def test_bad_settings_are_refused(cfg, monkeypatch):
    cfg.DATALOADER.SAMPLER_TRAIN = "RepeatFactorTrainingSampler"
    with pytest.raises(ValueError, match="RepeatFactorTrainingSampler"):
        build_sem_seg_train_loader(cfg)
    cfg.DATALOADER.SAMPLER_TRAIN = "TrainingSampler"
    cfg.SOLVER.IMS_PER_BATCH = 3
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    with pytest.raises(ValueError, match=r"IMS_PER_BATCH is 3.*2 processes"):
        build_sem_seg_train_loader(cfg)
