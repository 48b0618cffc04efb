import numpy as np
import pytest


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def target() -> np.ndarray:
    """Touching classes, a thin line and an ignored rim."""
    labels = np.zeros((40, 48), dtype=np.uint8)
    labels[8:22, 6:20] = 1
    labels[8:22, 20:34] = 2
    labels[30, 4:40] = 3
    labels[:, :2] = 255
    return labels


def contour_pixels(labels: np.ndarray, target: np.ndarray, class_id: int | None = None) -> set[tuple[int, int]]:
    """Pixels that differ from an E, S or SE neighbor (in membership of a class), all valid in `target`: in loops."""
    height, width = labels.shape
    found = set()
    for y in range(height):
        for x in range(width):
            block = [(y + dy, x + dx) for dy in (0, 1) for dx in (0, 1) if y + dy < height and x + dx < width]
            values = [labels[p] if class_id is None else labels[p] == class_id for p in block]
            if all(target[p] != 255 for p in block) and any(v != values[0] for v in values):
                found.add((y, x))
    return found


@pytest.fixture(name="contour_pixels")
def contour_pixels_fixture():
    return contour_pixels
