"""The EPL terms of a mask head, and the targets that they share with its cross entropy.

Shape shorthand in this module:

    B: instances of all images of the batch
    C: classes of the head, 1 if it is class-agnostic
    M: side of a mask, usually 28
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.structures import Instances

from epl_d2.losses import EPLLoss

__all__ = ["mask_epl_losses", "with_cropped_masks"]


class _CroppedMasks:
    """Masks of an image, cut out and resized once; stands for `BitMasks` and `PolygonMasks` in Detectron2's loss."""

    def __init__(self, masks: torch.Tensor) -> None:
        self.masks = masks

    def __len__(self) -> int:
        return len(self.masks)

    def crop_and_resize(self, boxes: torch.Tensor, mask_size: int) -> torch.Tensor:
        """The masks [N, M, M]; they were cut out of the same boxes at that size."""
        return self.masks


def with_cropped_masks(instances: Sequence[Instances], side: int) -> list[Instances]:
    """The instances with `gt_masks` cut out of their proposal boxes and resized to `side`, on the device of the boxes.

    Rasterizing polygons is slow, so that it is done once for all losses.

    Raises:
        ValueError: instances have no `gt_masks`.
    """
    result = []
    for image in instances:
        cropped = Instances(image.image_size, **image.get_fields())
        if len(image):
            if not image.has("gt_masks"):
                raise ValueError(
                    "the instances have no gt_masks: a mask head learns from annotations with a segmentation "
                    f"(MODEL.MASK_ON True for the mapper); they have {', '.join(sorted(image.get_fields()))}"
                )
            boxes = image.proposal_boxes.tensor
            cropped.gt_masks = _CroppedMasks(image.gt_masks.crop_and_resize(boxes, side).to(boxes.device))
        result.append(cropped)
    return result


def mask_epl_losses(
    epl: EPLLoss, logits: torch.Tensor, instances: Sequence[Instances], iteration: float
) -> dict[str, torch.Tensor]:
    """The EPL terms on the masks of the ground-truth classes.

    Args:
        epl: of mode "binary".
        logits: [B, C, M, M].
        instances: of `with_cropped_masks`, B in all; with `gt_classes` unless C is 1.
        iteration: where training stands; infinity stands for the end of the schedule.

    Returns:
        {"loss_mask_epl_point": scalar, "loss_mask_epl_line": scalar}, exact zeros that are connected to the logits
        where B is 0.
    """
    images = [image for image in instances if len(image)]
    # As Detectron2 does: rasterized masks may be floats.
    masks = [image.gt_masks.masks for image in images]
    masks = torch.cat([mask if mask.dtype == torch.bool else mask > 0.5 for mask in masks]) if masks else None
    if logits.shape[1] > 1 and images:
        classes = torch.cat([image.gt_classes for image in images])
        logits = logits[torch.arange(len(logits), device=logits.device), classes]
    else:
        logits = logits[:, 0]
    if masks is None:
        masks = torch.zeros(logits.shape, dtype=torch.bool, device=logits.device)
    losses = epl(logits, masks, iteration=iteration)
    return {name.replace("loss_epl", "loss_mask_epl"): value for name, value in losses.items()}
