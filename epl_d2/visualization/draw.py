"""Label maps as pictures: colors, overlays, contours, legends and the sheet that judges one prediction.

Images are RGB uint8 [H, W, 3], label maps integers [H, W], palettes RGB [K, 3] in 0..255.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike

from epl_d2.contours import BoundaryErrors, boundary_errors, contour_line
from epl_d2.contours.lines import check_label_map
from epl_d2.files import write_whole

from .sheet import Color, Panel, grid, page, panel_scale, scaled, scaled_mask, swatches

# VOC's own color for "void"; no class of the supported data sets has it.
IGNORED_COLOR: Color = (224, 224, 192)
# White, orange and sky blue (Okabe and Ito) differ in hue and in lightness for every kind of color vision.
MATCHED_COLOR: Color = (255, 255, 255)
MISSED_COLOR: Color = (230, 159, 0)
EXTRA_COLOR: Color = (86, 180, 233)
NARROWEST_LEGEND = 480


def colorize(
    labels: np.ndarray, palette: ArrayLike, ignore_value: int = 255, ignore_color: Color = IGNORED_COLOR
) -> np.ndarray:
    """Paint a label map [H, W] in the colors of `palette` [K, 3]; returns RGB uint8 [H, W, 3].

    Raises:
        ValueError: a label is neither `ignore_value` nor an index of the palette, or a color is not of integers 0 to
            255.
    """
    check_label_map("labels", labels)
    colors = _as_colors("palette", palette, 2)
    ignored_color = _as_colors("ignore_color", ignore_color, 1)
    ignored = labels == ignore_value
    wrong = ~ignored & ((labels < 0) | (labels >= len(colors)))
    if wrong.any():
        raise ValueError(
            f"labels hold {labels[wrong][0]}, but the palette has the colors 0..{len(colors) - 1} "
            f"(ignore_value is {ignore_value})"
        )
    picture = colors[np.where(ignored, 0, labels)]
    picture[ignored] = ignored_color
    return picture


def overlay(
    image: np.ndarray, labels: np.ndarray, palette: ArrayLike, alpha: float = 0.5, ignore_value: int = 255
) -> np.ndarray:
    """Blend a label map over its image; `alpha` is the share of the colors, ignored pixels stay."""
    check_image(image, labels)
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be in [0, 1], got {alpha}")
    colors = colorize(labels, palette, ignore_value)
    blended = cv2.addWeighted(image, 1 - alpha, colors, alpha, 0)
    return np.where((labels == ignore_value)[..., None], image, blended)


def draw_contours(
    image: np.ndarray, labels: np.ndarray, colors: ArrayLike, width: int = 1, ignore_value: int = 255
) -> np.ndarray:
    """Draw the contours of a label map on a copy of its image.

    Args:
        image: RGB uint8 [H, W, 3].
        labels: label map [H, W].
        colors: one RGB color [3], or a palette [K, 3]; then a contour pixel takes the color of its label.
        width: width of the lines in pixels.
        ignore_value: label that takes no part.

    Raises:
        ValueError: image and labels do not fit each other, or `colors` are not of integers 0 to 255.
    """
    check_image(image, labels)
    lines = contour_line(labels, width, ignore_value)
    one = np.ndim(colors) == 1
    colors = _as_colors("colors", colors, 1 if one else 2)
    picture = image.copy()
    picture[lines] = colors if one else colorize(labels, colors, ignore_value)[lines]
    return picture


def legend(
    classes: Sequence[str],
    palette: ArrayLike,
    *maps: np.ndarray,
    width: int = 640,
    ignore_value: int = 255,
    heading: str = "classes",
) -> np.ndarray:
    """Colors and names of classes as a picture `width` pixels wide.

    Where label maps are given, only the labels that occur in them are listed, "ignored" included.
    """
    colors = _as_colors("palette", palette, 2)
    if len(classes) != len(colors):
        raise ValueError(f"classes and palette must be of one length, got {len(classes)} and {len(colors)}")
    occurring = {label for labels in maps for label in np.unique(labels).tolist()}
    shown = occurring - {ignore_value} if maps else set(range(len(classes)))
    entries = [(name, tuple(colors[i].tolist())) for i, name in enumerate(classes) if i in shown]
    if ignore_value in occurring:
        entries.append(("ignored", IGNORED_COLOR))
    return swatches(entries, width, heading)


def paint_errors(image: np.ndarray, errors: BoundaryErrors, factor: float = 1.0) -> np.ndarray:
    """Contours found, missed and invented on a darkened gray image, resized by `factor`."""
    picture = darkened(image, factor)
    for mask, color in zip(errors, (MATCHED_COLOR, MISSED_COLOR, EXTRA_COLOR), strict=True):
        picture[scaled_mask(mask, factor)] = color
    return picture


def darkened(image: np.ndarray, factor: float = 1.0) -> np.ndarray:
    """A dark gray copy of an RGB image, resized by `factor`: a ground on which colored lines stand out."""
    gray = cv2.cvtColor(scaled(image, factor), cv2.COLOR_RGB2GRAY)
    return np.repeat((gray * 0.4)[..., None].astype(np.uint8), 3, axis=2)


def prediction_sheet(
    image: np.ndarray,
    target: np.ndarray,
    prediction: np.ndarray,
    palette: ArrayLike,
    classes: Sequence[str],
    *,
    tolerance: int = 2,
    ignore_value: int = 255,
    title: str = "",
    panel_width: int | None = None,
) -> np.ndarray:
    """One sheet that judges a prediction: image, ground truth, prediction, and the contours compared.

    In the last panel a contour pixel of the ground truth is white where the prediction has a contour of the
    same class within `tolerance` pixels and orange where it has none; a predicted contour with no true one
    nearby is blue.

    Args:
        image: RGB uint8 [H, W, 3].
        target: ground truth [H, W]; pixels of `ignore_value` take no part in the comparison.
        prediction: predicted labels [H, W].
        palette: RGB colors [K, 3].
        classes: K class names; the legend lists those that occur.
        tolerance: distance in pixels within which contours match.
        ignore_value: label that takes no part.
        title: title of the sheet.
        panel_width: width in pixels to which a panel is brought (enlarged by whole factors only).

    Returns:
        RGB uint8 sheet; four panels in a row, or two rows of two for wide images.
    """
    check_image(image, target)
    check_image(image, prediction)
    wide = image.shape[1] > 1.25 * image.shape[0]
    factor = panel_scale(image.shape, panel_width or (560 if wide else 320))
    errors = boundary_errors(target, prediction, tolerance, ignore_value)
    panels = [
        Panel("image", scaled(image, factor)),
        Panel("ground truth", _colored(target, palette, factor, ignore_value)),
        Panel("prediction", _colored(prediction, palette, factor, ignore_value)),
        Panel("contours", paint_errors(image, errors, factor)),
    ]
    body = grid([panels[:2], panels[2:]] if wide else [panels])
    marks = [
        (f"found (within {tolerance} px)", MATCHED_COLOR),
        ("missed", MISSED_COLOR),
        ("not in the ground truth", EXTRA_COLOR),
    ]
    width = max(body.shape[1], NARROWEST_LEGEND)
    names = legend(classes, palette, target, prediction, width=width, ignore_value=ignore_value)
    return page([body, np.vstack([names, swatches(marks, width, "contours")])], title)


def write_png(path: str | os.PathLike[str], rgb: np.ndarray) -> None:
    """Write an RGB uint8 picture [H, W, 3] as PNG, through a temporary name: no half file stands there.

    Missing folders are made.

    Raises:
        ValueError: the name does not end in .png, or the picture is no RGB uint8 array.
        OSError: the file cannot be written; the error names `path`, or its folder where that cannot be made.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"a picture is written as .png, got the name {path}")
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ValueError(f"{path}: a picture must be uint8 [H, W, 3], got {rgb.dtype} of shape {rgb.shape}")
    _, encoded = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    write_whole(path, lambda temporary: temporary.write_bytes(encoded.tobytes()))


def _colored(labels: np.ndarray, palette: ArrayLike, factor: float, ignore_value: int) -> np.ndarray:
    return scaled(colorize(labels, palette, ignore_value), factor)


def _as_colors(name: str, colors: ArrayLike, ndim: int) -> np.ndarray:
    """The argument `name` as uint8: one RGB color [3] where `ndim` is 1, a palette [K, 3] where it is 2."""
    array = np.asarray(colors)
    expected = f"{name} must be RGB {'[3]' if ndim == 1 else '[K, 3]'} of integers 0 to 255"
    if array.ndim != ndim or array.shape[-1] != 3:
        raise ValueError(f"{expected}, got shape {array.shape}")
    # Other types than integers are all wrong: 1.0 may stand for 1 or for 255.
    wrong = (array < 0) | (array > 255) if np.issubdtype(array.dtype, np.integer) else np.ones(array.shape, bool)
    if wrong.any():
        raise ValueError(f"{expected}, got {array[wrong][0]} ({array.dtype})")
    return array.astype(np.uint8)


def check_image(image: np.ndarray, labels: np.ndarray) -> None:
    """Raise a ValueError unless `image` is RGB uint8 of the size of the label map `labels`."""
    check_label_map("labels", labels)
    if image.dtype != np.uint8 or image.shape != (*labels.shape, 3):
        raise ValueError(f"image must be uint8 [H, W, 3] for labels {labels.shape}, got {image.dtype} {image.shape}")
