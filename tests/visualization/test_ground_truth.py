"""Label files as their data sets store them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from epl_d2.data.datasets.metadata import DATASETS
from epl_d2.visualization.ground_truth import read_ground_truth


def write_labels(path: Path, labels: list[int]) -> Path:
    cv2.imwrite(str(path), np.array([labels], dtype=np.uint8))
    return path


def test_stored_ids_become_class_ids(tmp_path: Path) -> None:
    camvid = write_labels(tmp_path / "frame.png", [0, 10, 11, 255])
    assert read_ground_truth(camvid, DATASETS["camvid"]).tolist() == [[0, 10, 255, 255]]
    # road, bicycle, license plate (-1, stored as 255) and "out of roi"
    label_ids = write_labels(tmp_path / "a_gtFine_labelIds.png", [7, 33, 255, 3])
    assert read_ground_truth(label_ids, DATASETS["cityscapes"]).tolist() == [[0, 18, 255, 255]]
    train_ids = write_labels(tmp_path / "a_gtFine_labelTrainIds.png", [7, 18, 255, 3])
    assert read_ground_truth(train_ids, DATASETS["cityscapes"]).tolist() == [[7, 18, 255, 3]]
    own_map = bytes(255 - i for i in range(256))
    assert read_ground_truth(
        write_labels(tmp_path / "own.png", [255, 250, 0]), DATASETS["shapes"], own_map
    ).tolist() == [[0, 5, 255]]


def test_unknown_ids_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"wrong\.png holds the ids \[6, 9\]; expected 0\.\.5 or 255"):
        read_ground_truth(write_labels(tmp_path / "wrong.png", [0, 9, 6]), DATASETS["shapes"])
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        read_ground_truth(tmp_path / "none.png", DATASETS["shapes"])
