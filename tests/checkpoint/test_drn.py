"""Names of fyu/drn's checkpoints; that the values fit is tested with the backbone."""

import pytest
import torch

from epl_d2.checkpoint import convert_state_dict


@pytest.mark.parametrize(
    "name", ["layer9.0.weight", "layer3.0.conv4.weight", "conv1.weight", "layer5.1.downsample.0.weight"]
)
def test_entries_of_other_networks_are_named(name):
    entries = {"layer0.0.weight": torch.ones(1), name: torch.ones(1), "later.weight": torch.ones(1)}
    with pytest.raises(ValueError, match=f"unexpected entry '{name}'"):
        convert_state_dict(entries, "drn")
