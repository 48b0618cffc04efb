"""Intervals for means over seeds and for paired differences.

Shape shorthand in this module:

    S: seeds
    N: images
    B: bootstrap replicates
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from epl_d2.evaluation.image_counts import ImageCounts

__all__ = ["bootstrap_draws", "mean_interval", "paired_differences", "percentile_interval"]


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Mean over seeds and the half width of its t interval, NaN for fewer than two values.

    Half width = t((1 + level) / 2, S - 1) * s / sqrt(S), with s the standard deviation of the sample.
    """
    sample = np.asarray(values, float)
    if sample.size == 0:
        return float("nan"), float("nan")
    if sample.size == 1:
        return float(sample[0]), float("nan")
    quantile = stats.t.ppf((1 + level) / 2, sample.size - 1)
    return float(sample.mean()), float(quantile * sample.std(ddof=1) / np.sqrt(sample.size))


def bootstrap_draws(seeds: int, images: int, replicates: int, generator_seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """How often each seed [B,S] and each image [B,N] is drawn, with replacement, in every replicate."""
    generator = np.random.default_rng(generator_seed)
    of_seeds = generator.multinomial(seeds, np.full(seeds, 1 / seeds), replicates)
    of_images = generator.multinomial(images, np.full(images, 1 / images), replicates)
    return of_seeds, of_images


def paired_differences(
    method: Sequence[ImageCounts], baseline: Sequence[ImageCounts], seeds: np.ndarray, images: np.ndarray
) -> dict[str, np.ndarray]:
    """Bootstrap replicates of the mean difference method - baseline, paired by seed and by image.

    Seeds and images are crossed: a replicate evaluates the same drawn images with every seed, takes the difference
    seed by seed, and averages over the drawn seeds.

    Args:
        method, baseline: counts of the same S seeds in the same order, on the same N images.
        seeds, images: of :func:`bootstrap_draws`.

    Returns:
        `mIoU` [B], and `BF@<d>px`, `Trimap-mIoU@<d>px`, `Boundary-IoU@<d>px` [B], in percent.

    Raises:
        ValueError: the images or the widths differ.
    """
    sums: dict[str, np.ndarray] = {}
    for number, (ours, theirs) in enumerate(zip(method, baseline, strict=True)):
        if ours.names != theirs.names or ours.widths != theirs.widths:
            raise ValueError("a paired interval needs runs that were evaluated on the same images at the same widths")
        scores, reference = _flat(ours, images), _flat(theirs, images)
        for name, values in scores.items():
            share = seeds[:, number] / len(method) * 100
            sums[name] = sums.get(name, 0.0) + share * (values - reference[name])
    return sums


def percentile_interval(replicates: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The central interval that holds `level` of the replicates; those that are undefined are left out."""
    defined = replicates[~np.isnan(replicates)]
    if defined.size == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _flat(counts: ImageCounts, images: np.ndarray) -> dict[str, np.ndarray]:
    scores = counts.resampled_scores(images)
    flat = {"mIoU": scores.pop("mIoU")}
    for name, values in scores.items():
        flat.update((f"{name}@{width}px", row) for width, row in zip(counts.widths, values, strict=True))
    return flat
