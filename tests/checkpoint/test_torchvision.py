"""torchvision's ResNets: the converted weights compute the same features."""

import pytest
import torch
import torchvision
from detectron2.modeling import build_backbone

from epl_d2 import get_cfg
from epl_d2.checkpoint import convert_state_dict


def detectron2_resnet(depth: int):
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.update({"NAME": "build_resnet_deeplab_backbone", "FREEZE_AT": 0})
    cfg.MODEL.RESNETS.update(
        {"DEPTH": depth, "NORM": "BN", "STEM_TYPE": "basic", "STEM_OUT_CHANNELS": 64, "STRIDE_IN_1X1": False}
    )
    cfg.MODEL.RESNETS.update({"RES5_MULTI_GRID": [1, 1, 1], "OUT_FEATURES": ["res5"]})
    return build_backbone(cfg)


def test_resnet50_computes_the_same():
    theirs = torchvision.models.resnet50(weights=None).eval()
    ours = torch.nn.ModuleDict({"backbone": detectron2_resnet(50)}).eval()
    ours.load_state_dict(convert_state_dict(theirs.state_dict(), "torchvision"), strict=True)
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        trunk = torch.nn.Sequential(*list(theirs.children())[:-2])
        torch.testing.assert_close(ours["backbone"](x)["res5"], trunk(x))


def test_resnet101_has_every_entry():
    with torch.device("meta"):
        theirs = torchvision.models.resnet101(weights=None).state_dict()
        ours = detectron2_resnet(101).state_dict()
    converted = convert_state_dict(theirs, "torchvision")
    assert {name: t.shape for name, t in converted.items()} == {f"backbone.{n}": t.shape for n, t in ours.items()}


def test_other_networks_are_refused():
    state_dict = {"conv1.weight": torch.empty(64, 3, 7, 7), "layer1.0.attention.weight": torch.empty(1)}
    with pytest.raises(ValueError, match=r"layer1\.0\.attention\.weight"):
        convert_state_dict(state_dict, "torchvision")
