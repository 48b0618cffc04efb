"""The estimate of what a run costs: counted operations against fvcore's and a sum by hand."""

from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from epl_d2 import get_cfg
from epl_d2.analysis.cost import count_inference
from epl_d2.experiments.cost import ModelOperations, count_operations, evaluated_pixels, gpu_hours, run_operations

CONFIGS = Path(__file__).parents[2] / "configs"


def config(name, *options):
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / name))
    cfg.merge_from_list(list(options))
    return cfg


def model_of(cfg, device):
    cfg.MODEL.DEVICE = device
    with torch.device(device):
        return build_model(cfg)


SMALL = ("MODEL.SEM_SEG_HEAD.NORM", "BN", "MODEL.RESNETS.NORM", "BN", "INPUT.CROP.SIZE", [65, 65])


@pytest.mark.parametrize(
    ("name", "auxiliary"),
    [
        # Two 3 x 3 and 1 x 1 convolutions on 9 x 9 features: the auxiliary classifier of PSPNet.
        ("VOC2012/pspnet_R_50_os8.yaml", 2 * 9 * 9 * (9 * 1024 * 256 + 256 * 21)),
        ("CamVid/semantic_fpn_mobilenet_v2_c64_240_2400_bs4.yaml", 0),
    ],
)
def test_operations_are_twice_the_multiply_adds_that_fvcore_counts(name, auxiliary):
    cfg = config(name, *SMALL)
    counted = count_operations(model_of(cfg, "meta"), cfg)
    padded = 96 if "fpn" in name else 65  # to a multiple of 32
    expected = 2 * count_inference(model_of(cfg, "cpu"), (padded, padded))[0]
    # fvcore counts resampling and norms as well, which are small.
    assert counted.inference * padded**2 == pytest.approx(expected, rel=0.03)
    assert counted.training - counted.inference * padded**2 == pytest.approx(auxiliary)


def test_gscnn_is_counted_without_edges_of_real_pictures():
    cfg = config("Cityscapes/gscnn_wide_resnet38_os8.yaml", "INPUT.CROP.SIZE", [65, 65])
    assert count_operations(model_of(cfg, "meta"), cfg).training > 1e10


def test_pixels_of_an_evaluation():
    cfg = config("VOC2012/pspnet_R_50_os8.yaml", "INPUT.CROP.SIZE", [256, 256])
    assert evaluated_pixels(cfg, (375, 500)) == 375 * 500
    cfg.merge_from_list(["TEST.AUG.ENABLED", True, "TEST.AUG.BASE_SIZE", 512, "TEST.AUG.SCALES", [0.5, 1.0]])
    assert evaluated_pixels(cfg, (375, 500)) == 2 * (192 * 256 + 384 * 512)
    cfg.merge_from_list(["TEST.WINDOW.ENABLED", True])
    # At 0.5 one window holds the image; at 1.0 windows step by 171 pixels: 2 on 384 pixels and 3 on 512.
    assert evaluated_pixels(cfg, (375, 500)) == 2 * 256 * 256 * (1 + 2 * 3)
    cfg = config("CamVid/deeplab_v3_plus_mobilenet_v2_os16_d96_240_800_bs4.yaml")
    assert evaluated_pixels(cfg, (360, 480)) == 240 * 320


def test_a_run_is_its_steps_and_its_evaluations():
    cfg = config("CamVid/deeplab_v3_plus_mobilenet_v2_os16.yaml", "SOLVER.MAX_ITER", 10, "SOLVER.IMS_PER_BATCH", 4)
    counted = ModelOperations(training=1e9, inference=1e3)
    steps = 3 * 10 * 4 * 1e9
    evaluation = 1e3 * 101 * 360 * 480
    for period, evaluations in ((0, 1), (10, 1), (4, 3)):
        cfg.TEST.EVAL_PERIOD = period
        expected = steps + evaluations * evaluation
        assert run_operations(counted, cfg, ["camvid_sem_seg_val"]) == pytest.approx(expected)
    assert run_operations(counted, cfg, ["one_of_your_own"]) == pytest.approx(steps)
    assert gpu_hours(72e15, teraflops=20) == pytest.approx(1.0)
