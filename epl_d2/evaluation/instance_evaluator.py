"""Detectron2's COCO evaluator with boundary AP beside box and mask AP."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.evaluation import COCOEvaluator
from detectron2.utils.logger import create_small_table
from pycocotools.cocoeval import COCOeval

from epl_d2.contours import DILATION_RATIO, check_dilation_ratio
from epl_d2.data.mask_check import check_coco_masks

from .instance_boundary import BoundaryCOCOeval
from .mask_scores import write_mask_scores

__all__ = ["InstanceBoundaryEvaluator", "average_precisions"]

_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


class InstanceBoundaryEvaluator(COCOEvaluator):
    """`COCOEvaluator` whose results have an entry "boundary" beside "bbox" and "segm", with the same names.

    Boundary AP is COCO's mask AP with min(mask IoU, boundary IoU), see :class:`BoundaryCOCOeval`.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        distributed: bool = True,
        output_dir: str | None = None,
        dilation_ratio: float = DILATION_RATIO,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            dataset_name: a registered data set with the metadata "json_file", or in Detectron2's format; the latter is
                converted to a COCO file in `output_dir`.
            distributed: gather the predictions of all processes; the main process evaluates.
            output_dir: folder for the predictions; None writes none.
            dilation_ratio: width of the boundary as a part of the image's diagonal.
            kwargs: further arguments of `COCOEvaluator`.

        Raises:
            ValueError: an annotation has no segmentation, or one that does not fit its image, or `dilation_ratio` is
                not in (0, 1].
        """
        self._dilation_ratio = check_dilation_ratio(dilation_ratio)
        super().__init__(dataset_name, distributed=distributed, output_dir=output_dir, **kwargs)
        check_coco_masks(self._coco_api.dataset, self._metadata.json_file)

    def evaluate(self, img_ids: Sequence[int] | None = None) -> dict[str, dict[str, float]]:
        """As the baseline's, with "boundary" among the results; `output_dir` gets mask_scores.json with all of them."""
        results = super().evaluate(img_ids=img_ids)
        if results and self._output_dir is not None:
            write_mask_scores(self._output_dir, results)
        return results

    def _eval_predictions(self, predictions: list[dict[str, Any]], img_ids: Sequence[int] | None = None) -> None:
        results = list(itertools.chain.from_iterable(prediction["instances"] for prediction in predictions))
        if any("segmentation" not in result for result in results):
            raise ValueError(
                f"the predictions for {self._metadata.name!r} have no masks, which boundary AP needs (MODEL.MASK_ON)"
            )
        super()._eval_predictions(predictions, img_ids=img_ids)  # which gives them the category ids of the file
        if not self._do_evaluation:
            return
        # Without "bbox", areas are those of the masks.
        results = [{key: value for key, value in result.items() if key != "bbox"} for result in results]
        if not results:
            self._results["boundary"] = dict.fromkeys(_METRICS, float("nan"))
            return
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = BoundaryCOCOeval(self._coco_api, self._coco_api.loadRes(results), self._dilation_ratio)
            evaluation.params.maxDets = list(self._max_dets_per_image)
            if img_ids is not None:
                evaluation.params.imgIds = list(img_ids)
            evaluation.evaluate()
            evaluation.accumulate()
        self._results["boundary"] = average_precisions(evaluation, self._class_names(evaluation.params.catIds))
        shown = {name: self._results["boundary"][name] for name in _METRICS}
        self._logger.info("Boundary AP, boundaries of %g of the diagonal:", self._dilation_ratio)
        self._logger.info("\n%s", create_small_table(shown))

    def _class_names(self, category_ids: Sequence[int]) -> list[str]:
        """The names of the categories of a file, which COCOeval sorts by their ids."""
        classes = self._metadata.get("thing_classes")
        if classes is None:
            return [self._coco_api.cats[id]["name"] for id in category_ids]
        contiguous = self._metadata.get("thing_dataset_id_to_contiguous_id") or {id: id for id in category_ids}
        return [classes[contiguous[id]] for id in category_ids]


def average_precisions(evaluation: COCOeval, class_names: Sequence[str] = ()) -> dict[str, float]:
    """COCO's average precisions in percent, at the largest number of detections; NaN where there is no object.

    Args:
        evaluation: accumulated.
        class_names: in the order of the categories; with more than one, "AP-NAME" is added for each.
    """
    precision = evaluation.eval["precision"][..., -1]  # [thresholds, recalls, categories, areas]
    thresholds, areas = evaluation.params.iouThrs, list(evaluation.params.areaRngLbl)

    def mean(values: np.ndarray) -> float:
        present = values[values > -1]  # -1 marks categories without an object
        return float(100 * present.mean()) if present.size else float("nan")

    overall = precision[..., areas.index("all")]
    results = {
        "AP": mean(overall),
        "AP50": mean(overall[np.isclose(thresholds, 0.5)]),
        "AP75": mean(overall[np.isclose(thresholds, 0.75)]),
        "APs": mean(precision[..., areas.index("small")]),
        "APm": mean(precision[..., areas.index("medium")]),
        "APl": mean(precision[..., areas.index("large")]),
    }
    if len(class_names) > 1:
        results |= {f"AP-{name}": mean(overall[:, :, index]) for index, name in enumerate(class_names)}
    return results
