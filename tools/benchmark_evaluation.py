#!/usr/bin/env python3
"""Time the boundary evaluation on one core, beside dilations for each class and width.

    python tools/benchmark_evaluation.py --cityscapes datasets/cityscapes/gtFine/val --voc datasets/VOC2012

Predictions are the labels moved along their contours, with wrong regions, about a tenth of the pixels wrong.
Without folders the labels are procedural scenes of the same sizes. All times are CPU time of one core, the least
of several repeats.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from epl_d2.commands import command
from epl_d2.contours.nearest import nearest_valid
from epl_d2.data.label_io import read_label
from epl_d2.evaluation import BoundaryStatistics
from epl_d2.evaluation.boundary_iou import count_boundary_bands
from epl_d2.evaluation.confusion import count_confusion
from epl_d2.evaluation.contours import match_contours
from epl_d2.evaluation.trimap import count_trimap

VOID = 255
Pair = tuple[np.ndarray, np.ndarray]


def procedural_labels(rng: np.random.Generator, height: int, width: int, classes: int) -> np.ndarray:
    """Smooth regions of all classes, thin upright objects and an ignored rim at the bottom."""
    best, labels = np.full((height, width), -np.inf, np.float32), np.zeros((height, width), np.uint8)
    for label in range(classes):
        coarse = rng.normal(size=(height // 130 + 3, width // 130 + 3)).astype(np.float32)
        field = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        labels[field > best] = label
        np.maximum(best, field, out=best)
    for _ in range(width // 60):
        left, top = rng.integers(0, width - 4), rng.integers(0, height // 2)
        labels[top : top + height // 3, left : left + rng.integers(2, 6)] = rng.integers(0, classes)
    labels[-height // 20 :] = VOID
    return labels


def perturb(rng: np.random.Generator, labels: np.ndarray, classes: int, wrong: float = 0.10) -> np.ndarray:
    """A prediction: contours moved by a few pixels, then wrong ellipses until this share is wrong."""
    height, width = labels.shape
    _, nearest = cv2.distanceTransformWithLabels(
        (labels == VOID).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    seeds = np.zeros(nearest.max() + 1, np.uint8)
    seeds[nearest[labels != VOID]] = labels[labels != VOID]
    filled = seeds[nearest]  # a model predicts a class where the target is ignored as well
    grid = (width // 12 + 2, height // 12 + 2)
    shifts = [cv2.resize(rng.normal(0, 2.5, grid[::-1]).astype(np.float32), (width, height)) for _ in range(2)]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    moved = cv2.remap(filled, x + shifts[0], y + shifts[1], cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    valid = labels != VOID
    while (moved != labels)[valid].mean() < wrong:
        center = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        axes = (int(rng.integers(width // 60, width // 16)), int(rng.integers(height // 60, height // 12)))
        cv2.ellipse(moved, center, axes, float(rng.uniform(0, 180)), 0, 360, int(rng.integers(0, classes)), -1)
    return moved


def dilation_scores(
    prediction: np.ndarray, target: np.ndarray, classes: int, widths: list[int]
) -> tuple[np.ndarray, ...]:
    """What is usually done: a dilation for each width and class, a confusion matrix for each width."""
    valid = target != VOID
    block = valid.copy()
    block[:, :-1] &= valid[:, 1:]
    block[:-1] &= valid[1:]
    block[:-1, :-1] &= valid[1:, 1:]
    matched = np.zeros((2, classes, len(widths)), np.int64)
    disks = [cv2.circle(np.zeros((2 * w + 1, 2 * w + 1), np.uint8), (w, w), 0, 1) for w in widths]
    for disk, width in zip(disks, widths, strict=True):
        y, x = np.mgrid[-width : width + 1, -width : width + 1]
        disk[:] = x * x + y * y <= width * width
    for label in range(classes):
        edges = []
        for labels in (prediction, target):
            member, edge = labels == label, np.zeros(labels.shape, bool)
            edge[:, :-1] |= member[:, :-1] != member[:, 1:]
            edge[:-1] |= member[:-1] != member[1:]
            edge[:-1, :-1] |= member[:-1, :-1] != member[1:, 1:]
            edges.append((edge & block).astype(np.uint8))
        for index, disk in enumerate(disks):
            for side in (0, 1):
                matched[side, label, index] = np.count_nonzero(edges[side] & cv2.dilate(edges[1 - side], disk))
    changes = np.zeros(target.shape, np.uint8)
    across = (target[:, 1:] != target[:, :-1]) & valid[:, 1:] & valid[:, :-1]
    down = (target[1:] != target[:-1]) & valid[1:] & valid[:-1]
    changes[:, 1:] |= across
    changes[:, :-1] |= across
    changes[1:] |= down
    changes[:-1] |= down
    trimap = np.zeros((3, classes, len(widths)), np.int64)
    for index, width in enumerate(widths):
        y, x = np.mgrid[-width : width + 1, -width : width + 1]
        band = (cv2.dilate(changes, (x * x + y * y < width * width).astype(np.uint8)) > 0) & valid
        pairs = np.bincount(target[band].astype(np.int64) * classes + prediction[band], minlength=classes**2)
        confusion = pairs.reshape(classes, classes)
        trimap[:, :, index] = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    return matched, trimap


def time_pair(prediction: np.ndarray, target: np.ndarray, classes: int, widths: list[int], repeats: int) -> list[float]:
    """Milliseconds of the parts, of ``update`` with all of them, and of numpy.bincount."""
    masked, confusion = np.empty_like(target), np.zeros((classes, classes), np.int64)
    count_confusion(prediction, target, VOID, masked, confusion)
    present = np.flatnonzero(confusion.sum(axis=0) + confusion.sum(axis=1))
    common = (masked, target, classes, np.asarray(widths, np.int64), VOID)
    everything, nearest = (BoundaryStatistics(classes, widths, ignore_mode=mode) for mode in ("ignore", "nearest"))
    parts: list[Callable[[], object]] = [
        lambda: count_confusion(prediction, target, VOID, masked, confusion),
        lambda: match_contours(*common, False),
        lambda: count_trimap(*common, "label-change"),
        lambda: count_boundary_bands(*common, present, False),
        lambda: everything.update(prediction, target),
        lambda: nearest_valid(target, VOID),
        lambda: nearest.update(prediction, target),
        lambda: np.bincount(target.ravel().astype(np.int64) * 256 + prediction.ravel(), minlength=256**2),
    ]
    least = []
    for part in parts:
        times = []
        for _ in range(repeats):
            start = time.process_time()
            part()
            times.append(time.process_time() - start)
        least.append(1000 * min(times))
    return least


def time_case(name: str, pairs: list[Pair], classes: int, widths: list[int], repeats: int, plain_images: int) -> None:
    """Print the mean times of these pairs, and the ratio to :func:`dilation_scores` on the first few."""
    shown = tqdm(pairs, desc=name, unit="image", disable=None)
    times = np.mean([time_pair(*pair, classes, widths, repeats) for pair in shown], axis=0)
    confusion, contours, trimap, bands, everything, filling, nearest, bincount = times
    main_part = confusion + contours + trimap
    wrong = statistics.mean(float((p != t)[t != VOID].mean()) for p, t in pairs)
    height, width = pairs[0][1].shape
    print(f"\n{name}: {len(pairs)} images ({height} x {width}), {classes} classes, {100 * wrong:.1f} % wrong")
    print(f"  confusion {confusion:.1f} + boundary F {contours:.1f} + trimap {trimap:.1f} = {main_part:.1f} ms")
    print(f"  Boundary IoU {bands:.1f} ms; update() with everything {everything:.1f} ms an image")
    print(f"  with ignored pixels filled by the nearest: {nearest:.1f} ms, of which filling {filling:.2f} ms")
    print(f"  for comparison, a confusion matrix with numpy.bincount: {bincount:.1f} ms")
    for prediction, target in pairs[:plain_images]:
        start = time.process_time()
        matched, banded = dilation_scores(prediction, target, classes, widths)
        plain = 1000 * (time.process_time() - start)
        counted = BoundaryStatistics(classes, widths)
        counted.update(prediction, target)
        counts = counted.counts
        if not (np.array_equal(matched, counts["contour_matched"]) and np.array_equal(banded, counts["trimap"])):
            raise RuntimeError("the dilations give other counts: the evaluation or the comparison is wrong")
        print(f"  a dilation for each class and width (OpenCV): {plain:.0f} ms, the same counts,", end=" ")
        print(f"{plain / main_part:.0f} times as long")


def labels_of(
    folder: Path | None, pattern: str, size: tuple[int, int], classes: int, images: int
) -> Iterator[np.ndarray]:
    if folder is None:
        rng = np.random.default_rng(0)
        yield from (procedural_labels(rng, *size, classes) for _ in range(images))
        return
    files = sorted(folder.rglob(pattern))[:images]
    if not files:
        raise FileNotFoundError(f"no {pattern} below {folder}")
    yield from (read_label(file) for file in files)


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cityscapes", type=Path, metavar="DIR", help="folder with *_labelTrainIds.png below it")
    parser.add_argument("--voc", type=Path, metavar="DIR", help="folder with SegmentationClass/*.png below it")
    parser.add_argument("--images", type=int, default=15, help="images of each kind (default: %(default)s)")
    parser.add_argument("--max-width", type=int, default=20, help="widths 1 to this one (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each image (default: %(default)s)")
    parser.add_argument(
        "--plain-images", type=int, default=1, help="images for the slow comparison (default: %(default)s)"
    )
    parser.add_argument("--shrink", type=int, default=1, help="divide the procedural sizes by this (for a quick look)")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    widths = list(range(1, options.max_width + 1))

    start = time.process_time()
    BoundaryStatistics(3, widths).update(np.eye(9, dtype=np.uint8), np.eye(9, dtype=np.uint8)[::-1])
    print(f"first image, kernels compiled or loaded from the cache: {time.process_time() - start:.2f} s")

    cases = (
        ("Cityscapes size", options.cityscapes, "*_labelTrainIds.png", (1024, 2048), 19),
        ("VOC size", options.voc, "SegmentationClass/*.png", (375, 500), 21),
    )
    for name, folder, pattern, size, classes in cases:
        rng = np.random.default_rng(1)
        size = (size[0] // options.shrink, size[1] // options.shrink)
        labels = list(labels_of(folder, pattern, size, classes, options.images))
        shown = tqdm(labels, desc=f"{name}, making predictions", unit="image", disable=None)
        pairs = [(perturb(rng, target, classes), target) for target in shown]
        source = "procedural" if folder is None else str(folder)
        time_case(f"{name} ({source})", pairs, classes, widths, options.repeats, options.plain_images)

    rng = np.random.default_rng(2)
    size = (1024 // options.shrink, 2048 // options.shrink)
    target = next(labels_of(options.cityscapes, "*_labelTrainIds.png", size, 19, 1))
    noise = [rng.integers(0, 19, target.shape).astype(np.uint8) for _ in range(2)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    time_case("worst case: noise for a prediction", [(noise[0], target)], 19, widths, options.repeats, 0)
    time_case("worst case: noise on both sides", [(noise[0], noise[1])], 19, widths, options.repeats, 0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"\npeak memory: {peak / 1024:.0f} MiB, {(peak - before) / 1024:.0f} MiB of it for the noise")


if __name__ == "__main__":
    sys.exit(main())
