"""What the kinds of segmentation hand in (`mode`), and the rows that the losses make of it.

- "multiclass": one class a pixel, p = softmax(logits).
- "binary": a field an instance, p = sigmoid(logits).
- "multilabel": K independent fields an image, p = sigmoid(logits).

A field is a row of its own, as a class of an image is; the background is none. So the sigmoid modes have one form, R
images of a single class, and the kernels of the softmax take it: sigmoid(z) is softmax over (z, 0), where the second
class has no row.

Shape shorthand in this module: N images or instances, K classes, R fields (N, or N K), H x W pixels.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .arguments import check_field, check_ignore_value, check_labels, check_sizes, check_tensor
from .target import Target, make_target

MODES = ("multiclass", "binary", "multilabel")
# What a pixel of a field is called in a `Target`: like the only class, like a class without a row, or ignored. The
# first two are False and True of a comparison, seen as integers.
INSIDE, OUTSIDE, IGNORED = 0, 1, -1
# Types that PyTorch computes little with.
_WIDENED = (torch.uint16, torch.uint32, torch.uint64)


def as_rows(logits: Tensor, labels: Tensor, mode: str) -> tuple[Tensor, Tensor]:
    """What a mode takes, as the losses take it: logits ``[N, K, H, W]`` with labels ``[N, H, W]`` (multiclass), or
    logits ``[R, 1, H, W]`` with targets ``[R, H, W]`` (binary and multilabel).

    Raises:
        ValueError: the tensors are not those of the mode, with a hint at the one that they may be meant for.
    """
    if mode == "multiclass":
        return _check_multiclass(logits, labels)
    check_tensor("logits", logits, floating=True)
    check_tensor("labels", labels)
    if mode == "binary":
        return _one_channel("logits", logits).unsqueeze(1), _one_channel("labels", labels)
    check_field("logits", logits)
    if labels.ndim != 4 or labels.shape[:2] != logits.shape[:2]:
        raise ValueError(
            f"labels of mode 'multilabel' must have the shape [N, K, H, W], a mask for each class, to fit logits of "
            f"shape {list(logits.shape)}, got {list(labels.shape)}"
        )
    return logits.flatten(0, 1).unsqueeze(1), labels.flatten(0, 1)


def _check_multiclass(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    if isinstance(logits, Tensor) and logits.ndim == 4 and logits.shape[1] == 1:
        raise ValueError(
            f"logits of mode 'multiclass' must have two classes or more (a softmax over one is 1 everywhere), got the "
            f"shape {list(logits.shape)}: for a sigmoid over one channel, mode='binary'"
        )
    if isinstance(labels, Tensor) and labels.dtype == torch.bool:
        raise ValueError(
            "labels must be an integer tensor of class ids, got torch.bool: labels.long() for classes 0 and 1, or, if "
            "the logits go through a sigmoid, mode='binary' or 'multilabel'"
        )
    check_field("logits", logits)
    check_labels(labels)
    if logits.device.type == "cpu":  # elsewhere each call would read all logits
        check_no_probabilities(logits)
    return logits, labels


def check_no_probabilities(logits: Tensor) -> None:
    """Raise ValueError where ``[N, K, H, W]`` went through a softmax already: at least 0, and 1 in sum at each pixel.

    What went through a sigmoid cannot be told from logits. On other devices than a CPU an assertion, as for labels.
    """
    message = (
        "logits must be given, got probabilities: they are at least 0 and sum to 1 over the classes at each pixel. "
        "Leave the softmax out"
    )
    h, w = logits.shape[-2:]
    if logits.numel() == 0:
        return
    if logits.device.type != "cpu":
        torch._assert_async(~_sums_to_1(logits), message)
    # A few pixels nearly always give the answer.
    elif _sums_to_1(logits[:1, :, :: max(1, h // 4), :: max(1, w // 4)]) and _sums_to_1(logits):
        raise ValueError(message)


def _sums_to_1(field: Tensor) -> Tensor:
    field = field.detach()
    tolerance = max(1e-5, 2 * torch.finfo(field.dtype).eps)
    sums = field.sum(dim=1, dtype=torch.promote_types(field.dtype, torch.float32))
    return (field >= 0).all() & ((sums - 1).abs() <= tolerance).all()


def _one_channel(name: str, value: Tensor) -> Tensor:
    """``[N, H, W]`` or ``[N, 1, H, W]`` as ``[N, H, W]``."""
    if value.ndim == 4 and value.shape[1] == 1:
        return value.squeeze(1)
    if value.ndim == 3:
        return value
    hint = ""
    if value.ndim == 4:
        hint = ": for several channels, mode='multilabel' (a sigmoid each) or 'multiclass' (a softmax over them)"
    raise ValueError(
        f"{name} of mode 'binary' must have the shape [N, H, W] or [N, 1, H, W], got {list(value.shape)}{hint}"
    )


def mask_target(logits: Tensor, targets: Tensor, ignore_value: int, ignore_mode: str, reach: int) -> Target:
    """The `Target` of logits ``[R, 1, H, W]`` and targets ``[R, H, W]``; see `check_masks` and `make_target`."""
    codes = check_masks(logits, targets, ignore_value)
    return replace(make_target(codes, IGNORED, ignore_mode, reach, background=OUTSIDE), sigmoid=True)


def check_masks(logits: Tensor, targets: Tensor, ignore_value: int) -> Tensor:
    """The targets as INSIDE, OUTSIDE and IGNORED, int8, or a ValueError unless they fit the logits.

    Args:
        logits: ``[R, 1, H, W]``.
        targets: ``[R, H, W]``, bool, integers or floats, each exactly 0, 1 or ``ignore_value``; checked as the labels
            are in `check_inputs`.
        ignore_value: an integer.
    """
    check_field("logits", logits)
    check_ignore_value(ignore_value)
    check_sizes(logits, targets)
    if targets.dtype == torch.bool:
        return (~targets).view(torch.int8)
    values = targets.long() if targets.dtype in _WIDENED else targets
    codes = (values != 1).view(torch.int8)
    wrong = (values != 0).logical_and_(values != 1)
    if _holds(values.dtype, ignore_value):
        ignored = values == ignore_value
        codes.masked_fill_(ignored, IGNORED)
        wrong.logical_and_(~ignored)
    if targets.dtype == torch.uint64:
        wrong |= values < 0  # what lies beyond int64 has wrapped
    allowed = f"0, 1 or {ignore_value} (ignored)"
    if targets.device.type != "cpu":
        torch._assert_async(~wrong.any(), f"labels of a sigmoid must be {allowed}")
    elif bool(wrong.any()):
        found = sorted(set(targets[wrong][:1000].tolist()))
        hint = ": labels > 0 makes a mask of 0 and 255" if 255 in found else ""
        raise ValueError(f"labels of mode 'binary' and 'multilabel' must be {allowed}, got {found[:8]}{hint}")
    return codes


def _holds(dtype: torch.dtype, value: int) -> bool:
    """Whether a type holds an integer; a narrow one would wrap it (-100 is 156 in uint8)."""
    info = torch.finfo(dtype) if dtype.is_floating_point else torch.iinfo(dtype)
    return info.min <= value <= info.max
