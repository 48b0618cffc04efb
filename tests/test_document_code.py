"""Python code in the documents runs as it is printed."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, LazyConfig, get_cfg, instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY, build_sem_seg_head
from detectron2.utils.events import EventStorage

from epl_d2 import add_epl_config
from epl_d2.losses import EPLLoss

ROOT = Path(__file__).parents[1]
SHAPES = {name: ShapeSpec(channels=8, stride=stride) for name, stride in (("res2", 4), ("res3", 8), ("res5", 16))}


def code_of(document: str, holding: str) -> str:
    """The indented block of a document in which a text occurs."""
    text = (ROOT / document).read_text(encoding="utf-8")
    blocks = re.findall(r"(?:^(?: {4}.*)?\n)+", text, re.MULTILINE)
    (found,) = (block for block in blocks if holding in block)
    return re.sub(r"^ {4}", "", found, flags=re.MULTILINE)


def run(document: str, holding: str, **names) -> dict:
    """What a block of code defines; heads of earlier runs are forgotten."""
    code = code_of(document, holding)
    for name in re.findall(r"^class (\w+)", code, re.MULTILINE):
        SEM_SEG_HEADS_REGISTRY._obj_map.pop(name, None)
    # `configurable` looks at the module of a class.
    names = {"__name__": "epl_d2_documents", **names}
    exec(compile(code, document, "exec"), names)
    return names


def features_of(shapes) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    sizes = {name: (32 // shape.stride, 48 // shape.stride) for name, shape in shapes.items()}
    return {name: torch.randn(2, 8, *size, generator=generator) for name, size in sizes.items()}


def labels_of() -> torch.Tensor:
    labels = torch.zeros(2, 32, 48, dtype=torch.long)
    labels[:, 8:20, 10:30] = 1
    labels[:, :, 40:] = 2
    labels[:, :3] = 255
    return labels


def config_of(head: str, in_features: list[str], add=lambda cfg: None) -> CfgNode:
    cfg = get_cfg()
    add(cfg)
    add_epl_config(cfg)
    cfg.MODEL.SEM_SEG_HEAD.NAME = head
    cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES = in_features
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 3
    cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = 255
    cfg.MODEL.SEM_SEG_HEAD.NORM = "BN"
    return cfg


def test_the_config_of_an_own_project():
    cfg = run("GETTING_STARTED.md", "cfg = get_cfg()")["cfg"]
    assert cfg.MODEL.EPL.ENABLED and cfg.MODEL.SEM_SEG_HEAD.NAME == "EPLDeepLabV3PlusHead"


@pytest.mark.parametrize(
    ("document", "name", "features"),
    [
        ("GETTING_STARTED.md", "MyEPLHead", ["res2", "res3"]),
        ("docs/models.md", "MyEPLFPNHead", ["res2", "res3", "res5"]),
    ],
)
def test_a_head_of_ones_own_gets_epl_at_its_stride(document, name, features):
    run(document, f"class {name}(")
    cfg = config_of(name, features)
    head = build_sem_seg_head(cfg, SHAPES).train()
    inputs, labels = features_of(SHAPES), labels_of()
    losses = head(inputs, labels)[1]
    logits = F.interpolate(head.layers(inputs), size=labels.shape[1:], mode="bilinear", align_corners=False)
    expected = {"loss_sem_seg": F.cross_entropy(logits, labels, ignore_index=255), **EPLLoss()(logits, labels)}
    assert losses.keys() == expected.keys() and losses["loss_epl_line"] > 0
    for key, value in expected.items():
        torch.testing.assert_close(losses[key], value)
    assert head.eval()(inputs)[0].shape == (2, 3, 32, 48)


@pytest.fixture
def panopticapi(monkeypatch):
    """The package that Panoptic-DeepLab's mapper imports, which no head needs, where it is not installed."""
    try:
        import panopticapi.utils  # noqa: F401
    except ImportError:
        utils = ModuleType("panopticapi.utils")
        utils.rgb2id = None
        monkeypatch.setitem(sys.modules, "panopticapi", ModuleType("panopticapi"))
        monkeypatch.setitem(sys.modules, "panopticapi.utils", utils)


@pytest.mark.parametrize("weighted", [False, True])
def test_panoptic_deeplab_keeps_its_weighted_criterion(weighted, panopticapi):
    from detectron2.projects.panoptic_deeplab import PanopticDeepLabSemSegHead, add_panoptic_deeplab_config

    name = "EPLPanopticDeepLabSemSegHead"
    run("docs/models.md", f"class {name}(")
    cfg = config_of(name, ["res2", "res3", "res5"], add_panoptic_deeplab_config)
    cfg.MODEL.SEM_SEG_HEAD.PROJECT_FEATURES = ["res2", "res3"]
    cfg.MODEL.SEM_SEG_HEAD.PROJECT_CHANNELS = [4, 8]
    cfg.MODEL.SEM_SEG_HEAD.ASPP_CHANNELS = cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM = 8
    cfg.MODEL.SEM_SEG_HEAD.HEAD_CHANNELS = 8
    cfg.MODEL.SEM_SEG_HEAD.COMMON_STRIDE = 4
    cfg.MODEL.SEM_SEG_HEAD.LOSS_TYPE = "hard_pixel_mining"
    cfg.INPUT.CROP.ENABLED = False
    cfg.MODEL.SEM_SEG_HEAD.ASPP_DROPOUT = 0.0
    torch.manual_seed(0)
    ours = build_sem_seg_head(cfg, SHAPES).train()
    baseline = PanopticDeepLabSemSegHead(cfg, SHAPES).train()
    baseline.load_state_dict(ours.state_dict())
    inputs, labels = features_of(SHAPES), labels_of()
    weights = torch.where(labels == 1, 3.0, 1.0) if weighted else None
    losses, expected = ours(inputs, labels, weights)[1], baseline(inputs, labels, weights)[1]
    assert losses.keys() == {"loss_sem_seg", "loss_epl_point", "loss_epl_line"} and losses["loss_epl_line"] > 0
    assert torch.equal(losses["loss_sem_seg"], expected["loss_sem_seg"])
    assert torch.equal(ours(inputs, labels, weights=weights)[1]["loss_sem_seg"], expected["loss_sem_seg"])
    if weighted:
        assert losses["loss_sem_seg"] != baseline(inputs, labels)[1]["loss_sem_seg"]


def test_epl_in_any_other_project_leaves_ignored_pixels_out():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 32, 48, requires_grad=True), labels_of()
    run("GETTING_STARTED.md", "epl = EPLLoss(", logits=logits, labels=labels)["loss"].backward()
    ignored = (labels == 255)[:, None].expand_as(logits)
    assert not logits.grad[ignored].any() and logits.grad[~ignored].any()


def test_a_lazy_config_trains_with_epl_and_predicts(tmp_path):
    file = tmp_path / "model.py"
    file.write_text(code_of("docs/models.md", "LazyCall as L"))
    cfg = LazyConfig.load(str(file))
    cfg.model.sem_seg_head.epl.start_iter = 5
    model = instantiate(cfg.model)
    record = {"image": torch.randint(0, 256, (3, 64, 64)), "sem_seg": F.pad(labels_of()[0], (0, 16, 0, 32), value=255)}
    for iteration, counts in ((4, False), (5, True)):
        with EventStorage(iteration):
            losses = model.train()([record])
        assert (losses["loss_epl_line"] > 0) == counts
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.eval()([{**record, "height": 64, "width": 64}])[0]["sem_seg"].shape == (19, 64, 64)
