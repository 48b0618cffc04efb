"""Potential fields and line regions as drawn, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from epl_d2.visualization.draw import EXTRA_COLOR, MATCHED_COLOR, MISSED_COLOR
from epl_d2.visualization.potential import (
    INSIDE_COLOR,
    OUTSIDE_COLOR,
    class_energies,
    compare_lines,
    energy_colors,
    paint_energies,
    potential_sheet,
    seen_fields,
)
from epl_d2.visualization.sheet import HATCH, HATCH_ON_DARK

STEPS = {"A": [(0, 1), (0, -1), (1, 0), (-1, 0)], "B": [(1, 1), (-1, -1), (1, -1), (-1, 1)]}


def ray_sum(field: np.ndarray, y: int, x: int, step: tuple[int, int], radius: int) -> float:
    height, width = field.shape
    return sum(
        field[min(max(y + t * step[0], 0), height - 1), min(max(x + t * step[1], 0), width - 1)]
        for t in range(radius + 1)
    )


@pytest.mark.parametrize("splitter", ["A", "B"])
def test_class_energies_are_ray_sums(splitter: str) -> None:
    field = np.random.default_rng(1).random((7, 9))
    energies = class_energies(field, kernel_size=5, splitter=splitter)
    for step, energy in zip(STEPS[splitter], energies, strict=True):
        expected = [[ray_sum(field, y, x, step, 2) for x in range(9)] for y in range(7)]
        np.testing.assert_allclose(energy, expected, rtol=1e-6)


def test_what_is_seen_at_ignored_pixels() -> None:
    labels = np.array([[1, 255, 255, 0]])
    probability = np.array([[0.8, 0.3, 0.4, 0.1]])
    for mode, mask, seen, counted in (
        ("nearest", [1, 1, 0, 0], [0.8, 0.8, 0.1, 0.1], [1, 0, 0, 1]),
        ("exclude", [1, 0, 0, 0], [0.8, 0.0, 0.0, 0.1], [1, 0, 0, 1]),
        ("background", [1, 0, 0, 0], [0.8, 0.3, 0.4, 0.1], [1, 1, 1, 1]),
    ):
        fields = seen_fields(labels, 1, probability, kernel_size=7, ignore_mode=mode)
        for field, expected in zip(fields, (mask, seen, counted), strict=True):
            np.testing.assert_allclose(field, [expected], rtol=1e-6, err_msg=mode)
    assert seen_fields(labels, 1, kernel_size=7)[1] is None


@pytest.mark.parametrize(("mode", "columns"), [("nearest", []), ("exclude", [7, 8, 9]), ("background", [7, 8, 9])])
def test_the_edge_of_an_ignored_area_is_a_line_unless_it_is_filled(mode: str, columns: list[int]) -> None:
    labels = np.ones((8, 30), dtype=np.uint8)
    labels[:, 10:] = 255
    mask, _, position = seen_fields(labels, 1, kernel_size=7, ignore_mode=mode)
    energies = class_energies(mask, kernel_size=7)
    rightwards = compare_lines(energies, energies, position, radius=3)[0]
    assert np.unique(np.nonzero(rightwards.matched)[1]).tolist() == columns


def test_lines_of_a_half_plane_are_r_wide() -> None:
    mask = np.zeros((5, 20))
    mask[:, 10:] = 1
    valid = np.ones(mask.shape, dtype=bool)
    energies = class_energies(mask, kernel_size=7)
    rightwards, leftwards, downwards, upwards = compare_lines(energies, energies, valid, radius=3)
    assert np.array_equal(np.unique(np.nonzero(rightwards.matched)[1]), [7, 8, 9])
    assert np.array_equal(np.unique(np.nonzero(leftwards.matched)[1]), [10, 11, 12])
    assert not downwards.matched.any()
    assert not upwards.matched.any()


@pytest.mark.parametrize("seed", range(3))
def test_predicted_lines_take_the_ranks_of_the_ground_truth(seed: int) -> None:
    generator = np.random.default_rng(seed)
    target = generator.integers(0, 5, (2, 8, 9)).astype(np.float32)
    predicted = generator.permutation(np.linspace(0, 4, 144)).reshape(2, 8, 9).astype(np.float32)
    valid = generator.random((8, 9)) > 0.1
    compared = compare_lines(target, predicted, valid, radius=3)
    for of_class, of_model, lines in zip(target, predicted, compared, strict=True):
        energies = sorted(of_model[valid].tolist())
        chosen = energies[sum(of_class[valid] < 1) : sum(of_class[valid] < 4)]
        of_target = (of_class >= 1) & (of_class <= 3) & valid
        of_prediction = np.isin(of_model, np.array(chosen, dtype=np.float32)) & valid
        assert np.array_equal(lines.matched, of_target & of_prediction)
        assert np.array_equal(lines.missed, of_target & ~of_prediction)
        assert np.array_equal(lines.extra, of_prediction & ~of_target)


@pytest.mark.parametrize("radius", [0, 1, 3, 12])
def test_each_energy_has_its_own_color(radius: int) -> None:
    colors = energy_colors(radius)
    assert len(set(colors)) == len(colors) == radius + 2
    assert (colors[0], colors[-1]) == (OUTSIDE_COLOR, INSIDE_COLOR)
    picture = paint_energies(np.arange(radius + 2, dtype=np.float32)[None], radius)
    assert [tuple(pixel) for pixel in picture[0].tolist()] == colors
    between = paint_energies(np.array([[0.49, 0.51, radius + 1.4]]), radius)
    assert [tuple(pixel) for pixel in between[0].tolist()] == [colors[0], colors[1], colors[-1]]


def test_sheet_without_prediction_shows_every_energy(scene) -> None:
    sheet = potential_sheet(
        scene.image,
        scene.target,
        1,
        kernel_size=7,
        splitter="A",
        palette=scene.palette,
        classes=scene.classes,
    )
    assert sheet.dtype == np.uint8
    for color in energy_colors(3):
        assert (sheet == color).all(axis=2).sum() > 1000


@pytest.mark.parametrize(("splitter", "convolution"), [("A", "anisotropic"), ("C", "anisotropic"), ("A", "standard")])
def test_sheet_with_a_perfect_prediction_has_no_disagreement(scene, splitter: str, convolution: str) -> None:
    def painted(prediction: np.ndarray, color: tuple[int, int, int]) -> int:
        probabilities = (prediction == np.arange(4)[:, None, None]).astype(np.float32)
        sheet = potential_sheet(
            scene.image,
            scene.target,
            1,
            kernel_size=7,
            splitter=splitter,
            convolution=convolution,
            palette=scene.palette,
            classes=scene.classes,
            probabilities=probabilities,
        )
        return int((sheet == color).all(axis=2).sum())

    assert painted(scene.target, MISSED_COLOR) <= 300  # the swatch of the legend
    assert painted(scene.target, EXTRA_COLOR) <= 300
    assert painted(scene.target, MATCHED_COLOR) > 1000
    assert painted(scene.prediction, MISSED_COLOR) > 1000
    assert painted(scene.prediction, EXTRA_COLOR) > 1000


def test_probabilities_of_ignored_pixels_do_not_show(scene) -> None:
    probabilities = np.random.default_rng(0).random((4, *scene.target.shape)).astype(np.float32)
    other = probabilities.copy()
    other[:, scene.target == 255] = 0.25
    for mode in ("nearest", "exclude"):
        arguments = {"kernel_size": 7, "ignore_mode": mode}
        (_, one, _), (_, two, _) = (seen_fields(scene.target, 1, p[1], **arguments) for p in (probabilities, other))
        assert np.array_equal(one, two)


def test_ignored_pixels_are_hatched(scene) -> None:
    def painted(mode: str, probabilities: np.ndarray | None) -> list[int]:
        sheet = potential_sheet(
            scene.image,
            scene.target,
            1,
            kernel_size=7,
            splitter="A",
            palette=scene.palette,
            classes=scene.classes,
            probabilities=probabilities,
            ignore_mode=mode,
            window=(0, 0, 48, 40),
        )
        return [int((sheet == stripes).all(axis=2).sum()) for stripes, _ in (HATCH, HATCH_ON_DARK)]

    probabilities = (scene.prediction == np.arange(4)[:, None, None]).astype(np.float32)
    for mode in ("nearest", "exclude"):
        # A third of 80 ignored pixels, each 6 x 6 in one panel a direction (or two, beside a dark one); the legend.
        assert painted(mode, None)[0] == pytest.approx(4 * 80 * 36 / 3, rel=0.1)
        assert painted(mode, probabilities)[0] == pytest.approx(8 * 80 * 36 / 3, rel=0.1)
        assert painted(mode, probabilities)[1] >= 4 * 80 * 36 / 3 * 0.9
    assert painted("background", probabilities)[0] < 200  # edges of letters


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_id": 4}, r"class_id must be in 0\.\.3, got 4"),
        ({"kernel_size": 4}, "kernel_size .* got 4"),
        ({"splitter": "D"}, "splitter .* got 'D'"),
        ({"window": (0, 0, 49, 3)}, r"window .* 48 x 40 picture, got \(0, 0, 49, 3\)"),
        ({"probabilities": np.zeros((3, 40, 48))}, r"probabilities must be \[4, 40, 48\], got \[3, 40, 48\]"),
    ],
)
def test_bad_arguments_are_named(scene, change: dict, message: str) -> None:
    arguments = {"class_id": 1, "kernel_size": 7, "splitter": "A", **change}
    with pytest.raises(ValueError, match=message):
        potential_sheet(scene.image, scene.target, palette=scene.palette, classes=scene.classes, **arguments)
