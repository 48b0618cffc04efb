"""A window into a picture: what a zoomed panel shows, found where most happens and framed on the whole."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from .sheet import Color

WINDOW_COLOR: Color = (255, 255, 255)


class Window(NamedTuple):
    """A part of a picture, in pixels."""

    x: int
    y: int
    width: int
    height: int

    def cut(self, picture: np.ndarray) -> np.ndarray:
        """The part of a picture [H, W, ...] that lies in the window."""
        return picture[self.y : self.y + self.height, self.x : self.x + self.width]

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise a ValueError unless the window lies in a picture of `shape` [H, W, ...]."""
        right, bottom = self.x + self.width, self.y + self.height
        positive = min(self.x, self.y) >= 0 and min(self.width, self.height) >= 1
        if not positive or right > shape[1] or bottom > shape[0]:
            raise ValueError(
                f"window (x, y, width, height) must lie in the {shape[1]} x {shape[0]} picture, got {tuple(self)}"
            )


def densest_window(weights: np.ndarray, width: int) -> Window:
    """The window `width` pixels wide, of the picture's proportions, with the most of `weights` [H, W].

    Where many windows hold as much, the one nearest to their middle is taken: a small object is centered.
    """
    full_height, full_width = weights.shape
    width = min(width, full_width)
    height = max(1, round(full_height * width / full_width))
    sums = cv2.integral(weights.astype(np.float64))
    inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    best = np.argwhere(inside == inside.max())
    y, x = best[np.argmin(((best - best.mean(axis=0)) ** 2).sum(axis=1))].tolist()
    return Window(x, y, width, height)


def framed_window(picture: np.ndarray, window: Window, width: int, smooth: bool = False) -> np.ndarray:
    """The whole picture [H, W, 3] brought to `width` pixels, with a frame around the window.

    Label colors are not interpolated unless `smooth`.
    """
    ratio = width / picture.shape[1]
    height = max(1, round(picture.shape[0] * ratio))
    interpolation = cv2.INTER_NEAREST if not smooth else cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
    return outlined(cv2.resize(picture, (width, height), interpolation=interpolation), window, ratio)


def outlined(picture: np.ndarray, window: Window, ratio: float = 1.0) -> np.ndarray:
    """A copy of a picture with a frame around the window; the picture has been resized by `ratio`.

    A window that is the whole picture has no frame.
    """
    outlined = picture.copy()
    left, top = round(window.x * ratio), round(window.y * ratio)
    right, bottom = (
        round((window.x + window.width) * ratio) - 1,
        round((window.y + window.height) * ratio) - 1,
    )
    if (bottom - top + 1, right - left + 1) != picture.shape[:2]:
        cv2.rectangle(outlined, (left, top), (right, bottom), (0, 0, 0), 4)
        cv2.rectangle(outlined, (left, top), (right, bottom), WINDOW_COLOR, 2)
    return outlined
