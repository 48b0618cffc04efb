"""Instances and panoptic segments of a picture, drawn by the demo; what models of masks do not do is said."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from PIL import Image

import epl_d2
from epl_d2 import get_cfg
from epl_d2.data.shapes import render_scene
from epl_d2.engine import Trainer
from epl_d2.inference import load_predictor
from epl_d2.visualization import write_png

ROOT = Path(__file__).parents[2]
OPTIONS = [
    *("MODEL.FPN.OUT_CHANNELS", 8, "MODEL.ROI_BOX_HEAD.FC_DIM", 8, "MODEL.ROI_MASK_HEAD.CONV_DIM", 8),
    *("MODEL.SEM_SEG_HEAD.CONVS_DIM", 8, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "TEST.DETECTIONS_PER_IMAGE", 4),
    *("MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH", 0.0),
]


def config_file(name: str) -> str:
    return str(ROOT / "configs" / "shapes" / f"{name}.yaml")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Of Panoptic FPN; those of Mask R-CNN are among them."""
    cfg = get_cfg()
    cfg.merge_from_file(config_file("panoptic_fpn_R_18_epl"))
    cfg.merge_from_list([*OPTIONS, "MODEL.DEVICE", "cpu"])
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    DetectionCheckpointer(Trainer.build_model(cfg), str(folder)).save("model_final")
    return folder / "model_final.pth"


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "scene.png"
    write_png(path, render_scene(0, (64, 80))[0])
    return path


def test_panoptic_segments_of_a_picture(weights, picture):
    result = load_predictor(config_file("panoptic_fpn_R_18_epl"), weights, OPTIONS, "cpu")(picture)
    assert result.image.shape == (64, 80, 3) and result.instances.pred_masks.shape[1:] == (64, 80)
    ids, segments = result.panoptic
    assert ids.shape == (64, 80) and set(np.unique(ids)) - {0} == {segment["id"] for segment in segments}
    drawn = result.draw()
    assert drawn.shape == (64, 80, 3) and drawn.dtype == np.uint8 and (drawn != result.image).any()


def test_the_demo_draws_instances_and_refuses_what_they_lack(weights, picture, tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("epl_demo_masks", ROOT / "demo" / "demo.py")
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)

    def run(*arguments):
        opts = [*OPTIONS, "MODEL.META_ARCHITECTURE", "PanopticFPN"]
        parts = ["demo.py", "--config-file", config_file("panoptic_fpn_R_18"), "--weights", weights, "--device", "cpu"]
        parts += ["--input", picture, "--output", tmp_path / "out", *arguments, "--opts", *opts]
        monkeypatch.setattr(sys, "argv", [str(part) for part in parts])
        return demo.main()

    assert run() == 0
    assert Image.open(tmp_path / "out/overlay/scene.png").size == (80, 64)
    assert run("--ids") == 1
    assert "instances are drawn by --overlay alone" in capsys.readouterr().err


def test_instances_below_the_score_are_not_drawn(weights, picture):
    predictor = load_predictor(config_file("panoptic_fpn_R_18_epl"), weights, OPTIONS, "cpu")
    result = predictor(np.asarray(Image.open(picture)))
    instances_only = type(result)(result.image, result.instances, None, result.metadata)
    assert len(result.instances) == 4 and (result.instances.scores < 0.9).all()
    assert (instances_only.draw(min_score=0.9) == result.image).all()
    assert (instances_only.draw(min_score=0.0) != result.image).any()


def test_the_predictor_of_labels_says_what_to_use(weights):
    with pytest.raises(ValueError, match=r"panoptic_fpn_R_18.yaml: the model finds instances.*load_predictor"):
        epl_d2.Predictor.from_config(config_file("panoptic_fpn_R_18"), weights, OPTIONS, "cpu")
