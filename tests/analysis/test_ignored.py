"""What ignored pixels do to boundary scores: figures of small maps, and the order of scores under a growing shift."""

from __future__ import annotations

import importlib.util
import itertools
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from epl_d2.analysis.ignored import contour_pixels, shift_scores, shifted_copy
from epl_d2.data.label_io import read_label

TOOL = Path(__file__).parents[2] / "tools" / "analyze_ignored.py"


def disks_with_rims() -> np.ndarray:
    labels = np.zeros((90, 120), np.uint8)
    for label, center, radius in ((1, (35, 40), 22), (2, (85, 50), 20)):
        cv2.circle(labels, center, radius, 255, -1)
        cv2.circle(labels, center, radius - 5, label, -1)
    return labels


def test_contour_pixels_of_a_straight_rim():
    labels = np.zeros((10, 30), np.uint8)
    labels[:, 12:17] = 255
    labels[:, 17:] = 1
    found = contour_pixels([labels, labels], 2, [2, 3])
    assert (found.images, found.ignored) == (2, 1 / 6)
    assert (found.counted, found.hidden) == (0, 2 * 2 * 10)  # columns 11 and 16, of one class each
    assert found.filled == (0, 2 * 2 * 10)  # a column of both classes


def test_a_shifted_copy_has_no_ignored_pixels():
    labels = np.array([[3, 255, 255, 255, 1]], np.uint8)
    assert shifted_copy(labels, 0).tolist() == [[3, 3, 3, 1, 1]]
    assert shifted_copy(labels, 2).tolist() == [[3, 3, 3, 3, 3]]
    assert not shifted_copy(np.full((2, 3), 255, np.uint8), 1).any()


def test_scores_fall_as_the_shift_grows_where_rims_are_filled():
    rows = shift_scores([disks_with_rims()], 3, [0, 1, 2, 4, 8])
    nearest = [row for row in rows if row.ignore_mode == "nearest"]
    assert [row.shift for row in nearest] == [0, 1, 2, 4, 8]
    for scores in ([row.boundary_f[0] for row in nearest[1:]], [row.boundary_iou for row in nearest]):
        assert all(left > right for left, right in itertools.pairwise(scores))
    assert nearest[0].boundary_f == (1.0, 1.0) and nearest[0].boundary_iou == 1.0 and nearest[0].classes == 3
    plain, zero = (next(r for r in rows if r.ignore_mode == mode and r.shift == 1) for mode in ("ignore", "zero"))
    assert plain.contour_pixels == plain.classes == 0 and np.isnan(plain.boundary_f[0])
    assert zero.contour_pixels > nearest[1].contour_pixels and zero.boundary_iou > nearest[1].boundary_iou
    assert {row.trimap[1] for row in rows if row.shift == 4} == {nearest[3].trimap[1]}


@pytest.mark.skipif("DETECTRON2_DATASETS" not in os.environ, reason="DETECTRON2_DATASETS names no folder")
def test_scores_fall_as_the_shift_grows_on_real_labels():
    files = sorted(Path(os.environ["DETECTRON2_DATASETS"], "VOC2012", "SegmentationClass").glob("*.png"))[:20]
    if not files:
        pytest.skip("there are no labels of VOC2012 below DETECTRON2_DATASETS")
    rows = [row for row in shift_scores(map(read_label, files), 21, [1, 2, 4, 8]) if row.ignore_mode == "nearest"]
    for scores in (
        [row.boundary_f[0] for row in rows],
        [row.boundary_f[1] for row in rows[1:]],
        [row.boundary_iou for row in rows],
        [row.trimap[1] for row in rows],
    ):
        assert all(left > right + 0.01 for left, right in itertools.pairwise(scores))


def test_no_labels():
    with pytest.raises(ValueError, match="there are no label maps"):
        contour_pixels([], 2, [1])
    with pytest.raises(ValueError, match="there are no label maps"):
        shift_scores([], 2, [1])


@pytest.mark.parametrize("command", ["contours", "shift"])
def test_the_tool_prints_a_table(tmp_path, monkeypatch, capsys, command):
    specification = importlib.util.spec_from_file_location("analyze_ignored", TOOL)
    tool = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(tool)
    monkeypatch.setattr(sys, "argv", ["tool", command, str(tmp_path), "--dataset", "voc_2012"])
    assert tool.main() == 1 and "no label files" in capsys.readouterr().err
    cv2.imwrite(str(tmp_path / "a.png"), disks_with_rims())
    assert tool.main() == 0
    header, _, *rows = capsys.readouterr().out.splitlines()[2:]
    assert len(rows) == {"contours": 1, "shift": 12}[command]
    assert all(row.count("|") == header.count("|") for row in rows)
    monkeypatch.setattr(sys, "argv", ["tool", "shift", str(tmp_path), "--dataset", "voc_2012", "--shifts", "2", "-1"])
    with pytest.raises(SystemExit, match="2"):
        tool.main()
    assert "--shifts are [2, -1], expected at least 0" in capsys.readouterr().err
