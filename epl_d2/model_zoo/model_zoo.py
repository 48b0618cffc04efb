"""Configs and checkpoints by the path of the config below configs/, such as "CamVid/semantic_fpn_R_50.yaml"."""

from __future__ import annotations

import difflib
from pathlib import Path

import torch
from detectron2.config import CfgNode
from torch import nn

from epl_d2.checkpoint.checkpointer import Checkpointer
from epl_d2.checkpoint.loading import load_weights
from epl_d2.config import get_cfg
from epl_d2.engine.setup import prepare_config
from epl_d2.engine.trainer import Trainer

__all__ = ["get", "get_checkpoint_url", "get_config", "get_config_file", "trained_configs"]

_HERE, _ROOT = Path(__file__).resolve().parent, Path(__file__).resolve().parents[2]
# A wheel holds a copy of the repository's folder (setup.py); a checkout or an editable installation has the folder.
_CONFIGS = _HERE / "configs" if (_HERE / "configs").is_dir() else _ROOT / "configs"
_CHECKPOINTS = _HERE / "checkpoints"
_GRIDS = "grids"  # of tools/run_grid.py, no configs


def get_config_file(config_path: str) -> str:
    """The file of a config.

    Args:
        config_path: relative to configs/, such as "CamVid/semantic_fpn_R_50_epl.yaml".

    Raises:
        FileNotFoundError: there is none; names those with similar names.
    """
    file = _CONFIGS / config_path
    if file.suffix != ".yaml" or file.parent.name == _GRIDS or not file.is_file():
        known = [path for path in _CONFIGS.glob("*/*.yaml") if path.parent.name != _GRIDS]
        names = sorted(path.relative_to(_CONFIGS).as_posix() for path in known)
        similar = ", ".join(difflib.get_close_matches(config_path, names, n=3, cutoff=0))
        raise FileNotFoundError(f"the zoo has no config {config_path!r}; similar ones are {similar}")
    return str(file)


def get_checkpoint_url(config_path: str) -> str:
    """The checkpoint of the model that was trained with a config: a file of the package, so that nothing is fetched.

    The README.md beside it says where it comes from, what it scores and what it may be used for.

    Args:
        config_path: as in :func:`get_config_file`; one of :func:`trained_configs`.

    Raises:
        FileNotFoundError: there is no such config, or the zoo has no model of it.
    """
    get_config_file(config_path)
    found = sorted((_CHECKPOINTS / config_path).with_suffix("").glob("*.pth"))
    if not found:
        raise FileNotFoundError(
            f"the zoo has no trained model of {config_path}; there are models of: {', '.join(trained_configs())}"
        )
    return str(found[0])


def trained_configs() -> list[str]:
    """The configs, as paths relative to configs/, of which the zoo has a trained model."""
    return sorted(f"{path.parent.relative_to(_CHECKPOINTS).as_posix()}.yaml" for path in _CHECKPOINTS.rglob("*.pth"))


def get_config(config_path: str, trained: bool = False) -> CfgNode:
    """A config with all its keys, not frozen.

    Args:
        config_path: as in :func:`get_config_file`.
        trained: let MODEL.WEIGHTS name the zoo's model instead of the weights that the training starts from.

    Raises:
        FileNotFoundError: there is no such config or, where `trained`, no model of it.
    """
    cfg = get_cfg()
    cfg.merge_from_file(get_config_file(config_path))
    if trained:
        cfg.MODEL.WEIGHTS = get_checkpoint_url(config_path)
    return cfg


def get(config_path: str, trained: bool = False, device: str | None = None) -> nn.Module:
    """The model of a config, in training mode as Detectron2's.

    Args:
        config_path: as in :func:`get_config_file`.
        trained: with the zoo's weights, else with those of MODEL.WEIGHTS, from which a training of it starts.
        device: "cpu", "cuda", "cuda:1"; None takes MODEL.DEVICE, or the CPU where there is no CUDA.

    Raises:
        FileNotFoundError: there is no such config or weights. The header of the config's Base-*.yaml says where the
            weights to start from are made; `get_config` with MODEL.WEIGHTS "" is a model of random weights.
    """
    cfg = get_config(config_path, trained)
    if device is not None or not torch.cuda.is_available():
        cfg.MODEL.DEVICE = device or "cpu"
    prepare_config(cfg)
    cfg.freeze()
    model = Trainer.build_model(cfg)
    if trained:
        load_weights(model, cfg.MODEL.WEIGHTS)
    else:
        Checkpointer(model).load(cfg.MODEL.WEIGHTS, checkpointables=[])
    return model
