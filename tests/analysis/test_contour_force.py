"""Forces against differences of losses, responses against a Fourier transform."""

import importlib.util
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from epl_d2.analysis.contour_force import LOSSES, contour_force, ray_response

TOOL = Path(__file__).parents[2] / "tools" / "plot_contour_force.py"


def value(loss, offset: float, width: float) -> float:
    """The loss of a picture of 16 x 64 pixels whose right half is class 1."""
    columns = np.arange(64) + 0.5 - 32
    probability = 1 / (1 + np.exp(-(columns - offset) / width))
    logits = torch.from_numpy(np.stack([np.log(1 - probability), np.log(probability)]))
    labels = torch.zeros(1, 16, 64, dtype=torch.long)
    labels[:, :, 32:] = 1
    return float(loss(logits[None, :, None, :].expand(1, 2, 16, 64).contiguous(), labels))


@pytest.mark.parametrize("name", ["cross entropy", "point loss, w = 7", "line loss, mu = 2", "generalized dice"])
def test_the_force_is_the_slope_of_the_loss(name):
    step, offsets, width = 1e-4, [-1.7, 0.6, 1.3, 3.1], 0.8
    slopes = [
        (value(LOSSES[name], x + step, width) - value(LOSSES[name], x - step, width)) / (2 * step) for x in offsets
    ]
    force = contour_force(LOSSES[name], offsets, width)
    np.testing.assert_allclose(force, slopes, rtol=2e-3, atol=1e-7)
    assert force[0] < 0 < force[1]


def test_mu_10_hardly_pulls_at_half_a_pixel_and_mu_2_does():
    sharp, soft = (contour_force(LOSSES[f"line loss, mu = {mu}"], [0.25, 0.5, 1.0], 0.2) for mu in (10, 2))
    assert np.abs(sharp[:2]).max() < 0.1 * sharp[2]
    assert soft[1] > 0.5 * soft[2]


def test_the_point_loss_on_the_lines_pulls_further_than_the_line_loss_and_no_further_than_its_rays():
    names = "point loss on the lines", "line loss, mu = 2"
    near, line = (contour_force(LOSSES[name], [1, 3, 8], 0.5) for name in names)
    assert near[1] > 0.5 * near[0] and line[1] < 0.1 * line[0]
    assert abs(near[2]) < 0.01 * near[0]


@pytest.mark.parametrize("kernel_size", [3, 7])
def test_the_response_is_the_fourier_transform_of_the_ray(kernel_size):
    ray = np.zeros(48)
    taps = kernel_size // 2 + 1
    ray[:taps] = 1 / taps
    spectrum = np.abs(np.fft.rfft(ray))[1:]
    np.testing.assert_allclose(ray_response(48 / np.arange(1, 25), kernel_size), spectrum, atol=1e-12)


def test_the_tool_draws(tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("plot_contour_force", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setattr(tool, "LOSSES", {"cross entropy": LOSSES["cross entropy"]})
    monkeypatch.setattr(sys, "argv", ["tool", "--widths", "1", "--largest", "2", "--output", str(tmp_path / "f.png")])
    tool.main()
    assert cv2.imread(str(tmp_path / "f.png")) is not None
    monkeypatch.setattr(sys, "argv", ["tool", "--widths", "0"])
    with pytest.raises(SystemExit, match="2"):
        tool.main()
