"""From a config and a data set to its evaluators."""

from __future__ import annotations

import math
import os

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators

from epl_d2.data.class_pixels import class_pixels
from epl_d2.evaluation import (
    InstanceBoundaryEvaluator,
    PanopticBoundaryEvaluator,
    PanopticStatistics,
    SemSegBoundaryEvaluator,
)
from epl_d2.evaluation.prior_shift import prior_shift

__all__ = ["build_evaluator", "class_offsets", "instance_score_names"]

# What Detectron2's metadata calls data sets of instances; Cityscapes' instances are evaluated as COCO's.
_INSTANCES = ("coco", "cityscapes_instance")
_PANOPTIC = ("coco_panoptic_seg",)


def build_evaluator(cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
    """The evaluator of a data set; it writes no files where OUTPUT_DIR is empty.

    Raises:
        ValueError: TEST.PRIOR_SHIFT is no finite number, a class never occurs in DATASETS.TRAIN, or the data set has no
            instances where MODEL.MASK_ON asks for them.
    """
    folder = "inference" if len(cfg.DATASETS.TEST) == 1 else os.path.join("inference", dataset_name)
    output_dir = os.path.join(cfg.OUTPUT_DIR, folder) if cfg.OUTPUT_DIR else None
    if not cfg.MODEL.MASK_ON:
        return _sem_seg_evaluator(cfg, dataset_name, output_dir)
    panoptic, ratio = _is_panoptic(cfg, dataset_name), cfg.TEST.BOUNDARY.DILATION_RATIO
    instances = InstanceBoundaryEvaluator(dataset_name, output_dir=output_dir, dilation_ratio=ratio)
    if not panoptic:
        return instances
    semantic = _sem_seg_evaluator(cfg, dataset_name, output_dir)
    return DatasetEvaluators([instances, semantic, PanopticBoundaryEvaluator(dataset_name, dilation_ratio=ratio)])


def instance_score_names(cfg: CfgNode, dataset_name: str) -> set[str]:
    """Names of the scores of masks and of panoptic segments that an evaluation gives, without those of "sem_seg"."""
    metrics = ["AP", "AP50", "AP75", "APs", "APm", "APl"]
    metrics += [f"AP-{name}" for name in MetadataCatalog.get(dataset_name).get("thing_classes") or ()]
    names = {f"{task}/{metric}" for task in ("bbox", "segm", "boundary") for metric in metrics}
    if _is_panoptic(cfg, dataset_name):
        names |= {f"panoptic_seg/{name}" for name in PanopticStatistics({}).compute()}
    return names


def _is_panoptic(cfg: CfgNode, dataset_name: str) -> bool:
    """Whether a model that finds masks is evaluated on panoptic segments too.

    Raises:
        ValueError: the data set has no instances, or is panoptic in a way that the model is not.
    """
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type")
    panoptic_model = cfg.MODEL.META_ARCHITECTURE == "PanopticFPN"
    if kind not in (*_INSTANCES, *_PANOPTIC):
        raise ValueError(
            f"DATASETS.TEST: {dataset_name!r} is evaluated as {kind!r}, but MODEL.MASK_ON needs one of "
            f"{', '.join((*_INSTANCES, *_PANOPTIC))}"
        )
    if panoptic_model and kind not in _PANOPTIC:
        raise ValueError(f"DATASETS.TEST: {dataset_name!r} has no panoptic segments, which PanopticFPN predicts")
    return panoptic_model


def _sem_seg_evaluator(cfg: CfgNode, dataset_name: str, output_dir: str | None) -> SemSegBoundaryEvaluator:
    return SemSegBoundaryEvaluator(
        dataset_name,
        output_dir=output_dir,
        num_classes=cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
        ignore_value=cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        widths=cfg.TEST.BOUNDARY.WIDTHS,
        report_widths=cfg.TEST.BOUNDARY.REPORT_WIDTHS,
        ignore_mode=cfg.TEST.BOUNDARY.IGNORE_MODE,
        trimap=cfg.TEST.BOUNDARY.TRIMAP,
        ignore_distance=cfg.TEST.BOUNDARY.IGNORE_DISTANCE,
        save_predictions=cfg.TEST.SAVE_PREDICTIONS,
        save_image_counts=cfg.TEST.SAVE_IMAGE_COUNTS,
        class_offsets=class_offsets(cfg, dataset_name),
        probabilities=cfg.TEST.AUG.ENABLED or cfg.TEST.WINDOW.ENABLED,
    )


def class_offsets(cfg: CfgNode, dataset_name: str) -> np.ndarray | None:
    """What TEST.PRIOR_SHIFT takes from the logits of each class; None where it is 0.

    Raises:
        ValueError: TEST.PRIOR_SHIFT is no finite number, or a class never occurs in DATASETS.TRAIN.
    """
    tau = cfg.TEST.PRIOR_SHIFT
    if not math.isfinite(tau):
        raise ValueError(f"TEST.PRIOR_SHIFT is {tau}, expected a finite number")
    if tau == 0:
        return None
    head, trained_on = cfg.MODEL.SEM_SEG_HEAD, tuple(cfg.DATASETS.TRAIN)
    pixels = class_pixels(trained_on, head.NUM_CLASSES, head.IGNORE_VALUE)
    names = MetadataCatalog.get(dataset_name).get("stuff_classes") or [str(index) for index in range(head.NUM_CLASSES)]
    try:
        return prior_shift(pixels, tau, names)
    except ValueError as error:
        raise ValueError(f"TEST.PRIOR_SHIFT {tau}, DATASETS.TRAIN {list(trained_on)}: {error}") from error
