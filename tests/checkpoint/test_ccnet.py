"""State dicts with the names and shapes of speedinghzl/CCNet become whole checkpoints of ours."""

from pathlib import Path

import pytest
import torch
import torchvision
from detectron2.modeling import build_model

from epl_d2 import get_cfg
from epl_d2.checkpoint import convert_state_dict

CONFIG = Path(__file__).parents[2] / "configs" / "Cityscapes" / "ccnet_R_101_os8.yaml"


def conv(name, out_channels, in_channels, size=1, bias=False):
    entries = {f"{name}.weight": torch.empty(out_channels, in_channels, size, size, device="meta")}
    return entries | ({f"{name}.bias": torch.empty(out_channels, device="meta")} if bias else {})


def abn(name, channels):
    entries = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{entry}": torch.empty(channels, device="meta") for entry in entries}


def resnet_101():
    """torchvision's blocks behind the stem of three convolutions; the norms are InPlaceABN, without a counter."""
    with torch.device("meta"):
        blocks = torchvision.models.resnet101().state_dict()
        blocks["layer1.0.conv1.weight"] = torch.empty(64, 128, 1, 1)
        blocks["layer1.0.downsample.0.weight"] = torch.empty(256, 128, 1, 1)
    entries = conv("conv1", 64, 3, 3) | conv("conv2", 64, 64, 3) | conv("conv3", 128, 64, 3)
    entries |= abn("bn1", 64) | abn("bn2", 64) | abn("bn3", 128)
    kept = {n: t for n, t in blocks.items() if n.startswith("layer") and not n.endswith("num_batches_tracked")}
    return entries | kept


def ccnet():
    entries = resnet_101() | conv("head.conva.0", 512, 2048, 3) | abn("head.conva.1", 512)
    entries |= conv("head.cca.query_conv", 64, 512, bias=True) | conv("head.cca.key_conv", 64, 512, bias=True)
    entries |= conv("head.cca.value_conv", 512, 512, bias=True) | {"head.cca.gamma": torch.empty(1, device="meta")}
    entries |= conv("head.convb.0", 512, 512, 3) | abn("head.convb.1", 512)
    entries |= conv("head.bottleneck.0", 512, 2560, 3) | abn("head.bottleneck.1", 512)
    entries |= conv("head.bottleneck.3", 19, 512, bias=True)
    entries |= conv("dsn.0", 512, 1024, 3, bias=True) | abn("dsn.1", 512)
    return entries | conv("dsn.3", 19, 512, bias=True)


def shapes(entries):
    return {name: tensor.shape for name, tensor in entries.items() if not name.endswith("num_batches_tracked")}


def our_model():
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIG))
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return build_model(cfg)


def test_checkpoint_fits_whole():
    model = our_model()
    converted = convert_state_dict(ccnet(), "ccnet")
    assert shapes(converted) == shapes(model.state_dict())
    model.load_state_dict(converted, strict=True, assign=True)  # InPlaceABN has no counters; none is missed


def test_imagenet_weights_fit_the_backbone():
    entries = resnet_101() | {"fc.weight": torch.empty(1000, 2048), "fc.bias": torch.empty(1000)}
    converted = convert_state_dict(entries, "ccnet")
    ours = {f"backbone.{name}": tensor for name, tensor in our_model().backbone.state_dict().items()}
    assert shapes(converted) == shapes(ours)


def test_every_norms_weight_becomes_what_inplace_abn_multiplies_with():
    values = torch.tensor([-0.5, 0.0, 0.25])
    norms = {
        "bn2": "backbone.stem.conv2.norm",
        "layer3.4.bn1": "backbone.res4.4.conv1.norm",
        "layer2.0.downsample.1": "backbone.res3.0.shortcut.norm",
        "head.conva.1": "sem_seg_head.conva.norm",
        "head.convb.1": "sem_seg_head.convb.norm",
        "head.bottleneck.1": "sem_seg_head.bottleneck.0.norm",
        "dsn.1": "sem_seg_head.dsn.0.norm",
    }
    entries = {f"{name}.{entry}": values for name in norms for entry in ("weight", "bias", "running_mean")}
    converted = convert_state_dict(entries | {"head.cca.gamma": values, "dsn.0.weight": values}, "ccnet")
    for name in norms.values():
        torch.testing.assert_close(converted[f"{name}.weight"], torch.tensor([0.50001, 0.00001, 0.25001]))
        assert converted[f"{name}.bias"] is values
        assert converted[f"{name}.running_mean"] is values
    assert converted["sem_seg_head.cca.gamma"] is values
    assert converted["sem_seg_head.dsn.0.weight"] is values


@pytest.mark.parametrize("name", ["conv4.weight", "ppm.0.weight", "head.bottleneck.0.bias", "bottleneck.0.weight"])
def test_entries_of_other_networks_are_named(name):
    with pytest.raises(ValueError, match=f"unexpected entry '{name}'"):
        convert_state_dict({"conv1.weight": torch.ones(1), name: torch.ones(1)}, "ccnet")
