"""Intervals against formulas and against a literal bootstrap that evaluates the resampled images."""

import math
from dataclasses import replace

import numpy as np
import pytest

from epl_d2.evaluation import BoundaryStatistics
from epl_d2.evaluation.image_counts import read_image_counts, write_image_counts
from epl_d2.experiments.intervals import (
    blocks_of_frames,
    bootstrap_draws,
    mean_interval,
    paired_differences,
    percentile_interval,
)

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


def test_starting_points_are_drawn_before_their_seeds():
    starts = ["a", "b", "a", "b", "b", "c"]
    seeds, _ = bootstrap_draws(starts, 4, 4000)
    sizes = {"a": 2, "b": 3, "c": 1}
    times = {}
    for start, size in sizes.items():
        of_start = seeds[:, [place for place, one in enumerate(starts) if one == start]]
        assert (of_start.sum(axis=1) % size == 0).all()
        times[start] = of_start.sum(axis=1) // size
    assert (sum(times.values()) == 3).all()
    # A starting point is left out with probability (2/3)^3, and one of its two seeds once it is drawn once with 1/4.
    assert (times["a"] == 0).mean() == pytest.approx(8 / 27, abs=0.03)
    assert (seeds[times["a"] == 1][:, 0] == 0).mean() == pytest.approx(1 / 4, abs=0.03)
    # The mean's variance is that of two stages, here with values that differ between starting points alone.
    means = seeds @ np.array([1.0, 0, 1, 0, 0, 0]) / seeds.sum(axis=1)
    single = bootstrap_draws(6, 4, 4000)[0] @ np.array([1.0, 0, 1, 0, 0, 0]) / 6
    assert means.std() > 1.2 * single.std()


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


def test_scores_that_one_of_two_runs_lacks_are_left_out(tmp_path):
    ours, theirs = counts_of(tmp_path, 1, 4), counts_of(tmp_path, 2, 4)
    older = replace(theirs, counts={name: v for name, v in theirs.counts.items() if not name.endswith("_any")})
    draws = bootstrap_draws(1, 4, 5)
    expected = paired_differences([ours], [theirs], *draws)
    for result in (paired_differences([ours], [older], *draws), paired_differences([older], [ours], *draws)):
        assert (
            {name for name in expected if name not in result} == {name for name in expected if "any" in name} != set()
        )
    assert np.array_equal(paired_differences([ours], [older], *draws)["BF@3px"], expected["BF@3px"])
    # Also where only one pair of several lacks them, first or last.
    draws = bootstrap_draws(2, len(ours.names), 5)
    for baseline in ([older, theirs], [theirs, older]):
        assert paired_differences([ours] * 2, baseline, *draws).keys() == result.keys()


def test_other_images_cannot_be_paired(tmp_path):
    ours, theirs = counts_of(tmp_path, 1, 4), counts_of(tmp_path, 2, 3)
    with pytest.raises(ValueError, match="same images"):
        paired_differences([ours], [theirs], *bootstrap_draws(1, 4, 2))


def test_other_classes_cannot_be_paired(tmp_path):
    ours = counts_of(tmp_path, 1, 4)
    confusion = ours.counts["confusion"]
    fewer = replace(ours, counts={**ours.counts, "confusion": confusion[:, 1:, 1:]})
    classes = confusion.shape[1]
    with pytest.raises(ValueError, match=f"the same classes; these have {classes} and {classes - 1}"):
        paired_differences([ours], [fewer], *bootstrap_draws(1, 4, 2))


def test_pairs_are_taken_at_the_widths_of_all(tmp_path):
    ours, theirs = counts_of(tmp_path, 1, 4), counts_of(tmp_path, 2, 4)
    draws = bootstrap_draws(1, 4, 5)
    expected = paired_differences([ours], [theirs], *draws)
    width = theirs.widths[-1]
    result = paired_differences([ours], [theirs.at_widths([width])], *draws)
    assert {name for name in expected if name.endswith(f"@{width}px") or "@" not in name} == {*result}
    for name, values in result.items():
        np.testing.assert_array_equal(values, expected[name])


def test_blocks_are_consecutive_frames_of_one_sequence():
    frames = [f"b/Seq05VD_f{30 * frame:05d}.png" for frame in range(7)]
    others = ["a_000000_000019_leftImg8bit.png", "a_000000_000002_leftImg8bit.png", "a_000001_000019_leftImg8bit.png"]
    names = [*others, "x.png", "y.png", *frames[::-1]]
    blocks = blocks_of_frames(names, 3)
    together = {}
    for name, block in zip(names, blocks, strict=True):
        together.setdefault(int(block), []).append(name)
    assert sorted(map(sorted, together.values())) == sorted(
        [sorted(others[:2]), others[2:], ["x.png"], ["y.png"], frames[:3], frames[3:5], frames[5:]]
    )
    assert sorted(together) == list(range(7))


def test_images_of_a_block_are_drawn_together():
    blocks = np.array([2, 0, 0, 1, 2, 2])
    _, images = bootstrap_draws(2, blocks, 40)
    assert all((images[:, blocks == block] == images[:, blocks == block][:, :1]).all() for block in range(3))
    drawn = np.stack([images[:, np.flatnonzero(blocks == block)[0]] for block in range(3)])
    assert (drawn.sum(axis=0) == 3).all()
    assert len(np.unique(drawn, axis=1).T) > 5
    alone = bootstrap_draws(2, np.arange(6), 40)
    assert all(np.array_equal(a, b) for a, b in zip(bootstrap_draws(2, 6, 40), alone, strict=True))
