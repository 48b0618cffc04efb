"""Instances and panoptic segments of a picture, drawn by the demo; what models of masks do not do is said."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.data import DatasetCatalog
from PIL import Image
from pycocotools import mask as mask_api

import epl_d2
from epl_d2 import get_cfg
from epl_d2.checkpoint.loading import load_weights
from epl_d2.data.shapes import render_scene
from epl_d2.engine import Trainer, read_config
from epl_d2.inference import InstancePrediction, load_predictor
from epl_d2.inference.mask_fields import mask_field
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


@pytest.fixture(scope="module")
def root(shapes_with_instances):
    """Two scenes of shapes with their instances."""
    return shapes_with_instances(train=1, val=2, size=(64, 80), seed=3)


@pytest.fixture
def tool(monkeypatch, capsys, weights):
    """tool(name, *arguments): exit status and what is printed by a tool for Mask R-CNN with random weights."""

    def call(name, *arguments, config="panoptic_fpn_R_18_epl"):
        spec = importlib.util.spec_from_file_location(f"tool_{name}", ROOT / "tools" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(sys, "argv", [name, "--config-file", config_file(config), *map(str, arguments)])
        try:
            status = module.main()
        except SystemExit as end:
            status, message = 1, str(end.code)
            return status, message + capsys.readouterr().err
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return call


def test_the_fields_of_an_instance_are_those_that_the_head_is_trained_on(root, weights, tool, tmp_path):
    cfg = read_config(config_file("panoptic_fpn_R_18_epl"), [*OPTIONS, "MODEL.DEVICE", "cpu"])
    model = Trainer.build_model(cfg)
    load_weights(model, str(weights))
    found = mask_field(cfg, model, 1, 0)
    record = DatasetCatalog.get("shapes_panoptic_val")[1]
    annotation = record["annotations"][0]
    x, y, width, height = annotation["bbox"]
    # The mask in its box, sampled at 28 x 28 as ROIAlign does, against the nearest pixels.
    mask = mask_api.decode(annotation["segmentation"])
    rows, columns = ((np.arange(28) + 0.5) / 28 * length for length in (height, width))
    nearest = mask[np.ix_((y + rows).astype(int), (x + columns).astype(int))] > 0
    assert (found.target == nearest).mean() > 0.9 and found.target.any()
    assert found.name == ("disk", "polygon", "ring", "rod")[annotation["category_id"]]
    assert found.probability.shape == (28, 28) and ((found.probability > 0) & (found.probability < 1)).all()
    photo = np.asarray(Image.open(record["file_name"]))[y : y + height, x : x + width]
    assert np.abs(found.image.mean((0, 1)) - photo.mean((0, 1))).max() < 12

    output = tmp_path / "mask.png"
    arguments = ("--weights", weights, "--picture", 1, "--output", output, *OPTIONS, "MODEL.DEVICE", "cpu")
    status, text = tool("visualize_mask_potential", *arguments)
    assert status == 0 and "potential fields of the mask of" in text
    assert Image.open(output).width > 600
    status, text = tool("visualize_mask_potential", *arguments[:2], "--picture", 2, *arguments[4:])
    assert status == 1 and "shapes_panoptic_val has the pictures 0..1, got 2" in text
    with pytest.raises(ValueError, match=r"0001.png has \d+ instances, got 99"):
        mask_field(cfg, model, 1, 99)
    with pytest.raises(ValueError, match=r"Linear has no mask head"):
        mask_field(cfg, torch.nn.Linear(1, 1))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("analyze_model", ()),
        ("benchmark_inference", ()),
        ("find_prior_shift", ("--dataset", "shapes_panoptic_val", "--weights", "x.pth")),
        ("export_model", ("--format", "onnx", "--output", "x.onnx")),
        ("find_loss_weights", ("--sizes", "MODEL.EPL.LINE.WEIGHT=1")),
        ("visualize_potential", ("--weights", "x.pth", "--shapes", "0", "--output", "x.png")),
    ],
)
def test_tools_for_labels_of_pixels_say_so(tool, name, arguments):
    status, text = tool(name, *arguments)
    assert status == 1 and "a model that labels every pixel; this one finds instances (MODEL.MASK_ON True)" in text


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("find_prior_shift", ("--dataset", "shapes_panoptic_val", "--weights", "a.pth", "--opts")),
        ("visualize_potential", ("--weights", "a.pth", "--shapes", "0", "--output", "x.png", "--opts")),
        ("visualize_mask_potential", ("--weights", "a.pth", "--output", "x.png")),
    ],
)
def test_tools_refuse_two_checkpoints(tool, name, arguments):
    status, text = tool(name, *arguments, "MODEL.WEIGHTS", "b.pth")
    assert status == 1 and "two checkpoints are given, 'a.pth' and by the option MODEL.WEIGHTS 'b.pth'" in text


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


def test_a_thin_picture_keeps_a_pixel_where_its_long_side_is_bounded(weights):
    options = [*OPTIONS, "INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 96]
    result = load_predictor(config_file("panoptic_fpn_R_18_epl"), weights, options, "cpu")(np.zeros((1, 300), np.uint8))
    assert result.panoptic[0].shape == result.instances.image_size == (1, 300)


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
    asked, draw = [], InstancePrediction.draw
    monkeypatch.setattr(InstancePrediction, "draw", lambda self, **how: asked.append(how) or draw(self, **how))
    assert run("--min-score", "0.8") == 0
    assert asked == [{"min_score": 0.8}]
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
