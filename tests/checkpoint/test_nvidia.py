"""DeepLabV3+ on WideResNet-38, of both branches of NVIDIA's repository."""

import pytest
import torch

from epl_d2.checkpoint import convert_state_dict


@pytest.fixture
def model(wide_resnet_trunk, nvidia_head):
    return wide_resnet_trunk, nvidia_head(aspp_branches=5, final="final")


def test_reference_has_as_many_entries_and_parameters_as_were_counted(model):
    trunk, head = model
    assert len(trunk | head) == 268
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert sum(t.numel() for name, t in (trunk | head).items() if not name.endswith(statistics)) == 137_103_936


@pytest.mark.parametrize("branch", ["main", "sdcnet"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_entry_arrives_whole(model, entries_of_config, branch, prefix):
    trunk, head = model
    if branch == "main":
        trunk = {f"backbone.{name}": tensor for name, tensor in trunk.items()}
    theirs = {prefix + name: tensor for name, tensor in (trunk | head).items()}
    converted = convert_state_dict(theirs, "nvidia")
    assert [id(tensor) for tensor in converted.values()] == [id(tensor) for tensor in theirs.values()]
    ours = entries_of_config("Cityscapes/nvidia_deeplab_v3_plus_wide_resnet38_os8_epl.yaml")
    assert {name: t.shape for name, t in converted.items()} == {name: t.shape for name, t in ours.items()}


@pytest.mark.parametrize("name", ["backbone.layer1.0.conv1.weight", "dsn1.weight", "aspp2.conv.weight"])
def test_entries_of_other_models_are_named(name):
    with pytest.raises(ValueError, match=f"'{name}'.*NVIDIA"):
        convert_state_dict({name: torch.ones(1)}, "nvidia")
