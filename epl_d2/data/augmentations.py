"""The paper's random augmentations for Detectron2: scale, rotation, flip, crop with padding, blur, color.

They draw from NumPy's global generator, as Detectron2's own do, and compose with these. The color to fill
with is the mean of the images, the label to fill with the ignore label.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from detectron2.data import transforms as T
from detectron2.data.transforms import Augmentation
from fvcore.transforms.transform import HFlipTransform, NoOpTransform, Transform

from .transforms import BlurTransform, ColorJitterTransform, Size, WarpTransform

__all__ = [
    "CropWithPadding",
    "FusedAugmentation",
    "RandomColorJitter",
    "RandomGaussianBlur",
    "RandomHorizontalFlip",
    "RandomRotation",
    "RandomScale",
    "ResizeShortestEdge",
]

PADDING = ("center", "right_bottom")


class ResizeShortestEdge(T.ResizeShortestEdge):
    """Detectron2's, which rounds the short side of a thin picture to 0; here at least one pixel is left."""

    def get_transform(self, image: np.ndarray) -> Transform:
        """Draws one size; `image` gives the proportions."""
        resize = super().get_transform(image)
        if not isinstance(resize, T.ResizeTransform):  # a size of 0
            return resize
        return T.ResizeTransform(resize.h, resize.w, max(1, resize.new_h), max(1, resize.new_w), resize.interp)


class RandomScale(Augmentation):
    """Scale the picture by a random factor (the same in x and y)."""

    def __init__(self, values: Sequence[float], sampling: str, image_fill: Sequence[float], label_fill: int) -> None:
        """
        Args:
            values: [low, high] for "uniform", the possible factors for "choice".
            sampling: "uniform" or "choice".
            image_fill, label_fill: kept for warps that this one is fused with; a scaled picture has no
                outside.
        """
        super().__init__()
        if sampling not in ("uniform", "choice"):
            raise ValueError(f'scale sampling is {sampling!r}, expected "uniform" or "choice"')
        if not values or min(values) <= 0 or (sampling == "uniform" and (len(values) != 2 or values[0] > values[1])):
            raise ValueError(f"scale values are {tuple(values)}, expected positive factors (low <= high for a range)")
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> WarpTransform:
        """Draws one factor; `image` gives the size."""
        if self.sampling == "uniform":
            factor = np.random.uniform(*self.values)
        else:
            factor = self.values[np.random.randint(len(self.values))]
        height, width = image.shape[:2]
        out_size = (max(1, round(height * factor)), max(1, round(width * factor)))
        matrix = np.array([[out_size[1] / width, 0, 0], [0, out_size[0] / height, 0]])
        return WarpTransform(matrix, (height, width), out_size, self.image_fill, self.label_fill)


class RandomRotation(Augmentation):
    """Rotate the picture around its center, keeping its size; the corners are filled."""

    def __init__(self, degrees: float, prob: float, image_fill: Sequence[float], label_fill: int) -> None:
        """
        Args:
            degrees: the angle is uniform in [-degrees, degrees].
            prob: how often to rotate at all.
            image_fill: one value a channel.
            label_fill: the ignore label.
        """
        super().__init__()
        _check_probability("rotation", prob)
        if not 0 <= degrees <= 180:
            raise ValueError(f"rotation degrees is {degrees}, expected 0..180")
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        """Draws whether to rotate, and the angle; `image` gives the size."""
        if np.random.uniform() >= self.prob:
            return NoOpTransform()
        angle = math.radians(np.random.uniform(-self.degrees, self.degrees))
        height, width = image.shape[:2]
        cos, sin, cx, cy = math.cos(angle), math.sin(angle), width / 2, height / 2
        # counter-clockwise on the screen, where y points down
        matrix = np.array([[cos, sin, cx - cos * cx - sin * cy], [-sin, cos, cy + sin * cx - cos * cy]])
        return WarpTransform(matrix, (height, width), (height, width), self.image_fill, self.label_fill)


class RandomHorizontalFlip(Augmentation):
    """Mirror the picture left to right."""

    def __init__(self, prob: float = 0.5) -> None:
        super().__init__()
        _check_probability("flip", prob)
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        """Draws whether to mirror; `image` gives the width."""
        return HFlipTransform(image.shape[1]) if np.random.uniform() < self.prob else NoOpTransform()


class CropWithPadding(Augmentation):
    """Cut a random window of a fixed size; a picture smaller than the window is padded first."""

    def __init__(self, size: Size, image_fill: Sequence[float], label_fill: int, padding: str = "center") -> None:
        """
        Args:
            size: (h, w) of every result.
            image_fill: one value a channel.
            label_fill: the ignore label.
            padding: "center" puts the picture in the middle, "right_bottom" pads on these sides only.
        """
        super().__init__()
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f"crop size is {tuple(size)}, expected (height, width) of at least 1")
        if padding not in PADDING:
            raise ValueError(f"crop padding is {padding!r}, expected one of {PADDING}")
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> WarpTransform:
        """Draws the window; `image` gives the size."""
        offsets = []
        for length, wanted in zip(image.shape[:2], self.size, strict=True):
            if length >= wanted:
                offsets.append(int(np.random.randint(length - wanted + 1)))
            else:
                offsets.append(-((wanted - length) // 2) if self.padding == "center" else 0)
        top, left = offsets
        matrix = np.array([[1.0, 0, -left], [0, 1.0, -top]])
        return WarpTransform(matrix, image.shape[:2], tuple(self.size), self.image_fill, self.label_fill)


class RandomGaussianBlur(Augmentation):
    """Blur the image with some probability."""

    def __init__(self, prob: float, sigma: tuple[float, float], kernel_size: int = 0) -> None:
        """
        Args:
            prob: how often to blur.
            sigma: (low, high), uniform, in pixels.
            kernel_size: odd width in pixels; 0 lets it follow from sigma.
        """
        super().__init__()
        _check_probability("blur", prob)
        if len(sigma) != 2 or not 0 <= sigma[0] <= sigma[1]:
            raise ValueError(f"blur sigma is {tuple(sigma)}, expected (low, high) with 0 <= low <= high")
        if kernel_size < 0 or (kernel_size and kernel_size % 2 == 0):
            raise ValueError(f"blur kernel size is {kernel_size}, expected an odd number, or 0")
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        """Draws whether and how much to blur."""
        if np.random.uniform() >= self.prob:
            return NoOpTransform()
        sigma = np.random.uniform(*self.sigma)
        # OpenCV takes sigma 0 for "derive it from the kernel".
        return BlurTransform(sigma, self.kernel_size) if sigma > 1e-3 else NoOpTransform()


class RandomColorJitter(Augmentation):
    """Change brightness, contrast, saturation and hue at random."""

    def __init__(
        self, brightness: float, contrast: float, saturation: float, hue: float, image_format: str = "RGB"
    ) -> None:
        """
        Args:
            brightness, contrast, saturation: factors are uniform in [max(0, 1 - x), 1 + x].
            hue: the shift is uniform in [-hue, hue], in parts of the color circle, at most 0.5.
            image_format: "RGB" or "BGR".
        """
        super().__init__()
        if min(brightness, contrast, saturation) < 0 or not 0 <= hue <= 0.5:
            raise ValueError(
                f"color jitter is {(brightness, contrast, saturation, hue)}, "
                "expected values >= 0 and a hue of at most 0.5"
            )
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> ColorJitterTransform:
        """Draws the four amounts."""
        factors = [np.random.uniform(max(0.0, 1 - x), 1 + x) for x in (self.brightness, self.contrast, self.saturation)]
        return ColorJitterTransform(*factors, np.random.uniform(-self.hue, self.hue), self.image_format)


class FusedAugmentation(Augmentation):
    """Geometric augmentations, drawn one after the other but applied as one warp."""

    def __init__(self, augmentations: Sequence[Augmentation], image_fill: Sequence[float], label_fill: int) -> None:
        """
        Args:
            augmentations: each looks at the size of the image only and gives a WarpTransform, a horizontal
                flip or nothing.
            image_fill, label_fill: what lies outside the picture.
        """
        super().__init__()
        self.augmentations, self.image_fill, self.label_fill = list(augmentations), image_fill, label_fill

    def get_transform(self, image: np.ndarray) -> Transform:
        """Draws all of them; `image` gives the size."""
        size = image.shape[:2]
        fused: WarpTransform | None = None
        for augmentation in self.augmentations:
            # has a size, but neither content nor cost
            stand_in = np.broadcast_to(np.uint8(0), (*size, 3))
            step = augmentation.get_transform(stand_in)
            if isinstance(step, HFlipTransform):
                mirror = np.array([[-1.0, 0, size[1]], [0, 1.0, 0]])
                step = WarpTransform(mirror, size, size, self.image_fill, self.label_fill)
            if isinstance(step, WarpTransform):
                fused = step if fused is None else fused.then(step)
                size = step.out_size
            elif not isinstance(step, NoOpTransform):
                raise TypeError(f"{augmentation} gave a {type(step).__name__}, which cannot be fused")
        return NoOpTransform() if fused is None else fused

    def __repr__(self) -> str:
        return f"FusedAugmentation{self.augmentations}"


def _check_probability(what: str, prob: float) -> None:
    if not 0 <= prob <= 1:
        raise ValueError(f"{what} probability is {prob}, expected 0..1")
