"""GSCNN's own checkpoints."""

import pytest
import torch

from epl_d2.checkpoint import convert_state_dict


def empty(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device="meta")


@pytest.fixture
def reference(wide_resnet_trunk, nvidia_head, norm_entries):
    """Names and shapes of nv-tlabs/GSCNN with 19 classes."""
    entries = wide_resnet_trunk | nvidia_head(aspp_branches=6, final="final_seg")
    entries |= {"aspp.edge_conv.0.weight": empty(256, 1, 1, 1)} | norm_entries("aspp.edge_conv.1", 256)
    for number, channels in {1: 64, 3: 256, 4: 512, 7: 4096}.items():
        entries |= {f"dsn{number}.weight": empty(1, channels, 1, 1), f"dsn{number}.bias": empty(1)}
    for number, (width, out) in {1: (64, 32), 2: (32, 16), 3: (16, 8)}.items():
        for layer in (1, 2):
            entries[f"res{number}.conv{layer}.weight"] = empty(width, width, 3, 3)
            entries |= norm_entries(f"res{number}.bn{layer}", width)
        entries |= {f"d{number}.weight": empty(out, width, 1, 1), f"d{number}.bias": empty(out)}
        gate = f"gate{number}"
        entries[f"{gate}.weight"] = empty(out, out, 1, 1)
        entries |= norm_entries(f"{gate}._gate_conv.0", out + 1) | norm_entries(f"{gate}._gate_conv.4", 1)
        for layer, channels in ((1, out + 1), (3, 1)):
            entries[f"{gate}._gate_conv.{layer}.weight"] = empty(channels, out + 1, 1, 1)
            entries[f"{gate}._gate_conv.{layer}.bias"] = empty(channels)
    return entries | {"fuse.weight": empty(1, 8, 1, 1), "cw.weight": empty(1, 2, 1, 1)}


def test_reference_has_as_many_entries_and_parameters_as_were_counted(reference):
    assert len(reference) == 371
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert sum(t.numel() for name, t in reference.items() if not name.endswith(statistics)) == 137_278_190


@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_entry_arrives_whole_but_for_the_unused_layer(reference, entries_of_config, prefix, caplog):
    theirs = {prefix + name: tensor for name, tensor in reference.items()}
    converted = convert_state_dict(theirs, "gscnn")
    kept = [id(tensor) for name, tensor in theirs.items() if "dsn1" not in name]
    assert [id(tensor) for tensor in converted.values()] == kept
    assert "dsn1.weight, dsn1.bias dropped" in caplog.text
    ours = entries_of_config("Cityscapes/gscnn_wide_resnet38_os8_epl.yaml")
    assert {name: t.shape for name, t in converted.items()} == {name: t.shape for name, t in ours.items()}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("dsn4.bias", "sides.1.bias"),
        ("res3.bn2.running_var", "blocks.2.bn2.running_var"),
        ("d1.weight", "reductions.0.weight"),
        ("gate2.weight", "gates.1.conv.weight"),
        ("gate3._gate_conv.3.bias", "gates.2.gate.3.bias"),
        ("fuse.weight", "edges.weight"),
        ("cw.weight", "attention.weight"),
    ],
)
def test_layers_of_the_shape_stream_go_where_they_belong(theirs, ours):
    assert list(convert_state_dict({theirs: torch.ones(1)}, "gscnn")) == [f"sem_seg_head.shape_stream.{ours}"]


@pytest.mark.parametrize("name", ["final.0.weight", "layer1.0.conv1.weight", "gate4.weight"])
def test_entries_of_other_models_are_named(name):
    with pytest.raises(ValueError, match=f"'{name}'.*GSCNN"):
        convert_state_dict({name: torch.ones(1)}, "gscnn")
