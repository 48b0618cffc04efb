"""The attention masks of PSANet: from a mask around every position to attention between every two positions.

Shape shorthand in this module:

    N: images
    h, w: height and width of the feature map; P = h * w positions
    mh, mw: height and width of a mask, both odd; its center is the position that it belongs to
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

__all__ = ["check_mask_size", "largest_mask", "mask_index", "shrunk_size", "spread_masks"]


def shrunk_size(size: Sequence[int], factor: int) -> tuple[int, int]:
    """Size of the map that attends, whose corners lie on the corners of a map of `size`."""
    return (size[0] - 1) // factor + 1, (size[1] - 1) // factor + 1


def largest_mask(size: Sequence[int]) -> tuple[int, int]:
    """Size of the mask that reaches from every position of an h x w map to every other."""
    return 2 * size[0] - 1, 2 * size[1] - 1


def check_mask_size(mask_size: Sequence[int], largest: tuple[int, int] | None = None) -> tuple[int, int]:
    """`mask_size` as a tuple.

    Args:
        mask_size: (mh, mw).
        largest: `largest_mask` of the training crop, beyond which entries would never be trained; None for no limit.

    Raises:
        ValueError: it is no pair of odd positive numbers within the limit.
    """
    within = largest or (float("inf"), float("inf"))
    fits = len(mask_size) == 2 and all(m % 2 == 1 and 1 <= m <= most for m, most in zip(mask_size, within, strict=True))
    if not fits:
        limit = f" up to {list(largest)} for this INPUT.CROP.SIZE" if largest else ""
        raise ValueError(
            f"MODEL.PSA.MASK_SIZE is {list(mask_size)}; it may hold the height and width of the masks, odd numbers"
            f"{limit}, or be [] where training crops (INPUT.CROP.ENABLED), to reach across the crop"
        )
    return mask_size[0], mask_size[1]


def mask_index(
    size: Sequence[int], mask_size: Sequence[int], device: torch.device | str | None = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Where each pair of positions is found in the masks.

    Args:
        size: (h, w).
        mask_size: (mh, mw).
        device: of the results.

    Returns:
        index, int64 [P, P]: index[q, p] is the entry of position p's mask that lies on position q, the nearest one
        where the mask does not reach q.
        outside, bool [P, P]: where it does not; None if every mask reaches every position.
    """
    offsets = [
        torch.arange(length, device=device)[:, None] - torch.arange(length, device=device) + mask // 2
        for length, mask in zip(size, mask_size, strict=True)
    ]
    rows, columns = offsets[0][:, None, :, None], offsets[1][None, :, None, :]
    positions = size[0] * size[1]
    clamped = rows.clamp(0, mask_size[0] - 1) * mask_size[1] + columns.clamp(0, mask_size[1] - 1)
    index = clamped.reshape(positions, positions)
    if all(mask >= most for mask, most in zip(mask_size, largest_mask(size), strict=True)):
        return index, None
    outside = (rows < 0) | (rows >= mask_size[0]) | (columns < 0) | (columns >= mask_size[1])
    return index, outside.reshape(positions, positions)


def spread_masks(masks: torch.Tensor, index: torch.Tensor, outside: torch.Tensor | None) -> torch.Tensor:
    """The masks of all positions over the whole map (`psamask` of hszhao/semseg, its type 0).

    Args:
        masks: [N, mh * mw, h, w].
        index, outside: [P, P], see `mask_index`.

    Returns:
        [N, P, P]: entry [n, q, p] is what position p's mask holds for position q; 0 where it does not reach q. The
        transpose is the reference's type 1.
    """
    spread = masks.flatten(2).gather(1, index.expand(masks.shape[0], -1, -1))
    return spread if outside is None else spread.masked_fill(outside, 0.0)
