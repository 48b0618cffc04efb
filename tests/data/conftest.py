"""Small files in the formats of the real data sets."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from epl_d2 import register

SavePng = Callable[..., Path]


@pytest.fixture(autouse=True, scope="session")
def _registered_data_sets() -> None:
    """Each file of tests runs by itself, too."""
    register()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def save() -> SavePng:
    """save(path, array, palette=None): an image file, folders included; with a palette as mode P."""

    def save_picture(path: Path, array: np.ndarray, palette: list[int] | None = None, **options) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(array)
        if palette is not None:
            picture.putpalette(palette)
        picture.save(path, **options)
        return path

    return save_picture


@pytest.fixture
def pairs(tmp_path: Path, save: SavePng, rng: np.random.Generator):
    """pairs(count, size, classes): records of random photos and label maps; 255 occurs in every label map."""

    def make(count: int = 6, size: tuple[int, int] = (40, 56), classes: int = 3) -> list[dict]:
        records = []
        for number in range(count):
            photo = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            label = rng.integers(0, classes, size, dtype=np.uint8)
            label[:3, :5] = 255
            records.append(
                {
                    "file_name": str(save(tmp_path / "photos" / f"{number}.png", photo)),
                    "image_id": str(number),
                    "sem_seg_file_name": str(save(tmp_path / "labels" / f"{number}.png", label)),
                }
            )
        return records

    return make
