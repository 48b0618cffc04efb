"""Intervals for means over seeds and for paired differences.

Shape shorthand in this module:

    S: seeds
    N: images
    B: bootstrap replicates
"""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Sequence

import numpy as np
from scipy.special import stdtrit

from epl_d2.evaluation.image_counts import ImageCounts

__all__ = [
    "blocks_of_frames",
    "bootstrap_draws",
    "check_paired",
    "mean_interval",
    "paired_differences",
    "percentile_interval",
    "scores_by_name",
]

# The last number that no letter follows (so not the 8 of "leftImg8bit"), and what stands before and behind it.
_FRAME_NUMBER = re.compile(r"(.*)(?<!\d)(\d+)(?![A-Za-z\d])(.*)")


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Mean over seeds and the half width of its t interval, NaN for fewer than two values.

    Half width = t((1 + level) / 2, S - 1) * s / sqrt(S), with s the standard deviation of the sample.
    """
    sample = np.asarray(values, float)
    if sample.size == 0:
        return float("nan"), float("nan")
    if sample.size == 1:
        return float(sample[0]), float("nan")
    quantile = stdtrit(sample.size - 1, (1 + level) / 2)
    return float(sample.mean()), float(quantile * sample.std(ddof=1) / np.sqrt(sample.size))


def bootstrap_draws(
    seeds: int | Sequence[Hashable], blocks: int | np.ndarray, replicates: int, generator_seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """How often each seed [B,S] and each image [B,N] is drawn, with replacement, in every replicate.

    Args:
        seeds: S; or for each seed [S] the model that its run went on from: these are drawn first, then for each as
            many seeds as it has among its own.
        blocks: N images, each drawn by itself; or the block of each image [N], as numbers 0, 1, ...: the images of a
            block are drawn together, which neighboring frames of a video should be.
        replicates: B.
        generator_seed: of the draws.
    """
    blocks = np.arange(blocks) if isinstance(blocks, int) else blocks
    count = int(blocks.max()) + 1
    generator = np.random.default_rng(generator_seed)
    of_seeds = _seed_draws((0,) * seeds if isinstance(seeds, int) else tuple(seeds), replicates, generator)
    of_blocks = generator.multinomial(count, np.full(count, 1 / count), replicates)
    return of_seeds, of_blocks[:, blocks]


def _seed_draws(starts: Sequence[Hashable], replicates: int, generator: np.random.Generator) -> np.ndarray:
    """How often each seed [B,S] is drawn, given the starting point of each."""
    groups = [[place for place, start in enumerate(starts) if start == one] for one in dict.fromkeys(starts)]
    draws = np.empty((replicates, len(starts)), np.int64)
    times = np.full((replicates, 1), 1)
    if len(groups) > 1:
        times = generator.multinomial(len(groups), np.full(len(groups), 1 / len(groups)), replicates)
    for number, group in enumerate(groups):
        draws[:, group] = generator.multinomial(times[:, number] * len(group), np.full(len(group), 1 / len(group)))
    return draws


def blocks_of_frames(names: Sequence[str], length: int) -> np.ndarray:
    """Blocks of consecutive frames for :func:`bootstrap_draws`.

    Frames belong to one sequence where their names are equal but for the last number in them that no letter follows,
    which gives their order (`Seq05VD_f00030.png`, `aachen_000000_000019_leftImg8bit.png`). A name without one is a
    sequence of its own. A sequence is cut into as few blocks of at most `length` frames as possible, of equal sizes
    but for one frame.

    Args:
        names: N files.
        length: frames, at least 1.

    Returns:
        The number of each image's block [N].
    """
    sequences: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for image, name in enumerate(names):
        stem, extension = os.path.splitext(name)
        found = _FRAME_NUMBER.fullmatch(stem)
        before, number, after = found.groups() if found else (stem, "0", "")
        sequences.setdefault((before, after + extension), []).append((int(number), image))
    blocks = np.empty(len(names), np.int64)
    count = 0
    for frames in sequences.values():
        images = [image for _, image in sorted(frames)]
        for part in np.array_split(images, -(-len(images) // length)):
            blocks[part] = count
            count += 1
    return blocks


def paired_differences(
    method: Sequence[ImageCounts], baseline: Sequence[ImageCounts], seeds: np.ndarray, images: np.ndarray
) -> dict[str, np.ndarray]:
    """Bootstrap replicates of the mean difference method - baseline, paired by seed and by image.

    Seeds and images are crossed: a replicate evaluates the same drawn images with every seed, takes the difference
    seed by seed, and averages over the drawn seeds.

    Args:
        method, baseline: counts of the same S seeds in the same order, on the same N images; taken at the widths that
            all have.
        seeds, images: of :func:`bootstrap_draws`.

    Returns:
        `mIoU` [B], and `<curve>@<d>px` [B] of every curve of :meth:`ImageCounts.resampled_scores`, in percent; without
        those that the counts of one of the runs do not give.

    Raises:
        ValueError: the images or the classes of two paired runs differ.
    """
    widths = sorted(set.intersection(*({*counts.widths} for counts in (*method, *baseline))))
    sums: dict[str, np.ndarray] = {}
    for number, (ours, theirs) in enumerate(zip(method, baseline, strict=True)):
        check_paired(ours, theirs)
        scores, reference = (scores_by_name(counts.at_widths(widths), images) for counts in (ours, theirs))
        share = 100 * seeds[:, number] / seeds.sum(axis=1)
        known = scores.keys() & reference.keys() & (sums.keys() if number else scores.keys())
        sums = {name: sums.get(name, 0.0) + share * (scores[name] - reference[name]) for name in known}
    return sums


def check_paired(ours: ImageCounts, theirs: ImageCounts) -> None:
    """Raise ValueError if two runs were not evaluated on the same images and classes."""
    if ours.names != theirs.names:
        other = sorted({*ours.names} ^ {*theirs.names}) or ["in another order"]
        raise ValueError(
            f"a paired difference needs runs on the same images; these have {len(ours.names)} and "
            f"{len(theirs.names)}, and differ in {other[0]}"
        )
    classes = [counts.counts["confusion"].shape[1] for counts in (ours, theirs)]
    if classes[0] != classes[1]:
        raise ValueError(
            f"a paired difference needs runs with the same classes; these have {classes[0]} and {classes[1]}"
        )


def percentile_interval(replicates: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The central interval that holds `level` of the replicates; those that are undefined are left out."""
    defined = replicates[~np.isnan(replicates)]
    if defined.size == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def scores_by_name(counts: ImageCounts, images: np.ndarray) -> dict[str, np.ndarray]:
    """Fractions [B], named as by :func:`paired_differences`, of images that are taken so many times [B,N]."""
    scores = counts.resampled_scores(images)
    flat = {"mIoU": scores.pop("mIoU")}
    for name, values in scores.items():
        flat.update((f"{name}@{width}px", row) for width, row in zip(counts.widths, values, strict=True))
    return flat
