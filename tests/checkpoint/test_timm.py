"""timm's deep-stem ResNets, by the names of their entries."""

import pytest
import torch
from detectron2.modeling import build_backbone

from epl_d2 import get_cfg
from epl_d2.checkpoint import convert_state_dict

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def timm_resnet(blocks: tuple[int, ...], stem: tuple[int, int, int] = (64, 64, 128)) -> dict[str, torch.Tensor]:
    """Entries of timm's resnet50s (3, 4, 6, 3) and resnet101s (3, 4, 23, 3), on the meta device."""
    shapes = {}

    def convolution(name, out_channels, in_channels, size):
        shapes[f"{name}.weight"] = (out_channels, in_channels, size, size)

    def norm(name, channels):
        shapes.update({f"{name}.{entry}": (channels,) if entry != "num_batches_tracked" else () for entry in NORM})

    for index, (in_channels, out_channels) in enumerate(zip((3, *stem), stem, strict=False)):
        convolution(f"conv1.{3 * index}", out_channels, in_channels, 3)
        norm(f"conv1.{3 * index + 1}" if index < 2 else "bn1", out_channels)
    channels = stem[-1]
    for stage, count in enumerate(blocks):
        width = 64 * 2**stage
        for block in range(count):
            name = f"layer{stage + 1}.{block}"
            for k, (into, out, size) in enumerate(((channels, width, 1), (width, width, 3), (width, 4 * width, 1)), 1):
                convolution(f"{name}.conv{k}", out, into, size)
                norm(f"{name}.bn{k}", out)
            if block == 0:
                convolution(f"{name}.downsample.0", 4 * width, channels, 1)
                norm(f"{name}.downsample.1", 4 * width)
            channels = 4 * width
    shapes.update({"fc.weight": (1000, channels), "fc.bias": (1000,)})
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("depth", "blocks", "parameters"), [(50, (3, 4, 6, 3), 25_680_808), (101, (3, 4, 23, 3), 44_672_936)]
)
def test_every_entry_finds_its_place(depth, blocks, parameters):
    theirs = timm_resnet(blocks)
    assert sum(t.numel() for n, t in theirs.items() if "running" not in n and "tracked" not in n) == parameters
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.update({"NAME": "build_resnet_deeplab_backbone", "FREEZE_AT": 0})
    cfg.MODEL.RESNETS.update(
        {"DEPTH": depth, "NORM": "BN", "STEM_TYPE": "deeplab", "STEM_OUT_CHANNELS": 128, "OUT_FEATURES": ["res5"]}
    )
    with torch.device("meta"):
        ours = build_backbone(cfg).state_dict()
    converted = convert_state_dict(theirs, "timm")
    assert {name: t.shape for name, t in converted.items()} == {f"backbone.{n}": t.shape for n, t in ours.items()}
    assert converted["backbone.stem.conv3.norm.bias"] is theirs["bn1.bias"]
    assert converted["backbone.stem.conv2.norm.bias"] is theirs["conv1.4.bias"]
    assert converted["backbone.res5.0.shortcut.norm.weight"] is theirs["layer4.0.downsample.1.weight"]


def test_other_stems_and_entries_are_refused():
    with pytest.raises(ValueError, match=r"\[32, 32, 64\]"):
        convert_state_dict(timm_resnet((3, 4, 6, 3), (32, 32, 64)), "timm")
    with pytest.raises(ValueError, match="no channels"):
        convert_state_dict({"conv1.weight": torch.empty(64, 3, 7, 7)}, "timm")
    with pytest.raises(ValueError, match=r"'layer1\.0\.se\.fc1\.weight'"):
        convert_state_dict({**timm_resnet((3, 4, 6, 3)), "layer1.0.se.fc1.weight": torch.empty(1)}, "timm")
