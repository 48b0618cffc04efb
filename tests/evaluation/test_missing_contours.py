"""The warning about targets in which hardly any contour counts."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from epl_d2 import get_cfg
from epl_d2.contours.nearest import MAX_DISTANCE
from epl_d2.data.label_io import read_label
from epl_d2.engine import Trainer
from epl_d2.evaluation import BoundaryStatistics
from epl_d2.evaluation.report import missing_contours


def object_with_a_rim(width: int) -> np.ndarray:
    target = np.zeros((60, 80), np.uint8)
    target[12:48, 15:65] = 255
    target[12 + width : 48 - width, 15 + width : 65 - width] = 1
    return target


def message(target: np.ndarray, **settings) -> str:
    statistics = BoundaryStatistics(3, [1], **settings)
    statistics.update(np.zeros_like(target), target)
    return missing_contours(statistics)


def test_rims_hide_contours_unless_they_are_filled():
    rim = object_with_a_rim(5)
    hidden = BoundaryStatistics(3, [1], ignore_mode="zero")
    hidden.update(rim, rim)
    pixels = hidden.counts["contour_totals"][1].sum()
    assert message(rim) == (
        "hardly any contour of the target counts: 0.0 pixels an image, of 0 of 3 classes; boundary scores say little. "
        f"Edges along ignored areas, which do not count, have {pixels:.1f} pixels an image: if they are rims around "
        "objects, as in PASCAL VOC, choose the ignore mode 'nearest'"
    )
    assert message(rim, ignore_mode="nearest") == message(rim, ignore_mode="zero") == ""
    assert message(object_with_a_rim(14), ignore_mode="nearest").endswith("choose a larger ignore distance")


def test_enough_contours_and_none_at_all():
    direct = object_with_a_rim(0)
    assert message(direct) == ""
    direct[:, 70:] = 255  # an ignored area that hides less than it leaves
    assert message(direct) == ""
    assert message(np.zeros((9, 9), np.uint8)).endswith("of 0 of 3 classes; boundary scores say little")


@pytest.mark.parametrize(("mode", "warned"), [("ignore", True), ("nearest", False)])
def test_an_evaluation_by_config_warns_once(tmp_path, caplog, mode, warned):
    cfg = get_cfg()
    assert cfg.TEST.BOUNDARY.IGNORE_DISTANCE == MAX_DISTANCE
    cfg.merge_from_list(["OUTPUT_DIR", str(tmp_path), "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 3])
    cfg.TEST.BOUNDARY.IGNORE_MODE = mode
    label_file = str(tmp_path / "label.png")
    cv2.imwrite(label_file, object_with_a_rim(5))
    name = f"missing_contours_{mode}"
    DatasetCatalog.register(name, lambda: [{"file_name": "a.jpg", "sem_seg_file_name": label_file}])
    MetadataCatalog.get(name).set(stuff_classes=["ground", "disk", "ring"], ignore_label=255)
    try:
        evaluator = Trainer.build_evaluator(cfg, name)
        evaluator.reset()
        for _ in range(2):
            evaluator.process([{"file_name": "a.jpg"}], [{"sem_seg": torch.zeros(3, 60, 80)}])
        evaluator.evaluate()
        warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert len(warnings) == warned
        assert all(text.startswith(f"{name}: hardly any contour of the target counts") for text in warnings)
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.mark.skipif("DETECTRON2_DATASETS" not in os.environ, reason="DETECTRON2_DATASETS names no folder")
@pytest.mark.parametrize(
    ("folder", "mode", "warned"),
    [
        ("VOC2012/SegmentationClass", "ignore", True),
        ("VOC2012/SegmentationClass", "nearest", False),
        ("camvid/valannot", "ignore", False),
    ],
)
def test_real_labels(folder, mode, warned):
    files = sorted(Path(os.environ["DETECTRON2_DATASETS"], folder).glob("*.png"))[:15]
    if not files:
        pytest.skip(f"there are no labels in {folder} below DETECTRON2_DATASETS")
    statistics = BoundaryStatistics(21, [1], ignore_mode=mode)
    for file in files:
        target = read_label(file)
        statistics.update(np.zeros_like(target), np.where(target == 11, 255, target) if "camvid" in folder else target)
    assert bool(missing_contours(statistics)) == warned
