"""The Detectron2 evaluator that feeds :class:`BoundaryStatistics` while the model works on the next image."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from epl_d2.contours.nearest import MAX_DISTANCE
from epl_d2.data.label_io import read_label, write_label
from epl_d2.files import usable_cores

from .best_classes import best_classes
from .boundary_statistics import DEFAULT_WIDTHS, BoundaryStatistics
from .image_counts import IMAGE_COUNTS_FILE, write_image_counts
from .report import (
    check_report_widths,
    class_table,
    curves_record,
    flat_scores,
    format_table,
    missing_contours,
    write_report,
)

_WAITING_PER_WORKER = 2  # label maps in memory: this many for each worker thread, whatever the number of images


class SemSegBoundaryEvaluator(DatasetEvaluator):
    """The scores of Detectron2's ``SemSegEvaluator``, and boundary scores at many widths.

    Worker threads read the ground truth and count while the model works on. Between processes travel counts only.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        distributed: bool = True,
        output_dir: str | None = None,
        num_classes: int | None = None,
        ignore_value: int | None = None,
        widths: Iterable[int] = DEFAULT_WIDTHS,
        report_widths: Iterable[int] = (1, 3, 5, 9),
        ignore_mode: str = "ignore",
        trimap: str = "label-change",
        ignore_distance: int = MAX_DISTANCE,
        num_workers: int | None = None,
        save_predictions: bool = False,
        save_image_counts: bool = False,
        class_offsets: Sequence[float] | None = None,
        probabilities: bool = False,
    ) -> None:
        """
        Args:
            dataset_name: a registered data set; its metadata gives ``stuff_classes`` and ``ignore_label``.
            distributed: gather the counts of all processes (results then come from the main process alone).
            output_dir: folder for the curves (JSON, CSV, PNG) and the table of classes; None writes no files.
            num_classes, ignore_value: instead of those of the metadata.
            widths: pixel widths of the curves.
            report_widths: those of them that are among the results.
            ignore_mode, trimap, ignore_distance: as in :class:`BoundaryStatistics`.
            num_workers: threads that count; by default one for each core of this process, at most 4.
            save_predictions: write the predicted ids to ``output_dir/predictions``, as PNGs named like the images, in
                the subfolders of the metadata's ``image_root`` in which these lie; for Cityscapes also the label ids
                to ``output_dir/submission``. Images without a label are then only saved.
            save_image_counts: write the counts of every single image to ``output_dir/image_counts.npz``, from which
                :mod:`epl_d2.evaluation.image_counts` computes paired intervals.
            class_offsets: [K] subtracted from the logits before the best class of a pixel is taken, as those of
                :func:`epl_d2.evaluation.prior_shift.prior_shift`; None subtracts nothing.
            probabilities: the scores are probabilities, of which the logarithms stand for the logits.

        Raises:
            ValueError: the metadata lacks what is needed, or an argument is none of these.
        """
        self._logger = logging.getLogger(__name__)
        self._dataset_name = dataset_name
        self._distributed = distributed
        self._output_dir = output_dir
        self._metadata = MetadataCatalog.get(dataset_name)
        classes = self._metadata.get("stuff_classes")
        if classes is None:
            if num_classes is None:
                raise ValueError(f"the metadata of {dataset_name!r} has no stuff_classes, so num_classes must be given")
            classes = [str(label) for label in range(num_classes)]
        elif num_classes is not None and len(classes) != num_classes:
            raise ValueError(f"num_classes is {num_classes}, but {dataset_name!r} has {len(classes)} stuff_classes")
        self._class_names: Sequence[str] = classes
        if ignore_value is None:
            ignore_value = self._metadata.get("ignore_label", 255)
        for argument, given in (("save_predictions", save_predictions), ("save_image_counts", save_image_counts)):
            if given and output_dir is None:
                raise ValueError(f"{argument} needs an output_dir")
        if num_workers is not None and num_workers < 1:
            raise ValueError(f"num_workers must be at least 1, got {num_workers}")
        if class_offsets is not None and len(class_offsets) != len(self._class_names):
            raise ValueError(f"class_offsets has {len(class_offsets)} values for {len(self._class_names)} classes")
        self._class_offsets = None if class_offsets is None else torch.as_tensor(class_offsets, dtype=torch.float32)
        self._probabilities = probabilities
        self._save_predictions = save_predictions
        self._save_image_counts = save_image_counts
        self._statistics = BoundaryStatistics(
            len(self._class_names), widths, ignore_value, ignore_mode, trimap, ignore_distance
        )
        self._report_widths = check_report_widths(report_widths, self._statistics.widths)
        self._num_workers = num_workers or min(4, max(1, usable_cores() // comm.get_local_size()))
        self._records: dict[str, dict[str, Any]] | None = None
        self._executor: ThreadPoolExecutor | None = None
        self._pending: deque[Future[None]] = deque()

    def reset(self) -> None:
        """Forget everything, and start the worker threads."""
        self._stop()
        self._statistics = self._statistics.empty_copy()
        self._lock = threading.Lock()
        self._saved: set[Path] = set()
        self._image_counts: dict[str, dict[str, np.ndarray]] = {}
        self._executor = ThreadPoolExecutor(self._num_workers, thread_name_prefix="boundary-evaluation")
        # Compiles the kernels (or loads them from disk) while the model works on the first image.
        self._pending.append(self._executor.submit(_warm_up, self._statistics.empty_copy()))

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Count a batch; it returns while worker threads still count, and waits only if they are far behind.

        Args:
            inputs: dicts with "file_name" and, where the registered data set does not tell it, "sem_seg_file_name".
            outputs: dicts with "sem_seg", scores (logits or probabilities) [K,H,W] at the size of the label file.

        Raises:
            ValueError: a label or prediction of this or an earlier batch is not usable; names the file.
        """
        if self._executor is None:
            raise RuntimeError("call reset() before process()")
        for sample, output in zip(inputs, outputs, strict=True):
            scores = output["sem_seg"]
            if scores.ndim != 3 or scores.shape[0] != len(self._class_names):
                raise ValueError(
                    f"{sample['file_name']}: the prediction must be [K,H,W] with the K = "
                    f"{len(self._class_names)} classes of {self._dataset_name!r}, got {list(scores.shape)}"
                )
            if self._class_offsets is not None:
                logits = scores.float().log() if self._probabilities else scores
                scores = logits - self._class_offsets.to(scores.device)[:, None, None]
            try:
                # Narrow on the device, so that a byte a pixel is copied and the scores can be freed.
                prediction = best_classes(scores, 0).cpu().numpy()
            except ValueError as error:
                raise ValueError(f"{sample['file_name']}: {error}") from error
            record = self._record(sample)
            while len(self._pending) >= _WAITING_PER_WORKER * self._num_workers:
                self._pending.popleft().result()
            self._pending.append(self._executor.submit(self._count, sample["file_name"], record, prediction))

    def evaluate(self) -> OrderedDict[str, dict[str, float]] | None:
        """Wait for the workers, gather the counts and compute the scores.

        Returns:
            ``{"sem_seg": {name: percent}}`` as of :func:`flat_scores`; None in all but the main process.
        """
        while self._pending:
            self._pending.popleft().result()
        self._stop()
        if self._distributed:
            gathered = comm.gather((self._statistics, self._image_counts))
            if not comm.is_main_process():
                return None
            self._statistics = self._statistics.empty_copy()
            for statistics, image_counts in gathered:
                self._statistics.merge(statistics)
                self._image_counts.update(image_counts)
        if self._statistics.num_images == 0:
            self._logger.warning("no image of %s was evaluated: all scores are NaN", self._dataset_name)
        elif warning := missing_contours(self._statistics):
            self._logger.warning("%s: %s", self._dataset_name, warning)
        record = curves_record(self._statistics, self._class_names, self._dataset_name)
        table = format_table(class_table(record, self._report_widths))
        self._logger.info("%s, %d images, percent:\n%s", self._dataset_name, self._statistics.num_images, table)
        if self._output_dir is not None:
            write_report(self._output_dir, record, self._report_widths)
            if self._image_counts:
                file = Path(self._output_dir, IMAGE_COUNTS_FILE)
                write_image_counts(file, self._image_counts, self._statistics.widths)
        return OrderedDict(sem_seg=flat_scores(self._statistics, self._class_names, self._report_widths))

    def _record(self, sample: dict[str, Any]) -> dict[str, Any]:
        """The dict that names the ground truth; Detectron2's own mapper drops it from test samples."""
        if "sem_seg_file_name" in sample:
            return sample
        if self._records is None:
            self._records = {record["file_name"]: record for record in DatasetCatalog.get(self._dataset_name)}
        record = self._records.get(sample["file_name"], {})
        if "sem_seg_file_name" not in record and not self._save_predictions:
            raise ValueError(
                f"{sample['file_name']}: {self._dataset_name!r} has no label file (sem_seg_file_name) for it; without "
                "labels predictions can only be saved (save_predictions, TEST.SAVE_PREDICTIONS)"
            )
        return record

    def _count(self, image: str, record: dict[str, Any], prediction: np.ndarray) -> None:
        """Runs in a worker thread."""
        if "sem_seg_file_name" not in record:
            self._save(image, prediction)
            return
        label_file = record["sem_seg_file_name"]
        label_map = record.get("label_map", self._metadata.get("label_map"))
        target = read_label(label_file, label_map=label_map, label_colors=record.get("label_colors"))
        if target.shape != prediction.shape:
            raise ValueError(
                f"{label_file}: the label is {_size(target)}, but the prediction for {image} is "
                f"{_size(prediction)} (height x width)"
            )
        if self._save_predictions:
            self._save(image, prediction)
        statistics = self._statistics.empty_copy()
        try:
            statistics.update(prediction, target)
        except ValueError as error:
            raise ValueError(f"{label_file}: {error} (prediction for {image})") from error
        with self._lock:
            self._statistics.merge(statistics)
            if self._save_image_counts:
                self._image_counts[image] = statistics.counts

    def _save(self, image: str, prediction: np.ndarray) -> None:
        """Write the class ids and, for Cityscapes, the label ids under a name that its evaluation server takes."""
        assert self._output_dir is not None  # where predictions are saved; see __init__
        name, root = Path(image), self._metadata.get("image_root")
        # Below the folder of the images, so that those of two subfolders may share a name.
        name = name.relative_to(root) if root is not None and name.is_relative_to(root) else Path(name.name)
        path = Path(self._output_dir, "predictions", name.with_suffix(".png"))
        with self._lock:
            if path in self._saved:
                raise ValueError(f"{image}: cannot save its prediction, another image is also called {path.name}")
            self._saved.add(path)
        write_label(path, prediction)
        label_ids = self._metadata.get("train_id_to_label_id")
        if label_ids is not None:
            frame = Path(image).stem.removesuffix("_leftImg8bit")
            submission = Path(self._output_dir, "submission", f"{frame}_pred_labelIds.png")
            write_label(submission, np.asarray(label_ids, np.uint8)[prediction])

    def _stop(self) -> None:
        self._pending.clear()
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None


def _warm_up(statistics: BoundaryStatistics) -> None:
    target = np.eye(4, dtype=np.uint8) % statistics.num_classes
    statistics.update(target[::-1], target)


def _size(pixels: np.ndarray) -> str:
    return " x ".join(str(side) for side in pixels.shape)
