"""Colors, overlays, contour drawings, legends and the prediction sheet."""

from __future__ import annotations

import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from epl_d2.contours import boundary_errors, contour_line
from epl_d2.visualization import (
    colorize,
    draw_contours,
    legend,
    overlay,
    prediction_sheet,
    write_png,
)
from epl_d2.visualization.draw import EXTRA_COLOR, IGNORED_COLOR, MATCHED_COLOR, MISSED_COLOR


def colors_in(picture: np.ndarray) -> set[tuple[int, ...]]:
    return set(map(tuple, picture.reshape(-1, 3).tolist()))


def test_colorize_paints_each_label(scene) -> None:
    picture = colorize(scene.target, scene.palette)
    for label in np.unique(scene.target):
        expected = IGNORED_COLOR if label == 255 else scene.palette[label]
        assert (picture[scene.target == label] == expected).all()


def test_colorize_takes_wide_types_and_other_ignore_values() -> None:
    labels = np.array([[0, 1], [65535, 1]], dtype=np.uint16)
    picture = colorize(labels, [(1, 2, 3), (4, 5, 6)], ignore_value=65535)
    assert picture.tolist() == [[[1, 2, 3], [4, 5, 6]], [list(IGNORED_COLOR), [4, 5, 6]]]


@pytest.mark.parametrize("label", [4, -1])
def test_colorize_names_a_label_beyond_the_palette(label: int, scene) -> None:
    with pytest.raises(ValueError, match=rf"labels hold {label}, but the palette has the colors 0\.\.3"):
        colorize(np.array([[0, label]]), scene.palette)


@pytest.mark.parametrize(
    ("color", "bad"),
    [
        ((0.5, 0.25, 0.75), r"0\.5 \(float64\)"),  # of matplotlib, say, where 1.0 is 255
        ((3, 256, 0), "256"),
        ((3, 4, -1), "-1"),
        ((True, False, True), "bool"),
        ((float("nan"), 0, 0), "nan"),
    ],
)
def test_colors_of_other_numbers_are_named(color, bad: str, scene) -> None:
    palette = [color, *scene.palette[1:]]
    message = rf" must be RGB .* of integers 0 to 255, got .*{bad}"
    for draw in (colorize, lambda labels, colors: overlay(scene.image, labels, colors)):
        with pytest.raises(ValueError, match=f"^palette{message}"):
            draw(scene.target, [color] * 4 if bad == "bool" else palette)
    for colors in (color, [color] * 4):
        with pytest.raises(ValueError, match=f"^colors{message}"):
            draw_contours(scene.image, scene.target, colors)
    with pytest.raises(ValueError, match=f"^ignore_color{message}"):
        colorize(scene.target, scene.palette, ignore_color=color)
    with pytest.raises(ValueError, match=f"^palette{message}"):
        legend(scene.classes, [color] * 4)


@pytest.mark.parametrize("shape", [(3,), (0,), (4, 4), (2, 2, 3)])
def test_palettes_of_other_shapes_are_named(shape: tuple[int, ...], scene) -> None:
    with pytest.raises(ValueError, match=rf"^palette must be RGB \[K, 3\].*, got shape {re.escape(str(shape))}"):
        colorize(scene.target, np.zeros(shape, np.uint8))
    if shape != (3,):
        with pytest.raises(ValueError, match=r"^colors must be RGB"):
            draw_contours(scene.image, scene.target, np.zeros(shape, np.uint8))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_the_first_and_the_last_color_are_painted_as_they_are(dtype: type, scene) -> None:
    palette = np.array([[0, 0, 0], [255, 255, 255], [0, 255, 0], [1, 1, 1]], dtype)
    assert np.array_equal(
        colorize(scene.target, palette)[scene.target != 255], palette[scene.target[scene.target != 255]]
    )
    lines = contour_line(scene.target)
    assert (draw_contours(scene.image, scene.target, palette[1])[lines] == 255).all()


def test_overlay_mixes_and_leaves_ignored_pixels(scene) -> None:
    picture = overlay(scene.image, scene.target, scene.palette, alpha=0.25)
    ignored = scene.target == 255
    expected = 0.75 * scene.image + 0.25 * colorize(scene.target, scene.palette)
    assert np.array_equal(picture[ignored], scene.image[ignored])
    assert np.abs(picture[~ignored] - expected[~ignored]).max() <= 0.5 + 1e-6
    assert np.array_equal(overlay(scene.image, scene.target, scene.palette, alpha=0), scene.image)


def test_draw_contours_changes_contour_pixels_only(scene) -> None:
    before = scene.image.copy()
    lines = contour_line(scene.target)
    plain = draw_contours(scene.image, scene.target, (255, 0, 255))
    assert (plain[lines] == (255, 0, 255)).all()
    assert np.array_equal(plain[~lines], scene.image[~lines])
    by_class = draw_contours(scene.image, scene.target, scene.palette)
    assert np.array_equal(by_class[lines], colorize(scene.target, scene.palette)[lines])
    assert np.array_equal(scene.image, before)


def test_legend_lists_what_occurs(scene) -> None:
    whole = legend(scene.classes, scene.palette, width=300)
    assert whole.shape[1] == 300
    assert set(scene.palette) <= colors_in(whole)
    some = legend(scene.classes, scene.palette, np.array([[1, 255]]), width=300)
    assert {scene.palette[1], IGNORED_COLOR} <= colors_in(some)
    assert not colors_in(some) & {scene.palette[0], scene.palette[2], scene.palette[3]}


def test_legend_wraps_instead_of_cutting(scene) -> None:
    narrow = legend(scene.classes, scene.palette, width=200)
    assert narrow.shape[1] == 200
    assert narrow.shape[0] > legend(scene.classes, scene.palette, width=600).shape[0]
    assert set(scene.palette) <= colors_in(narrow)


@pytest.mark.parametrize("size", [(40, 48), (48, 40), (30, 90), (1, 1), (3, 700), (700, 3)])
def test_prediction_sheet_of_any_size(size: tuple[int, int], scene) -> None:
    image, target, prediction = (
        cv2.resize(picture, size[::-1], interpolation=cv2.INTER_NEAREST)
        for picture in (scene.image, scene.target, scene.prediction)
    )
    sheet = prediction_sheet(image, target, prediction, scene.palette, scene.classes, title="scene")
    assert sheet.dtype == np.uint8
    assert sheet.ndim == 3
    assert (sheet[0] == 255).all()
    assert (sheet[:, 0] == 255).all()


def test_prediction_sheet_shows_each_kind_of_contour(scene) -> None:
    errors = boundary_errors(scene.target, scene.prediction, tolerance=2)
    sheet = prediction_sheet(scene.image, scene.target, scene.prediction, scene.palette, scene.classes)
    factor = round(320 / 48)
    # A contour pixel becomes a square of factor^2 pixels; the legend adds one swatch of each color.
    for mask, color in ((errors.missed, MISSED_COLOR), (errors.extra & ~errors.missed, EXTRA_COLOR)):
        painted = int((sheet == color).all(axis=2).sum())
        assert mask.any()
        assert 0.95 * mask.sum() * factor**2 <= painted <= mask.sum() * factor**2 + 400
    perfect = prediction_sheet(scene.image, scene.target, scene.target, scene.palette, scene.classes)
    assert int((perfect == MISSED_COLOR).all(axis=2).sum()) <= 400
    assert MATCHED_COLOR in colors_in(perfect)


def test_sheet_refuses_another_size(scene) -> None:
    with pytest.raises(ValueError, match=r"image must be uint8 \[H, W, 3\] for labels \(39, 48\)"):
        prediction_sheet(scene.image, scene.target[1:], scene.prediction[1:], scene.palette, scene.classes)
    with pytest.raises(ValueError, match="classes and palette"):
        prediction_sheet(scene.image, scene.target, scene.prediction, scene.palette, scene.classes[:2])


def test_write_png_keeps_the_picture_and_makes_folders(tmp_path: Path, scene) -> None:
    path = tmp_path / "new" / "picture.png"
    write_png(path, scene.image)
    assert np.array_equal(cv2.imread(str(path))[..., ::-1], scene.image)
    assert os.listdir(path.parent) == ["picture.png"]


def test_write_png_names_the_path_and_keeps_the_old_file(tmp_path: Path, scene, monkeypatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    with pytest.raises(OSError, match=r"File exists: .*/file"):
        write_png(blocked / "picture.png", scene.image)

    path = tmp_path / "picture.png"
    path.write_bytes(b"old")

    def full_disk(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match=r"No space left on device.*picture\.png"):
        write_png(path, scene.image)
    assert path.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["file", "picture.png"]


def test_write_png_refuses_other_names_and_arrays(tmp_path: Path, scene) -> None:
    with pytest.raises(ValueError, match=r"\.png.*picture\.jpg"):
        write_png(tmp_path / "picture.jpg", scene.image)
    with pytest.raises(ValueError, match=r"uint8 \[H, W, 3\], got float"):
        write_png(tmp_path / "picture.png", scene.image / 255)
