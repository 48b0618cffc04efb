"""The EPL terms that `MODEL.EPL` describes."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode

from epl_d2.losses import EPLLoss
from epl_d2.losses.arguments import check_kernel_size

__all__ = ["build_epl_loss", "build_mask_epl_loss"]

# Arguments of `EPLLoss` -> their keys below MODEL.EPL, or below MODEL.EPL.MASK.
_OF_EACH_TERM = {
    "point_weight": "POINT.WEIGHT",
    "line_weight": "LINE.WEIGHT",
    "point_kernel_size": "POINT.KERNEL_SIZE",
    "line_kernel_size": "LINE.KERNEL_SIZE",
}
# -> below MODEL.EPL. The others have the names of their keys.
_OF_BOTH = {
    "norm": "POINT.NORM",
    "point_region": "POINT.REGION",
    "mu": "LINE.MU",
    "formulation": "LINE.FORMULATION",
}


def build_epl_loss(cfg: CfgNode) -> EPLLoss | None:
    """The EPL terms on semantic logits that `cfg.MODEL.EPL` describes, or None where they are switched off.

    Raises:
        KeyError: `cfg` was made without :func:`epl_d2.add_epl_config`.
        ValueError: a key holds a value that the loss does not take.
    """
    if not _epl(cfg).ENABLED:
        return None
    return _build(
        cfg,
        _epl(cfg),
        "MODEL.EPL",
        ignore_value=cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        ignore_mode=cfg.MODEL.EPL.IGNORE_MODE,
        stride=cfg.MODEL.EPL.STRIDE,
    )


def build_mask_epl_loss(cfg: CfgNode) -> EPLLoss | None:
    """The EPL terms on the binary fields of instance masks, or None where they are switched off.

    Weights and kernel sizes are those of `cfg.MODEL.EPL.MASK`, everything else is that of `cfg.MODEL.EPL`; masks have
    no ignored pixels.

    Raises:
        KeyError: `cfg` was made without :func:`epl_d2.add_epl_config`.
        ValueError: a key holds a value that the loss does not take.
    """
    if not _epl(cfg).ENABLED:
        return None
    return _build(cfg, cfg.MODEL.EPL.MASK, "MODEL.EPL.MASK", mode="binary")


def _epl(cfg: CfgNode) -> CfgNode:
    if "EPL" not in cfg.MODEL:
        raise KeyError("the config has no MODEL.EPL: call epl_d2.add_epl_config(cfg) before reading a config file")
    return cfg.MODEL.EPL


def _build(cfg: CfgNode, terms: CfgNode, key: str, **settings: Any) -> EPLLoss:
    """The loss with the weights and kernel sizes of the node `terms`, whose name is `key`."""
    epl = cfg.MODEL.EPL
    schedule = _schedule(epl, cfg.SOLVER.MAX_ITER)
    for term in ("POINT", "LINE"):  # a point loss takes 1 as well, which compares single pixels and has no rays
        check_kernel_size(f"{key}.{term}.KERNEL_SIZE", terms[term].KERNEL_SIZE, minimum=3)
    try:
        return EPLLoss(
            point_weight=terms.POINT.WEIGHT,
            line_weight=terms.LINE.WEIGHT,
            point_kernel_size=terms.POINT.KERNEL_SIZE,
            line_kernel_size=terms.LINE.KERNEL_SIZE,
            splitter=epl.SPLITTER,
            convolution=epl.CONVOLUTION,
            norm=epl.POINT.NORM,
            point_region=epl.POINT.REGION,
            mu=epl.LINE.MU,
            formulation=epl.LINE.FORMULATION,
            **schedule,
            backend=epl.BACKEND,
            **settings,
        )
    except ValueError as error:
        argument, _, rest = str(error).partition(" ")
        raise ValueError(f"{_key_of(argument, key)} {rest}") from error


def _key_of(argument: str, terms: str) -> str:
    """The key that an argument of `EPLLoss` is taken from, with weights and kernel sizes below `terms`."""
    if argument == "ignore_value":
        return "MODEL.SEM_SEG_HEAD.IGNORE_VALUE"
    if argument in _OF_EACH_TERM:
        return f"{terms}.{_OF_EACH_TERM[argument]}"
    return f"MODEL.EPL.{_OF_BOTH.get(argument, argument.upper())}"


def _schedule(epl: CfgNode, max_iter: int) -> dict[str, int]:
    """The schedule in iterations, of which the config has either the numbers or shares of all."""
    for key in ("START_FRACTION", "RAMP_FRACTION"):
        if not 0 <= epl[key] <= 1:
            raise ValueError(f"MODEL.EPL.{key} is {epl[key]}, expected a share of SOLVER.MAX_ITER, from 0 to 1")
    if not (epl.START_FRACTION or epl.RAMP_FRACTION):
        return {"start_iter": epl.START_ITER, "ramp_iters": epl.RAMP_ITERS}
    if epl.START_ITER or epl.RAMP_ITERS:
        raise ValueError(
            f"MODEL.EPL: START_ITER {epl.START_ITER} and RAMP_ITERS {epl.RAMP_ITERS} are iterations, START_FRACTION "
            f"{epl.START_FRACTION} and RAMP_FRACTION {epl.RAMP_FRACTION} shares of SOLVER.MAX_ITER: give one kind, and "
            "leave the other 0"
        )
    return {"start_iter": round(epl.START_FRACTION * max_iter), "ramp_iters": round(epl.RAMP_FRACTION * max_iter)}
