"""Probabilities of an image from sliding windows and from several scales, accumulated in place.

At any time there are one batch of windows, one map of probabilities at the scale in work and, where scales are
averaged, one at the size of the result; all stay on the device of the image.

Shape shorthand in this module:

    B, C, K: windows of a batch, channels, classes
    H, W: height and width of the image
    h, w: height and width of a window
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from epl_d2.modeling.layers.resize import resize

__all__ = ["WindowProtocol", "average_scales", "average_windows", "pad_centered", "scaled_size", "window_starts"]

# Normalized images [B, C, h, w] -> logits [B, K, h, w].
Predict = Callable[[torch.Tensor], torch.Tensor]

_CLASSES_AT_ONCE = 4  # resized in one step, so that no second full map of probabilities is needed


@dataclass(frozen=True)
class WindowProtocol:
    """How the probabilities of one image at one scale are computed.

    Attributes:
        size: (h, w) of the windows; None takes the whole image.
        stride_fraction: step between windows as a part of their size, rounded up to pixels.
        batch: windows in one forward pass.
        flip: average with the mirrored windows, which join the windows' forward pass.
        dtype: of the accumulated probabilities, float32 or float16.

    Raises:
        ValueError: one of them is out of its range.
    """

    size: tuple[int, int] | None = None
    stride_fraction: float = 2 / 3
    batch: int = 4
    flip: bool = False
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise ValueError(f"the window size is {self.size}, expected (height, width) in pixels")
        if not 0 < self.stride_fraction <= 1:
            raise ValueError(f"stride_fraction is {self.stride_fraction}, expected a number in (0, 1]")
        if self.batch < 1:
            raise ValueError(f"the window batch is {self.batch}, expected at least 1")
        if self.dtype not in (torch.float32, torch.float16):
            raise ValueError(f"dtype is {self.dtype}, expected torch.float32 or torch.float16")


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows begin along a side: every `stride` pixels, the last one flush with the end.

    Args:
        length: of the side, at least `window`.
        window, stride: in pixels.
    """
    count = -(-(length - window) // stride) + 1
    return [min(index * stride, length - window) for index in range(count)]


def pad_centered(image: torch.Tensor, size: tuple[int, int]) -> tuple[torch.Tensor, int, int]:
    """Zeros around an image [C, H, W] that is smaller than `size`, the odd pixel at the bottom and right.

    Returns:
        The image, at least of `size`, and the row and column at which the given one lies in it.
    """
    missing = [max(0, wanted - have) for wanted, have in zip(size, image.shape[-2:], strict=True)]
    top, left = missing[0] // 2, missing[1] // 2
    return F.pad(image, (left, missing[1] - left, top, missing[0] - top)), top, left


def scaled_size(size: tuple[int, int], scale: float, base_size: int = 0) -> tuple[int, int]:
    """`size` (H, W) at a scale: the long side becomes scale * base_size pixels, or scale * its own length for 0."""
    long_side = round(scale * (base_size or max(size)))
    height, width = (max(1, round(long_side / max(size) * side)) for side in size)
    return height, width


def average_windows(predict: Predict, image: torch.Tensor, protocol: WindowProtocol) -> torch.Tensor:
    """Mean over the windows that see a pixel of its class probabilities.

    Args:
        predict: the model; it gets windows of one size.
        image: normalized, [C, H, W]; where it is smaller than a window it is surrounded by zeros, the mean.
        protocol: the windows.

    Returns:
        [K, H, W] of `protocol.dtype`.
    """
    height, width = image.shape[-2:]
    window = h, w = protocol.size or (height, width)
    padded, top, left = pad_centered(image, window)
    starts = [
        window_starts(length, side, math.ceil(side * protocol.stride_fraction))
        for length, side in zip(padded.shape[-2:], window, strict=True)
    ]
    corners = [(y, x) for y in starts[0] for x in starts[1]]
    total = None
    for first in range(0, len(corners), protocol.batch):
        chosen = corners[first : first + protocol.batch]
        windows = torch.stack([padded[:, y : y + h, x : x + w] for y, x in chosen])
        if protocol.flip:
            windows = torch.cat([windows, windows.flip(-1)])
        logits = predict(windows)
        if total is None:
            total = logits.new_zeros((logits.shape[1], *padded.shape[-2:]), dtype=protocol.dtype)
        for index, (y, x) in enumerate(chosen):
            seen = total[:, y : y + h, x : x + w]
            seen += logits[index].softmax(0, dtype=torch.float32)
            if protocol.flip:
                seen += logits[len(chosen) + index].softmax(0, dtype=torch.float32).flip(-1)
        del logits  # before the next batch is computed
    rows, columns = (
        _coverage(begin, side, length, total)
        for begin, side, length in zip(starts, window, padded.shape[-2:], strict=True)
    )
    total /= rows[:, None] * columns * (2 if protocol.flip else 1)
    return total[:, top : top + height, left : left + width]


def average_scales(
    predict: Predict,
    image: torch.Tensor,
    size: tuple[int, int],
    *,
    scales: Sequence[float],
    protocol: WindowProtocol,
    base_size: int = 0,
) -> torch.Tensor:
    """Mean over scales of the class probabilities, each resized (bilinear) to the wanted size.

    Args:
        predict: the model.
        image: normalized, [C, H, W].
        size: (height, width) of the result.
        scales: see `scaled_size`.
        protocol: how one scale is computed.
        base_size: long side of the image at scale 1 in pixels; 0 is its own.

    Returns:
        [K, height, width] of `protocol.dtype`.
    """
    total = None
    for scale in scales:
        scaled = _resized(image[None], scaled_size(image.shape[-2:], scale, base_size))[0]
        probabilities = average_windows(predict, scaled, protocol)
        if total is None and probabilities.shape[-2:] == tuple(size):
            total = probabilities
            continue
        if total is None:
            total = probabilities.new_zeros((len(probabilities), *size))
        for mean, part in zip(total.split(_CLASSES_AT_ONCE), probabilities.split(_CLASSES_AT_ONCE), strict=True):
            mean += _resized(part[None].float(), size)[0]
        del probabilities  # before the next scale allocates its own
    if len(scales) > 1:
        total /= len(scales)
    return total


def _coverage(starts: list[int], window: int, length: int, like: torch.Tensor) -> torch.Tensor:
    """How many windows see each pixel of a side."""
    count = like.new_zeros(length)
    for start in starts:
        count[start : start + window] += 1
    return count


def _resized(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    if images.shape[-2:] == tuple(size):
        return images
    return resize(images, size, align_corners=False)
