"""Mask R-CNN and Panoptic FPN on small shapes: trained, resumed, evaluated in one and two processes; bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from epl_d2 import get_cfg
from epl_d2.checkpoint.loading import load_weights
from epl_d2.data.build import build_instance_train_loader
from epl_d2.engine import Trainer, check_config

ROOT = Path(__file__).parents[2]
OPTIONS = {
    "MODEL.DEVICE": "cpu",
    "MODEL.FPN.OUT_CHANNELS": 8,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 8,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 8,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 8,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,
    "TEST.DETECTIONS_PER_IMAGE": 5,
    "INPUT.MIN_SIZE_TRAIN": "(64,)",
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.MAX_ITER": 2,
    "SOLVER.CHECKPOINT_PERIOD": 1,
    "TEST.EVAL_PERIOD": 0,
    "TEST.BOUNDARY.WIDTHS": "(1, 3)",
    "TEST.BOUNDARY.REPORT_WIDTHS": "(1, 3)",
    "DATALOADER.NUM_WORKERS": 0,
}


@pytest.fixture(scope="module")
def root(shapes_with_instances):
    return shapes_with_instances(train=4, val=3, size=(64, 64), seed=0)


def config(name: str, folder, **options):
    cfg = get_cfg()
    cfg.merge_from_file(f"configs/{name}.yaml" if "/" in name else f"configs/shapes/{name}.yaml")
    cfg.merge_from_list([part for pair in {**OPTIONS, **options}.items() for part in pair])
    cfg.OUTPUT_DIR = str(folder)
    cfg.freeze()
    return cfg


def train(cfg, resume=False):
    Path(cfg.OUTPUT_DIR).mkdir(exist_ok=True)
    check_config(cfg, training=True)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()


def weights_of(folder, name="model_final.pth"):
    return torch.load(Path(folder) / name, weights_only=True)["model"]


@pytest.mark.slow
def test_mask_rcnn_trains_evaluates_and_goes_on_bit_for_bit(root, tmp_path):
    cfg = config("mask_rcnn_R_18_FPN_epl", tmp_path / "whole", **{"TEST.BEST_CHECKPOINT_METRIC": "boundary/AP"})
    train(cfg)
    logged = [json.loads(line) for line in (tmp_path / "whole/metrics.json").read_text().splitlines()]
    assert {"loss_mask", "loss_mask_epl_point", "loss_mask_epl_line", "segm/AP50"} <= set().union(*logged)
    assert logged[-1]["boundary/AP"] >= 0

    half = tmp_path / "half"
    half.mkdir()
    os.link(tmp_path / "whole/model_0000000.pth", half / "model_0000000.pth")
    (half / "last_checkpoint").write_text("model_0000000.pth")
    train(config("mask_rcnn_R_18_FPN_epl", half, **{"DATASETS.TEST": "()"}), resume=True)
    ours, expected = weights_of(half), weights_of(tmp_path / "whole")
    assert all(torch.equal(ours[key], expected[key]) for key in expected)


@pytest.mark.slow
def test_panoptic_fpn_trains_in_two_processes_and_is_evaluated_as_in_one(root, tmp_path):
    name, folder = "panoptic_fpn_R_18_epl", tmp_path / "two"
    opts = [str(part) for pair in OPTIONS.items() for part in pair]
    command = [sys.executable, "train_net.py", "--config-file", f"configs/shapes/{name}.yaml", "--num-gpus", "2"]
    finished = subprocess.run(
        [*command, "--dist-url", f"file://{tmp_path}/rendezvous", *opts, "OUTPUT_DIR", str(folder)],
        cwd=ROOT,
        env={**os.environ, "DETECTRON2_DATASETS": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    logged = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    assert {"loss_mask_epl_line", "loss_epl_line", "loss_sem_seg", "loss_mask"} <= set().union(*logged)

    cfg = config(name, tmp_path / "one")
    model = Trainer.build_model(cfg)
    load_weights(model, str(folder / "model_final.pth"))
    results = Trainer.test(cfg, model)
    assert set(results) == {"bbox", "segm", "boundary", "sem_seg", "panoptic_seg"}
    for task, scores in results.items():
        for key, value in scores.items():
            assert logged[-1][f"{task}/{key}"] == pytest.approx(value, nan_ok=True), (task, key)
    assert results["panoptic_seg"]["SQ"] > 0


@pytest.mark.slow
def test_pointrend_trains_and_is_evaluated(root, tmp_path):
    small = {
        **{"DATASETS.TRAIN": "('shapes_instance_train',)", "DATASETS.TEST": "('shapes_instance_val',)"},
        **{"MODEL.RESNETS.DEPTH": 18, "MODEL.RESNETS.RES2_OUT_CHANNELS": 64, "MODEL.WEIGHTS": ""},
        **{"MODEL.ROI_HEADS.NUM_CLASSES": 4, "MODEL.POINT_HEAD.NUM_CLASSES": 4, "MODEL.POINT_HEAD.FC_DIM": 8},
        **{"MODEL.ROI_MASK_HEAD.FC_DIM": 16, "INPUT.MIN_SIZE_TEST": 64},
    }
    train(config("COCO-InstanceSegmentation/pointrend_rcnn_R_50_FPN_1x_epl", tmp_path, **small))
    logged = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert {"loss_mask", "loss_mask_point", "loss_mask_epl_line", "boundary/AP50"} <= set().union(*logged)


def test_batches_follow_from_the_seed_and_masks_fit_their_pictures(root):
    cfg = config("panoptic_fpn_R_18_epl", "", **{"INPUT.MIN_SIZE_TRAIN": "(48, 64)"})
    first, again = iter(build_instance_train_loader(cfg)), iter(build_instance_train_loader(cfg, 2))
    batches = [next(first) for _ in range(4)]
    for batch, same in zip(batches[2:], again, strict=False):
        for record, other in zip(batch, same, strict=True):
            assert torch.equal(record["image"], other["image"]) and torch.equal(record["sem_seg"], other["sem_seg"])
            assert torch.equal(record["instances"].gt_masks.tensor, other["instances"].gt_masks.tensor)
    for record in (record for batch in batches for record in batch):
        masks = record["instances"].gt_masks.tensor
        assert masks.shape[1:] == record["image"].shape[1:] == record["sem_seg"].shape
        assert (record["sem_seg"][masks.any(dim=0)] == 0).float().mean() > 0.99  # "things"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"MODEL.ROI_HEADS.NUM_CLASSES": 80}, r"ROI_HEADS.NUM_CLASSES is 80, but shapes_panoptic_train has 4"),
        ({"MODEL.SEM_SEG_HEAD.NUM_CLASSES": 54}, r"SEM_SEG_HEAD.NUM_CLASSES is 54, but shapes_panoptic_train has 3"),
        ({"DATASETS.TRAIN": "('shapes_sem_seg_train',)"}, r"shapes_sem_seg_train has no instances"),
        ({"DATASETS.TRAIN": "('nowhere',)"}, r"no data set 'nowhere'; .*shapes_instance_train"),
        ({"DATASETS.TRAIN": "('shapes_instance_train',)"}, r"but shapes_instance_train has 0 classes of stuff"),
        ({"MODEL.SEM_SEG_HEAD.IGNORE_VALUE": 254}, r"IGNORE_VALUE is 254, but shapes_panoptic_train marks"),
        ({"TEST.BOUNDARY.DILATION_RATIO": 0.0}, r"DILATION_RATIO is 0.0, expected a part"),
        ({"INPUT.MASK_FORMAT": "rle"}, r"MASK_FORMAT is 'rle'"),
        ({"TEST.AUG.ENABLED": True}, r"META_ARCHITECTURE is 'PanopticFPN'; TEST.AUG"),
        ({"TEST.BEST_CHECKPOINT_METRIC": "boundary/mIoU"}, r"'boundary/mIoU'.*boundary/AP,.*panoptic_seg/boundary_PQ"),
    ],
)
def test_a_mistake_is_named_before_the_training(root, options, message):
    with pytest.raises(ValueError, match=message):
        check_config(config("panoptic_fpn_R_18_epl", "", **options), training=True)


STOCK_MASKS = {"MODEL.ROI_MASK_HEAD.NAME": "MaskRCNNConvUpsampleHead"}
STOCK_PIXELS = {"MODEL.SEM_SEG_HEAD.NAME": "SemSegFPNHead"}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "mask_rcnn_R_18_FPN_epl",
            STOCK_MASKS,
            r"MODEL\.EPL\.MASK\.LINE\.WEIGHT is 1\.0, but MODEL\.ROI_MASK_HEAD\.NAME is 'MaskRCNNConvUpsampleHead', .* "
            r"may be EPLMaskRCNNConvUpsampleHead, EPLPointRendMaskHead, or MODEL\.EPL\.ENABLED False",
        ),
        (
            "mask_rcnn_R_18_FPN_epl",
            {"MODEL.EXTRA_LOSSES.LOVASZ.WEIGHT": 5.0},
            r"MODEL\.EXTRA_LOSSES\.LOVASZ\.WEIGHT is 5\.0, but the model has no semantic head .*'GeneralizedRCNN'",
        ),
        (
            "mask_rcnn_R_18_FPN_epl",
            {"MODEL.SEM_SEG_HEAD.LOSS_TYPE": "ohem"},
            r"LOSS_TYPE is 'ohem', but the model has no semantic head .*'GeneralizedRCNN'",
        ),
        (
            "panoptic_fpn_R_18_epl",
            STOCK_MASKS,
            r"EPL\.MASK\.LINE\.WEIGHT is 1\.0, but MODEL\.ROI_MASK_HEAD\.NAME is 'MaskR",
        ),
        (
            "panoptic_fpn_R_18_epl",
            STOCK_PIXELS,
            r"MODEL\.EPL\.LINE\.WEIGHT is 3\.0, but MODEL\.SEM_SEG_HEAD\.NAME is 'SemS",
        ),
    ],
)
def test_losses_need_a_head_that_computes_them(root, name, options, message):
    with pytest.raises(ValueError, match=message):
        check_config(config(name, "", **options), training=True)
    check_config(config(name, "", **options), training=False)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mask_rcnn_R_18_FPN", STOCK_MASKS),
        ("mask_rcnn_R_18_FPN_epl", {**STOCK_MASKS, "MODEL.EPL.MASK.LINE.WEIGHT": 0.0}),
        ("panoptic_fpn_R_18", {**STOCK_MASKS, **STOCK_PIXELS}),
        ("panoptic_fpn_R_18_epl", {**STOCK_MASKS, "MODEL.EPL.MASK.LINE.WEIGHT": 0.0}),
        ("panoptic_fpn_R_18_epl", {**STOCK_PIXELS, "MODEL.EPL.LINE.WEIGHT": 0.0}),
    ],
)
def test_heads_of_detectron2_train_without_epl(root, name, options):
    check_config(config(name, "", **options), training=True)


@pytest.mark.parametrize("training", [True, False])
def test_no_prior_is_taken_out_of_masks(root, training):
    with pytest.raises(
        ValueError,
        match=r"TEST\.PRIOR_SHIFT is 3\.0, but the model has no semantic head .*GeneralizedRCNN.*MASK_ON True",
    ):
        check_config(config("mask_rcnn_R_18_FPN_epl", "", **{"TEST.PRIOR_SHIFT": 3.0}), training=training)


def test_masks_that_do_not_fit_stop_the_training(root, monkeypatch):
    from detectron2.data import DatasetCatalog

    records = DatasetCatalog.get("shapes_instance_train")
    records[1]["annotations"][0].pop("segmentation")
    get = DatasetCatalog.get
    monkeypatch.setattr(DatasetCatalog, "get", lambda name: records if name == "shapes_instance_train" else get(name))
    with pytest.raises(ValueError, match=r"shapes_instance_train: object 0 of .*0001.png: it has no segmentation"):
        check_config(config("mask_rcnn_R_18_FPN_epl", ""), training=True)


def test_data_sets_of_another_kind_are_not_evaluated(root):
    with pytest.raises(ValueError, match=r"'shapes_instance_val' has no panoptic segments"):
        Trainer.build_evaluator(config("panoptic_fpn_R_18_epl", ""), "shapes_instance_val")
    with pytest.raises(ValueError, match=r"'shapes_sem_seg_val' is evaluated as 'sem_seg', but MODEL.MASK_ON"):
        Trainer.build_evaluator(config("mask_rcnn_R_18_FPN_epl", ""), "shapes_sem_seg_val")


def test_both_evaluators_have_the_configs_ratio(root):
    cfg = config("panoptic_fpn_R_18_epl", "", **{"TEST.BOUNDARY.DILATION_RATIO": 0.07})
    instances, _, panoptic = Trainer.build_evaluator(cfg, "shapes_panoptic_val")._evaluators
    assert instances._dilation_ratio == panoptic._statistics.dilation_ratio == 0.07


def test_images_without_objects_are_left_out_where_the_config_says_so(root, monkeypatch):
    from detectron2.data import DatasetCatalog

    records = DatasetCatalog.get("shapes_instance_train")
    records[2]["annotations"].clear()
    monkeypatch.setattr(DatasetCatalog, "get", lambda name: records)
    key = "DATALOADER.FILTER_EMPTY_ANNOTATIONS"
    configs = (config("mask_rcnn_R_18_FPN", "", **{key: value}) for value in (True, False))
    sizes = [len(build_instance_train_loader(cfg).dataset) for cfg in configs]
    assert sizes == [3, 4]
