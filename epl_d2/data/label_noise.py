"""Label maps with contours that are off, as annotators leave them: how much of that does a contour loss bear?"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from epl_d2.contours.nearest import nearest_valid_pixels

__all__ = ["dilate_objects", "shift_labels"]


def shift_labels(labels: np.ndarray, distance: float, generator: np.random.Generator) -> np.ndarray:
    """The map, moved by a distance in a direction that is drawn evenly; what comes in from outside repeats the border.

    Args:
        labels: [H, W].
        distance: in pixels, at least 0; the offsets along the axes are rounded.
        generator: draws the direction.

    Returns:
        A new map of the same type.

    Raises:
        ValueError: distance is negative or not finite.
    """
    _check(distance)
    angle = generator.uniform(0, 2 * np.pi)
    down, right = round(distance * np.sin(angle)), round(distance * np.cos(angle))
    rows = np.clip(np.arange(labels.shape[0]) - down, 0, labels.shape[0] - 1)
    columns = np.clip(np.arange(labels.shape[1]) - right, 0, labels.shape[1] - 1)
    return labels[rows[:, None], columns]


def dilate_objects(
    labels: np.ndarray, distance: int, *, background: Collection[int] = (0,), ignore_value: int = 255
) -> np.ndarray:
    """The map with every object grown over the background, by at most a Euclidean distance.

    A pixel of the background takes the class of the nearest object pixel within the distance. Pixels of objects and
    ignored pixels stay.

    Args:
        labels: integers [H, W].
        distance: in pixels, at least 0.
        background: the classes that give way.
        ignore_value: these pixels are no object.

    Returns:
        A new map.

    Raises:
        ValueError: distance is no such number.
    """
    _check(distance)
    grown = labels.copy(order="C")
    pixels, nearest = nearest_valid_pixels(~np.isin(labels, [*background, ignore_value]), distance)
    flat = grown.reshape(-1)
    gives_way = flat[pixels] != ignore_value
    flat[pixels[gives_way]] = flat[nearest[gives_way]]
    return grown


def _check(distance: float) -> None:
    if not (np.isfinite(distance) and distance >= 0):
        raise ValueError(f"distance is {distance}, expected a finite number of pixels, at least 0")
