"""WideResNet-38's ImageNet weights."""

import pytest
import torch

from epl_d2.checkpoint import convert_state_dict
from epl_d2.modeling import WideResNet38


def test_trunk_arrives_whole_and_the_classifier_is_dropped(wide_resnet_trunk, norm_entries):
    classifier = norm_entries("bn_out.0", 4096) | {
        "classifier.fc.weight": torch.empty(1000, 4096, device="meta"),
        "classifier.fc.bias": torch.empty(1000, device="meta"),
    }
    theirs = {f"module.{name}": tensor for name, tensor in (wide_resnet_trunk | classifier).items()}
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert sum(t.numel() for name, t in theirs.items() if not name.endswith(statistics)) == 109_167_912
    converted = convert_state_dict(theirs, "mapillary")
    assert [id(tensor) for tensor in converted.values()] == [id(tensor) for tensor in wide_resnet_trunk.values()]
    with torch.device("meta"):
        ours = WideResNet38().state_dict()
    assert {name: t.shape for name, t in converted.items()} == {f"backbone.{n}": t.shape for n, t in ours.items()}


@pytest.mark.parametrize("source", ["mapillary", "nvidia", "gscnn"])
@pytest.mark.parametrize("name", ["mod2.block1.bn1.weight", "module.mod6.block1.convs.bn3.running_var"])
def test_mapillarys_original_norms_are_refused_with_the_reason(source, name):
    with pytest.raises(ValueError, match="absolute value of the weight and a leaky ReLU"):
        convert_state_dict({name: torch.ones(1)}, source)


def test_entries_of_other_networks_are_named():
    with pytest.raises(ValueError, match=r"'layer1\.0\.conv1\.weight'.*WideResNet-38"):
        convert_state_dict({"layer1.0.conv1.weight": torch.ones(1)}, "mapillary")
