"""Counts against hand formulas."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detectron2.structures import ImageList
from torch import nn

from epl_d2 import get_cfg
from epl_d2.analysis.cost import (
    count_inference,
    parameters_by_part,
    saved_for_backward,
    synthetic_batch,
    time_in_turns,
)
from epl_d2.engine import Trainer, read_config

ROOT = Path(__file__).parents[2]


class OneConvolution(nn.Module):
    device = torch.device("cpu")

    def __init__(self, divisibility=0):
        super().__init__()
        self.divisibility = divisibility
        self.backbone = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.sem_seg_head = nn.ModuleDict({"predictor": nn.Conv2d(4, 2, 1)})

    def batch(self, tensors):
        return ImageList.from_tensors(tensors, self.divisibility)

    def predict(self, images):
        return self.sem_seg_head["predictor"](self.backbone(images))


def test_operations_and_activations_are_those_of_the_formula():
    operations, activations = count_inference(OneConvolution(), (6, 10))
    pixels = 6 * 10
    assert operations == pixels * (3 * 4 * 9 + 4 * 2)
    assert activations == pixels * (4 + 2)


def test_operations_are_those_of_the_padded_image_where_the_model_pads():
    assert count_inference(OneConvolution(divisibility=8), (6, 10)) == count_inference(OneConvolution(), (8, 16))


def test_a_feature_pyramid_is_counted_at_sizes_that_it_pads():
    cfg = read_config(ROOT / "configs" / "CamVid" / "semantic_fpn_mobilenet_v2_c64_240_2400_bs4.yaml")
    cfg.MODEL.DEVICE = "cpu"
    cfg.freeze()
    model = Trainer.build_model(cfg)
    assert count_inference(model, (36, 50)) == count_inference(model, (64, 64))


def test_parameters_are_counted_by_part_and_only_if_trainable():
    model = OneConvolution()
    assert parameters_by_part(model) == {"backbone": 3 * 4 * 9, "sem_seg_head.predictor": 4 * 2 + 2}
    model.backbone.requires_grad_(False)
    assert parameters_by_part(model) == {"sem_seg_head.predictor": 10}


def test_kept_tensors_count_once():
    x = torch.ones(100, requires_grad=True)

    def step():
        y = x * 2  # keeps nothing of x
        return (y * y).sum()  # keeps y, for both factors

    assert saved_for_backward(step) == 100 * 4


def test_synthetic_batches_follow_the_config_and_the_seed():
    cfg = get_cfg()
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 7
    first, again, other = (synthetic_batch(cfg, 2, (12, 20), seed) for seed in (3, 3, 4))
    for a, b, c in zip(first, again, other, strict=True):
        assert a["image"].shape == (3, 12, 20) and a["image"].dtype == torch.uint8
        assert a["sem_seg"].shape == (12, 20) and a["sem_seg"].min() >= 0 and a["sem_seg"].max() < 7
        assert torch.equal(a["image"], b["image"]) and torch.equal(a["sem_seg"], b["sem_seg"])
        assert not torch.equal(a["image"], c["image"])


def test_steps_take_turns():
    calls = []
    steps = {name: lambda name=name: calls.append(name) for name in "ab"}
    seconds = time_in_turns(steps, 3, torch.device("cpu"))
    assert "".join(calls) == "abbaabba"  # the first turn warms up
    assert set(seconds) == {"a", "b"}
    assert all(len(values) == 3 and min(values) >= 0 for values in seconds.values())
    shown = []
    time_in_turns(steps, 3, torch.device("cpu"), progress=lambda turns: shown.append(list(turns)) or turns)
    assert shown == [[0, 1, 2, 3]]


@pytest.mark.slow
def test_tool_prints_what_a_config_costs():
    command = [sys.executable, ROOT / "tools" / "analyze_model.py", "--config-file"]
    command += [ROOT / "configs" / "shapes" / "deeplab_v3_plus_mobilenet_v2_epl.yaml"]
    command += ["--size", "64", "64", "--repetitions", "1", "MODEL.DEVICE", "cpu"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    for text in ("trainable parameters", "inference at 64 x 64", "without EPL", "with EPL", "EPL adds"):
        assert text in finished.stdout
