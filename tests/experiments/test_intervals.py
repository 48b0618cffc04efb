"""Intervals against formulas and against a literal bootstrap that evaluates the resampled images."""

import math

import numpy as np
import pytest

from epl_d2.evaluation import BoundaryStatistics
from epl_d2.evaluation.image_counts import read_image_counts, write_image_counts
from epl_d2.experiments.intervals import bootstrap_draws, mean_interval, paired_differences, percentile_interval

WIDTHS = (1, 3)


def test_t_interval_equals_the_textbook():
    # t(0.975, 2) = 4.302653 from a table; s of 1, 2, 4 is sqrt(7/3).
    mean, half = mean_interval([1.0, 2.0, 4.0])
    assert mean == pytest.approx(7 / 3)
    assert half == pytest.approx(4.302653 * math.sqrt(7 / 3) / math.sqrt(3), rel=1e-6)


def test_one_value_has_no_interval():
    mean, half = mean_interval([3.0])
    assert mean == 3.0
    assert math.isnan(half)
    assert all(math.isnan(value) for value in mean_interval([]))


def test_percentiles_leave_out_undefined_replicates():
    values = np.concatenate([np.arange(101.0), [np.nan] * 7])
    assert percentile_interval(values) == pytest.approx((2.5, 97.5))
    assert all(math.isnan(value) for value in percentile_interval(np.array([np.nan])))


def test_draws_have_the_right_size_and_depend_on_the_seed_alone():
    seeds, images = bootstrap_draws(3, 7, 50, generator_seed=1)
    assert seeds.shape == (50, 3)
    assert (seeds.sum(axis=1) == 3).all()
    assert images.shape == (50, 7)
    assert (images.sum(axis=1) == 7).all()
    assert all(np.array_equal(a, b) for a, b in zip((seeds, images), bootstrap_draws(3, 7, 50, 1), strict=True))
    assert not np.array_equal(images, bootstrap_draws(3, 7, 50, 2)[1])


def maps_of(run: int, image: int) -> tuple[np.ndarray, np.ndarray]:
    target = np.kron(np.random.default_rng(image).integers(0, 3, (4, 4)), np.ones((6, 6), int))
    noise = np.random.default_rng(1000 * run + image).integers(-2, 3, 2)
    return np.roll(target, noise, (0, 1)), target


def counts_of(folder, run, images):
    of_images = {}
    for image in range(images):
        statistics = BoundaryStatistics(3, WIDTHS)
        statistics.update(*maps_of(run, image))
        of_images[f"/d/{image}.png"] = statistics.counts
    write_image_counts(folder / f"{run}.npz", of_images, WIDTHS)
    return read_image_counts(folder / f"{run}.npz")


def test_paired_differences_equal_a_literal_bootstrap(tmp_path):
    images, method, baseline = 4, (1, 2), (3, 4)
    seeds, weights = bootstrap_draws(2, images, 6)
    ours, theirs = ([counts_of(tmp_path, run, images) for run in runs] for runs in (method, baseline))
    result = paired_differences(ours, theirs, seeds, weights)
    for replicate in range(6):
        expected = {"mIoU": 0.0, "BF@3px": 0.0}
        for number, (run, reference) in enumerate(zip(method, baseline, strict=True)):
            scores = []
            for chosen in (run, reference):
                statistics = BoundaryStatistics(3, WIDTHS)
                for image in range(images):
                    for _ in range(weights[replicate, image]):
                        statistics.update(*maps_of(chosen, image))
                scores.append(statistics.compute())
            share = 100 * seeds[replicate, number] / 2
            expected["mIoU"] += share * (scores[0]["mIoU"] - scores[1]["mIoU"])
            expected["BF@3px"] += share * (scores[0]["boundary_f"][1] - scores[1]["boundary_f"][1])
        for name, value in expected.items():
            assert result[name][replicate] == pytest.approx(value, abs=1e-9)


def test_other_images_cannot_be_paired(tmp_path):
    ours, theirs = counts_of(tmp_path, 1, 4), counts_of(tmp_path, 2, 3)
    with pytest.raises(ValueError, match="same images"):
        paired_differences([ours], [theirs], *bootstrap_draws(1, 4, 2))
