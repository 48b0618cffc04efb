"""Pictures of one training sample: what went in, what was wanted, what came out, and one potential field of both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from epl_d2.contours import contour_line
from epl_d2.contours.nearest import nearest_valid
from epl_d2.losses.defaults import IGNORE_MODE
from epl_d2.losses.potential import directions_of

from .draw import check_image, colorize
from .potential import ARROWS, class_energies, paint_energies, seen_fields
from .sheet import Panel, grid, hatched

__all__ = ["longest_contour", "training_pictures"]


def training_pictures(
    image: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    *,
    palette: ArrayLike,
    classes: Sequence[str],
    kernel_size: int,
    splitter: str,
    convolution: str = "anisotropic",
    ignore_mode: str = IGNORE_MODE,
    ignore_value: int = 255,
) -> dict[str, np.ndarray]:
    """Four pictures of a sample, RGB uint8.

    Args:
        image: the augmented picture, RGB uint8 [H, W, 3].
        labels: ground truth [H, W].
        probabilities: of the model [K, H, W].
        palette: RGB colors [K, 3].
        classes: K class names.
        kernel_size, splitter, convolution: as in `epl_d2.losses.potential_field`; the first direction is shown.
        ignore_mode: what rays see at ignored pixels, as in `epl_d2.losses.EPLLoss`.
        ignore_value: label of ignored pixels.

    Returns:
        "input", "target" and "prediction", [H, W, 3], and "potential": the energies of the class with the longest
        contour, ground truth beside prediction, in the colors of `energy_colors`; hatched where no loss counts.
    """
    check_image(image, labels)
    prediction = probabilities.argmax(axis=0)
    class_id = longest_contour(labels, len(classes), ignore_value)
    mask, probability, position = seen_fields(
        labels,
        class_id,
        probabilities[class_id],
        kernel_size=kernel_size,
        ignore_mode=ignore_mode,
        ignore_value=ignore_value,
    )
    arrow = ARROWS[directions_of(splitter)[0]] if convolution == "anisotropic" else ""
    panels = []
    for title, field in (("ground truth", mask), ("prediction", probability)):
        energies = class_energies(field, kernel_size=kernel_size, splitter=splitter, convolution=convolution)
        picture = hatched(paint_energies(energies[0], kernel_size // 2), ~position)
        panels.append(Panel(f"{title}, {classes[class_id]} {arrow}", picture))
    return {
        "input": image,
        "target": colorize(labels, palette, ignore_value),
        "prediction": colorize(prediction, palette, ignore_value=-1),
        "potential": grid([panels]),
    }


def longest_contour(labels: np.ndarray, num_classes: int, ignore_value: int = 255) -> int:
    """The class with the most contour pixels; without any contour that with the most pixels, or 0.

    Contours lie in the middle of ignored rims as well.
    """
    filled = nearest_valid(labels, ignore_value)
    for chosen in (filled[contour_line(filled, ignore_value=ignore_value)], labels[labels != ignore_value]):
        if chosen.size:
            return int(np.bincount(chosen.ravel(), minlength=num_classes).argmax())
    return 0
