"""Reading images and label maps from disk without changing a single label, and writing them.

Shape shorthand in this module:

    H, W: height and width of the picture, in pixels
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps, PngImagePlugin, TiffImagePlugin

from epl_d2.files import write_whole

Color = tuple[int, int, int]

_IMAGE_FORMATS = ("RGB", "BGR")
_LABEL_MODES = ("L", "P", "1", "I", "I;16", "I;16B", "I;16L")
# Pillow stretches gray PNGs and TIFFs of less than 8 bits to 0..255; this undoes it.
_GRAY_STRETCH = {"L;2": 85, "L;4": 17}


def read_image(path: str | Path, format: str = "RGB") -> np.ndarray:
    """Read a photo as 8-bit color.

    EXIF rotation is applied, alpha is dropped, gray is repeated and 16-bit gray keeps its high byte.

    Args:
        path: a file in any format that Pillow reads.
        format: order of the channels, "RGB" or "BGR".

    Returns:
        uint8 array [H, W, 3].

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no readable image (truncated files included), or `format` is unknown.
    """
    if format not in _IMAGE_FORMATS:
        raise ValueError(f"format is {format!r}, expected one of {_IMAGE_FORMATS}")
    with _open(path) as picture:
        pixels = picture_to_rgb(_load(picture, path), path)
    return np.ascontiguousarray(pixels[:, :, ::-1]) if format == "BGR" else pixels


def picture_to_rgb(picture: Image.Image, name: str | Path = "picture") -> np.ndarray:
    """A Pillow picture as `read_image` gives it: uint8 [H, W, 3] in RGB.

    Args:
        picture: of any mode with at most 16 bits.
        name: for messages.

    Raises:
        ValueError: its pixels have 32 bits.
    """
    if picture.mode in ("I", "F"):
        raise ValueError(f"{name}: photos of {picture.mode!r} pixels (32 bits) are not supported")
    oriented = ImageOps.exif_transpose(picture)
    if oriented.mode.startswith("I;16"):
        gray = (np.asarray(oriented) >> 8).astype(np.uint8)
        return np.repeat(gray[:, :, None], 3, axis=2)
    return np.asarray(oriented if oriented.mode == "RGB" else oriented.convert("RGB"))


def read_label(
    path: str | Path,
    *,
    label_map: bytes | None = None,
    label_colors: Mapping[Color, int] | None = None,
) -> np.ndarray:
    """Read a label map: the ids exactly as they are stored, then the optional mapping.

    Palette files give their indices (not their colors), gray files their values at any bit depth.

    Args:
        path: a single-channel label file, or an RGB-coded one together with `label_colors`.
        label_map: 256 bytes; a pixel stored as `i` becomes `label_map[i]`.
        label_colors: {(r, g, b): id} for RGB-coded masks. Files that are not RGB are read as usual.

    Returns:
        [H, W] of uint8, or uint16 / int32 if the file holds, or `label_colors` give, such numbers.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is unreadable, lossy, has color or alpha channels but no `label_colors`,
            or holds a color or an id that the mapping does not know.
    """
    with _open(path) as picture:
        if picture.format == "JPEG" or "jpeg" in str(picture.info.get("compression")):  # a TIFF may hold a JPEG
            raise ValueError(f"{path}: a label map in JPEG is lossy, its ids are destroyed; use PNG")
        stretch = _gray_stretch(picture)
        picture = _load(picture, path)
        if picture.mode in _LABEL_MODES:
            label = np.array(picture)
        elif picture.mode in ("RGB", "RGBA") and label_colors is not None:
            label = _decode_colors(np.asarray(picture.convert("RGB")), label_colors, path)
        elif picture.mode in ("RGB", "RGBA"):
            raise ValueError(
                f"{path}: the label map has {len(picture.getbands())} channels ({picture.mode}); "
                "expected one channel of ids. If its colors stand for classes, register the data set "
                "with rgb_masks and a palette"
            )
        else:
            raise ValueError(f"{path}: label maps of mode {picture.mode!r} are not supported; use 8-bit gray PNG")
    if label.dtype == bool:
        label = label.astype(np.uint8)
    if stretch != 1:
        label //= np.uint8(stretch)
    return label if label_map is None else _apply_map(label, label_map, path)


def write_label(path: str | Path, label: np.ndarray) -> None:
    """Write class ids [H, W] as a gray PNG of 8 bits, or of 16 where they are not uint8, through a temporary name.

    Missing folders are made.

    Raises:
        ValueError: PNG cannot hold the label, as one without pixels.
        OSError: the file cannot be written.
    """
    success, encoded = cv2.imencode(".png", label if label.dtype == np.uint8 else label.astype(np.uint16))
    if not success:
        raise ValueError(f"{path}: labels of {' x '.join(map(str, label.shape))} pixels cannot be written as PNG")
    write_whole(path, lambda temporary: temporary.write_bytes(encoded.tobytes()))


def read_record_label(record: Mapping[str, Any]) -> np.ndarray:
    """Read the label map of a data set record, as `read_label`.

    Args:
        record: has "sem_seg_file_name" and, where the files need it, "label_map" or "label_colors".
    """
    return read_label(
        record["sem_seg_file_name"],
        label_map=record.get("label_map"),
        label_colors=record.get("label_colors"),
    )


def make_label_map(mapping: Mapping[int, int], default: int | None = None) -> bytes:
    """A lookup table for `read_label`.

    Args:
        mapping: {stored id: wanted id}, both in 0..255.
        default: what every other id becomes; None leaves it as it is.

    Returns:
        256 bytes.
    """
    table = np.arange(256) if default is None else np.full(256, default)
    for stored, wanted in mapping.items():
        if not (0 <= stored <= 255 and 0 <= wanted <= 255):
            raise ValueError(f"label map entry {stored} -> {wanted}: ids are 0..255")
        table[stored] = wanted
    return table.astype(np.uint8).tobytes()


def unknown_ids(label: np.ndarray, num_classes: int, ignore_value: int) -> list[int]:
    """The ids of a label map that are neither a class 0..num_classes-1 nor the ignore label, sorted."""
    if label.dtype == np.uint8:
        known = np.zeros(256, dtype=bool)
        known[:num_classes] = True
        if 0 <= ignore_value < 256:
            known[ignore_value] = True
        present = cv2.calcHist([label], [0], None, [256], [0, 256]).ravel() > 0  # [256, 1], or [256] from OpenCV 5 on
        return np.flatnonzero(present & ~known).tolist()
    wrong = label[(label != ignore_value) & ((label < 0) | (label >= num_classes))]
    return np.unique(wrong).tolist()


def _open(path: str | Path) -> Image.Image:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for ever
            raise ValueError(f"{path}: not a regular file")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except OSError as error:
        raise ValueError(f"{path}: not a readable image ({error})") from error
    try:
        return Image.open(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a readable image ({error})") from error


def _load(picture: Image.Image, path: str | Path) -> Image.Image:
    try:
        picture.load()
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise ValueError(f"{path}: the image is damaged or truncated ({error})") from error
    return picture


def _gray_stretch(picture: Image.Image) -> int:
    """The factor by which Pillow will multiply the stored gray values (only known before loading)."""
    if not isinstance(picture, (PngImagePlugin.PngImageFile, TiffImagePlugin.TiffImageFile)) or not picture.tile:
        return 1
    args = picture.tile[0][3]
    raw_mode = args if isinstance(args, str) else args[0]
    return _GRAY_STRETCH.get(raw_mode.rstrip("IR"), 1)  # I and R: inverted, and with the bits in reverse order


def _apply_map(label: np.ndarray, label_map: bytes, path: str | Path) -> np.ndarray:
    if len(label_map) != 256:
        raise ValueError(f"label_map has {len(label_map)} entries, expected 256")
    if label.dtype != np.uint8 and label.size and (label.min() < 0 or label.max() > 255):
        raise ValueError(f"{path}: ids up to {label.max()} where the label map knows 0..255")
    table = np.frombuffer(label_map, dtype=np.uint8)
    return cv2.LUT(label, table) if label.dtype == np.uint8 else table[label]


def _decode_colors(pixels: np.ndarray, colors: Mapping[Color, int], path: str | Path) -> np.ndarray:
    keys = np.array([(r << 16) | (g << 8) | b for r, g, b in colors], dtype=np.int32)
    wide = not all(0 <= label <= 255 for label in colors.values())
    ids = np.array(list(colors.values()), dtype=np.int32 if wide else np.uint8)
    order = np.argsort(keys)
    keys, ids = keys[order], ids[order]
    red, green, blue = (pixels[:, :, c].astype(np.int32) for c in range(3))
    codes = (red << 16) | (green << 8) | blue
    position = np.minimum(np.searchsorted(keys, codes), len(keys) - 1)
    unknown = keys[position] != codes
    if unknown.any():
        found = [(int(c) >> 16, int(c) >> 8 & 255, int(c) & 255) for c in np.unique(codes[unknown])[:5]]
        raise ValueError(f"{path}: {int(unknown.sum())} pixels of colors outside the palette, such as {found}")
    return ids[position]
