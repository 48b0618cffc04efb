"""The demo, shortened: it trains, evaluates, prints a table and leaves pictures."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from epl_d2.data.shapes import write_shapes

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_demo_prints_a_table_and_draws_pictures(tmp_path):
    write_shapes(str(tmp_path / "shapes"), train=8, val=3, size=(64, 64), seed=0)
    output = tmp_path / "output"
    options = [
        "MODEL.DEVICE",
        "cpu",
        "SOLVER.MAX_ITER",
        "2",
        "SOLVER.IMS_PER_BATCH",
        "2",
        "DATALOADER.NUM_WORKERS",
        "0",
    ]
    finished = subprocess.run(
        [sys.executable, "demo/run_shapes.py", "--output", str(output), "--pictures", "2", *options],
        cwd=ROOT,
        env={**os.environ, "DETECTRON2_DATASETS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    end = finished.stdout.split("on 3 shapes scenes, percent")[1]
    assert all(column in end for column in ("IoU", "F@1px", "F@9px", "trimap@3px"))
    assert [line.split()[1] for line in end.splitlines() if line.startswith("| ")] == [
        *("class", "sky", "ground", "disk", "polygon", "ring", "rod", "mean"),
    ]
    # What to look at, and the command that shows the difference.
    assert "the thinnest class, rod" in end and f"--output {output}_cross_entropy MODEL.DEVICE cpu" in end
    assert "MODEL.EPL.ENABLED False" in end
    assert max(len(line) for line in end.splitlines() if line.startswith("|")) <= 100
    pictures = sorted((output / "pictures").iterdir())
    assert len(pictures) == 2
    for picture in pictures:
        pixels = cv2.imread(str(picture))
        assert pixels.shape[1] > 4 * 64  # four panels in a row, enlarged
        assert len({tuple(color) for color in pixels.reshape(-1, 3)[::7]}) > 20
