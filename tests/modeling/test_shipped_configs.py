"""Every semantic configuration: builds, trains a step, evaluates an image of any size. Masks: test_mask_configs.py."""

from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from epl_d2 import get_cfg
from epl_d2.analysis.cost import synthetic_batch
from epl_d2.engine import Trainer

CONFIGS = Path(__file__).parents[2] / "configs"
SHIPPED = sorted(
    p.relative_to(CONFIGS).as_posix()
    for p in CONFIGS.glob("*/*.yaml")
    if p.parent.name != "grids" and not p.name.startswith(("mask_rcnn_", "panoptic_fpn_", "pointrend_"))
)
CROP = (65, 65)  # 8k+1 and 16k+1, which PSANet needs


def read(name: str) -> CfgNode:
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / name))
    cfg.MODEL.DEVICE = "cpu"
    return cfg


def small(name: str) -> CfgNode:
    """The configuration at a small crop. Data sets differ in the number of classes, which makes no other model."""
    cfg = read(name)
    cfg.MODEL.WEIGHTS = ""
    cfg.INPUT.CROP.SIZE = list(CROP)
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 5
    return cfg


def distinct_models() -> list[str]:
    """One configuration with EPL for each model that the repository ships."""
    models: dict[str, str] = {}
    for name in SHIPPED:
        if name.endswith("_epl.yaml"):
            models.setdefault(small(name).MODEL.dump(), name)
    return sorted(models.values())


@pytest.mark.parametrize("name", SHIPPED)
def test_builds(name):
    cfg = read(name)
    cfg.MODEL.DEVICE = "meta"  # shapes without memory or initialization
    with torch.device("meta"):
        model = build_model(cfg)
    assert (model.sem_seg_head.epl is not None) == name.endswith("_epl.yaml")


@pytest.mark.parametrize("name", [name for name in SHIPPED if name.endswith("_epl.yaml")])
def test_pairs_differ_by_the_epl_keys_alone(name):
    baseline, with_epl = read(name.replace("_epl.yaml", ".yaml")), read(name)
    assert with_epl.MODEL.EPL.ENABLED and not baseline.MODEL.EPL.ENABLED
    baseline.MODEL.EPL = with_epl.MODEL.EPL
    assert baseline.dump() == with_epl.dump()


# The settings of the paper's best results: weights of the point and the line loss, mu, kernel size at 256 pixels.
PAPER = {"VOC2012": (0.1, 0.2, 10, 7), "Cityscapes": (0.2, 0.5, 2, 11)}


@pytest.mark.parametrize(
    "name", [name for name in SHIPPED if name.endswith("_epl.yaml") and Path(name).parts[0] in PAPER]
)
def test_the_papers_data_sets_have_the_settings_of_its_best_results(name):
    cfg = read(name)
    epl = cfg.MODEL.EPL
    point, line, mu, kernel = PAPER[Path(name).parts[0]]
    assert (point, line, mu) == (epl.POINT.WEIGHT, epl.LINE.WEIGHT, epl.LINE.MU)
    assert (epl.SPLITTER, epl.CONVOLUTION, epl.POINT.NORM, epl.STRIDE) == ("A", "anisotropic", "l2", 1)
    assert (epl.LINE.FORMULATION, epl.IGNORE_MODE, epl.START_ITER, epl.RAMP_ITERS) == ("official", "background", 0, 0)
    # Kernels grow with the short side of the crop: the proportion, and one less where that is even.
    proportion = round(kernel * min(cfg.INPUT.CROP.SIZE) / 256)
    assert epl.POINT.KERNEL_SIZE == epl.LINE.KERNEL_SIZE == proportion - (proportion % 2 == 0)


@pytest.mark.parametrize("name", [name for name in SHIPPED if "EPL-PaperText" in (CONFIGS / name).read_text()])
def test_the_weights_of_the_papers_text_are_for_other_data(name):
    epl = read(name).MODEL.EPL
    assert (epl.POINT.WEIGHT, epl.LINE.WEIGHT, epl.LINE.FORMULATION) == (0.1, 0.01, "official")
    assert Path(name).parts[0] not in PAPER


@pytest.mark.parametrize("name", SHIPPED)
def test_boundary_scores_suit_the_labels(name):
    boundary = read(name).TEST.BOUNDARY
    expected = ("nearest", "void") if name.startswith("VOC2012/") else ("ignore", "label-change")
    assert expected == (boundary.IGNORE_MODE, boundary.TRIMAP)


@pytest.mark.slow
@pytest.mark.parametrize("name", distinct_models())
def test_trains_a_step_and_evaluates_any_size(name):
    cfg = small(name)
    torch.manual_seed(0)
    model = Trainer.build_model(cfg).train()
    with EventStorage(0):
        losses = model(synthetic_batch(cfg, 2, CROP))
    assert {"loss_sem_seg", "loss_epl_point", "loss_epl_line"} <= losses.keys()
    assert all(loss.isfinite() for loss in losses.values()), losses
    sum(losses.values()).backward()
    parameters = {key: p.grad for key, p in model.named_parameters() if p.requires_grad}
    assert [key for key, gradient in parameters.items() if gradient is None] == []
    assert all(gradient.isfinite().all() for gradient in parameters.values())

    model.eval()
    image = torch.randint(0, 256, (3, 50, 71), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        (result,) = model([{"image": image, "height": 100, "width": 142}])
    assert result["sem_seg"].shape == (5, 100, 142) and result["sem_seg"].isfinite().all()
