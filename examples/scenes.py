"""Generated scenes as a data set, for the examples of this folder. Yours gives images and label maps alike."""

from __future__ import annotations

import numpy as np

from epl_d2.data.shapes import render_scene

NUM_CLASSES = 6


class Scenes:
    """A map-style data set of ``(image, label)``: float32 ``[3, H, W]`` around 0 and int64 ``[H, W]``, 255 ignored."""

    def __init__(self, count: int, seed: int = 0, size: tuple[int, int] = (96, 96), ignore_index: int = 255) -> None:
        self.count, self.seed, self.size, self.ignore_index = count, seed, size, ignore_index

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        if not 0 <= number < self.count:
            raise IndexError(number)
        image, label = render_scene((self.seed, number), self.size)
        image = image.transpose(2, 0, 1).astype(np.float32) / 128 - 1
        return image, np.where(label == 255, self.ignore_index, label.astype(np.int64))
