"""Weights that give added losses a gradient of a wanted size, so that losses of any scale can be compared alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from detectron2.config import CfgNode
from torch import nn

from .gradients import analyze_gradients

__all__ = ["active_weights", "added_losses", "check_sizes", "weights_for_sizes", "with_unit_weights"]


def added_losses(cfg: CfgNode) -> dict[str, str]:
    """Key of the weight -> name in the log, of every loss that `cfg` can add to the criterion."""
    epl = {f"MODEL.EPL.{part}.WEIGHT": f"loss_epl_{part.lower()}" for part in ("POINT", "LINE")}
    others = {f"MODEL.EXTRA_LOSSES.{name}.WEIGHT": f"loss_{name.lower()}" for name in cfg.MODEL.EXTRA_LOSSES}
    return {**epl, **others}


def active_weights(cfg: CfgNode) -> list[str]:
    """Keys of the weights of the losses that `cfg` adds to the criterion."""
    keys = []
    for key in added_losses(cfg):
        node = cfg
        for part in key.split("."):
            node = node[part]
        if node > 0 and (cfg.MODEL.EPL.ENABLED or not key.startswith("MODEL.EPL.")):
            keys.append(key)
    return keys


def check_sizes(cfg: CfgNode, sizes: Mapping[str, float]) -> None:
    """
    Raises:
        ValueError: a key is no weight of an added loss, EPL's is asked for where EPL is off, or a size is not positive.
    """
    known = added_losses(cfg)
    for key, size in sizes.items():
        if key not in known:
            raise ValueError(f"a size is given for {key}; it may be given for {', '.join(known)}")
        if key.startswith("MODEL.EPL.") and not cfg.MODEL.EPL.ENABLED:
            raise ValueError(f"a size is given for {key}, but MODEL.EPL.ENABLED is False")
        if not (math.isfinite(size) and size > 0):
            raise ValueError(f"the size of {key} is {size}, expected a positive number")


def with_unit_weights(cfg: CfgNode, sizes: Mapping[str, float]) -> CfgNode:
    """A copy of `cfg` in which the losses of `sizes` have the weight 1."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.merge_from_list([part for key in sizes for part in (key, 1.0)])
    return cfg


def weights_for_sizes(
    model: nn.Module, batches: Iterable[list[dict[str, Any]]], sizes: Mapping[str, float], names: Mapping[str, str]
) -> dict[str, float]:
    """The weight at which each loss has a gradient of the wanted size.

    The size of a loss is the sum of its absolute gradient at the logits over all batches, as a multiple of that of
    `loss_sem_seg`. It is proportional to the weight; the schedule of the loss is left aside.

    Args:
        model: built :func:`with_unit_weights`.
        batches: training records, as the train loader gives them.
        sizes: by the key of the weight.
        names: key of the weight -> name in the log, as of :func:`added_losses`.

    Returns:
        Weights by key.

    Raises:
        ValueError: the gradient of a loss, or of the criterion, is zero in all batches.
    """
    terms, _ = analyze_gradients(model, batches, ())
    magnitudes = {term.name: term.magnitude for term in terms}
    weights = {}
    for key, size in sizes.items():
        magnitude = magnitudes.get(names[key], 0.0)
        if not magnitude:
            raise ValueError(
                f"no weight gives {names[key]} ({key}) the size {size}: its gradient is zero in all batches"
            )
        weights[key] = float(size / magnitude)
    return weights
