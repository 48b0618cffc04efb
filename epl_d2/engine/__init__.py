"""Training and evaluation: what `train_net.py` calls."""

from .config_check import (
    check_config,
    check_datasets,
    require_own_head,
    require_own_segmentor,
    require_pixel_labels,
)
from .setup import complete_config, leave_process_group, merge_config_file, prepare_config, read_config
from .trainer import Trainer

__all__ = [
    "Trainer",
    "check_config",
    "check_datasets",
    "complete_config",
    "leave_process_group",
    "merge_config_file",
    "prepare_config",
    "read_config",
    "require_own_head",
    "require_own_segmentor",
    "require_pixel_labels",
]
