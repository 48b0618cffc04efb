"""Maps that are computed from the augmented image and label in the loader's workers, off the training thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from detectron2.config import CfgNode

from epl_d2.config import MAP_OF_LOSS
from epl_d2.contours import contour_distance, signed_distance
from epl_d2.contours.edges import canny_edges, label_edges

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


def _signed_distance_map(cfg: CfgNode) -> ImageMap:
    head = cfg.MODEL.SEM_SEG_HEAD
    compute = partial(_compute_signed_distance, num_classes=head.NUM_CLASSES, ignore_value=head.IGNORE_VALUE)
    return ImageMap("signed_distance", True, compute)


def _contour_distance_map(cfg: CfgNode) -> ImageMap:
    compute = partial(_compute_contour_distance, ignore_value=cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE)
    return ImageMap("contour_distance", True, compute)


def _compute_contour_distance(_: np.ndarray, label: np.ndarray, ignore_value: int) -> np.ndarray:
    return contour_distance(label, ignore_value)


def _compute_signed_distance(_: np.ndarray, label: np.ndarray, **settings: int) -> np.ndarray:
    return signed_distance(label, **settings)


def _canny_map(cfg: CfgNode) -> ImageMap:
    """Canny's edges of the normalized image, uint8 [1, h, w], 0 or 255 (GSCNN)."""
    compute = partial(_compute_canny, mean=tuple(cfg.MODEL.PIXEL_MEAN), std=tuple(cfg.MODEL.PIXEL_STD))
    return ImageMap("canny", False, compute)


def _compute_canny(image: np.ndarray, _: np.ndarray | None, **settings: tuple[float, ...]) -> np.ndarray:
    return canny_edges(image, **settings)


def _edges_map(cfg: CfgNode) -> ImageMap:
    """Contours of the classes, uint8 [h, w], 0 or 1 (GSCNN's edge target)."""
    settings = {
        "ignore_value": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        "all_classes": cfg.MODEL.GSCNN.EDGES_OF_ALL_CLASSES,
    }
    return ImageMap("edges", True, partial(_compute_edges, **settings))


def _compute_edges(_: np.ndarray, label: np.ndarray, **settings: int) -> np.ndarray:
    return label_edges(label, **settings)


# Name -> a function that makes the map from a config.
MAPS: dict[str, Callable[[CfgNode], ImageMap]] = {
    "canny": _canny_map,
    "contour_distance": _contour_distance_map,
    "edges": _edges_map,
    "signed_distance": _signed_distance_map,
}


def build_maps(cfg: CfgNode) -> list[ImageMap]:
    """The maps that `INPUT.MAPS` names, and those that the losses of `MODEL.EXTRA_LOSSES` with a weight need.

    Raises:
        ValueError: one of them is unknown.
    """
    unknown = [name for name in cfg.INPUT.MAPS if name not in MAPS]
    if unknown:
        raise ValueError(f"INPUT.MAPS holds {', '.join(map(repr, unknown))}; it may hold {', '.join(sorted(MAPS))}")
    needed = [name for key, name in MAP_OF_LOSS.items() if name and cfg.MODEL.EXTRA_LOSSES[key].WEIGHT > 0]
    return [MAPS[name](cfg) for name in dict.fromkeys([*cfg.INPUT.MAPS, *needed])]
