"""Layout of picture sheets: titled panels in a grid, with legends and a discrete color bar below.

Everything is an RGB uint8 array [H, W, 3]. Pictures are enlarged by whole factors without interpolation, so
that a pixel of a label map stays a sharp square; text is drawn with the font that Matplotlib brings along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]

PAGE: Color = (255, 255, 255)
INK: Color = (38, 38, 38)
FAINT: Color = (112, 112, 112)
FRAME: Color = (196, 196, 196)
# Stripes and the ground between them.
HATCH: tuple[Color, Color] = ((150, 150, 150), (255, 255, 255))
HATCH_ON_DARK: tuple[Color, Color] = ((84, 84, 84), (48, 48, 48))
HATCH_PERIOD = 6
MARGIN = 18
GAP = 14
TITLE_SIZE = 16
TEXT_SIZE = 14
SMALLEST_SIZE = 8
NARROWEST_COLUMN = 110
SWATCH = 16
HEADING_WIDTH = 88


@dataclass(frozen=True)
class Panel:
    """A picture with a title above it."""

    title: str
    picture: np.ndarray


def panel_scale(shape: Sequence[int], width: int = 320) -> float:
    """Factor that fits `shape` [H, W, ...] into about `width` x 1.5 `width` pixels, whole if it enlarges."""
    factor = min(width / shape[1], 1.5 * width / shape[0])
    return float(round(factor)) if factor >= 1 else factor


def scaled(picture: np.ndarray, factor: float) -> np.ndarray:
    """Resize an RGB picture: nearest neighbor when it grows, area average when it shrinks."""
    interpolation = cv2.INTER_NEAREST if factor >= 1 else cv2.INTER_AREA
    return cv2.resize(picture, _scaled_size(picture, factor), interpolation=interpolation)


def scaled_mask(mask: np.ndarray, factor: float) -> np.ndarray:
    """Resize a boolean map; when it shrinks, a pixel that covers a marked one is marked: thin lines stay."""
    interpolation = cv2.INTER_NEAREST if factor >= 1 else cv2.INTER_AREA
    return cv2.resize(mask.astype(np.float32), _scaled_size(mask, factor), interpolation=interpolation) > 0


def hatched(picture: np.ndarray, mask: np.ndarray, colors: tuple[Color, Color] = HATCH) -> np.ndarray:
    """A copy of an RGB picture with diagonal stripes where a boolean mask of its size is True."""
    y, x = np.indices(mask.shape, sparse=True)
    stripes = np.where(((x + y) % HATCH_PERIOD < HATCH_PERIOD // 3)[..., None], *np.array(colors, np.uint8))
    return np.where(mask[..., None], stripes, picture)


def grid(rows: Sequence[Sequence[Panel]]) -> np.ndarray:
    """Panels in rows, left-aligned; a column is as wide, a row as high as its largest picture."""
    columns = max(len(row) for row in rows)
    widths = [
        max(NARROWEST_COLUMN, *(row[column].picture.shape[1] for row in rows if column < len(row)))
        for column in range(columns)
    ]
    heights = [max(panel.picture.shape[0] for panel in row) for row in rows]
    title_height = TITLE_SIZE + 10
    body_height = sum(heights) + len(rows) * title_height + (len(rows) - 1) * GAP
    drawing = Image.fromarray(_page(body_height, sum(widths) + (columns - 1) * GAP))
    pen = ImageDraw.Draw(drawing)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        left = 0
        for panel, width in zip(row, widths, strict=False):
            font = _fitting_font(panel.title, TITLE_SIZE, width)
            pen.text((left, top + title_height - 7), panel.title, fill=INK, font=font, anchor="ls")
            drawing.paste(Image.fromarray(_framed(panel.picture)), (left, top + title_height))
            left += width + GAP
        top += title_height + height + GAP
    return np.asarray(drawing)


def swatches(entries: Sequence[tuple[str, Color]], width: int, heading: str = "") -> np.ndarray:
    """A legend of color squares with names, wrapped to `width` pixels, after an optional heading."""
    font = _font(TEXT_SIZE)
    line_height = SWATCH + 8
    start = _heading_width(heading)
    places: list[tuple[int, int]] = []
    x = start
    line = 0
    for name, _ in entries:
        needed = SWATCH + 7 + round(font.getlength(name))
        if x > start and x + needed > width:
            x, line = start, line + 1
        places.append((x, line))
        x += needed + 20
    drawing = Image.fromarray(_page((line + 1) * line_height, width))
    pen = ImageDraw.Draw(drawing)
    pen.text((0, line_height // 2), heading, fill=FAINT, font=font, anchor="lm")
    for (name, color), (x, line) in zip(entries, places, strict=True):
        top = line * line_height + 4
        pen.rectangle((x, top, x + SWATCH - 1, top + SWATCH - 1), fill=color, outline=FRAME)
        pen.text((x + SWATCH + 7, top + SWATCH // 2), name, fill=INK, font=font, anchor="lm")
    return np.asarray(drawing)


def color_bar(
    colors: Sequence[Color], names: Sequence[str], width: int, heading: str = "", hatched_name: str = ""
) -> np.ndarray:
    """A discrete color bar: one named block for each color, side by side, after an optional heading.

    With a `hatched_name` a hatched block follows.
    """
    if hatched_name:
        colors, names = [*colors, HATCH[1]], [*names, hatched_name]
    font = _font(TEXT_SIZE)
    start = _heading_width(heading)
    widest = max(font.getlength(name) for name in names)
    block = min((width - start) // len(colors), max(48, round(widest) + 16))
    height = 20
    drawing = Image.fromarray(_page(height + TEXT_SIZE + 10, width))
    pen = ImageDraw.Draw(drawing)
    pen.text((0, height // 2), heading, fill=FAINT, font=font, anchor="lm")
    for i, (color, name) in enumerate(zip(colors, names, strict=True)):
        left = start + i * block
        pen.rectangle((left, 0, left + block, height), fill=color, outline=FRAME)
        small = _fitting_font(name, TEXT_SIZE, block - 2)
        pen.text((left + block // 2, height + 5), name, fill=INK, font=small, anchor="mt")
    picture = np.asarray(drawing)
    if hatched_name:
        last = np.zeros(picture.shape[:2], bool)
        last[1:height, left + 1 : left + block] = True
        picture = hatched(picture, last)
    return picture


def page(parts: Sequence[np.ndarray], title: str = "") -> np.ndarray:
    """Put parts below each other on a white page with a margin, under an optional title."""
    width = max(part.shape[1] for part in parts)
    head = 36 if title else 0
    height = head + sum(part.shape[0] for part in parts) + (len(parts) - 1) * GAP
    sheet = _page(height + 2 * MARGIN, width + 2 * MARGIN)
    top = MARGIN + head
    for part in parts:
        sheet[top : top + part.shape[0], MARGIN : MARGIN + part.shape[1]] = part
        top += part.shape[0] + GAP
    if title:
        drawing = Image.fromarray(sheet)
        font = _fitting_font(title, TITLE_SIZE + 4, width, bold=True)
        ImageDraw.Draw(drawing).text((MARGIN, MARGIN + 18), title, fill=INK, font=font, anchor="ls")
        sheet = np.asarray(drawing)
    return sheet


def _heading_width(heading: str) -> int:
    """Room for the heading of a legend: one column for short headings, so that legends align."""
    return max(HEADING_WIDTH, round(_font(TEXT_SIZE).getlength(heading)) + 16) if heading else 0


def _page(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), PAGE, dtype=np.uint8)


def _framed(picture: np.ndarray) -> np.ndarray:
    framed = picture.copy()
    cv2.rectangle(framed, (0, 0), (picture.shape[1] - 1, picture.shape[0] - 1), FRAME, 1)
    return framed


def _scaled_size(picture: np.ndarray, factor: float) -> tuple[int, int]:
    return max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor))


def _fitting_font(text: str, size: int, width: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The largest font up to `size` in which `text` fits into `width` pixels."""
    while size > SMALLEST_SIZE and _font(size, bold).getlength(text) > width:
        size -= 1
    return _font(size, bold)


@cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", name)), size)
