"""The EPL terms that `MODEL.EPL` describes."""

from __future__ import annotations

from detectron2.config import CfgNode

from epl_d2.losses import EPLLoss

__all__ = ["build_epl_loss"]


def build_epl_loss(cfg: CfgNode) -> EPLLoss | None:
    """The EPL terms that `cfg.MODEL.EPL` describes, or None where they are switched off.

    Raises:
        KeyError: `cfg` was made without :func:`epl_d2.add_epl_config`.
        ValueError: a key holds a value that the loss does not take.
    """
    if "EPL" not in cfg.MODEL:
        raise KeyError("the config has no MODEL.EPL: call epl_d2.add_epl_config(cfg) before reading a config file")
    epl = cfg.MODEL.EPL
    if not epl.ENABLED:
        return None
    try:
        return EPLLoss(
            point_weight=epl.POINT.WEIGHT,
            line_weight=epl.LINE.WEIGHT,
            point_kernel_size=epl.POINT.KERNEL_SIZE,
            line_kernel_size=epl.LINE.KERNEL_SIZE,
            splitter=epl.SPLITTER,
            convolution=epl.CONVOLUTION,
            norm=epl.POINT.NORM,
            mu=epl.LINE.MU,
            formulation=epl.LINE.FORMULATION,
            ignore_value=cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
            ignore_mode=epl.IGNORE_MODE,
            stride=epl.STRIDE,
            start_iter=epl.START_ITER,
            ramp_iters=epl.RAMP_ITERS,
            backend=epl.BACKEND,
        )
    except ValueError as error:
        raise ValueError(f"MODEL.EPL: {error}") from error
