"""The scores of a run, read from what the evaluator wrote."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from epl_d2.evaluation.mask_scores import MASK_SCORES_FILE, read_mask_scores
from epl_d2.evaluation.report import CURVES, CURVES_FILE

__all__ = [
    "MASK_METRICS",
    "contour_metrics",
    "headline_metrics",
    "read_run_scores",
    "read_scores",
    "scores_of_record",
]

# Those of models that find masks, as far as a run has them -> their names in the tables.
MASK_METRICS = {
    "segm/AP": "mask AP",
    "segm/AP50": "mask AP50",
    "segm/AP75": "mask AP75",
    "boundary/AP": "boundary AP",
    "boundary/AP50": "boundary AP50",
    "boundary/AP75": "boundary AP75",
    "bbox/AP": "box AP",
    "panoptic_seg/PQ": "PQ",
    "panoptic_seg/boundary_PQ": "boundary PQ",
}


def read_scores(file: Path) -> dict[str, float | None]:
    """All scores of a `boundary_curves.json`, see :func:`scores_of_record`.

    Raises:
        ValueError: the file is missing or is no such record.
    """
    try:
        return scores_of_record(json.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}; was the model evaluated?") from error
    except (ValueError, KeyError) as error:
        raise ValueError(f"{file}: no record of the evaluator ({error!r})") from error


def read_run_scores(folder: Path) -> dict[str, float | None]:
    """All scores that the evaluations of a run left in a folder, of semantic labels, of masks, or of both.

    Raises:
        ValueError: there are none, or a file is no record.
    """
    curves, masks = folder / CURVES_FILE, folder / MASK_SCORES_FILE
    scores = read_mask_scores(masks) if masks.is_file() else {}
    return {**scores, **read_scores(curves)} if curves.is_file() or not scores else scores


def scores_of_record(record: dict[str, Any]) -> dict[str, float | None]:
    """The evaluator's curves under the names that it reports, at all widths; percent, None where undefined.

    `mIoU`, `fwIoU`, `mACC`, `pACC`, `IoU-<class>`, `ACC-<class>`, and `<curve>@<d>px` of every name in
    :data:`epl_d2.evaluation.report.CURVES`; records of earlier versions lack some.
    """
    scores = {name: record[name] for name in ("mIoU", "fwIoU", "mACC", "pACC")}
    for kind in ("IoU", "ACC"):
        scores.update((f"{kind}-{name}", value) for name, value in zip(record["classes"], record[kind], strict=True))
    for curve in (name for name in CURVES if name in record):
        scores.update((f"{curve}@{d}px", value) for d, value in zip(record["widths"], record[curve], strict=True))
    return scores


def headline_metrics(widths: Sequence[int]) -> list[str]:
    """The metrics of the tables, in their order."""
    curves = ("BF", "BF-micro", "Trimap-mIoU", "Boundary-IoU")
    return ["mIoU", *(f"{curve}@{width}px" for curve in curves for width in widths)]


def contour_metrics(widths: Sequence[int]) -> list[str]:
    """Where differences of contours come from: precision and recall, and contours whatever their class."""
    curves = ("BF-precision", "BF-recall", "BF-micro-precision", "BF-micro-recall", "BF-any")
    return [f"{curve}@{width}px" for curve in curves for width in widths]
