"""Counts of single images: scores of resampled images against statistics that saw each image so often."""

import numpy as np
import pytest

from epl_d2.evaluation import BoundaryStatistics
from epl_d2.evaluation.image_counts import read_image_counts, write_image_counts
from epl_d2.evaluation.report import CURVES

CLASSES, WIDTHS = 4, (1, 2, 5)


def label_maps(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A prediction and a target [24, 32] of blocks, the target with ignored pixels, class 3 rare."""
    generator = np.random.default_rng(seed)
    target = np.kron(generator.integers(0, CLASSES - (seed % 3 > 0), (4, 4)), np.ones((6, 8), int))
    prediction = np.roll(target, generator.integers(0, 3, 2), (0, 1))
    target[generator.random(target.shape) < 0.02] = 255
    return prediction, target


@pytest.fixture(scope="module")
def pairs():
    return [label_maps(seed) for seed in range(5)]


@pytest.fixture
def counts(pairs, tmp_path):
    of_images = {}
    for number, (prediction, target) in enumerate(pairs):
        statistics = BoundaryStatistics(CLASSES, WIDTHS)
        statistics.update(prediction, target)
        of_images[f"/data/{'ab'[number % 2]}/{number}.png"] = statistics.counts
    write_image_counts(tmp_path / "counts.npz", of_images, WIDTHS)
    return read_image_counts(tmp_path / "counts.npz")


def test_names_are_relative_and_sorted(counts):
    assert counts.names == ("a/0.png", "a/2.png", "a/4.png", "b/1.png", "b/3.png")
    assert counts.widths == WIDTHS


@pytest.mark.parametrize("times", [(1, 1, 1, 1, 1), (0, 3, 1, 0, 1), (5, 0, 0, 0, 0)])
def test_resampled_scores_equal_statistics_that_saw_each_image_so_often(counts, pairs, times):
    statistics = BoundaryStatistics(CLASSES, WIDTHS)
    for name, often in zip(counts.names, times, strict=True):
        for _ in range(often):
            statistics.update(*pairs[int(name[2])])
    expected = statistics.compute()
    scores = counts.resampled_scores(np.array([[1, 1, 1, 1, 1], times]))
    assert scores["mIoU"][1] == pytest.approx(expected["mIoU"], rel=1e-12)
    assert scores.keys() == {"mIoU", *CURVES} - {"BF-davis"}
    for name in scores.keys() - {"mIoU"}:
        np.testing.assert_allclose(scores[name][:, 1], expected[CURVES[name]], rtol=1e-12)
    of_classes = counts.resampled_class_scores(np.array([[1, 1, 1, 1, 1], times]))
    assert of_classes.keys() == {"IoU", *(f"BF@{width}px" for width in WIDTHS)}
    np.testing.assert_allclose(of_classes["IoU"][:, 1], expected["IoU"], rtol=1e-12)
    for number, width in enumerate(WIDTHS):
        per_class = expected["boundary_f_per_class"][:, number]
        np.testing.assert_allclose(of_classes[f"BF@{width}px"][:, 1], per_class, rtol=1e-12)


def test_files_without_the_counts_that_came_later_are_read(counts, tmp_path):
    with np.load(tmp_path / "counts.npz") as file:
        np.savez(tmp_path / "old.npz", **{name: file[name] for name in file.files if not name.endswith("_any")})
    old, weights = read_image_counts(tmp_path / "old.npz"), np.ones((1, 5))
    expected = counts.resampled_scores(weights)
    scores = old.resampled_scores(weights)
    assert {name for name in expected if name not in scores} == {"BF-any", "BF-any-precision", "BF-any-recall"}
    for name, values in scores.items():
        np.testing.assert_array_equal(values, expected[name])


def test_counts_at_some_widths(counts, tmp_path):
    counts.at_widths([5, 1]).write(tmp_path / "some.npz")
    some, weights = read_image_counts(tmp_path / "some.npz"), np.ones((1, 5))
    assert (some.names, some.widths) == (counts.names, (1, 5))
    expected = counts.resampled_scores(weights)
    for name, values in some.resampled_scores(weights).items():
        np.testing.assert_array_equal(values, expected[name] if name == "mIoU" else expected[name][[0, 2]])
    with pytest.raises(ValueError, match=r"no counts at the widths \[3\]; counted were \[1, 2, 5\]"):
        counts.at_widths([1, 3])


def test_no_image_and_no_file_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no counts to write"):
        write_image_counts(tmp_path / "counts.npz", {}, WIDTHS)
    with pytest.raises(ValueError, match=r"counts\.npz: no counts of images"):
        read_image_counts(tmp_path / "counts.npz")
    np.savez(tmp_path / "counts.npz", other=np.zeros(3))
    with pytest.raises(ValueError, match="no counts of images"):
        read_image_counts(tmp_path / "counts.npz")
