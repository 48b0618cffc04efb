"""The ResNet whose pooling rounds up."""

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_backbone
from torch import nn

from epl_d2 import get_cfg


def build(name: str, freeze_at: int = 0, stem: str = "deeplab"):
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.FREEZE_AT = name, freeze_at
    resnets = cfg.MODEL.RESNETS
    resnets.NORM, resnets.STEM_TYPE, resnets.STEM_OUT_CHANNELS, resnets.OUT_FEATURES = "BN", stem, 128, ["res2"]
    return build_backbone(cfg)


@torch.no_grad()
def test_odd_sizes_give_what_detectron2_gives_and_even_sizes_one_more():
    ours, stock = build("build_ccnet_resnet_backbone").eval(), build("build_resnet_deeplab_backbone").eval()
    stock.load_state_dict(ours.state_dict(), strict=True)
    x = torch.randn(1, 3, 65, 49, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours(x)["res2"], stock(x)["res2"])
    x = torch.randn(1, 3, 560, 72, generator=torch.Generator().manual_seed(0))
    pooled = ours.stem(x)
    assert pooled.shape[-2:] == (141, 19)
    assert stock.stem(x).shape[-2:] == (140, 18)
    y = x
    for convolution in (stock.stem.conv1, stock.stem.conv2, stock.stem.conv3):
        y = F.relu(convolution(y))
    padded = F.pad(y, (1, 2, 1, 2), value=float("-inf"))
    expected = padded.unfold(2, 3, 2).unfold(3, 3, 2).amax(dim=(-2, -1))
    assert torch.equal(pooled, expected)


def test_freezing_reaches_the_new_stem():
    backbone = build("build_ccnet_resnet_backbone", freeze_at=1)
    assert not any(p.requires_grad for p in backbone.stem.parameters())
    assert any(isinstance(m, FrozenBatchNorm2d) for m in backbone.stem.modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in backbone.res2.modules())


def test_other_stems_are_refused():
    with pytest.raises(ValueError, match="STEM_TYPE"):
        build("build_ccnet_resnet_backbone", stem="basic")
