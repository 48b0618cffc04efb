"""A small model with random weights, as a checkpoint that `train_net.py` would leave."""

from pathlib import Path

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer

from epl_d2 import get_cfg
from epl_d2.engine import Trainer

CONFIG = Path(__file__).parents[2] / "configs" / "shapes" / "deeplab_v3_plus_mobilenet_v2_epl.yaml"
OPTIONS = ["MODEL.SEM_SEG_HEAD.CONVS_DIM", 8, "MODEL.SEM_SEG_HEAD.ASPP_CHANNELS", 8]


def write_model(folder: Path, *options: object) -> Path:
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIG))
    cfg.merge_from_list([*OPTIONS, "MODEL.DEVICE", "cpu", *options])
    torch.manual_seed(0)
    model = Trainer.build_model(cfg)
    # The last layer starts out too small for any class to win by more than rounding.
    torch.nn.init.normal_(model.sem_seg_head.predictor.weight)
    DetectionCheckpointer(model, str(folder)).save("model_final")
    return folder / "model_final.pth"


@pytest.fixture(scope="session")
def config_file() -> Path:
    return CONFIG


@pytest.fixture(scope="session")
def options() -> list:
    """Options that the config needs to fit `weights`."""
    return list(OPTIONS)


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def other_weights(tmp_path_factory) -> Path:
    """A checkpoint with wider layers than the config's."""
    return write_model(tmp_path_factory.mktemp("other"), "MODEL.SEM_SEG_HEAD.CONVS_DIM", 12)
