"""Line pixels at contours and at the edges of ignored pixels, counted by hand."""

import itertools

import pytest
import torch

from epl_d2.analysis.line_pixels import LinePixels, count_line_pixels


def by_hand(labels: torch.Tensor, radius: int) -> LinePixels:
    """With nothing seen at ignored pixels: loops over pixels, classes and the four directions."""
    h, w = labels.shape
    classes = [k for k in labels.unique().tolist() if k != 255]
    lines = own = false = 0

    def ray(y: int, x: int, dy: int, dx: int, length: int, clamp: bool) -> list[int]:
        places = [(y + t * dy, x + t * dx) for t in range(length + 1)]
        if clamp:
            places = [(min(max(b, 0), h - 1), min(max(a, 0), w - 1)) for b, a in places]
        return [int(labels[b, a]) for b, a in places if 0 <= b < h and 0 <= a < w]

    for y, x, k, (dy, dx) in itertools.product(range(h), range(w), classes, [(0, 1), (0, -1), (1, 0), (-1, 0)]):
        if labels[y, x] == 255 or not 1 <= ray(y, x, dy, dx, radius, True).count(k) <= radius:
            continue
        lines += 1
        inside = labels[y, x] == k
        near, far = (
            any((label == k) != inside for label in ray(y, x, dy, dx, length, False) if label != 255)
            for length in (radius, 2 * radius)
        )
        own += not near
        false += not far
    return LinePixels(lines, own, false)


def test_against_loops():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (4, 5), generator=generator).repeat_interleave(4, 0).repeat_interleave(4, 1)
    labels[5:9] = 255
    labels[:, 12] = 255
    found = count_line_pixels(labels, 5, ignore_mode="exclude")
    assert found == by_hand(labels, 2)
    assert 0 < found.false < found.own_class < found.lines
    assert found + found == LinePixels(2 * found.lines, 2 * found.own_class, 2 * found.false)


def test_a_rim_between_two_classes():
    """Its two edges are lines of `exclude`; `nearest` has one contour in the middle, and none of a wide rim."""
    labels = torch.zeros(20, 40, dtype=torch.uint8)
    labels[:, 20:] = 1
    labels[:, 18:22] = 255
    assert count_line_pixels(labels, 7, ignore_mode="exclude").own_class == 2 * 3 * 20
    assert count_line_pixels(labels, 7, ignore_mode="nearest") == LinePixels(2 * 2 * 20, 2 * 2 * 20, 0)
    labels[:, 10:30] = 255
    assert count_line_pixels(labels, 7, ignore_mode="exclude").false == 2 * 3 * 20
    assert count_line_pixels(labels, 7, ignore_mode="nearest") == LinePixels()


@pytest.mark.parametrize("mode", ["nearest", "exclude", "background"])
def test_nothing_to_count(mode):
    assert count_line_pixels(torch.full((5, 6), 255), 7, ignore_mode=mode) == LinePixels()
    assert count_line_pixels(torch.zeros(5, 6, dtype=torch.long), 7, ignore_mode=mode) == LinePixels()
