"""The Detectron2 evaluator for panoptic quality and boundary PQ; it needs no panopticapi."""

from __future__ import annotations

import json
import logging
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from tabulate import tabulate

from epl_d2.contours import DILATION_RATIO
from epl_d2.data.label_io import read_image

from .panoptic_quality import PanopticStatistics

__all__ = ["PanopticBoundaryEvaluator"]


class PanopticBoundaryEvaluator(DatasetEvaluator):
    """PQ, SQ and RQ as in Detectron2's ``COCOPanopticEvaluator``, and boundary PQ.

    Between processes travel counts only.
    """

    def __init__(self, dataset_name: str, *, distributed: bool = True, dilation_ratio: float = DILATION_RATIO) -> None:
        """
        Args:
            dataset_name: a registered data set; its metadata gives ``panoptic_json``, ``panoptic_root`` and
                ``{thing,stuff}_dataset_id_to_contiguous_id``.
            distributed: gather the counts of all processes (results then come from the main process alone).
            dilation_ratio: width of the boundary as a part of the image's diagonal.

        Raises:
            FileNotFoundError, ValueError: the panoptic annotations are missing or not as expected.
        """
        self._logger = logging.getLogger(__name__)
        self._dataset_name = dataset_name
        self._distributed = distributed
        self._metadata = metadata = MetadataCatalog.get(dataset_name)
        self._file = metadata.panoptic_json
        try:
            with open(self._file, encoding="utf-8") as file:
                content = json.load(file)
        except ValueError as error:
            raise ValueError(f"{self._file}: no valid JSON: {error}") from error
        try:
            categories = {category["id"]: bool(category["isthing"]) for category in content["categories"]}
            self._annotations = {annotation["image_id"]: annotation for annotation in content["annotations"]}
        except (KeyError, TypeError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else error
            raise ValueError(f"{self._file}: no panoptic annotations of COCO's format ({what})") from error
        self._category_ids = {
            kind: {k: id for id, k in metadata.get(f"{kind}_dataset_id_to_contiguous_id").items()}
            for kind in ("thing", "stuff")
        }
        self._statistics = PanopticStatistics(categories, dilation_ratio)

    def reset(self) -> None:
        """Forget everything."""
        self._statistics = PanopticStatistics(self._statistics.categories, self._statistics.dilation_ratio)

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Count a batch.

        Args:
            inputs: dicts with "file_name" and "image_id".
            outputs: dicts with "panoptic_seg": ids of segments [H, W] and a list of dicts with "id", "category_id"
                (contiguous) and "isthing".

        Raises:
            ValueError: there are no annotations of an image, or they do not fit the prediction; names the files.
        """
        for sample, output in zip(inputs, outputs, strict=True):
            annotation = self._annotations.get(sample["image_id"])
            if annotation is None:
                raise ValueError(
                    f"{self._file}: no annotation of the image {sample['image_id']} ({sample['file_name']})"
                )
            ids, segments = output["panoptic_seg"]
            if segments is None:
                raise ValueError(
                    f"{sample['file_name']}: the prediction has no list of segments, as those of PanopticFPN have"
                )
            try:
                predicted = [{"id": segment["id"], "category_id": self._category_id(segment)} for segment in segments]
            except KeyError as error:
                raise ValueError(
                    f"{sample['file_name']}: the prediction has a segment of the category {error}, which is none of "
                    f"{self._dataset_name}"
                ) from error
            path = os.path.join(self._metadata.panoptic_root, annotation["file_name"])
            try:
                self._statistics.update(ids.cpu().numpy(), predicted, _read_ids(path), annotation["segments_info"])
            except ValueError as error:
                raise ValueError(f"{path}: {error} (prediction for {sample['file_name']})") from error

    def _category_id(self, segment: Mapping[str, Any]) -> int:
        return self._category_ids["thing" if segment["isthing"] else "stuff"][segment["category_id"]]

    def evaluate(self) -> OrderedDict[str, dict[str, float]] | None:
        """Gather the counts and compute the scores.

        Returns:
            ``{"panoptic_seg": {name: percent}}``; None in all but the main process.
        """
        statistics = self._statistics
        if self._distributed:
            gathered = comm.gather(statistics)
            if not comm.is_main_process():
                return None
            self.reset()
            statistics = self._statistics
            for part in gathered:
                statistics.merge(part)
        scores = {name: 100 * value for name, value in statistics.compute().items()}
        rows = [
            [label, *(scores[f"{prefix}{name}{suffix}"] for prefix in ("", "boundary_") for name in ("PQ", "SQ", "RQ"))]
            for label, suffix in (("all", ""), ("things", "_th"), ("stuff", "_st"))
        ]
        headers = ["", "PQ", "SQ", "RQ", "boundary PQ", "boundary SQ", "boundary RQ"]
        table = tabulate(rows, headers=headers, tablefmt="pipe", floatfmt=".3f")
        self._logger.info("%s, %d images, percent:\n%s", self._dataset_name, statistics.num_images, table)
        return OrderedDict(panoptic_seg=scores)


def _read_ids(path: str) -> np.ndarray:
    """The ids [H, W] of a panoptic PNG: red + 256 green + 256^2 blue."""
    red, green, blue = np.moveaxis(read_image(path).astype(np.int64), 2, 0)
    return red + 256 * green + 256 * 256 * blue
