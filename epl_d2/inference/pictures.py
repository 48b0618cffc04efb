"""Pictures as predictors take them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from detectron2.data import transforms as T
from PIL import Image

from epl_d2.data.label_io import picture_to_rgb, read_image

__all__ = ["as_record", "as_rgb"]


def as_rgb(image: str | os.PathLike | Image.Image | np.ndarray) -> np.ndarray:
    """A picture that a predictor takes, as RGB uint8 [H, W, 3].

    Args:
        image: a file, a Pillow picture (its EXIF rotation is applied) or an array: RGB [H, W, 3], RGBA [H, W, 4] (alpha
            is dropped) or gray [H, W], of uint8, or of uint16, which keeps its high byte.

    Raises:
        FileNotFoundError, ValueError: the file is missing or unreadable, or the picture is none of these.
    """
    if isinstance(image, (str, os.PathLike)):
        return read_image(os.fspath(image))
    if isinstance(image, Image.Image):
        return picture_to_rgb(image)
    if not isinstance(image, np.ndarray):
        raise ValueError(f"the picture is a {type(image).__name__}; expected a path, a Pillow picture or an array")
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or channels not in (1, 3, 4) or not image.size:
        raise ValueError(f"the picture is an array of shape {image.shape}; expected [H, W], [H, W, 3] or [H, W, 4]")
    if image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"the picture is an array of {image.dtype}; expected uint8 in 0..255, or uint16")
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if channels == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(image[:, :, :3])


def as_record(rgb: np.ndarray, augmentations: T.AugmentationList, image_format: str) -> dict[str, Any]:
    """What a model of Detectron2 takes for a picture: RGB uint8 [H, W, 3], augmented, as planes of `image_format`."""
    augmented = T.AugInput(rgb if image_format == "RGB" else rgb[:, :, ::-1])
    augmentations(augmented)
    planes = np.ascontiguousarray(augmented.image.transpose(2, 0, 1))
    return {"image": torch.from_numpy(planes), "height": rgb.shape[0], "width": rgb.shape[1]}
