"""What the losses that compare class probabilities with labels begin with.

Shape shorthand in this module: N images, K classes, H x W pixels.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx


@contextmanager
def full_precision(logits: Tensor) -> Iterator[Tensor]:
    """Switches autocast off, and gives the logits in float32 (float64 stays float64)."""
    with torch.autocast(logits.device.type, enabled=False):
        yield logits if logits.dtype == torch.float64 else logits.float()


def valid_probabilities(logits: Tensor, labels: Tensor, ignore_value: int) -> tuple[Tensor, Tensor]:
    """softmax(logits) with 0 at ignored pixels, ``[N, K, H, W]``, and which pixels count, bool ``[N, 1, H, W]``."""
    valid = (labels != ignore_value).unsqueeze(1)
    return _ValidSoftmax.apply(logits, valid), valid


class _ValidSoftmax(torch.autograd.Function):
    """Softmax over classes with an exact 0, in value and gradient, where not valid, whatever the logits are there.

    The derivative of softmax in terms of its result p is 0 where p is: a mask behind a plain softmax would multiply
    that 0 with a logit that may be NaN.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, logits: Tensor, valid: Tensor) -> Tensor:
        p = logits.softmax(dim=1).masked_fill_(~valid, 0)
        ctx.save_for_backward(p)
        return p

    @staticmethod
    def backward(ctx: FunctionCtx, grad_output: Tensor) -> tuple[Tensor, None]:
        (p,) = ctx.saved_tensors
        return torch.ops.aten._softmax_backward_data(grad_output, p, 1, p.dtype), None


def class_masks(labels: Tensor, classes: int, ignore_value: int) -> Tensor:
    """The one-hot labels as bool ``[N, K, H, W]``; all False at ignored pixels, even if ``ignore_value`` < K."""
    ids = torch.arange(classes, device=labels.device).view(1, -1, 1, 1)
    return (labels.unsqueeze(1) == ids) & (labels != ignore_value).unsqueeze(1)
