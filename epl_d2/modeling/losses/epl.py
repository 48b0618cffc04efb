"""The EPL terms that `MODEL.EPL` describes."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode

from epl_d2.losses import EPLLoss

__all__ = ["build_epl_loss", "build_mask_epl_loss"]


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
    try:
        return EPLLoss(
            point_weight=terms.POINT.WEIGHT,
            line_weight=terms.LINE.WEIGHT,
            point_kernel_size=terms.POINT.KERNEL_SIZE,
            line_kernel_size=terms.LINE.KERNEL_SIZE,
            splitter=epl.SPLITTER,
            convolution=epl.CONVOLUTION,
            norm=epl.POINT.NORM,
            mu=epl.LINE.MU,
            formulation=epl.LINE.FORMULATION,
            start_iter=epl.START_ITER,
            ramp_iters=epl.RAMP_ITERS,
            **settings,
        )
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error
