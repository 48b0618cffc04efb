"""Mask classification (DETR, MaskFormer, Mask2Former): the masks of the queries that were matched to objects.

Shape shorthand in this module: B images, Q queries, h x w logits, n objects of an image, H x W pixels, M matches.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from . import defaults
from .arguments import check_field, check_ignore_value


def matched_masks(
    pred_masks: Tensor,
    target_masks: Sequence[Tensor],
    indices: Sequence[tuple[Tensor, Tensor]],
    *,
    image_sizes: Sequence[tuple[int, int]] | None = None,
    ignore_value: int = defaults.IGNORE_VALUE,
) -> tuple[Tensor, Tensor]:
    """Mask logits and their targets, as ``EPLLoss(mode="binary")`` takes them.

    Args:
        pred_masks: mask logits of all queries, ``[B, Q, h, w]`` (MaskFormer's ``outputs["pred_masks"]``).
        target_masks: the masks of the objects of each image, ``[n, H, W]``, of any type. Images of different sizes are
            aligned at their upper left corner, as DETR and its relatives pad them.
        indices: for each image the matched queries and the objects that they are matched to (the Hungarian matcher's).
        image_sizes: (height, width) of each image without its padding, if the masks include padding.
        ignore_value: the target of padded pixels, so that the edge of an image is no contour.

    Returns:
        Logits ``[M, h, w]`` and targets ``[M, H, W]``, image by image; M may be 0. The logits belong to the whole of
        the targets: give `EPLLoss` the ``stride`` between both, or ``resize_logits``.

    Raises:
        ValueError: the arguments do not belong to the same batch.

    Example:
        >>> from epl_d2.losses import EPLLoss
        >>> pred_masks = torch.zeros(1, 100, 16, 16, requires_grad=True)
        >>> objects = torch.zeros(2, 64, 64, dtype=torch.bool)
        >>> objects[0, 10:30, 10:30] = objects[1, 30:60, 40:] = True
        >>> logits, targets = matched_masks(pred_masks, [objects], [(torch.tensor([7, 31]), torch.tensor([1, 0]))])
        >>> logits.shape, targets.shape
        (torch.Size([2, 16, 16]), torch.Size([2, 64, 64]))
        >>> losses = EPLLoss(mode="binary", stride=4)(logits, targets)
    """
    check_field("pred_masks", pred_masks)
    check_ignore_value(ignore_value)
    batch = len(pred_masks)
    parts = {"target_masks": target_masks, "indices": indices, "image_sizes": image_sizes}
    for name, part in parts.items():
        if part is not None and len(part) != batch:
            raise ValueError(f"{name} must have an entry for each of the {batch} images of pred_masks, got {len(part)}")
    for i, (masks, (queries, objects)) in enumerate(zip(target_masks, indices, strict=True)):
        if masks.ndim != 3:
            raise ValueError(f"target_masks[{i}] must have the shape [n, H, W], got {list(masks.shape)}")
        if len(queries) != len(objects):
            raise ValueError(f"indices[{i}] must match queries and objects, got {len(queries)} and {len(objects)}")
    if batch == 0:
        return pred_masks[:, 0], torch.zeros(pred_masks[:, 0].shape, dtype=torch.bool, device=pred_masks.device)

    logits = torch.cat([masks[queries] for masks, (queries, _) in zip(pred_masks, indices, strict=True)])
    chosen = [masks[objects] for masks, (_, objects) in zip(target_masks, indices, strict=True)]
    sizes = [tuple(masks.shape[-2:]) for masks in chosen]
    shown = [
        (min(h, height), min(w, width)) for (h, w), (height, width) in zip(sizes, image_sizes or sizes, strict=True)
    ]
    height, width = (max(lengths) for lengths in zip(*sizes, strict=True))
    if all(size == (height, width) for size in shown):
        return logits, torch.cat(chosen)
    dtype = torch.int16 if -(2**15) <= ignore_value < 2**15 else torch.long
    targets = []
    for masks, (h, w) in zip(chosen, shown, strict=True):
        padded = torch.full((len(masks), height, width), ignore_value, dtype=dtype, device=masks.device)
        padded[:, :h, :w] = masks[:, :h, :w]
        targets.append(padded)
    return logits, torch.cat(targets)
