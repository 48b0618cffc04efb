"""COCO's average precision of masks with Boundary IoU (Cheng et al. 2021, arXiv 2103.16562), on pycocotools.

Shape shorthand in this module:

    D: predicted masks of one image and category
    G: its ground-truth masks
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as mask_api
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from epl_d2.contours import DILATION_RATIO, band_width, check_dilation_ratio, inner_band

__all__ = ["BoundaryCOCOeval"]


class BoundaryCOCOeval(COCOeval):
    """`COCOeval` for masks in which the IoU of two masks is min(mask IoU, boundary IoU).

    Everything else is COCO's: categories, areas, thresholds, matching, interpolation. A crowd region keeps the mask IoU
    (more exactly, the share of the prediction in it), as in the authors' code. Pairs whose mask IoU is below the lowest
    threshold keep it too: no boundary can make them a match.
    """

    def __init__(self, cocoGt: COCO, cocoDt: COCO, dilation_ratio: float = DILATION_RATIO) -> None:
        """
        Args:
            cocoGt: the ground truth, with segmentations.
            cocoDt: the predictions, as of `cocoGt.loadRes`.
            dilation_ratio: width of the boundary as a part of the image's diagonal.

        Raises:
            ValueError: `dilation_ratio` is none.
        """
        super().__init__(cocoGt, cocoDt, "segm")
        self.dilation_ratio = check_dilation_ratio(dilation_ratio)

    def computeIoU(self, imgId: int, catId: int) -> np.ndarray | list:
        """IoUs [D, G] of one image and category, predictions in falling order of their scores."""
        ious = super().computeIoU(imgId, catId)
        if len(ious) == 0:
            return ious
        categories = [catId] if self.params.useCats else self.params.catIds
        gt = [mask for category in categories for mask in self._gts[imgId, category]]
        dt = [mask for category in categories for mask in self._dts[imgId, category]]
        order = np.argsort([-mask["score"] for mask in dt], kind="mergesort")  # as COCOeval
        counts = (ious >= min(self.params.iouThrs)) & ~np.array([bool(mask["iscrowd"]) for mask in gt])
        bands: dict[int, Any] = {}  # every mask is decoded once, and only if a match depends on it
        for row, column in np.argwhere(counts):
            pair = dt[order[row]], gt[column]
            for mask in pair:
                if id(mask) not in bands:
                    bands[id(mask)] = _Band(mask["segmentation"], self.dilation_ratio)
            ious[row, column] = min(ious[row, column], bands[id(pair[0])].iou(bands[id(pair[1])]))
        return ious


class _Band:
    """The band of a mask inside the mask's box."""

    def __init__(self, rle: dict[str, Any], dilation_ratio: float) -> None:
        left, top, width, height = (int(value) for value in mask_api.toBbox(rle))
        self.left, self.top, self.right, self.bottom = left, top, left + width, top + height
        mask = mask_api.decode(rle)[top : self.bottom, left : self.right]
        self.pixels = inner_band(mask, band_width(*rle["size"], dilation_ratio))
        self.area = np.count_nonzero(self.pixels)

    def iou(self, other: _Band) -> float:
        left, right = max(self.left, other.left), min(self.right, other.right)
        top, bottom = max(self.top, other.top), min(self.bottom, other.bottom)
        if left >= right or top >= bottom:
            return 0.0
        both = np.count_nonzero(self._part(left, top, right, bottom) & other._part(left, top, right, bottom))
        return both / (self.area + other.area - both)

    def _part(self, left: int, top: int, right: int, bottom: int) -> np.ndarray:
        return self.pixels[top - self.top : bottom - self.top, left - self.left : right - self.left]
