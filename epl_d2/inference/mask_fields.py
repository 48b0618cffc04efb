"""One instance as a mask head's losses see it: its target, and what the head predicts in the true box.

Shape shorthand in this module:

    M: side of a mask, usually 28
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.data import detection_utils as utils

__all__ = ["MaskField", "mask_field"]


@dataclass(frozen=True, eq=False)
class MaskField:
    """An instance in its box.

    Attributes:
        image: the picture in the box, RGB uint8 [M, M, 3].
        target: bool [M, M].
        probability: float32 [M, M], of the mask of the true class.
        name: of the class.
        color: of the class, RGB.
        source: the picture's file and the instance's number.
    """

    image: np.ndarray = field(repr=False)
    target: np.ndarray = field(repr=False)
    probability: np.ndarray = field(repr=False)
    name: str
    color: Sequence[int]
    source: str


def mask_field(cfg: CfgNode, model: torch.nn.Module, number: int = 0, instance: int | None = None) -> MaskField:
    """An instance of the first data set of DATASETS.TEST.

    Args:
        cfg: of the model.
        model: with `StandardROIHeads` or heads based on them, such as those of Mask R-CNN and Panoptic FPN.
        number: of the picture in the data set.
        instance: of the picture's instances; None takes the largest.

    Raises:
        ValueError: there is no such picture or instance, or the model has no mask head on pooled features.
    """
    heads = getattr(model, "roi_heads", None)
    if getattr(heads, "mask_pooler", None) is None or not hasattr(heads.mask_head, "layers"):
        raise ValueError(f"{type(model).__name__} has no mask head that predicts a mask from the features of a box")
    if not cfg.DATASETS.TEST:
        raise ValueError("DATASETS.TEST is empty; it must name a data set with instances")
    name = cfg.DATASETS.TEST[0]
    records = DatasetCatalog.get(name)
    if not 0 <= number < len(records):
        raise ValueError(f"{name} has the pictures 0..{len(records) - 1}, got {number}")
    record = _mapper(cfg)(records[number])
    instances = record["instances"]
    if not len(instances) or (instance is not None and not 0 <= instance < len(instances)):
        raise ValueError(f"{record['file_name']} has {len(instances)} instances, got {instance or 0}")
    index = int(instances.gt_boxes.area().argmax()) if instance is None else instance
    chosen = instances[index]
    with torch.no_grad():
        probability = _predict(model.eval(), record, chosen)
    side = len(probability)
    target = chosen.gt_masks.crop_and_resize(chosen.gt_boxes.tensor, side)[0]
    metadata, class_id = MetadataCatalog.get(name), int(chosen.gt_classes[0])
    return MaskField(
        image=_cut_out(cfg, record, chosen.gt_boxes.tensor[0].tolist(), side),
        target=(target if target.dtype == torch.bool else target > 0.5).cpu().numpy(),
        probability=probability.float().cpu().numpy(),
        name=metadata.thing_classes[class_id],
        color=(metadata.get("thing_colors") or [(220, 60, 50)] * (class_id + 1))[class_id],
        source=f"{record['file_name']}, instance {index}",
    )


def _mapper(cfg: CfgNode) -> DatasetMapper:
    """As at test time, but with the instances."""
    return DatasetMapper(
        is_train=True,
        augmentations=utils.build_augmentation(cfg, False),
        image_format=cfg.INPUT.FORMAT,
        use_instance_mask=True,
        instance_mask_format=cfg.INPUT.MASK_FORMAT,
    )


def _predict(model: torch.nn.Module, record: dict[str, Any], instance: Any) -> torch.Tensor:
    """The probability [M, M] of an instance's class in its true box."""
    heads = model.roi_heads
    features = model.backbone(model.preprocess_image([record]).tensor)
    boxes = [instance.gt_boxes.to(model.device)]
    logits = heads.mask_head.layers(heads.mask_pooler([features[name] for name in heads.mask_in_features], boxes))[0]
    return logits[0 if len(logits) == 1 else int(instance.gt_classes[0])].sigmoid()


def _cut_out(cfg: CfgNode, record: dict[str, Any], box: Sequence[float], side: int) -> np.ndarray:
    """The picture in a box, [M, M, 3] in RGB."""
    left, top, right, bottom = (round(value) for value in box)
    picture = record["image"].permute(1, 2, 0).numpy()[top : max(bottom, top + 1), left : max(right, left + 1)]
    picture = picture if cfg.INPUT.FORMAT == "RGB" else picture[:, :, ::-1]
    return cv2.resize(np.ascontiguousarray(picture), (side, side), interpolation=cv2.INTER_AREA)
