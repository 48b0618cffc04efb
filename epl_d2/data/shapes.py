"""Procedural scenes with exact contours: a small data set that needs no download.

A scene is a sky above a wavy ground, with disks, polygons, rings and thin rods on it, some touching, some
overlapping. The colors of the classes overlap, and all are textured, shaded and noisy. Every contour is a formula:
a label pixel is the class at the pixel's center, an image pixel the mean of SAMPLES x SAMPLES colors inside it. A
rim of RIM pixels along the frame is ignored.

Shape shorthand in this module:

    H, W: height and width of the picture, in pixels
    h, w: height and width of the sampling grid, SAMPLES times as large
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

import cv2
import numpy as np
from PIL import Image

from .datasets.metadata import DATASETS
from .generated import write_generated

SAMPLES = 5  # odd, so that one sample lies on the pixel's center
RIM = 2
MIN_SIDE = 32  # of a picture, in pixels
SKY, GROUND, DISK, POLYGON, RING, ROD = range(6)
# Raised whenever the same seed gives other pictures.
_VERSION = 1
_IGNORE = DATASETS["shapes"].ignore_value
# mean RGB of each class, and the standard deviation of an object's color around it
_COLORS = np.array(
    [[140, 175, 205], [130, 120, 95], [175, 90, 80], [140, 85, 140], [200, 165, 85], [85, 95, 80]],
    dtype=np.float32,
)
_COLOR_SPREAD = 16.0

Inside = Callable[[np.ndarray, np.ndarray], np.ndarray]


def render_scene(seed: int | tuple[int, ...], size: tuple[int, int] = (128, 128)) -> tuple[np.ndarray, np.ndarray]:
    """Draw one scene.

    Args:
        seed: the same seed gives the same scene.
        size: (H, W), each at least MIN_SIDE.

    Returns:
        image: uint8 [H, W, 3], RGB.
        label: uint8 [H, W], ids of `DATASETS["shapes"]` and the ignore label in the rim.
    """
    height, width = size
    _check_size(size)
    rng = np.random.default_rng(seed)
    owner, classes = _owners(rng, height, width, _centers(height), _centers(width))
    middle = SAMPLES // 2
    label = np.array(classes, dtype=np.uint8)[owner[middle::SAMPLES, middle::SAMPLES]]
    label[:RIM], label[-RIM:], label[:, :RIM], label[:, -RIM:] = (_IGNORE,) * 4

    image = np.zeros((height, width, 3), dtype=np.float32)
    for index, class_id in enumerate(classes):
        texture = _texture(rng, class_id, height, width)
        cover = cv2.resize((owner == index).astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        image += cover[:, :, None] * texture
    image *= 1 + 0.25 * _smooth_noise(rng, height, width, cell=48)[:, :, None]
    image += rng.normal(0, 9, image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), label


def scene_objects(seed: int | tuple[int, ...], size: tuple[int, int] = (128, 128)) -> tuple[np.ndarray, list[int]]:
    """What is where in the scene that `render_scene` draws, the rim included.

    Returns:
        owner: uint8 [H, W], the front-most object at each pixel's center; 0 is the sky, 1 the ground.
        classes: the class of every object.
    """
    height, width = size
    _check_size(size)
    rows, columns = (_centers(length)[SAMPLES // 2 :: SAMPLES] for length in size)
    return _owners(np.random.default_rng(seed), height, width, rows, columns)


def write_shapes(
    root: str,
    *,
    train: int = 160,
    val: int = 40,
    size: tuple[int, int] = (128, 128),
    seed: int = 0,
    progress: Callable[[range], Iterable[int]] = iter,
) -> bool:
    """Write the data set `{train,val}/{images,labels}/NNNN.png` and its manifest.json.

    The folder appears under its name only when it is complete.

    Args:
        root: the folder to make, usually DETECTRON2_DATASETS/shapes.
        train, val: numbers of scenes.
        size: (H, W).
        seed: the whole set follows from it.
        progress: is given the numbers of a split's scenes and gives them back one by one.

    Returns:
        True if the set was written, False if it was already there.

    Raises:
        ValueError: `root` holds something else, or a set made with other settings.
    """
    manifest = {"version": _VERSION, "train": train, "val": val, "size": list(size), "seed": seed}

    def fill(folder: str) -> None:
        for split, numbers in shape_seeds(train, val, seed).items():
            for kind in ("images", "labels"):
                os.makedirs(os.path.join(folder, split, kind))
            for number in progress(range(len(numbers))):
                image, label = render_scene(numbers[number], size)
                Image.fromarray(image).save(os.path.join(folder, split, "images", f"{number:04d}.png"))
                Image.fromarray(label).save(os.path.join(folder, split, "labels", f"{number:04d}.png"))

    return write_generated(root, manifest, fill)


def shape_seeds(train: int, val: int, seed: int) -> dict[str, list[tuple[int, int, int]]]:
    """The seeds of the scenes of each split."""
    counts = {"train": train, "val": val}
    return {
        split: [(seed, split_index, number) for number in range(count)]
        for split_index, (split, count) in enumerate(counts.items())
    }


def _check_size(size: tuple[int, int]) -> None:
    if min(size) < MIN_SIDE:
        raise ValueError(f"size is {size}, expected at least {MIN_SIDE} x {MIN_SIDE} pixels")


def _owners(
    rng: np.random.Generator, height: int, width: int, rows: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, list[int]]:
    """The front-most object at each of the points, and the objects' classes."""
    x, y = np.meshgrid(columns, rows)
    owner = np.zeros(x.shape, dtype=np.uint8)
    classes = [SKY]
    for class_id, inside in _layout(rng, height, width):
        owner[inside(x, y)] = len(classes)
        classes.append(class_id)
    return owner, classes


def _centers(length: int) -> np.ndarray:
    """Positions of the samples along one side, in pixels; pixel i covers i..i+1."""
    return ((np.arange(length * SAMPLES) + 0.5) / SAMPLES).astype(np.float32)


def _layout(rng: np.random.Generator, height: int, width: int) -> list[tuple[int, Inside]]:
    """The objects from back to front: class and membership test."""
    unit = min(height, width) / 128
    objects: list[tuple[int, Inside]] = [(GROUND, _ground(rng, height, width))]

    def place() -> tuple[float, float]:
        return rng.uniform(0.08, 0.92) * width, rng.uniform(0.12, 0.92) * height

    for _ in range(rng.integers(1, 4)):
        objects.append((POLYGON, _polygon(rng, *place(), radius=rng.uniform(12, 26) * unit)))
    for _ in range(rng.integers(1, 4)):
        cx, cy = place()
        radius = rng.uniform(7, 18) * unit
        objects.append((DISK, _disk(cx, cy, radius)))
        if rng.random() < 0.5:  # a neighbor that touches it in one point
            other, angle = rng.uniform(5, 12) * unit, rng.uniform(0, 2 * np.pi)
            reach = radius + other
            ring = rng.random() < 0.5
            bx, by = cx + reach * np.cos(angle), cy + reach * np.sin(angle)
            objects.append((RING, _ring(bx, by, other * 0.55, other)) if ring else (DISK, _disk(bx, by, other)))
    for _ in range(rng.integers(1, 3)):
        radius = rng.uniform(9, 20) * unit
        objects.append((RING, _ring(*place(), radius * rng.uniform(0.5, 0.75), radius)))
    for _ in range(rng.integers(2, 5)):
        thickness = rng.uniform(1.5, 4.5) * unit
        objects.append((ROD, _rod(*place(), rng.uniform(25, 70) * unit, rng.uniform(0, np.pi), thickness)))
    return objects


def _ground(rng: np.random.Generator, height: int, width: int) -> Inside:
    level = rng.uniform(0.4, 0.65) * height
    slope = rng.uniform(-0.15, 0.15)
    waves = [
        (
            rng.uniform(0.01, 0.04) * height,
            2 * np.pi / (width * rng.uniform(0.2, 1)),
            rng.uniform(0, 2 * np.pi),
        )
        for _ in range(3)
    ]

    def inside(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        edge = level + slope * (x - width / 2)
        for amplitude, frequency, phase in waves:
            edge = edge + amplitude * np.sin(frequency * x + phase)
        return y >= edge

    return inside


def _disk(cx: float, cy: float, radius: float) -> Inside:
    return lambda x, y: (x - cx) ** 2 + (y - cy) ** 2 <= radius**2


def _ring(cx: float, cy: float, inner: float, outer: float) -> Inside:
    def inside(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        squared = (x - cx) ** 2 + (y - cy) ** 2
        return (squared >= inner**2) & (squared <= outer**2)

    return inside


def _polygon(rng: np.random.Generator, cx: float, cy: float, radius: float) -> Inside:
    """A convex polygon of 3 to 6 sides, as an intersection of half planes."""
    sides = int(rng.integers(3, 7))
    angles = 2 * np.pi * (np.arange(sides) + rng.uniform(-0.25, 0.25, sides)) / sides + rng.uniform(0, 2 * np.pi)
    distances = radius * rng.uniform(0.55, 0.9, sides)

    def inside(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        result = np.ones(x.shape, dtype=bool)
        for angle, distance in zip(angles, distances, strict=True):
            result &= (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle) <= distance
        return result

    return inside


def _rod(cx: float, cy: float, length: float, angle: float, thickness: float) -> Inside:
    """All points within thickness / 2 of a segment."""
    dx, dy = np.cos(angle), np.sin(angle)

    def inside(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        along = np.clip((x - cx) * dx + (y - cy) * dy, -length / 2, length / 2)
        return (x - cx - along * dx) ** 2 + (y - cy - along * dy) ** 2 <= (thickness / 2) ** 2

    return inside


def _texture(rng: np.random.Generator, class_id: int, height: int, width: int) -> np.ndarray:
    """float32 [H, W, 3]: the object's own color with stripes and blotches."""
    color = _COLORS[class_id] + rng.normal(0, _COLOR_SPREAD, 3)
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    angle, period = rng.uniform(0, np.pi), rng.uniform(4, 14)
    stripes = np.sin(2 * np.pi / period * (x * np.cos(angle) + y * np.sin(angle)))
    pattern = rng.uniform(0, 0.12) * stripes + 0.15 * _smooth_noise(rng, height, width, cell=10)
    return (color * (1 + pattern[:, :, None])).astype(np.float32)


def _smooth_noise(rng: np.random.Generator, height: int, width: int, cell: int) -> np.ndarray:
    """float32 [H, W] in about -1..1, smooth over `cell` pixels."""
    grid = rng.uniform(-1, 1, (height // cell + 3, width // cell + 3)).astype(np.float32)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
