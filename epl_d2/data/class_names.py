"""Class names and colors of the model that a config describes."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from .datasets.metadata import Color, bit_reversal_palette

__all__ = ["names_and_colors"]


def names_and_colors(cfg: CfgNode) -> tuple[tuple[str, ...], tuple[Color, ...]]:
    """Those of the first data set of DATASETS.TEST and DATASETS.TRAIN that has as many classes as the model.

    Where none fits, numbers and the colors of VOC.
    """
    count = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    for name in (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN):
        metadata = MetadataCatalog.get(name)
        classes, colors = metadata.get("stuff_classes"), metadata.get("stuff_colors")
        if classes is not None and colors is not None and len(classes) == count:
            return tuple(classes), tuple(tuple(color) for color in colors)
    return tuple(map(str, range(count))), bit_reversal_palette(count)
