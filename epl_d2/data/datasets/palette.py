"""Colors that can be told apart, with every kind of color vision, for classes that have none of their own."""

from __future__ import annotations

from functools import cache

import numpy as np

from .metadata import Color

__all__ = ["distinct_palette"]

# Blue and orange of Okabe and Ito (jfly.uni-koeln.de/color): all three kinds of eyes tell them apart.
_FIRST: tuple[Color, ...] = ((0, 114, 178), (230, 159, 0))
# What pictures use for other things: shadows, contours and ignored pixels.
_TAKEN: tuple[Color, ...] = ((0, 0, 0), (255, 255, 255), (224, 224, 192))
_LEVELS = range(15, 256, 24)
# Oklab lightness and chroma of the colors to choose from: neither near black nor near white nor gray.
_LIGHTNESS, _CHROMA = (0.4, 0.9), 0.05
# More would be too near to one another; from there on they repeat.
_MOST = 512
# How protanopes and deuteranopes see linear RGB (Machado, Oliveira and Fernandes 2009, severity 1).
_PROTANOPIA = ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998))
_DEUTERANOPIA = ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881))
# Oklab (bottosson.github.io/posts/oklab): linear RGB to cone responses, their cube roots to lightness and two hues.
_TO_CONES = (
    *((0.4122214708, 0.5363325363, 0.0514459929), (0.2119034982, 0.6806995451, 0.1073969566)),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_TO_LAB = (
    *((0.2104542553, 0.7936177850, -0.0040720468), (1.9779984951, -2.4285922050, 0.4505937099)),
    (0.0259040371, 0.7827717662, -0.8086757660),
)


# What a distance counts for a normal eye, a protanope's and a deuteranope's, of which the first sees more hues.
_WEIGHTS = (0.55, 1.0, 1.0)


@cache
def distinct_palette(count: int) -> tuple[Color, ...]:
    """RGB colors for the ids 0, 1, ..., none of them dark; a longer palette begins with the shorter one.

    After a blue and an orange each further color is, of a grid of colors, the farthest from all before it, from black,
    white and the color of ignored pixels, as the eye that sees the smallest difference sees it: a normal one, a
    protanope's or a deuteranope's.

    Args:
        count: number of colors, at least 1.
    """
    grid = np.stack(np.meshgrid(_LEVELS, _LEVELS, _LEVELS, indexing="ij"), axis=-1).reshape(-1, 3)
    seen = _as_seen(grid)
    lightness, chroma = seen[0, :, 0], np.hypot(seen[0, :, 1], seen[0, :, 2])
    usable = (lightness >= _LIGHTNESS[0]) & (lightness <= _LIGHTNESS[1]) & (chroma >= _CHROMA)
    grid, seen = grid[usable], seen[:, usable]
    nearest = np.full(len(grid), np.inf)
    for color in (*_TAKEN, *_FIRST):
        nearest = np.minimum(nearest, _distance(seen, _as_seen(np.array([color]))))
    colors = list(_FIRST)
    while len(colors) < min(count, _MOST):
        best = int(nearest.round(6).argmax())  # rounded, so that no machine's last bit decides
        colors.append(tuple(grid[best].tolist()))
        nearest = np.minimum(nearest, _distance(seen, seen[:, best : best + 1]))
    return tuple(colors[index % _MOST] for index in range(count))


def _as_seen(colors: np.ndarray) -> np.ndarray:
    """sRGB colors [N, 3] in 0..255 as three kinds of eyes see them: Oklab [3, N, 3]."""
    values = colors / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    eyes = np.stack([np.eye(3), np.array(_PROTANOPIA), np.array(_DEUTERANOPIA)])
    seen = np.clip(np.einsum("eij,nj->eni", eyes, linear), 0, 1)
    return np.cbrt(seen @ np.array(_TO_CONES).T) @ np.array(_TO_LAB).T


def _distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[N], the smallest over the eyes."""
    return (np.array(_WEIGHTS)[:, None] * np.sqrt(((one - other) ** 2).sum(axis=-1))).min(axis=0)
