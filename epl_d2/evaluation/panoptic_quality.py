"""Panoptic quality (Kirillov et al. 2019) and boundary PQ (Cheng et al. 2021): pure NumPy and OpenCV.

Shape shorthand in this module:

    H, W: image size
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from epl_d2.contours import DILATION_RATIO, band_width, check_dilation_ratio, inner_band

__all__ = ["VOID", "PanopticStatistics"]

VOID = 0  # the id of pixels that are in no segment


class PanopticStatistics:
    """Counts of matched and unmatched segments, by category, with mask IoU and with min(mask IoU, boundary IoU).

    Two segments of one category match where their IoU is above 0.5. Pixels of a prediction that are void in the target
    are in no union; unmatched predictions that are void or crowd of their category for more than half are no false
    positives. A target segment without pixels is a missed one, as in the authors' code.
    """

    def __init__(self, categories: Mapping[int, bool], dilation_ratio: float = DILATION_RATIO) -> None:
        """
        Args:
            categories: category id -> whether it is a "thing".
            dilation_ratio: width of the boundary as a part of the image's diagonal.

        Raises:
            ValueError: `dilation_ratio` is none.
        """
        self.categories = dict(categories)
        self.dilation_ratio = check_dilation_ratio(dilation_ratio)
        self.num_images = 0
        self._counts = {kind: {id: np.zeros(4) for id in self.categories} for kind in ("mask", "boundary")}

    def update(
        self,
        prediction: np.ndarray,
        predicted_segments: Iterable[Mapping[str, Any]],
        target: np.ndarray,
        target_segments: Iterable[Mapping[str, Any]],
    ) -> None:
        """Count an image.

        Args:
            prediction, target: integers [H, W], ids of segments; 0 is void.
            predicted_segments, target_segments: dicts with "id", "category_id" and, of the target, "iscrowd".

        Raises:
            ValueError: the maps differ in size, an id of a map has no segment, or a category is unknown.
        """
        if prediction.shape != target.shape:
            raise ValueError(f"the prediction is {_size(prediction)}, the target {_size(target)} (height x width)")
        predicted = self._segments(prediction, predicted_segments, "the prediction")
        predicted = {id: segment for id, segment in predicted.items() if (prediction == id).any()}
        targets = self._segments(target, target_segments, "the target")
        distance = band_width(*target.shape, self.dilation_ratio)
        common = _pairs(target, prediction)
        bands = _pairs(_bands(target, targets, distance), _bands(prediction, predicted, distance))
        self.num_images += 1
        for kind in self._counts:
            ious = {}
            for (target_id, predicted_id), count in common.items():
                if target_id not in targets or predicted_id not in predicted or targets[target_id].get("iscrowd"):
                    continue
                if targets[target_id]["category_id"] != predicted[predicted_id]["category_id"]:
                    continue
                iou = _iou(common, target_id, predicted_id, count)
                if kind == "boundary" and iou > 0.5:
                    iou = min(iou, _iou(bands, target_id, predicted_id, bands.get((target_id, predicted_id), 0)))
                if iou > 0.5:
                    ious[target_id, predicted_id] = iou
            self._count(self._counts[kind], ious, common, targets, predicted)

    def merge(self, other: PanopticStatistics) -> None:
        """Add the counts of `other`.

        Raises:
            ValueError: it has other categories or another width of boundaries.
        """
        for setting in ("categories", "dilation_ratio"):
            ours, theirs = getattr(self, setting), getattr(other, setting)
            if ours != theirs:
                raise ValueError(f"cannot merge statistics of {setting} {theirs} into those of {ours}")
        self.num_images += other.num_images
        for kind, counts in self._counts.items():
            for category, values in counts.items():
                values += other._counts[kind][category]

    def compute(self) -> dict[str, float]:
        """PQ, SQ, RQ over all categories that occur, over things (`_th`) and over stuff (`_st`), as fractions.

        The names of boundary PQ begin with "boundary_". NaN where no category occurs.
        """
        results = {}
        for kind, prefix in (("mask", ""), ("boundary", "boundary_")):
            for suffix, wanted in (("", (True, False)), ("_th", (True,)), ("_st", (False,))):
                counts = [self._counts[kind][id] for id, thing in self.categories.items() if thing in wanted]
                rows = [_quality(*values) for values in counts if values[1:].any()]
                means = np.mean(rows, axis=0) if rows else np.full(3, np.nan)
                for name, value in zip(("PQ", "SQ", "RQ"), means, strict=True):
                    results[f"{prefix}{name}{suffix}"] = float(value)
        return results

    def _segments(
        self, ids: np.ndarray, segments: Iterable[Mapping[str, Any]], whose: str
    ) -> dict[int, dict[str, Any]]:
        by_id = {int(segment["id"]): dict(segment) for segment in segments}
        for id, segment in by_id.items():
            if segment["category_id"] not in self.categories:
                raise ValueError(f"segment {id} of {whose} has the unknown category {segment['category_id']}")
        present = {int(id) for id in np.unique(ids)} - {VOID}
        if unknown := sorted(present - by_id.keys()):
            raise ValueError(f"{whose} has pixels of segment {unknown[0]}, which its list of segments lacks")
        return by_id

    @staticmethod
    def _count(
        counts: dict[int, np.ndarray],
        ious: dict[tuple[int, int], float],
        common: dict[tuple[int, int], int],
        targets: dict[int, dict[str, Any]],
        predicted: dict[int, dict[str, Any]],
    ) -> None:
        """Add (sum of IoUs, matches, false positives, misses) of an image."""
        for (target_id, _), iou in ious.items():
            counts[targets[target_id]["category_id"]] += (iou, 1, 0, 0)
        matched_targets, matched_predictions = {pair[0] for pair in ious}, {pair[1] for pair in ious}
        crowds: dict[int, list[int]] = {}
        for id, segment in targets.items():
            if segment.get("iscrowd"):
                crowds.setdefault(segment["category_id"], []).append(id)
            elif id not in matched_targets:
                counts[segment["category_id"]] += (0, 0, 0, 1)
        for id, segment in predicted.items():
            if id in matched_predictions:
                continue
            ignored = sum(common.get((other, id), 0) for other in (VOID, *crowds.get(segment["category_id"], ())))
            if 2 * ignored <= sum(count for (_, predicted_id), count in common.items() if predicted_id == id):
                counts[segment["category_id"]] += (0, 0, 1, 0)


def _pairs(target: np.ndarray, prediction: np.ndarray) -> dict[tuple[int, int], int]:
    """(id in the target, id in the prediction) -> pixels."""
    pairs, counts = np.unique(target.astype(np.int64) << 32 | prediction.astype(np.int64), return_counts=True)
    return {(int(pair >> 32), int(pair & 0xFFFFFFFF)): int(count) for pair, count in zip(pairs, counts, strict=True)}


_INSIDE = 2**31 - 1  # pixels of a segment that are not in its band


def _bands(ids: np.ndarray, segments: Mapping[int, Any], distance: int) -> np.ndarray:
    """The ids [H, W], with _INSIDE where a pixel is not in the band of its segment."""
    result = ids.astype(np.int64)
    for id in segments:
        mask = ids == id
        if not mask.any():
            continue
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        result[box][mask[box] & ~inner_band(mask[box], distance)] = _INSIDE
    return result


def _iou(pairs: Mapping[tuple[int, int], int], target_id: int, predicted_id: int, common: int) -> float:
    target = sum(count for (id, _), count in pairs.items() if id == target_id)
    predicted = sum(count for (_, id), count in pairs.items() if id == predicted_id)
    return common / (target + predicted - common - pairs.get((VOID, predicted_id), 0))


def _quality(iou: float, tp: float, fp: float, fn: float) -> tuple[float, float, float]:
    recognition = tp / (tp + 0.5 * fp + 0.5 * fn)
    segmentation = iou / tp if tp else 0.0
    return iou / (tp + 0.5 * fp + 0.5 * fn), segmentation, recognition


def _size(ids: np.ndarray) -> str:
    return " x ".join(map(str, ids.shape))
