"""Maps that are computed from the augmented image and label in the loader's workers, off the training thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from detectron2.config import CfgNode

__all__ = ["MAPS", "ImageMap", "build_maps"]


@dataclass(frozen=True)
class ImageMap:
    """A map at the size of the augmented image.

    Attributes:
        name: the model finds it under this name among its features.
        needs_label: True: computed in training alone.
        compute: (image uint8 [h, w, 3], label [h, w] or None) -> array [..., h, w].
    """

    name: str
    needs_label: bool
    compute: Callable[[np.ndarray, np.ndarray | None], np.ndarray]


# Name -> a function that makes the map from a config.
MAPS: dict[str, Callable[[CfgNode], ImageMap]] = {}


def build_maps(cfg: CfgNode) -> list[ImageMap]:
    """The maps that `INPUT.MAPS` names.

    Raises:
        ValueError: one of them is unknown.
    """
    unknown = [name for name in cfg.INPUT.MAPS if name not in MAPS]
    if unknown:
        raise ValueError(f"INPUT.MAPS holds {', '.join(map(repr, unknown))}; it may hold {', '.join(sorted(MAPS))}")
    return [MAPS[name](cfg) for name in cfg.INPUT.MAPS]
