"""State dicts with the names and shapes of jfzhang95's DeepLabV3+ become whole checkpoints of ours."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from detectron2.modeling import build_model

from epl_d2 import get_cfg
from epl_d2.checkpoint import convert_state_dict, read_state_dict
from epl_d2.modeling import MobileNetV2

CONFIGS = Path(__file__).parents[2] / "configs" / "VOC2012"


def conv(name, out_channels, in_channels, size=1):
    return {f"{name}.weight": torch.empty(out_channels, in_channels, size, size, device="meta")}


def bn(name, channels):
    entries = {
        f"{name}.{entry}": torch.empty(channels, device="meta")
        for entry in ("weight", "bias", "running_mean", "running_var")
    }
    return {**entries, f"{name}.num_batches_tracked": torch.empty((), device="meta")}


def head(high, low, classes=21):
    entries = {}
    for i in range(1, 5):
        entries |= conv(f"aspp.aspp{i}.atrous_conv", 256, high, 1 if i == 1 else 3) | bn(f"aspp.aspp{i}.bn", 256)
    entries |= conv("aspp.global_avg_pool.1", 256, high) | bn("aspp.global_avg_pool.2", 256)
    entries |= conv("aspp.conv1", 256, 1280) | bn("aspp.bn1", 256)
    entries |= conv("decoder.conv1", 48, low) | bn("decoder.bn1", 48)
    entries |= conv("decoder.last_conv.0", 256, 304, 3) | bn("decoder.last_conv.1", 256)
    entries |= conv("decoder.last_conv.4", 256, 256, 3) | bn("decoder.last_conv.5", 256)
    entries |= conv("decoder.last_conv.8", classes, 256)
    return entries | {"decoder.last_conv.8.bias": torch.empty(classes, device="meta")}


def prefixed(entries, prefix):
    return {prefix + name: tensor for name, tensor in entries.items()}


def resnet_101():
    with torch.device("meta"):
        entries = torchvision.models.resnet101().state_dict()
    return {name: tensor for name, tensor in entries.items() if not name.startswith("fc.")}


def mobilenet_v2():
    entries = conv("features.0.0", 32, 3, 3) | bn("features.0.1", 32)
    index, channels = 1, 32
    for t, c, n in ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1)):
        for _ in range(n):
            name, hidden = f"features.{index}.conv", t * channels
            layers = [(c, hidden, 1)]
            layers.insert(0, (hidden, 1, 3))
            if t != 1:
                layers.insert(0, (hidden, channels, 1))
            for position, (out_channels, in_channels, size) in enumerate(layers):
                number = 3 * position
                entries |= conv(f"{name}.{number}", out_channels, in_channels, size)
                entries |= bn(f"{name}.{number + 1}", out_channels)
            index, channels = index + 1, c
    return entries


def drn_d_54():
    entries = {}
    for layer, out_channels, in_channels, size in ((0, 16, 3, 7), (1, 16, 16, 3), (2, 32, 16, 3)):
        entries |= conv(f"layer{layer}.0", out_channels, in_channels, size) | bn(f"layer{layer}.1", out_channels)
    channels = 32
    for layer, planes, blocks in ((3, 64, 3), (4, 128, 4), (5, 256, 6), (6, 512, 3)):
        for block in range(blocks):
            name = f"layer{layer}.{block}"
            entries |= conv(f"{name}.conv1", planes, channels) | bn(f"{name}.bn1", planes)
            entries |= conv(f"{name}.conv2", planes, planes, 3) | bn(f"{name}.bn2", planes)
            entries |= conv(f"{name}.conv3", 4 * planes, planes) | bn(f"{name}.bn3", 4 * planes)
            if block == 0:
                entries |= conv(f"{name}.downsample.0", 4 * planes, channels)
                entries |= bn(f"{name}.downsample.1", 4 * planes)
            channels = 4 * planes
    entries |= conv("layer7.0", 512, 2048, 3) | bn("layer7.1", 512)
    return entries | conv("layer8.0", 512, 512, 3) | bn("layer8.1", 512)


def checkpoint_of(backbone: str):
    if backbone == "R_101_os16":
        return prefixed(resnet_101(), "backbone.") | head(2048, 256)
    if backbone == "drn_d_54_os8":
        return prefixed(drn_d_54(), "backbone.") | head(512, 256)
    features = mobilenet_v2()
    entries = prefixed(features, "backbone.")
    for name, tensor in features.items():
        half = "low_level" if int(name.split(".")[1]) < 4 else "high_level"
        entries[f"backbone.{half}_{name}"] = tensor
    return entries | head(320, 24)


@pytest.mark.parametrize("backbone", ["R_101_os16", "mobilenet_v2_os16", "drn_d_54_os8"])
def test_checkpoints_fit_whole(backbone):
    theirs = checkpoint_of(backbone)
    if backbone.startswith("mobilenet"):
        assert sum(name.startswith("backbone.") for name in theirs) == 612
    converted = convert_state_dict(theirs, "jfzhang95")
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / f"pytorch_deeplab_{backbone}.yaml"))
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        ours = build_model(cfg).state_dict()
    assert {name: t.shape for name, t in converted.items()} == {name: t.shape for name, t in ours.items()}


def test_each_entry_goes_to_its_place():
    theirs = checkpoint_of("R_101_os16")
    converted = convert_state_dict(theirs, "jfzhang95")
    for name, renamed in {
        "backbone.conv1.weight": "backbone.stem.conv1.weight",
        "backbone.bn1.bias": "backbone.stem.conv1.norm.bias",
        "backbone.layer1.0.downsample.1.weight": "backbone.res2.0.shortcut.norm.weight",
        "backbone.layer4.2.bn3.running_var": "backbone.res5.2.conv3.norm.running_var",
        "aspp.aspp3.bn.weight": "sem_seg_head.aspp.aspp3.bn.weight",
        "decoder.last_conv.8.bias": "sem_seg_head.decoder.last_conv.8.bias",
    }.items():
        assert converted[renamed] is theirs[name]


def test_imagenet_weights_of_its_mobilenet():
    theirs = mobilenet_v2() | conv("features.18.0", 1280, 320) | bn("features.18.1", 1280)
    theirs |= {"classifier.1.weight": torch.empty(1000, 1280), "classifier.1.bias": torch.empty(1000)}
    converted = convert_state_dict(theirs, "jfzhang95")
    with torch.device("meta"):
        ours = prefixed(MobileNetV2().state_dict(), "backbone.")
    assert {name: t.shape for name, t in converted.items()} == {name: t.shape for name, t in ours.items()}


def test_a_checkpoint_with_the_score_beside_the_tensors_is_read(tmp_path):
    content = {
        "epoch": 3,
        "state_dict": {"decoder.conv1.weight": torch.ones(48, 24, 1, 1)},
        "best_pred": np.float64(0.7),
    }
    torch.save(content, tmp_path / "model_best.pth.tar")
    assert list(read_state_dict(tmp_path / "model_best.pth.tar")) == ["decoder.conv1.weight"]


@pytest.mark.parametrize(
    ("backbone", "name"),
    [
        ("R_101_os16", "backbone.conv2.weight"),
        ("R_101_os16", "backbone.layer0.1.weight"),
        ("mobilenet_v2_os16", "backbone.features.1.conv.0.0.weight"),
        ("mobilenet_v2_os16", "backbone.features.2.conv.8.weight"),
        ("drn_d_54_os8", "backbone.conv1.weight"),
        ("drn_d_54_os8", "decoder.last_conv.9.weight"),
        ("drn_d_54_os8", "aspp.aspp5.bn.weight"),
        ("drn_d_54_os8", "ppm.features.0.1.weight"),
    ],
)
def test_entries_of_other_networks_are_named(backbone, name):
    entries = checkpoint_of(backbone) | {name: torch.ones(1)}
    with pytest.raises(ValueError, match=f"unexpected entry '{name}'"):
        convert_state_dict(entries, "jfzhang95")


def test_torchvision_mobilenet_is_not_taken_for_its_own():
    with torch.device("meta"):
        entries = torchvision.models.mobilenet_v2().state_dict()
    with pytest.raises(ValueError, match=r"features\.1\.conv\.0\.0\.weight"):
        convert_state_dict(entries, "jfzhang95")
