"""From a data set record to what the model takes.

Shape shorthand in this module:

    H, W: height and width of the picture on disk, in pixels
    h, w: height and width after the augmentations
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T

from .augmentation_recipe import build_test_augmentations, build_train_augmentations
from .label_io import read_image, read_record_label, unknown_ids
from .maps import ImageMap, build_maps

__all__ = ["SemSegDatasetMapper"]


class SemSegDatasetMapper:
    """Reads image and label, augments both together, and checks what it hands on."""

    @configurable
    def __init__(
        self,
        *,
        is_train: bool,
        augmentations: Sequence[T.Augmentation],
        image_format: str,
        num_classes: int,
        ignore_value: int,
        maps: Sequence[ImageMap] = (),
    ) -> None:
        """
        Args:
            is_train: read, augment and return the label as well. In inference the evaluator reads it itself,
                at full size.
            augmentations: applied in this order.
            image_format: "RGB" or "BGR".
            num_classes: labels are 0..num_classes-1 or `ignore_value`.
            ignore_value: see above.
            maps: further maps to compute from the augmented image and label.
        """
        self.is_train = is_train
        self.augmentations = T.AugmentationList(list(augmentations))
        self.image_format = image_format
        self.num_classes = num_classes
        self.ignore_value = ignore_value
        self.maps = [image_map for image_map in maps if is_train or not image_map.needs_label]
        mode = "training" if is_train else "inference"
        logging.getLogger(__name__).info(f"Augmentations in {mode}: {list(augmentations)}")

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        """Arguments of `__init__` from a config."""
        return {
            "is_train": is_train,
            "augmentations": build_train_augmentations(cfg) if is_train else build_test_augmentations(cfg),
            "image_format": cfg.INPUT.FORMAT,
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "ignore_value": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
            "maps": build_maps(cfg),
        }

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """
        Args:
            record: see `epl_d2.data.datasets.registration`; it is not changed.

        Returns:
            The record with "image", uint8 [3, h, w]; "height", "width": H and W; in training also "sem_seg",
            int64 [h, w]; with maps also "maps", a dict of tensors [..., h, w] by name.

        Raises:
            FileNotFoundError, ValueError: a file is missing or unreadable, image and label differ in size, or
                a label id is unknown; the message names the file.
        """
        image = read_image(record["file_name"], self.image_format)
        label = self._read_label(record, image.shape[:2]) if self.is_train else None
        aug_input = T.AugInput(image, sem_seg=label)
        self.augmentations(aug_input)
        result = {**record, "height": image.shape[0], "width": image.shape[1]}
        result["image"] = torch.from_numpy(np.stack(cv2.split(aug_input.image)))
        if label is not None:
            self._check_ids(aug_input.sem_seg, record)
            result["sem_seg"] = torch.from_numpy(aug_input.sem_seg.astype(np.int64))
        if self.maps:
            result["maps"] = {
                image_map.name: torch.from_numpy(image_map.compute(aug_input.image, aug_input.sem_seg))
                for image_map in self.maps
            }
        return result

    def _read_label(self, record: dict[str, Any], image_size: tuple[int, int]) -> np.ndarray:
        if "sem_seg_file_name" not in record:
            raise ValueError(f"{record['file_name']}: training needs labels, this image has none")
        label = read_record_label(record)
        if label.shape != image_size:
            raise ValueError(
                f"{record['sem_seg_file_name']}: the label map is {label.shape[1]} x {label.shape[0]}, "
                f"its image {record['file_name']} {image_size[1]} x {image_size[0]} pixels"
            )
        return label

    def _check_ids(self, label: np.ndarray, record: dict[str, Any]) -> None:
        wrong = unknown_ids(label, self.num_classes, self.ignore_value)
        if wrong:
            raise ValueError(
                f"{record['sem_seg_file_name']}: label ids {wrong[:10]}, expected 0..{self.num_classes - 1} "
                f"(MODEL.SEM_SEG_HEAD.NUM_CLASSES {self.num_classes}) or {self.ignore_value} (IGNORE_VALUE)"
            )
