"""Ignored pixels that show the nearest valid one: which they are, and how logits and gradients follow, on a CPU.

Shape shorthand in this module: N images, K classes, H x W pixels, M pixels that are filled.
"""

import numpy as np
import torch
from torch import Tensor

from epl_d2.compilation import compiled


def find_nearest(valid: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """`target.Fill.places` and `target.Fill.sources` of the pixels that are not valid in a mask ``[N, H, W]``.

    The same pixels as `target.nearest_valid` finds.
    """
    sources = _find(valid.contiguous().numpy(), int(reach * 2**0.5))
    places = (sources >= 0).nonzero()[0]
    return torch.from_numpy(places), torch.from_numpy(sources[places])


@compiled
def _find(valid, bound):
    """Index of the nearest valid pixel for those that are not valid, and -1 for all others, ``[N H W]``."""
    images, height, width = valid.shape
    sources = np.full(images * height * width, -1)
    # Offset of the nearest valid pixel in the same row; beyond the bound: bound + 1.
    nearest = np.empty((height, width), np.int32)
    for image in range(images):
        whole = True
        for y in range(height):
            last = -bound - 1
            for x in range(width):
                if valid[image, y, x]:
                    last = x
                else:
                    whole = False
                nearest[y, x] = last - x if x - last <= bound else bound + 1
            last = width + bound + 1
            for x in range(width - 1, -1, -1):
                if valid[image, y, x]:
                    last = x
                if last - x < abs(nearest[y, x]):  # at equality the left one
                    nearest[y, x] = last - x
        if whole:
            continue
        for y in range(height):
            for x in range(width):
                if valid[image, y, x]:
                    continue
                best = 2 * bound**2 + 1
                for row in range(max(0, y - bound), min(height, y + bound + 1)):
                    offset = nearest[row, x]
                    distance = (row - y) ** 2 + offset**2
                    if offset <= bound and distance < best:  # at equality the upper one
                        best = distance
                        sources[(image * height + y) * width + x] = (image * height + row) * width + x + offset
    return sources


@compiled
def gather(field, places, sources):
    """Copy what is at the sources to the places of ``[N, K, H W]``."""
    pixels = field.shape[2]
    for m in range(len(places)):
        image, place = divmod(places[m], pixels)
        source = sources[m] - image * pixels
        for k in range(field.shape[1]):
            field[image, k, place] = field[image, k, source]


@compiled
def scatter(field, places, sources):
    """Adjoint of `gather`: move what is at the places of ``[N, K, H W]`` to the sources, in the order of the places."""
    pixels = field.shape[2]
    for m in range(len(places)):
        image, place = divmod(places[m], pixels)
        source = sources[m] - image * pixels
        for k in range(field.shape[1]):
            field[image, k, source] += field[image, k, place]
            field[image, k, place] = 0
