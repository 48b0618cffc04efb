import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import epl_d2.data.shapes as shapes
from epl_d2.data.datasets.shapes import load_shapes
from epl_d2.data.shapes import DISK, RIM, ROD, render_scene, write_shapes


def test_scenes_follow_from_their_seed():
    image, label = render_scene((3, 1))
    again = render_scene((3, 1))
    np.testing.assert_array_equal(image, again[0])
    np.testing.assert_array_equal(label, again[1])
    assert not np.array_equal(label, render_scene((3, 2))[1])
    assert image.shape == (128, 128, 3) and image.dtype == label.dtype == np.uint8


def test_rim_is_ignored_and_nothing_else():
    _, label = render_scene(0, (64, 96))
    assert label.shape == (64, 96)
    inside = label[RIM:-RIM, RIM:-RIM]
    assert inside.max() <= 5
    assert (label == 255).sum() == label.size - inside.size


def test_all_classes_occur_and_rods_are_thin():
    labels = [render_scene((0, number))[1] for number in range(12)]
    assert set(np.unique(labels)) == {0, 1, 2, 3, 4, 5, 255}
    widths = [cv2.distanceTransform((label == ROD).astype(np.uint8), cv2.DIST_L2, 5).max() for label in labels]
    # the distance to the outside is half the width: at most 2.25 px, a little more where rods cross
    assert 0.9 < np.median(widths) < 3.5


def test_contours_are_exact(monkeypatch):
    """With a disk of known center and radius, a label pixel is the class of the pixel's center, and an image
    pixel mixes the colors by the area that the disk covers."""
    cx, cy, radius = 61.3, 58.7, 20.45
    monkeypatch.setattr(shapes, "_layout", lambda rng, h, w: [(DISK, shapes._disk(cx, cy, radius))])
    monkeypatch.setattr(shapes, "_texture", lambda rng, c, h, w: np.full((h, w, 3), 200.0 * (c == DISK), np.float32))
    image, label = render_scene(0)
    y, x = np.indices(label.shape) + 0.5
    distance = np.hypot(x - cx, y - cy)
    expected = np.where(distance <= radius, DISK, 0)
    expected[(label == 255)] = 255
    np.testing.assert_array_equal(label, expected)

    fine = (np.arange(128 * 40) + 0.5) / 40
    fx, fy = np.meshgrid(fine, fine)
    covered = (np.hypot(fx - cx, fy - cy) <= radius).reshape(128, 40, 128, 40).mean(axis=(1, 3))
    # light and noise vary the brightness; their size shows where the disk covers all
    gray = image.mean(axis=2)
    partly = (covered > 0.1) & (covered < 0.9)
    near = covered == 1
    assert np.corrcoef(gray[partly], covered[partly])[0, 1] > 0.9
    assert gray[partly].mean() / gray[near].mean() == pytest.approx(covered[partly].mean(), abs=0.06)


def test_the_set_is_written_once(tmp_path):
    root = str(tmp_path / "data" / "shapes")
    assert write_shapes(root, train=3, val=2, size=(32, 40), seed=4)
    records = load_shapes(root, "train")
    assert len(records) == 3 and len(load_shapes(root, "val")) == 2
    label = np.asarray(Image.open(records[1]["sem_seg_file_name"]))
    np.testing.assert_array_equal(label, render_scene((4, 0, 1), (32, 40))[1])
    assert Image.open(records[1]["sem_seg_file_name"]).mode == "L"
    stamp = os.stat(records[0]["file_name"]).st_mtime_ns
    assert not write_shapes(root, train=3, val=2, size=(32, 40), seed=4)
    assert os.stat(records[0]["file_name"]).st_mtime_ns == stamp
    assert [entry.name for entry in Path(root).parent.iterdir()] == ["shapes"]


def test_other_content_is_not_overwritten(tmp_path):
    root = tmp_path / "shapes"
    write_shapes(str(root), train=1, val=1, size=(32, 32))
    with pytest.raises(ValueError, match=r"'train': 1.*'train': 2"):
        write_shapes(str(root), train=2, val=1, size=(32, 32))
    (root / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="no readable manifest"):
        write_shapes(str(root), train=1, val=1, size=(32, 32))
    with pytest.raises(ValueError, match="at least 32"):
        render_scene(0, (16, 64))


def test_an_interrupted_run_leaves_nothing_that_looks_whole(tmp_path, monkeypatch):
    def fail_at_third(seed, size):
        if seed == (0, 0, 2):
            raise KeyboardInterrupt
        return render_scene(seed, size)

    root = tmp_path / "shapes"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(shapes, "render_scene", fail_at_third)
        write_shapes(str(root), train=3, val=1, size=(32, 32))
    assert list(tmp_path.iterdir()) == []
    assert write_shapes(str(root), train=3, val=1, size=(32, 32))
    assert json.loads((root / "manifest.json").read_text())["train"] == 3
