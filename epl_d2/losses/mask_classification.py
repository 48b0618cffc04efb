"""Mask classification (DETR, MaskFormer, Mask2Former): the masks of the queries that were matched to objects.

Shape shorthand in this module: B images, Q queries, h x w logits, n objects of an image, H x W pixels, M matches.
"""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from . import defaults
from .arguments import check_field, check_ignore_value, check_tensor


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
        target_masks: the masks of the objects of each image, ``[n, H, W]``, of any type; floats stay floats. Images of
            different sizes are aligned at their upper left corner, as DETR and its relatives pad them.
        indices: for each image the matched queries and the objects that they are matched to (the Hungarian matcher's).
        image_sizes: (height, width) of each image without its padding, if the masks include padding; at most the size
            to which the masks of the batch are padded.
        ignore_value: the target of padded pixels, so that the edge of an image is no contour.

    Returns:
        Logits ``[M, h, w]`` and targets ``[M, H, W]``, image by image; M may be 0. The logits belong to the whole of
        the targets: give `EPLLoss` the ``stride`` between both, or ``resize_logits``.

    Raises:
        ValueError: the arguments do not belong to the same batch. The range of indices on a GPU is an assertion of the
            device.

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
        check_tensor(f"target_masks[{i}]", masks)
        if masks.ndim != 3:
            raise ValueError(f"target_masks[{i}] must have the shape [n, H, W], got {list(masks.shape)}")
        if len(queries) != len(objects):
            raise ValueError(f"indices[{i}] must match queries and objects, got {len(queries)} and {len(objects)}")
    if batch == 0:
        return pred_masks[:, 0], torch.zeros(pred_masks[:, 0].shape, dtype=torch.bool, device=pred_masks.device)
    logits, chosen = [], []
    for i, (masks, (queries, objects)) in enumerate(zip(target_masks, indices, strict=True)):
        logits.append(pred_masks[i][_as_indices(f"indices[{i}]", queries, pred_masks.shape[1], "queries")])
        chosen.append(masks[_as_indices(f"indices[{i}]", objects, len(masks), f"objects of target_masks[{i}]")])

    sizes = [tuple(masks.shape[-2:]) for masks in chosen]
    height, width = (max(lengths) for lengths in zip(*sizes, strict=True))
    shown = sizes
    if image_sizes is not None:
        for i, (size, masks) in enumerate(zip(image_sizes, target_masks, strict=True)):
            if len(masks):  # an image without objects may have masks of any size
                _check_image_size(f"image_sizes[{i}]", size, (height, width))
        shown = [tuple(map(min, size, own)) for size, own in zip(image_sizes, sizes, strict=True)]
    if all(size == (height, width) for size in shown):
        return torch.cat(logits), torch.cat(chosen)
    dtype = _type_with(ignore_value, chosen)
    targets = []
    for masks, (h, w) in zip(chosen, shown, strict=True):
        padded = torch.full((len(masks), height, width), ignore_value, dtype=dtype, device=masks.device)
        padded[:, :h, :w] = masks[:, :h, :w]
        targets.append(padded)
    return torch.cat(logits), torch.cat(targets)


def _as_indices(name: str, found: Tensor, count: int, of: str) -> Tensor:
    """Indices as int64, or a ValueError unless they are whole numbers from 0 to below ``count``."""
    found = torch.as_tensor(found)
    if found.numel() and (found.is_floating_point() or found.dtype == torch.bool):
        raise ValueError(f"{name} must be integers, indices of the {count} {of}, got {found.dtype}")
    found = found.long()
    if found.device.type == "cpu":
        outside = found[(found < 0) | (found >= count)]
        if len(outside):
            raise ValueError(f"{name} must be indices of the {count} {of}, from 0 on, got {outside[:8].tolist()}")
    return found


def _check_image_size(name: str, size: Sequence[int], padded: tuple[int, int]) -> None:
    """Raise ValueError unless ``size`` is a (height, width) of at least one pixel and at most ``padded``."""
    if len(size) != 2 or not all(1 <= length <= most for length, most in zip(size, padded, strict=True)):
        raise ValueError(
            f"{name} must be (height, width) from 1 x 1 to the {padded[0]} x {padded[1]} pixels of the padded "
            f"target_masks, got {tuple(size)}"
        )


def _type_with(ignore_value: int, masks: Sequence[Tensor]) -> torch.dtype:
    """A type that keeps the values of all masks, and ``ignore_value``."""
    types = {mask.dtype for mask in masks}
    floats = [dtype for dtype in types if dtype.is_floating_point]
    if floats:
        wide = torch.float32 if abs(ignore_value) <= 2**24 else torch.float64
        return functools.reduce(torch.promote_types, floats, wide)
    narrow = types <= {torch.bool, torch.uint8, torch.int8, torch.int16} and -(2**15) <= ignore_value < 2**15
    return torch.int16 if narrow else torch.long
