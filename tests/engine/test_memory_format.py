"""MODEL.MEMORY_FORMAT changes the layout and nothing else."""

from pathlib import Path

import pytest
import torch

from epl_d2 import get_cfg
from epl_d2.engine import Trainer

CONFIG = Path(__file__).parents[2] / "configs" / "shapes" / "deeplab_v3_plus_mobilenet_v2.yaml"


def build(memory_format: str) -> torch.nn.Module:
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIG))
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", "MODEL.MEMORY_FORMAT", memory_format])
    torch.manual_seed(0)
    return Trainer.build_model(cfg).eval()


def test_channels_last_gives_the_same_scores():
    image = torch.randint(0, 256, (3, 48, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plain, last = build("contiguous"), build("channels_last")
    assert last.backbone.features[0][0].weight.is_contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        scores = [model([{"image": image}])[0]["sem_seg"] for model in (plain, last)]
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-4, atol=1e-4)


def test_other_formats_are_refused_by_name():
    with pytest.raises(ValueError, match=r"MODEL\.MEMORY_FORMAT is 'nhwc'"):
        build("nhwc")
