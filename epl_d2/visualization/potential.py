"""Pictures of the method: potential fields, equipotential lines, and the line regions of the line loss.

Fields and regions come from `epl_d2.losses`, so that a picture shows what the losses see.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import torch
from numpy.typing import ArrayLike

from epl_d2.contours import BoundaryErrors
from epl_d2.losses.defaults import IGNORE_MODE
from epl_d2.losses.formulas import predicted_region
from epl_d2.losses.potential import directions_of, potential_field
from epl_d2.losses.target import make_target

from .draw import (
    EXTRA_COLOR,
    MATCHED_COLOR,
    MISSED_COLOR,
    check_image,
    colorize,
    legend,
    paint_errors,
)
from .sheet import (
    HATCH_ON_DARK,
    Color,
    Panel,
    color_bar,
    grid,
    hatched,
    page,
    panel_scale,
    scaled,
    scaled_mask,
    swatches,
)
from .window import Window, densest_window, framed_window

OUTSIDE_COLOR: Color = (236, 236, 236)
INSIDE_COLOR: Color = (84, 84, 92)
ARROWS = {
    (0, 1): "→",
    (0, -1): "←",
    (1, 0): "↓",
    (-1, 0): "↑",
    (1, 1): "↘",
    (-1, -1): "↖",
    (1, -1): "↙",
    (-1, 1): "↗",
}
PER_ROW = 4


def seen_fields(
    labels: np.ndarray,
    class_id: int,
    probability: np.ndarray | None = None,
    *,
    kernel_size: int,
    ignore_mode: str = IGNORE_MODE,
    ignore_value: int = 255,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Mask and probability of a class as the rays of the losses see them, and where the losses count.

    Args:
        labels: ground truth [H, W].
        class_id: the class.
        probability: of the class [H, W], predicted.
        kernel_size: its rays bound how far pixels are filled.
        ignore_mode: what is seen at ignored pixels, as in `epl_d2.losses.EPLLoss`.
        ignore_value: label of ignored pixels.

    Returns:
        float32 [H, W] each, None without a probability, and boolean [H, W]: the pixels that are in means and ranks.
    """
    target = make_target(torch.from_numpy(labels.astype(np.int64))[None], ignore_value, ignore_mode, kernel_size // 2)
    seen, position = target.seen[0], target.position[0] >= 0
    mask = (seen == class_id).float().numpy()
    if probability is None:
        return mask, None, position.numpy()
    field = torch.where(position, torch.from_numpy(probability).float(), 0)[None, None]
    if target.fill is not None:
        field = target.fill.gather(field)
    return mask, torch.where(seen >= 0, field[0, 0], 0).numpy(), position.numpy()


def class_energies(
    field: np.ndarray,
    *,
    kernel_size: int,
    splitter: str = "A",
    padding: str = "replicate",
    convolution: str = "anisotropic",
) -> np.ndarray:
    """Potential energies [S, H, W] of one class in every direction, in 0..r+1 with r = kernel_size // 2.

    Args:
        field: the class's mask or probability [H, W], as `seen_fields` gives them.
        kernel_size, splitter, padding, convolution: as in `epl_d2.losses.potential_field`.
    """
    fields = torch.from_numpy(field.astype(np.float32))[None, None]
    energies = potential_field(fields, kernel_size, splitter, padding, convolution)
    return energies[0, :, 0].numpy()


def compare_lines(target: np.ndarray, predicted: np.ndarray, position: np.ndarray, radius: int) -> list[BoundaryErrors]:
    """Line regions of a class, target against equal-count prediction, one entry for each direction.

    Args:
        target, predicted: energies [S, H, W].
        position: boolean [H, W]; other pixels are in no region.
        radius: r; the lines of the target are where 1 <= E < r + 1.
    """
    energies = (torch.from_numpy(field)[None, :, None] for field in (target, predicted))
    regions = predicted_region(*energies, torch.from_numpy(position)[None, None], radius)
    target_lines, predicted_lines = (region[0, :, 0].numpy() for region in regions)
    return [
        BoundaryErrors(matched=target & predicted, missed=target & ~predicted, extra=predicted & ~target)
        for target, predicted in zip(target_lines, predicted_lines, strict=True)
    ]


def energy_colors(radius: int) -> list[Color]:
    """One color for each integer energy 0..r+1: gray outside and inside of the class, vivid on the lines."""
    samples = matplotlib.colormaps["plasma"](np.linspace(0.08, 0.9, max(radius, 1)))[:radius, :3]
    lines = [tuple(round(255 * channel) for channel in color) for color in samples.tolist()]
    return [OUTSIDE_COLOR, *lines, INSIDE_COLOR]


def paint_energies(energies: np.ndarray, radius: int) -> np.ndarray:
    """RGB picture of energies [H, W]; others than integers take the color of the nearest integer."""
    levels = np.clip(np.floor(energies + 0.5), 0, radius + 1).astype(np.intp)
    return np.asarray(energy_colors(radius), dtype=np.uint8)[levels]


def potential_sheet(
    image: np.ndarray,
    labels: np.ndarray,
    class_id: int,
    *,
    kernel_size: int,
    splitter: str,
    palette: ArrayLike,
    classes: Sequence[str],
    probabilities: np.ndarray | None = None,
    window: tuple[int, int, int, int] | None = None,
    padding: str = "replicate",
    convolution: str = "anisotropic",
    ignore_mode: str = IGNORE_MODE,
    ignore_value: int = 255,
    title: str = "",
    panel_width: int = 288,
    zoom_width: int = 96,
) -> np.ndarray:
    """One sheet on the potential fields of a class: every direction, the lines in their energies' colors.

    With probabilities, each direction has three panels: the energies of the ground truth, those of the
    prediction, and both line regions on the dark image: white where they agree, orange where only the ground
    truth has a line, blue where only the (equal-count) prediction has one. The share of common line pixels
    above them is that of the whole picture. Pixels that the losses do not count are hatched.

    Args:
        image: RGB uint8 [H, W, 3].
        labels: ground truth [H, W].
        class_id: the class whose fields are shown.
        kernel_size, splitter, padding, convolution: as in `epl_d2.losses.potential_field`.
        palette: RGB colors [K, 3].
        classes: K class names.
        probabilities: predicted probabilities [K, H, W].
        window: (x, y, width, height) of the part that the fields show; by default the window of `zoom_width`
            pixels with the most line pixels. The fields are always computed on the whole picture.
        ignore_mode: what rays see at ignored pixels, as in `epl_d2.losses.EPLLoss`.
        ignore_value: label of ignored pixels.
        title: title of the sheet; by default it names the class, the kernel size and the splitter.
        panel_width: width in pixels to which a panel is brought (enlarged by whole factors only).
        zoom_width: width of the automatic window in pixels.

    Returns:
        RGB uint8 sheet.

    Raises:
        ValueError: an argument does not fit; the message names it.
    """
    check_image(image, labels)
    if not 0 <= class_id < len(classes):
        raise ValueError(f"class_id must be in 0..{len(classes) - 1}, got {class_id}")
    expected = (len(classes), *labels.shape)
    if probabilities is not None and probabilities.shape != expected:
        raise ValueError(f"probabilities must be {list(expected)}, got {list(probabilities.shape)}")
    if zoom_width < 1:
        raise ValueError(f"zoom_width must be at least 1 pixel, got {zoom_width}")
    kernel = {
        "kernel_size": kernel_size,
        "splitter": splitter,
        "padding": padding,
        "convolution": convolution,
    }
    radius = kernel_size // 2
    mask, probability, position = seen_fields(
        labels,
        class_id,
        None if probabilities is None else probabilities[class_id],
        kernel_size=kernel_size,
        ignore_mode=ignore_mode,
        ignore_value=ignore_value,
    )
    target = class_energies(mask, **kernel)
    predicted = target if probability is None else class_energies(probability, **kernel)
    lines = compare_lines(target, predicted, position, radius)
    if window is None:
        view = densest_window(np.sum(lines, axis=(0, 1)), zoom_width)
    else:
        view = Window(*window)
        view.check(labels.shape)
    factor = panel_scale((view.height, view.width), panel_width)
    width = max(1, round(view.width * factor))

    uncounted = scaled_mask(view.cut(~position), factor)

    def zoomed(energies: np.ndarray) -> np.ndarray:
        return hatched(scaled(paint_energies(view.cut(energies), radius), factor), uncounted)

    def compared(line: BoundaryErrors) -> np.ndarray:
        picture = paint_errors(view.cut(image), BoundaryErrors(*map(view.cut, line)), factor)
        return hatched(picture, uncounted, HATCH_ON_DARK)

    name = classes[class_id]
    arrows = [ARROWS[step] for step in directions_of(splitter)] if convolution == "anisotropic" else [""]
    overview = [
        Panel("image", framed_window(image, view, width, smooth=True)),
        Panel("ground truth", framed_window(colorize(labels, palette, ignore_value), view, width)),
    ]
    if probabilities is None:
        fields = [
            Panel(f"energy of {name}  {arrow}", zoomed(field)) for arrow, field in zip(arrows, target, strict=True)
        ]
        rows = _beside(overview, fields)
        maps = [labels]
    else:
        prediction = probabilities.argmax(axis=0)
        overview += [
            Panel("prediction", framed_window(colorize(prediction, palette, ignore_value), view, width)),
            Panel(f"probability of {name}", framed_window(_gray(probabilities[class_id]), view, width, True)),
        ]
        triples = [
            (
                Panel(f"ground truth, {name}  {arrow}", zoomed(target_energies)),
                Panel(f"prediction, {name}  {arrow}", zoomed(predicted_energies)),
                Panel(f"lines shared: {_share(line):.0%}", compared(line)),
            )
            for arrow, target_energies, predicted_energies, line in zip(arrows, target, predicted, lines, strict=True)
        ]
        rows = [overview, *_below(triples)]
        maps = [labels, prediction]
    body = grid(rows)
    full_width = body.shape[1]
    levels = ["0 (outside)", *map(str, range(1, radius + 1)), f"{radius + 1} (inside)"]
    notes = [color_bar(energy_colors(radius), levels, full_width, "energy", "" if position.all() else "not counted")]
    if probabilities is not None:
        marks = [
            ("both", MATCHED_COLOR),
            ("ground truth only", MISSED_COLOR),
            ("prediction only", EXTRA_COLOR),
        ]
        notes.append(swatches(marks, full_width, "lines"))
    notes.append(legend(classes, palette, *maps, width=full_width, ignore_value=ignore_value))
    if not title:
        kind = f"splitter {splitter}" if convolution == "anisotropic" else "standard convolution"
        title = f"Potential fields of “{name}”, kernel size {kernel_size}, {kind}"
    return page([body, np.vstack(notes)], title)


def _share(lines: BoundaryErrors) -> float:
    """Share of the line region that is common to both; both have one size."""
    count = np.count_nonzero(lines.matched) + np.count_nonzero(lines.missed)
    return np.count_nonzero(lines.matched) / count if count else 1.0


def _beside(overview: list[Panel], fields: list[Panel]) -> list[list[Panel]]:
    """Image above ground truth in the first column, the fields in two rows beside them."""
    if len(fields) == 1:
        return [overview + fields]
    half = len(fields) // 2
    return [[overview[0], *fields[:half]], [overview[1], *fields[half:]]]


def _below(triples: list[tuple[Panel, Panel, Panel]]) -> list[list[Panel]]:
    """Directions side by side, at most four, and the three panels of each below each other."""
    if len(triples) == 1:
        return [list(triples[0])]
    return [
        [triple[kind] for triple in triples[start : start + PER_ROW]]
        for start in range(0, len(triples), PER_ROW)
        for kind in range(3)
    ]


def _gray(probability: np.ndarray) -> np.ndarray:
    levels = np.clip(np.rint(probability * 255), 0, 255).astype(np.uint8)
    return np.repeat(levels[..., None], 3, axis=2)
