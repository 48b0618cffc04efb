"""From a grid to its runs: resolve every configuration, refuse what cannot work, give each run its hash."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
import yaml
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from torch import nn

from epl_d2.analysis.loss_weights import active_weights, check_sizes, with_unit_weights
from epl_d2.checkpoint.pretrained import named_weights
from epl_d2.config import get_cfg
from epl_d2.data.dataset_check import check_data
from epl_d2.data.datasets import register_from_config
from epl_d2.engine import check_config
from epl_d2.modeling.losses import build_mask_epl_loss
from epl_d2.modeling.sem_seg_head.mixin import EPLHeadMixin
from epl_d2.provenance import sha256_of_file

from .cost import ModelOperations, count_operations, run_operations
from .grid import Grid, Method
from .runs import Run, flat_configuration, is_bound_to_configuration

__all__ = ["check_same_configuration", "plan_runs", "resolve_methods"]


def plan_runs(grid: Grid, folder: Path, root: Path, *, files: bool = True) -> list[Run]:
    """The runs of a grid, ordered by seed, then by method, so that an interrupted grid can compare what it has.

    Args:
        grid: as read.
        folder: of the runs, which lie in `folder/METHOD/seed_SEED`.
        root: folder of `train_net.py` and `configs/`; relative config paths start there.
        files: also look for data sets and weights on this machine; a dry run does not.

    Raises:
        ValueError, FileNotFoundError: "file:line: ..." of the first thing that cannot work.
    """
    runs = {}
    counted: dict[int, ModelOperations | None] = {}
    for method, (cfg, model) in zip(grid.methods, _resolve_all(grid, root, files), strict=True):
        if id(model) not in counted:
            counted[id(model)] = _count(model, cfg)
        operations = counted[id(model)] and run_operations(counted[id(model)], cfg, grid.evaluate.values())
        sizes = _sizes(cfg, method)
        text = _configuration(cfg, _identity_of_weights(cfg.MODEL.WEIGHTS, method, files), sizes)
        for seed in grid.seeds:
            configuration = re.sub("^SEED: .*$", f"SEED: {seed}", text, flags=re.MULTILINE)
            runs[method.name, seed] = Run(
                method=method.name,
                seed=seed,
                folder=str(folder / method.name / f"seed_{seed}"),
                train_net=str(root / "train_net.py"),
                config_file=str(root / method.config),
                options=_options(grid, method),
                evaluate=dict(grid.evaluate),
                configuration=configuration,
                config_hash=hashlib.sha256(configuration.encode()).hexdigest()[:12],
                max_iter=cfg.SOLVER.MAX_ITER,
                threads=grid.threads,
                cuda=cfg.MODEL.DEVICE.startswith("cuda"),
                sizes=tuple(sizes.items()),
                operations=operations,
            )
    return [runs[method.name, seed] for seed in grid.seeds for method in grid.methods]


def resolve_methods(grid: Grid, root: Path, *, files: bool = True) -> list[CfgNode]:
    """The configuration of every method of a grid, checked as :func:`plan_runs` describes."""
    return [cfg for cfg, _ in _resolve_all(grid, root, files)]


def check_same_configuration(run: Run) -> None:
    """Refuse to go on in the folder of a run that was made with another configuration.

    A key that the old configuration lacks counts as equal where the new one has its default: keys are added to the
    project over time. A folder in which nothing was trained yet takes any.

    Raises:
        ValueError: names the folder and the keys that differ, or its record is none.
    """
    if not run.configuration_file.is_file() or not is_bound_to_configuration(run):
        return
    text = run.configuration_file.read_text(encoding="utf-8")
    if text == run.configuration:  # most are, and a grid has many
        return
    before, now, defaults = map(flat_configuration, (text, run.configuration, get_cfg().dump()))
    different = [
        f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
        for key in sorted({*before, *now})
        if before.get(key, defaults.get(key)) != now.get(key)
    ]
    if different:
        raise ValueError(
            f"{run.folder} holds a run of another configuration: {'; '.join(different[:8])}. "
            "Choose another --output, or remove that folder"
        )


def _resolve_all(grid: Grid, root: Path, files: bool) -> list[tuple[CfgNode, nn.Module]]:
    """The configuration of every method, and its model without memory; methods that differ in losses share one."""
    resolved = []
    configs: dict[Path, CfgNode] = {}
    built: dict[str, nn.Module] = {}
    checked: set[tuple[str, int]] = set()
    for method in grid.methods:
        cfg = _resolve(grid, method, root, configs)
        _check_data(cfg, grid, method, files, checked)
        try:
            check_config(cfg, training=True, files=False)  # the files of all methods are read once, above
        except (KeyError, ValueError) as error:  # a KeyError is a registry's
            raise ValueError(f"{method.where}: {method.name!r}: {_words(error)}") from error
        resolved.append((cfg, _build_model(cfg, method, built)))
    _check_classes(grid)
    return resolved


def _options(grid: Grid, method: Method) -> tuple[str, ...]:
    """Everything after `--config-file`, but for the seed and the folder, which a run adds."""
    own = {
        "DATASETS.TEST": repr(tuple(grid.evaluate.values())),
        "TEST.BOUNDARY.REPORT_WIDTHS": repr(list(grid.widths)),
        "TEST.SAVE_IMAGE_COUNTS": "True",
    }
    pairs = [(override.key, override.value) for override in method.overrides] + list(own.items())
    return tuple(text for pair in pairs for text in pair)


def _resolve(grid: Grid, method: Method, root: Path, configs: dict[Path, CfgNode]) -> CfgNode:
    """The configuration of a method; `configs` keeps the files that were read."""
    path = root / method.config
    if path not in configs:
        if not path.is_file():
            raise FileNotFoundError(f"{method.config_where}: the config {path} does not exist")
        configs[path] = get_cfg()
        try:
            configs[path].merge_from_file(str(path))
        except (KeyError, ValueError, OSError, yaml.YAMLError, AssertionError) as error:
            raise ValueError(f"{method.config_where}: {path}: {_words(error)}") from error
    cfg = configs[path].clone()
    for override in method.overrides:
        try:
            cfg.merge_from_list([override.key, override.value])
        except (KeyError, ValueError, AssertionError) as error:
            raise ValueError(
                f"{override.where}: {override.key} {override.value} is no valid override: {_words(error)}"
            ) from error
    missing = [width for width in grid.widths if width not in cfg.TEST.BOUNDARY.WIDTHS]
    if missing:
        raise ValueError(f"{grid.where['widths']}: {missing} are not in TEST.BOUNDARY.WIDTHS of {path}")
    cfg.merge_from_list(list(_options(grid, method)))
    return with_unit_weights(cfg, _sizes(cfg, method))


def _sizes(cfg: CfgNode, method: Method) -> dict[str, float]:
    """The sizes of a method by the key of the weight; of the only loss that it adds where `size` is a number."""
    if method.size is None:
        return {}
    if cfg.MODEL.MASK_ON:
        raise ValueError(
            f"{method.where}: {method.name!r} has a size, that of gradients at labels of pixels, but its model finds "
            "instances (MODEL.MASK_ON True): give a weight"
        )
    if isinstance(method.size, float):
        keys = active_weights(cfg)
        if len(keys) != 1:
            raise ValueError(
                f"{method.where}: the size {method.size} of {method.name!r} needs one added loss with a weight above "
                f"0, got {' and '.join(keys) or 'none'}; write size: {{KEY: number}}"
            )
        sizes = {keys[0]: method.size}
    else:
        sizes = dict(method.size)
    try:
        check_sizes(cfg, sizes)
    except ValueError as error:
        raise ValueError(f"{method.where}: {method.name!r}: {error}") from error
    return sizes


def _build_model(cfg: CfgNode, method: Method, built: dict[str, nn.Module]) -> nn.Module:
    """Build the model without memory; where one like it was `built` already, its losses alone."""
    cfg = cfg.clone()
    cfg.MODEL.DEVICE = "meta"
    network = cfg.MODEL.clone()
    del network["EPL"], network["EXTRA_LOSSES"]
    description = json.dumps([network, cfg.INPUT], sort_keys=True)
    try:
        if description in built:
            EPLHeadMixin.losses_from_config(cfg)
            build_mask_epl_loss(cfg)
        else:
            with torch.device("meta"):
                built[description] = build_model(cfg)
    except (KeyError, ValueError, AssertionError, TypeError) as error:
        raise ValueError(f"{method.where}: the model of {method.name!r} cannot be built: {_words(error)}") from error
    return built[description]


def _count(model: nn.Module, cfg: CfgNode) -> ModelOperations | None:
    """None for a model of another kind than ours, or one whose operations depend on values."""
    try:
        return count_operations(model, cfg)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return None


def _check_classes(grid: Grid) -> None:
    """Published classes must be as many as those of the data set that they stand beside."""
    paper = grid.paper
    if paper is None or not paper.classes:
        return
    data_set = grid.evaluate[paper.split]
    classes = MetadataCatalog.get(data_set).stuff_classes
    for method, values in paper.classes.items():
        if len(values) != len(classes):
            raise ValueError(
                f"{paper.where[method]}: classes of {method!r} has {len(values)} numbers, but {data_set} has "
                f"{len(classes)} classes: {', '.join(classes)}"
            )


def _check_data(cfg: CfgNode, grid: Grid, method: Method, files: bool, checked: set[tuple[str, int]]) -> None:
    if cfg.SOLVER.EPOCHS:
        raise ValueError(
            f"{method.where}: SOLVER.EPOCHS is {cfg.SOLVER.EPOCHS}, but a grid counts iterations: set SOLVER.MAX_ITER, "
            "and SOLVER.EPOCHS to 0"
        )
    register_from_config(cfg)
    places = dict.fromkeys(cfg.DATASETS.TRAIN, method.where)
    places.update(dict.fromkeys(grid.evaluate.values(), grid.where["evaluate"]))
    head = cfg.MODEL.SEM_SEG_HEAD
    known = DatasetCatalog.list()
    for name, where in places.items():
        if name not in known:
            similar = sorted(other for other in known if "sem_seg" in other)
            raise ValueError(f"{where}: there is no data set {name!r}; registered are {', '.join(similar)}")
        if (name, head.NUM_CLASSES) not in checked:
            try:
                check_data(cfg, name, files=files)
            except (ValueError, OSError) as error:
                raise ValueError(f"{where}: {_words(error)}") from error
            checked.add((name, head.NUM_CLASSES))


def _identity_of_weights(weights: str, method: Method, files: bool) -> str:
    """What stands for MODEL.WEIGHTS in the hash: the content of a file (see `named_weights`), else the address."""
    if "://" in weights or not weights:
        return weights
    places = [override.where for override in method.overrides if override.key == "MODEL.WEIGHTS"]
    where = (places or [method.where])[-1]
    try:
        file = named_weights(weights, fetch=files)
    except (OSError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error
    if os.path.isfile(file):
        return "sha256:" + sha256_of_file(file)
    if files:
        raise FileNotFoundError(f"{where}: MODEL.WEIGHTS {weights} does not exist")
    return weights


def _configuration(cfg: CfgNode, weights: str, sizes: Mapping[str, float]) -> str:
    cfg = cfg.clone()
    cfg.MODEL.WEIGHTS = weights
    cfg.OUTPUT_DIR = ""
    return cfg.dump() + (yaml.safe_dump({"LOSS_SIZES": dict(sizes)}) if sizes else "")


def _words(error: BaseException) -> str:
    """What an exception says; a KeyError's text without its quotes."""
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
