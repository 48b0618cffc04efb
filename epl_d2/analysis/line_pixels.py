"""How many of the target's line pixels stand at a contour of the labels, and how many at the edge of ignored pixels.

Shape shorthand in this module: S directions, K classes that occur, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from epl_d2.losses import potential_field
from epl_d2.losses.target import make_target

__all__ = ["LinePixels", "count_line_pixels"]


@dataclass(frozen=True)
class LinePixels:
    """Counts over pixels, directions and classes; they add up over images.

    Attributes:
        lines: line pixels of the target, 1 <= E(y) <= r with replicate padding (the `contour` formulation).
        own_class: those whose ray meets ignored pixels and, of the labels, only the class that it starts in.
        false: those whose ray, followed to twice its length, still meets no label of another class: no contour of the
            labels is where the loss sees one.
    """

    lines: int = 0
    own_class: int = 0
    false: int = 0

    def __add__(self, other: LinePixels) -> LinePixels:
        return LinePixels(self.lines + other.lines, self.own_class + other.own_class, self.false + other.false)


def count_line_pixels(
    labels: Tensor, kernel_size: int, splitter: str = "A", ignore_value: int = 255, ignore_mode: str = "nearest"
) -> LinePixels:
    """Count the line pixels of one label map.

    Args:
        labels: ``[H, W]``, integers.
        kernel_size, splitter, ignore_value, ignore_mode: as in `epl_d2.losses.line_loss`.
    """
    labels = labels.long()[None]
    valid = labels != ignore_value
    classes = labels[valid].unique()
    if len(classes) == 0:
        return LinePixels()
    radius = kernel_size // 2
    target = make_target(labels, ignore_value, ignore_mode, radius)
    member = _one_hot(labels, classes) * valid
    position = target.position[:, None, None] >= 0
    energy = potential_field(_one_hot(target.seen, classes), kernel_size, splitter)
    lines = (energy >= 1) & (energy < radius + 1) & position

    def meets_another(size: int) -> Tensor:
        """Whether a ray of a kernel of this size meets a label on the other side of a contour of the class."""
        inside = potential_field(member, size, splitter, "zero")
        everything = potential_field(valid.unsqueeze(1).float(), size, splitter, "zero")
        return torch.where(member.bool().unsqueeze(1), everything - inside > 0, inside > 0)

    alone, far = ~meets_another(kernel_size), ~meets_another(4 * radius + 1)
    return LinePixels(*(int(mask.sum()) for mask in (lines, lines & alone, lines & far)))


def _one_hot(labels: Tensor, classes: Tensor) -> Tensor:
    """``[1, H, W]`` as ``[1, K, H, W]``, float32."""
    return (labels.unsqueeze(1) == classes.view(1, -1, 1, 1)).float()
