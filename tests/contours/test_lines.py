"""Lines and sides of contours against their definitions in plain loops, and against the kernels that count them."""

from __future__ import annotations

import numpy as np
import pytest

from epl_d2.contours import class_line, contour_line, contour_sides
from epl_d2.evaluation.contours import match_contours
from epl_d2.evaluation.trimap import count_trimap


def as_set(mask: np.ndarray) -> set[tuple[int, int]]:
    return set(zip(*(axis.tolist() for axis in np.nonzero(mask)), strict=True))


def blocks(seed: int) -> np.ndarray:
    """Blocks of three classes with some ignored pixels."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, (6, 7)).repeat(2, 0).repeat(2, 1).astype(np.uint8)
    labels[generator.random(labels.shape) < 0.05] = 255
    return labels


@pytest.mark.parametrize("seed", range(4))
def test_lines_follow_the_definition(seed: int, contour_pixels) -> None:
    labels = blocks(seed)
    assert as_set(contour_line(labels)) == contour_pixels(labels, labels)
    everywhere = np.zeros_like(labels)
    for class_id in range(3):
        assert as_set(class_line(labels, class_id)) == contour_pixels(labels, everywhere, class_id)


@pytest.mark.parametrize("seed", range(4))
def test_sides_follow_the_definition(seed: int) -> None:
    labels = blocks(seed)
    expected = set()
    for y, x in np.ndindex(*labels.shape):
        for other in ((y, x + 1), (y, x - 1), (y + 1, x), (y - 1, x)):
            if 0 <= other[0] < labels.shape[0] and 0 <= other[1] < labels.shape[1]:
                pair = {int(labels[y, x]), int(labels[other])}
                if len(pair) == 2 and 255 not in pair:
                    expected.add((y, x))
    assert as_set(contour_sides(labels)) == expected


@pytest.mark.parametrize("seed", range(2))
def test_the_metrics_count_the_same_pixels(seed: int) -> None:
    target, prediction = blocks(seed), np.minimum(blocks(seed + 2), 2)
    prediction[target == 255] = 255
    totals, _, _ = match_contours(prediction, target, 3, np.array([1]), 255, False)
    for total, labels in zip(totals, (prediction, target), strict=True):
        of_classes = [(class_line(labels, k) & contour_line(labels)).sum() for k in range(3)]
        assert total.tolist() == [*of_classes, contour_line(labels).sum()]
    counts = count_trimap(prediction, target, 3, np.array([1]), 255, "label-change")
    assert counts[1, :, 0].tolist() == [(contour_sides(target) & (target == k)).sum() for k in range(3)]


def test_the_frame_and_one_class_have_no_contour() -> None:
    for labels in (np.full((5, 6), 2, dtype=np.int32), np.array([[7]], dtype=np.uint16)):
        assert not contour_line(labels).any()
        assert not contour_sides(labels).any()


def test_wide_lines_contain_the_thin_ones_and_avoid_ignored_pixels(target) -> None:
    thin, wide = contour_line(target), contour_line(target, width=3)
    assert wide[thin].all()
    assert wide.sum() > 2 * thin.sum()
    assert not wide[target == 255].any()


def test_bad_input_is_named(target) -> None:
    with pytest.raises(ValueError, match=r"labels must be an integer map .* float64"):
        contour_line(np.zeros((3, 3)))
    with pytest.raises(ValueError, match="width must be at least 1"):
        contour_line(target, width=0)
