"""Class weights of the labels of a data set, and the command that prints them."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from epl_d2.data.class_pixels import class_pixels, class_weights
from epl_d2.data.datasets import register_all_datasets
from epl_d2.data.shapes import write_shapes

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("power", [0, 0.5, 1, 2.0])
def test_weights(power):
    pixels = np.array([10, 1000, 40])
    weights = class_weights(pixels, power)
    np.testing.assert_allclose(weights[0] / weights[1:], (pixels[1:] / 10) ** power)
    assert np.average(weights, weights=pixels) == pytest.approx(1)
    if power == 1:
        np.testing.assert_allclose(weights * pixels, 350)


def test_what_has_no_weight_is_named():
    with pytest.raises(ValueError, match="no training pixel has the class 1"):
        class_weights(np.array([3, 0]), 0.5)
    with pytest.raises(ValueError, match="power is nan"):
        class_weights(np.array([3, 1]), float("nan"))


def test_the_command_prints_what_the_config_takes(tmp_path, monkeypatch, capsys):
    write_shapes(str(tmp_path / "shapes"), train=3, val=1, size=(48, 48), seed=0)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    register_all_datasets()
    spec = importlib.util.spec_from_file_location("find_class_weights", ROOT / "tools" / "find_class_weights.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    command = ["tool", "--config-file", str(ROOT / "configs" / "shapes" / "deeplab_v3_plus_mobilenet_v2.yaml")]
    class_pixels.cache_clear()
    try:
        monkeypatch.setattr(sys, "argv", [*command, "--power", "1"])
        assert tool.main() == 0
        pixels = class_pixels(("shapes_sem_seg_train",), 6, 255)
        expected = pixels.sum() / 6 / pixels
        np.testing.assert_allclose(eval(capsys.readouterr().out), expected, rtol=1e-3)
        monkeypatch.setattr(sys, "argv", [*command, "--power", "inf"])
        assert tool.main() == 1
        assert "error: power is inf" in capsys.readouterr().err
    finally:
        class_pixels.cache_clear()
        monkeypatch.undo()
        register_all_datasets()
