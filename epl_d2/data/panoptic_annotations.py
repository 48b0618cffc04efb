"""Instance and panoptic annotations in COCO's formats, written from maps of segment ids.

One folder holds what Mask R-CNN and Panoptic FPN read of a split NAME:

    instances_NAME.json      objects with RLE masks, COCO's instance format
    panoptic_NAME.json       segments with areas and boxes, COCO's panoptic format
    panoptic_NAME/*.png      ids of segments, red + 256 green + 256^2 blue; 0 is void
    stuff_NAME/*.png         semantic labels of Panoptic FPN: 0 = "things", 1.. = stuff, 255 = ignored

Shape shorthand in this module:

    H, W: height and width of the picture, in pixels
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as mask_api

from .datasets.metadata import Color

__all__ = ["STUFF_IGNORE", "THINGS_LABEL", "Category", "PanopticAnnotations", "Segment"]

THINGS_LABEL = 0  # of the pixels of all things in the semantic labels of Panoptic FPN
STUFF_IGNORE = 255


@dataclass(frozen=True)
class Category:
    """A category of the files.

    Attributes:
        id: positive.
        name: as shown.
        isthing: whether its objects are told apart.
        color: RGB.
    """

    id: int
    name: str
    isthing: bool
    color: Color


@dataclass(frozen=True)
class Segment:
    """A segment of one image: its id in the map (at least 1), category, and whether it is a group of objects."""

    id: int
    category_id: int
    iscrowd: bool = False


class PanopticAnnotations:
    """Collects the images of a split and writes their files."""

    def __init__(self, folder: str, name: str, categories: Sequence[Category]) -> None:
        """
        Args:
            folder: where the files go; label maps are written at once, the JSON files by `write`.
            name: of the split.
            categories: things and stuff; the order of the latter gives the semantic labels 1, 2, ...
        """
        self._folder, self._name = folder, name
        self._categories = {category.id: category for category in categories}
        stuff = [category.id for category in categories if not category.isthing]
        self._label = {id: label for label, id in enumerate(stuff, start=1)}
        self._images: list[dict[str, Any]] = []
        self._objects: list[dict[str, Any]] = []
        self._panoptic: list[dict[str, Any]] = []
        for kind in ("panoptic", "stuff"):
            os.makedirs(os.path.join(folder, f"{kind}_{name}"))

    def add(self, file_name: str, ids: np.ndarray, segments: Sequence[Segment]) -> None:
        """Add an image.

        Args:
            file_name: of the image, relative to the folder of images; its last part names the label maps.
            ids: integers [H, W]; what is no segment is void.
            segments: those without a pixel are left out.
        """
        image_id = len(self._images) + 1
        height, width = ids.shape
        self._images.append({"id": image_id, "file_name": file_name, "height": height, "width": width})
        panoptic = np.zeros((height, width), dtype=np.uint32)
        stuff = np.full((height, width), STUFF_IGNORE, dtype=np.uint8)
        infos = []
        for segment in segments:
            mask = ids == segment.id
            if not mask.any():
                continue
            isthing = self._categories[segment.category_id].isthing
            panoptic[mask] = segment.id
            stuff[mask] = THINGS_LABEL if isthing else self._label[segment.category_id]
            rle = mask_api.encode(np.asfortranarray(mask, dtype=np.uint8))
            info = {
                "id": segment.id,
                "category_id": segment.category_id,
                "area": int(mask.sum()),
                "bbox": [int(value) for value in mask_api.toBbox(rle)],
                "iscrowd": int(segment.iscrowd),
            }
            infos.append(info)
            if isthing:
                rle = {"size": [height, width], "counts": rle["counts"].decode("ascii")}
                self._objects.append({**info, "id": len(self._objects) + 1, "image_id": image_id, "segmentation": rle})
        png = f"{os.path.splitext(os.path.basename(file_name))[0]}.png"
        channels = np.stack([panoptic >> shift & 255 for shift in (0, 8, 16)], axis=2).astype(np.uint8)
        Image.fromarray(channels).save(os.path.join(self._folder, f"panoptic_{self._name}", png))
        Image.fromarray(stuff).save(os.path.join(self._folder, f"stuff_{self._name}", png))
        self._panoptic.append({"image_id": image_id, "file_name": png, "segments_info": infos})

    def write(self) -> None:
        """Write the JSON files."""
        categories = [
            {"id": c.id, "name": c.name, "isthing": int(c.isthing), "color": list(c.color)}
            for c in self._categories.values()
        ]
        things = [category for category in categories if category["isthing"]]
        self._dump("instances", {"images": self._images, "categories": things, "annotations": self._objects})
        self._dump("panoptic", {"images": self._images, "categories": categories, "annotations": self._panoptic})

    def _dump(self, kind: str, content: dict[str, Any]) -> None:
        with open(os.path.join(self._folder, f"{kind}_{self._name}.json"), "w", encoding="utf-8") as file:
            json.dump(content, file)
