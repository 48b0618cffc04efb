"""What the losses that compare class probabilities with labels begin with.

Shape shorthand in this module: N images, K classes, H x W pixels.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def full_precision(logits: Tensor) -> Iterator[Tensor]:
    """Switches autocast off, and gives the logits in float32 (float64 stays float64)."""
    with torch.autocast(logits.device.type, enabled=False):
        yield logits if logits.dtype == torch.float64 else logits.float()


def valid_probabilities(logits: Tensor, labels: Tensor, ignore_value: int) -> tuple[Tensor, Tensor]:
    """softmax(logits) with 0 at ignored pixels, ``[N, K, H, W]``, and which pixels count, bool ``[N, 1, H, W]``."""
    valid = (labels != ignore_value).unsqueeze(1)
    # A product would leave the gradient of softmax at ignored pixels to cancel; `where` makes it exactly 0.
    return torch.where(valid, logits.softmax(dim=1), 0.0), valid


def class_masks(labels: Tensor, classes: int, ignore_value: int) -> Tensor:
    """The one-hot labels as bool ``[N, K, H, W]``; all False at ignored pixels, even if ``ignore_value`` < K."""
    ids = torch.arange(classes, device=labels.device).view(1, -1, 1, 1)
    return (labels.unsqueeze(1) == ids) & (labels != ignore_value).unsqueeze(1)
