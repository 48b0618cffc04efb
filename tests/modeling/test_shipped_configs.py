"""Every configuration of the repository: builds, trains a step, evaluates an image of any size."""

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
SHIPPED = sorted(p.relative_to(CONFIGS).as_posix() for p in CONFIGS.glob("*/*.yaml") if p.parent.name != "grids")
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


@pytest.mark.parametrize("name", [name for name in SHIPPED if name.endswith("_epl.yaml")])
def test_the_papers_data_sets_have_the_papers_settings(name):
    epl = read(name).MODEL.EPL
    settings = (epl.POINT.WEIGHT, epl.LINE.WEIGHT, epl.LINE.FORMULATION)
    paper = (0.1, 0.01, "official")
    assert settings == paper or (name.startswith("CamVid/") and settings == (0.1, 0.01, "contour"))


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
