"""Transforms of an image and its label map: what the augmentations of `epl_d2.data.augmentations` apply.

All geometric ones are one kind of transform, an affine warp with fill colors, so that any number of them can
be composed into a single warp: the picture is sampled once, at the final crop only. Labels are sampled at the
same positions as the image, by nearest neighbor: no label appears that was not there before.

Positions follow fvcore: pixel i covers i..i+1, its center is i + 0.5.

Shape shorthand in this module:

    H, W: height and width of the input, in pixels
    h, w: height and width of the output
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from fvcore.transforms.transform import Transform

__all__ = ["BlurTransform", "ColorJitterTransform", "WarpTransform"]

Size = tuple[int, int]


class WarpTransform(Transform):
    """An affine map of the picture with a fill color outside of it.

    Images are sampled bilinearly, labels by nearest neighbor. Inside the picture nothing of the fill is
    mixed in: what lies within half a pixel of its border repeats the border, as a resize does.
    """

    def __init__(
        self, matrix: np.ndarray, in_size: Size, out_size: Size, image_fill: Sequence[float], label_fill: int
    ) -> None:
        """
        Args:
            matrix: [2, 3], takes input positions (x, y) to output positions.
            in_size: (H, W).
            out_size: (h, w).
            image_fill: one value a channel, in the units of the image.
            label_fill: the ignore label.
        """
        super().__init__()
        self.matrix = np.asarray(matrix, dtype=np.float64)
        self.in_size, self.out_size = in_size, out_size
        self.image_fill, self.label_fill = tuple(image_fill), label_fill
        full = np.vstack([self.matrix, [0.0, 0.0, 1.0]])
        self._backward = np.linalg.inv(full)[:2]

    def then(self, after: WarpTransform) -> WarpTransform:
        """One warp that does this one and then `after`.

        What `after` sees outside this one's output is filled, what lies inside is sampled from the input
        directly. A part that this one cut away can come back into sight; only crops cut, and they come last.
        """
        matrix = after.matrix @ np.vstack([self.matrix, [0.0, 0.0, 1.0]])
        return WarpTransform(matrix, self.in_size, after.out_size, self.image_fill, self.label_fill)

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """[H, W] or [H, W, C], uint8 or float32 -> [h, w] or [h, w, C], same dtype."""
        self._check(img)
        fill = self.image_fill if img.ndim == 3 else self.image_fill[:1]
        if np.issubdtype(img.dtype, np.integer):
            fill = tuple(round(value) for value in fill)
        window = rows, columns = self._covered_window()
        if rows.start == rows.stop or columns.start == columns.stop:
            return np.full((*self.out_size, *img.shape[2:]), fill, dtype=img.dtype)
        inner = self._warp(img, window, cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)
        outside = self._outside(window)
        if outside is not None:
            cv2.add(np.zeros_like(inner), fill, dst=inner, mask=outside)
        margins = rows.start, self.out_size[0] - rows.stop, columns.start, self.out_size[1] - columns.stop
        return cv2.copyMakeBorder(inner, *margins, cv2.BORDER_CONSTANT, value=fill) if any(margins) else inner

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """[H, W] -> [h, w], same dtype."""
        self._check(segmentation)
        limits = np.iinfo(segmentation.dtype)
        if not limits.min <= self.label_fill <= limits.max:
            raise ValueError(f"the label fill {self.label_fill} does not fit into {segmentation.dtype} labels")
        # OpenCV warps no wider integers; float64 holds those of 32 bits exactly.
        known = segmentation.dtype in (np.uint8, np.uint16, np.int16)
        exact = segmentation if known else segmentation.astype(np.float64)
        everywhere = slice(0, self.out_size[0]), slice(0, self.out_size[1])
        result = self._warp(exact, everywhere, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT, self.label_fill)
        return result.astype(segmentation.dtype, copy=False)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """[N, 2] positions (x, y)."""
        return coords @ self.matrix[:, :2].T + self.matrix[:, 2]

    def inverse(self) -> WarpTransform:
        """The warp back to the input's size; resampling loses detail, and what was cut away is filled."""
        return WarpTransform(self._backward, self.out_size, self.in_size, self.image_fill, self.label_fill)

    def _check(self, array: np.ndarray) -> None:
        if array.shape[:2] != tuple(self.in_size):
            raise ValueError(f"the warp was made for {self.in_size} (H, W), got an array of {array.shape}")

    def _warp(
        self, array: np.ndarray, window: tuple[slice, slice], interpolation: int, border: int, fill: float = 0
    ) -> np.ndarray:
        """The part of the output inside `window` (rows, columns)."""
        rows, columns = window
        # OpenCV counts from the center of the first pixel.
        backward = self._backward.copy()
        backward[:, 2] += backward[:, :2] @ (columns.start + 0.5, rows.start + 0.5) - 0.5
        return cv2.warpAffine(
            array,
            backward,
            (columns.stop - columns.start, rows.stop - rows.start),
            flags=interpolation | cv2.WARP_INVERSE_MAP,
            borderMode=border,
            borderValue=fill,
        )

    def _covered_window(self) -> tuple[slice, slice]:
        """The smallest window (rows, columns) with every output pixel whose center lies in the input."""
        height, width = self.in_size
        corners = self.apply_coords(np.array([[0.0, 0.0], [width, 0.0], [0.0, height], [width, height]]))
        size = self.out_size[::-1]
        first = np.clip(np.ceil(corners.min(axis=0) - 0.5), 0, size).astype(int).tolist()
        last = np.clip(np.floor(corners.max(axis=0) - 0.5) + 1, first, size).astype(int).tolist()
        return slice(first[1], last[1]), slice(first[0], last[0])

    def _outside(self, window: tuple[slice, slice]) -> np.ndarray | None:
        """uint8, 1 where a pixel of `window` has its center outside the input; None if none has."""
        (top, bottom), (left, right) = ((part.start + 0.5, part.stop - 0.5) for part in window)
        corners = np.array([[left, top], [right, top], [left, bottom], [right, bottom]])
        seen = corners @ self._backward[:, :2].T + self._backward[:, 2]
        if (seen >= 0).all() and (seen <= self.in_size[::-1]).all():
            return None
        nowhere = np.zeros(self.in_size, dtype=np.uint8)
        return self._warp(nowhere, window, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT, 1)


class BlurTransform(Transform):
    """Gaussian blur of the image; labels and positions stay."""

    def __init__(self, sigma: float, kernel_size: int = 0) -> None:
        """
        Args:
            sigma: in pixels, > 0.
            kernel_size: odd width in pixels; 0 lets it follow from sigma.
        """
        super().__init__()
        self.sigma, self.kernel_size = sigma, kernel_size

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """[H, W, C], uint8 or float32; same shape and dtype."""
        return cv2.GaussianBlur(img, (self.kernel_size, self.kernel_size), self.sigma)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Unchanged."""
        return segmentation

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Unchanged."""
        return coords


class ColorJitterTransform(Transform):
    """Brightness, contrast, saturation and hue, applied in this order; labels and positions stay."""

    def __init__(
        self, brightness: float, contrast: float, saturation: float, hue: float, image_format: str = "RGB"
    ) -> None:
        """
        Args:
            brightness, contrast, saturation: factors; 1 changes nothing. Contrast turns around the mean gray
                of the image.
            hue: shift as a part of the full circle, in [-0.5, 0.5].
            image_format: "RGB" or "BGR".
        """
        super().__init__()
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue
        self.image_format = image_format

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> the same."""
        from_color, to_color, to_gray = {
            "RGB": (cv2.COLOR_RGB2HSV, cv2.COLOR_HSV2RGB, cv2.COLOR_RGB2GRAY),
            "BGR": (cv2.COLOR_BGR2HSV, cv2.COLOR_HSV2BGR, cv2.COLOR_BGR2GRAY),
        }[self.image_format]
        levels = np.arange(256, dtype=np.float32) * self.brightness
        img = cv2.LUT(img, _to_uint8(levels))
        mean = float(cv2.cvtColor(img, to_gray).mean())
        levels = np.arange(256, dtype=np.float32)
        img = cv2.LUT(img, _to_uint8(mean + (levels - mean) * self.contrast))
        gray = cv2.cvtColor(img, to_gray)[:, :, None].repeat(3, axis=2)
        img = cv2.addWeighted(img, self.saturation, gray, 1 - self.saturation, 0)
        hsv = cv2.cvtColor(img, from_color)
        # 8-bit hue counts 180 steps a circle.
        hsv[:, :, 0] = cv2.LUT(hsv[:, :, 0], ((np.arange(256) + round(self.hue * 180)) % 180).astype(np.uint8))
        return cv2.cvtColor(hsv, to_color)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Unchanged."""
        return segmentation

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Unchanged."""
        return coords


def _to_uint8(levels: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)
