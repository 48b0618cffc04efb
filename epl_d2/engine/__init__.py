"""Training and evaluation: what `train_net.py` calls."""

from .setup import check_datasets, leave_process_group, prepare_config, read_config
from .trainer import Trainer

__all__ = ["Trainer", "check_datasets", "leave_process_group", "prepare_config", "read_config"]
