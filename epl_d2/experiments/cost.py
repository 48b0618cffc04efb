"""What a run will cost, estimated from the operations of its model: the numbers behind "GPU hours"."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from detectron2.config import CfgNode
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from epl_d2.modeling.meta_arch import SemanticSegmentorWithTTA
from epl_d2.modeling.meta_arch.sliding_window import scaled_size, window_starts

from .runs import Run

__all__ = [
    *("ASSUMPTIONS", "TERAFLOPS", "ModelOperations", "affordable", "count_operations", "evaluated_pixels", "gpu_hours"),
    "run_operations",
]

# What a GPU is assumed to sustain, in 10^12 floating point operations a second. A quarter of what an A100 can do in the
# TF32 convolutions that PyTorch uses for float32; not measured. `tools/run_grid.py --tflops` takes your own.
TERAFLOPS = 40.0

_PASSES_A_STEP = 3  # backward costs two forward passes

ASSUMPTIONS = (
    f"convolutions and matrix products alone, a training step as {_PASSES_A_STEP} forward passes, the evaluation with "
    "its scales and windows"
)

# Images and usual height and width of the data sets that are evaluated.
_EVALUATED = {
    "voc_2012_sem_seg_val": (1449, (375, 500)),
    "cityscapes_fine_sem_seg_val": (500, (1024, 2048)),
    "camvid_sem_seg_val": (101, (360, 480)),
    "camvid_sem_seg_test": (233, (360, 480)),
}


@dataclass(frozen=True)
class ModelOperations:
    """Floating point operations of a forward pass; a multiply-add counts as two.

    Attributes:
        training: of one crop, with the branches that only training has.
        inference: of one pixel.
    """

    training: float
    inference: float


def count_operations(model: nn.Module, cfg: CfgNode) -> ModelOperations:
    """Count at the size of the training crop, padded as the backbone needs it.

    They are counted on shapes alone where the model lies on the "meta" device, which fvcore, whose counter
    `tools/analyze_model.py` uses, cannot do.

    Args:
        model: an `EPLSemanticSegmentor`.
        cfg: its configuration.
    """
    divisibility = max(1, model.backbone.size_divisibility)
    height, width = (math.ceil(side / divisibility) * divisibility for side in cfg.INPUT.CROP.SIZE)
    image = torch.zeros(1, 3, height, width, device=model.device)
    maps = {"canny": image[:, :1]} if "canny" in cfg.INPUT.MAPS else {}
    head = model.eval().sem_seg_head
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        features = model.features(image, maps)
        head(features)
        inference = counter.get_total_flops()
        head.auxiliary_layers(features)
    return ModelOperations(counter.get_total_flops(), inference / (height * width))


def run_operations(counted: ModelOperations, cfg: CfgNode, evaluate: Iterable[str]) -> float:
    """Floating point operations of a training with its evaluations.

    Args:
        counted: of the model.
        cfg: the full configuration.
        evaluate: data sets that are evaluated; those whose size is not known here count nothing.
    """
    period = cfg.TEST.EVAL_PERIOD
    evaluations = math.ceil(cfg.SOLVER.MAX_ITER / period) if period > 0 else 1
    pixels = sum(
        images * evaluated_pixels(cfg, size)
        for images, size in (_EVALUATED.get(name, (0, (1, 1))) for name in evaluate)
    )
    steps = cfg.SOLVER.MAX_ITER * cfg.SOLVER.IMS_PER_BATCH * _PASSES_A_STEP * counted.training
    return steps + evaluations * pixels * counted.inference


def evaluated_pixels(cfg: CfgNode, size: tuple[int, int]) -> int:
    """Pixels that the model sees to segment an image of (H, W) pixels, over all scales, windows and mirrored images."""
    if cfg.INPUT.MIN_SIZE_TEST > 0:
        size = tuple(round(side * cfg.INPUT.MIN_SIZE_TEST / min(size)) for side in size)
    settings = SemanticSegmentorWithTTA.from_config(cfg, None)
    protocol = settings["protocol"]
    pixels = 0
    for scale in settings["scales"]:
        scaled = scaled_size(size, scale, settings["base_size"])
        window = protocol.size or scaled
        sides = (
            side * len(window_starts(max(length, side), side, math.ceil(side * protocol.stride_fraction)))
            for length, side in zip(scaled, window, strict=True)
        )
        pixels += math.prod(sides)
    return pixels * (2 if protocol.flip else 1)


def affordable(runs: Sequence[Run], hours: float, teraflops: float) -> list[Run]:
    """The first runs, in their order, that are estimated to take `hours` GPU hours together at most.

    Raises:
        ValueError: nothing can be estimated for one of them.
    """
    chosen, operations = [], 0.0
    for run in runs:
        if run.operations is None:
            raise ValueError(f"the operations of {run.name} cannot be counted, so a number of GPU hours cannot be kept")
        operations += run.operations
        if gpu_hours(operations, teraflops) > hours:
            break
        chosen.append(run)
    return chosen


def gpu_hours(operations: float, teraflops: float = TERAFLOPS) -> float:
    """Hours of one GPU that sustains so many teraflops."""
    return operations / (teraflops * 1e12) / 3600
