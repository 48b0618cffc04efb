"""Two predictions of one image side by side, and the boundary errors that only one of them makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from epl_d2.contours import boundary_errors, within

from .draw import NARROWEST_LEGEND, check_image, colorize, darkened, legend
from .sheet import Color, Panel, grid, page, panel_scale, scaled, scaled_mask, swatches
from .window import densest_window, outlined

FIXED_COLOR: Color = (86, 180, 233)
INTRODUCED_COLOR: Color = (230, 159, 0)
KEPT_COLOR: Color = (170, 170, 170)
# The zoomed panel shows a third of the width: a ninth of the picture.
ZOOM = 3


class ErrorChange(NamedTuple):
    """Boundary errors (missed and invented contour pixels) of two predictions, boolean maps [H, W]."""

    kept: np.ndarray
    """Errors of both."""
    fixed: np.ndarray
    """Errors of the first prediction only."""
    introduced: np.ndarray
    """Errors of the second prediction only."""


def change_of_errors(
    target: np.ndarray, first: np.ndarray, second: np.ndarray, tolerance: int = 2, ignore_value: int = 255
) -> ErrorChange:
    """Compare the boundary errors of two predictions.

    Missed contour pixels lie on the target's contour, the same for both, and are compared pixel by pixel.
    Invented ones lie on each prediction's own contour: those within `tolerance` pixels of each other count as
    one error.

    Args:
        target: ground truth [H, W].
        first, second: predicted labels [H, W].
        tolerance: distance in pixels within which contours match.
        ignore_value: label of the target that takes no part.
    """
    one = boundary_errors(target, first, tolerance, ignore_value)
    two = boundary_errors(target, second, tolerance, ignore_value)
    fixed = (one.missed & ~two.missed) | (one.extra & ~within(two.extra, tolerance))
    introduced = (two.missed & ~one.missed) | (two.extra & ~within(one.extra, tolerance))
    kept = (one.missed | one.extra | two.missed | two.extra) & ~fixed & ~introduced
    return ErrorChange(kept=kept, fixed=fixed, introduced=introduced)


def paint_change(image: np.ndarray, change: ErrorChange, factor: float = 1.0) -> np.ndarray:
    """Errors kept, fixed and introduced on a darkened gray image, resized by `factor`."""
    picture = darkened(image, factor)
    for mask, color in zip(change, (KEPT_COLOR, FIXED_COLOR, INTRODUCED_COLOR), strict=True):
        picture[scaled_mask(mask, factor)] = color
    return picture


def comparison_sheet(
    image: np.ndarray,
    target: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    palette: ArrayLike,
    classes: Sequence[str],
    *,
    names: tuple[str, str] = ("baseline", "EPL"),
    notes: tuple[str, str] = ("", ""),
    tolerance: int = 2,
    ignore_value: int = 255,
    title: str = "",
    panel_width: int = 480,
) -> np.ndarray:
    """One sheet on two predictions: image, ground truth, both predictions, and the change of boundary errors.

    The last panel magnifies the part of the error map in which most has changed.

    Args:
        image: RGB uint8 [H, W, 3].
        target: ground truth [H, W]; pixels of `ignore_value` take no part in the comparison.
        first, second: predicted labels [H, W].
        palette: RGB colors [K, 3].
        classes: K class names; the legend lists those that occur.
        names: what the predictions are called.
        notes: text after their names above the panels, such as scores.
        tolerance: distance in pixels within which contours match.
        ignore_value: label that takes no part.
        title: title of the sheet.
        panel_width: width in pixels to which a panel is brought (enlarged by whole factors only).

    Returns:
        RGB uint8 sheet of two rows with three panels.
    """
    for labels in (target, first, second):
        check_image(image, labels)
    factor = panel_scale(image.shape, panel_width)
    change = change_of_errors(target, first, second, tolerance, ignore_value)
    window = densest_window(change.fixed | change.introduced, max(1, image.shape[1] // ZOOM))
    width = max(1, round(image.shape[1] * factor))
    zoomed = paint_change(window.cut(image), ErrorChange(*map(window.cut, change)), width / window.width)

    def colored(labels: np.ndarray) -> np.ndarray:
        return scaled(colorize(labels, palette, ignore_value), factor)

    body = grid(
        [
            [
                Panel("image", scaled(image, factor)),
                Panel("ground truth", colored(target)),
                Panel("boundary errors", outlined(paint_change(image, change, factor), window, factor)),
            ],
            [
                Panel(f"{names[0]}{notes[0]}", colored(first)),
                Panel(f"{names[1]}{notes[1]}", colored(second)),
                Panel("boundary errors, magnified", zoomed),
            ],
        ]
    )
    marks = [
        (f"of {names[0]} only", FIXED_COLOR),
        (f"of {names[1]} only", INTRODUCED_COLOR),
        ("of both", KEPT_COLOR),
    ]
    full_width = max(body.shape[1], NARROWEST_LEGEND)
    legends = [
        swatches(marks, full_width, "errors"),
        legend(classes, palette, target, first, second, width=full_width, ignore_value=ignore_value),
    ]
    return page([body, np.vstack(legends)], title)
