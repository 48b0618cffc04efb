"""The one way in which models resize what they compute."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

__all__ = ["resize"]


def resize(x: torch.Tensor, size: Sequence[int], *, align_corners: bool = True) -> torch.Tensor:
    """Bilinear interpolation of a map.

    Args:
        x: [N, C, h, w].
        size: (H, W).
        align_corners: True: corner values lie on corner pixels, as in most of the reference implementations. False:
            every value covers an area of H/h x W/w pixels.

    Returns:
        [N, C, H, W].
    """
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=align_corners)
