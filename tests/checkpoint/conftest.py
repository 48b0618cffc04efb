"""State dicts with the names and shapes of other projects' models, without memory."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from epl_d2 import get_cfg

Entries = dict[str, torch.Tensor]


@pytest.fixture
def norm_entries() -> Callable[[str, int], Entries]:
    """norm_entries(name, channels): the entries of a batch norm."""

    def entries(name: str, channels: int) -> Entries:
        vectors = ("weight", "bias", "running_mean", "running_var")
        counter = {f"{name}.num_batches_tracked": torch.empty((), dtype=torch.long, device="meta")}
        return {f"{name}.{vector}": torch.empty(channels, device="meta") for vector in vectors} | counter

    return entries


@pytest.fixture
def wide_resnet_trunk(norm_entries) -> Entries:
    """mod1 ... mod7 of NVIDIA's WideResNet-38 (A2)."""
    entries = {"mod1.conv1.weight": torch.empty(64, 3, 3, 3, device="meta")}
    width = 64
    stages = {
        2: (3, (128, 128)),
        3: (3, (256, 256)),
        4: (6, (512, 512)),
        5: (3, (512, 1024)),
        6: (1, (512, 1024, 2048)),
        7: (1, (1024, 2048, 4096)),
    }
    for stage, (blocks, channels) in stages.items():
        for block in range(1, blocks + 1):
            prefix = f"mod{stage}.block{block}"
            entries |= norm_entries(f"{prefix}.bn1.0", width)
            # A projection wherever the width or the stride changes; mod4 halves the resolution.
            if width != channels[-1] or (stage, block) == (4, 1):
                entries[f"{prefix}.proj_conv.weight"] = torch.empty(channels[-1], width, 1, 1, device="meta")
            for number, out in enumerate(channels, start=1):
                if number > 1:
                    entries |= norm_entries(f"{prefix}.convs.bn{number}.0", width)
                size = 3 if len(channels) == 2 or number == 2 else 1
                entries[f"{prefix}.convs.conv{number}.weight"] = torch.empty(out, width, size, size, device="meta")
                width = out
    return entries


@pytest.fixture
def nvidia_head(norm_entries) -> Callable[..., Entries]:
    """nvidia_head(aspp_branches, final): decoder on WideResNet-38 with 19 classes; `final` names its last layers."""

    def entries(aspp_branches: int, final: str) -> Entries:
        shapes = {
            "aspp.img_conv.0": (256, 4096, 1, 1),
            "aspp.features.0.0": (256, 4096, 1, 1),
            **{f"aspp.features.{branch}.0": (256, 4096, 3, 3) for branch in (1, 2, 3)},
            "bot_fine": (48, 128, 1, 1),
            "bot_aspp": (256, 256 * aspp_branches, 1, 1),
            f"{final}.0": (256, 304, 3, 3),
            f"{final}.3": (256, 256, 3, 3),
            f"{final}.6": (19, 256, 1, 1),
        }
        norms = ["aspp.img_conv.1", *(f"aspp.features.{branch}.1" for branch in range(4)), f"{final}.1", f"{final}.4"]
        result = {f"{name}.weight": torch.empty(shape, device="meta") for name, shape in shapes.items()}
        for name in norms:
            result |= norm_entries(name, 256)
        return result

    return entries


@pytest.fixture
def entries_of_config() -> Callable[[str], Entries]:
    """entries_of_config("Cityscapes/x.yaml"): the state dict of a shipped config's model."""

    def entries(name: str) -> Entries:
        cfg = get_cfg()
        cfg.merge_from_file(str(Path(__file__).parents[2] / "configs" / name))
        cfg.MODEL.DEVICE = "meta"
        with torch.device("meta"):
            return build_model(cfg).state_dict()

    return entries
