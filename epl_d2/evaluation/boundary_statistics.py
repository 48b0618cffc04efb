"""Segmentation quality in boundary areas, for many pixel widths at once, accumulated over a data set.

Shape shorthand in this module:

    N, H, W: images, image size
    K: number of classes
    D: number of widths
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..contours.nearest import MAX_DISTANCE, nearest_valid_pixels
from .boundary_iou import count_boundary_bands
from .confusion import confusion_scores, count_confusion, iou_from_counts, mean_of_defined
from .contours import match_contours
from .trimap import count_trimap

IGNORE_MODES = ("ignore", "nearest", "zero")
TRIMAPS = ("label-change", "void")
DEFAULT_WIDTHS = tuple(range(1, 21))

# F of one image is added up in units of 2**-40, as an integer: sums of floats depend on their order. Eight
# million images fit, and the rounding stays below 1e-12.
_F_UNIT = 2.0**40


def check_widths(widths: Iterable[int]) -> tuple[int, ...]:
    """Return ``widths`` as a tuple of ints; ValueError unless they are positive integers, at least one."""
    widths = tuple(widths)
    try:
        if any(isinstance(width, (bool, np.bool_)) for width in widths):
            raise TypeError
        numbers = tuple(operator.index(width) for width in widths)
    except TypeError:
        raise ValueError(f"widths must be positive integers (pixels), got {widths!r}") from None
    if not numbers or min(numbers) < 1:
        raise ValueError(f"widths must be positive integers (pixels), at least one, got {widths!r}")
    return numbers


class BoundaryStatistics:
    """Counts from which every score is computed: feed :meth:`update` with label maps, read :meth:`compute`.

    All state is integers, so that :meth:`merge` is associative and commutative: however images are split over
    processes, the result is the same to the last bit. Its size does not depend on the number of images.

    The definitions are those of ``docs/evaluation.md``.
    """

    def __init__(
        self,
        num_classes: int,
        widths: Iterable[int] = DEFAULT_WIDTHS,
        ignore_value: int = 255,
        ignore_mode: str = "ignore",
        trimap: str = "label-change",
        ignore_distance: int = MAX_DISTANCE,
    ) -> None:
        """
        Args:
            num_classes: K; class ids are 0..K-1.
            widths: pixel widths d, positive integers, in the order in which scores are wanted; by default 1 to 20.
            ignore_value: the target value that marks ignored pixels, no class id.
            ignore_mode: ``"ignore"``: edges that touch ignored pixels are no contours. ``"nearest"``: for boundary F
                and Boundary IoU, ignored pixels of the target near valid ones first take the label of the nearest, and
                predictions count there. ``"zero"``: both maps are cleared where the target is ignored and edges of
                what remains are contours, as in the boundary F of DAVIS and GSCNN; it adds edges that always match.
            trimap: ``"label-change"``: bands around the target's label changes. ``"void"``: bands around
                ignored pixels, as PASCAL VOC's void rims are used.
            ignore_distance: how near is near in ``"nearest"``, in pixels (Euclidean), at least 1.

        Raises:
            ValueError: an argument is none of these.
        """
        if not 1 <= num_classes <= 65534:
            raise ValueError(f"num_classes must be 1 to 65534, got {num_classes}")
        if 0 <= ignore_value < num_classes:
            raise ValueError(f"ignore_value must be no class id 0..{num_classes - 1}, got {ignore_value}")
        if ignore_mode not in IGNORE_MODES:
            raise ValueError(f"ignore_mode must be one of {IGNORE_MODES}, got {ignore_mode!r}")
        if trimap not in TRIMAPS:
            raise ValueError(f"trimap must be one of {TRIMAPS}, got {trimap!r}")
        whole = isinstance(ignore_distance, (int, np.integer)) and not isinstance(ignore_distance, bool)
        if not whole or ignore_distance < 1:
            raise ValueError(f"ignore_distance must be a positive integer (pixels), got {ignore_distance!r}")
        self.num_classes = num_classes
        self.widths = check_widths(widths)
        self.ignore_value = ignore_value
        self.ignore_mode = ignore_mode
        self.trimap = trimap
        self.ignore_distance = int(ignore_distance)
        # Beside the classes there must be room for "ignored" and for "no class at all".
        self._dtype = np.dtype(np.uint8 if num_classes <= 254 else np.uint16)
        self._void = 256**self._dtype.itemsize - 1
        self._widths, self._order = np.unique(np.asarray(self.widths, np.int64), return_inverse=True)
        bands = (num_classes, self._widths.size)
        self._counts = {
            "images": np.zeros((), np.int64),
            "confusion": np.zeros((num_classes, num_classes), np.int64),
            "contour_totals": np.zeros((2, num_classes), np.int64),
            "contour_matched": np.zeros((2, *bands), np.int64),
            "contour_totals_any": np.zeros(2, np.int64),
            "contour_matched_any": np.zeros((2, self._widths.size), np.int64),
            "hidden_contours": np.zeros((), np.int64),
            "davis_sums": np.zeros(bands, np.int64),
            "trimap": np.zeros((3, *bands), np.int64),
            "boundary_bands": np.zeros((3, *bands), np.int64),
        }

    @property
    def num_images(self) -> int:
        """Number of images counted so far."""
        return int(self._counts["images"])

    @property
    def counts(self) -> dict[str, np.ndarray]:
        """A copy of the counts, int64, with E widths in ascending order and each once.

        ``images`` [], ``confusion`` [K,K] (rows are the target), ``contour_totals`` [2,K] and
        ``contour_matched`` [2,K,E] (prediction, target), ``contour_totals_any`` [2] and ``contour_matched_any`` [2,E]
        (whatever the class), ``hidden_contours`` [] (contour pixels that the edges of ignored areas would add to those
        of the target), ``davis_sums`` [K,E] (F of each image, in units of 2**-40), ``trimap`` [3,K,E] and
        ``boundary_bands`` [3,K,E] (shared, target, predicted pixels).
        """
        return {name: values.copy() for name, values in self._counts.items()}

    def empty_copy(self) -> BoundaryStatistics:
        """New statistics with the same settings and no counts."""
        return BoundaryStatistics(**self._settings())

    def update(self, prediction: np.ndarray, target: np.ndarray) -> None:
        """Count one pair of label maps, or a batch of pairs.

        Args:
            prediction: [H,W] or [N,H,W] integers 0..K-1; where the target is ignored, anything (with ``"nearest"``:
                where it stays ignored).
            target: of the same shape, integers 0..K-1 or ``ignore_value``.

        Raises:
            ValueError: the shapes differ or are no maps, a dtype is no integer, or an id is outside the
                classes; nothing of the offending pair is counted.
        """
        prediction, target = np.asarray(prediction), np.asarray(target)
        if prediction.shape != target.shape:
            raise ValueError(
                f"prediction and target must have one size, got {_size(prediction)} and {_size(target)} "
                "(height x width)"
            )
        if target.ndim not in (2, 3) or 0 in target.shape[-2:]:
            raise ValueError(f"prediction and target must be [H,W] or [N,H,W] and not empty, got {list(target.shape)}")
        for name, labels in (("prediction", prediction), ("target", target)):
            if labels.dtype.kind not in "iu":
                raise ValueError(f"{name} must hold integers, got {labels.dtype}")
        if target.ndim == 2:
            self.add_counts(self._count(prediction, target))
            return
        for one_prediction, one_target in zip(prediction, target, strict=True):
            self.add_counts(self._count(one_prediction, one_target))

    def merge(self, other: BoundaryStatistics) -> None:
        """Add the counts of ``other``; ValueError if it was made with other arguments."""
        if self._settings() != other._settings():
            raise ValueError(f"cannot merge statistics of {other._settings()} into statistics of {self._settings()}")
        self.add_counts(other._counts)

    def add_counts(self, counts: Mapping[str, np.ndarray]) -> None:
        """Add what :attr:`counts` gave, of statistics with the same settings (which :meth:`merge` checks)."""
        for name, values in counts.items():
            self._counts[name] += values

    def compute(self) -> dict[str, Any]:
        """Scores of all images so far, as fractions in [0, 1], NaN where undefined.

        Returns:
            ``mIoU``, ``fwIoU``, ``mACC``, ``pACC`` (floats), ``IoU`` [K], ``ACC`` [K], all of
            :func:`contour_scores` [D], ``boundary_f_per_class`` [K,D], ``boundary_f_davis`` [D],
            ``boundary_f_davis_per_class`` [K,D], ``trimap_miou`` [D], ``trimap_iou_per_class`` [K,D],
            ``boundary_iou`` [D], ``boundary_iou_per_class`` [K,D] and ``confusion`` [K,K] (counts, rows are the
            target); D in the order of ``widths``.
        """
        counts = self._counts
        f_per_class = f_measure(counts["contour_totals"], counts["contour_matched"])
        of_contours = {name: values[self._order] for name, values in contour_scores(counts).items()}
        images = counts["images"]
        davis = counts["davis_sums"] / _F_UNIT / images if images else np.full(f_per_class.shape, np.nan)
        per_class = {
            "boundary_f": f_per_class,
            "boundary_f_davis": davis,
            "trimap": iou_from_counts(*counts["trimap"]),
            "boundary_iou": iou_from_counts(*counts["boundary_bands"]),
        }
        per_class = {name: values[:, self._order] for name, values in per_class.items()}
        return {
            **confusion_scores(counts["confusion"]),
            **of_contours,
            "boundary_f_per_class": per_class["boundary_f"],
            "boundary_f_davis": mean_of_defined(per_class["boundary_f_davis"]),
            "boundary_f_davis_per_class": per_class["boundary_f_davis"],
            "trimap_miou": mean_of_defined(per_class["trimap"]),
            "trimap_iou_per_class": per_class["trimap"],
            "boundary_iou": mean_of_defined(per_class["boundary_iou"]),
            "boundary_iou_per_class": per_class["boundary_iou"],
            "confusion": counts["confusion"].copy(),
        }

    def _settings(self) -> dict[str, Any]:
        names = ("num_classes", "widths", "ignore_value", "ignore_mode", "trimap", "ignore_distance")
        return {name: getattr(self, name) for name in names}

    def _count(self, prediction: np.ndarray, target: np.ndarray) -> dict[str, np.ndarray]:
        """Counts of one pair [H,W]."""
        guess = self._canonical(prediction, self._void)
        truth = self._canonical(target, self.ignore_value)
        masked = np.empty(truth.shape, self._dtype)
        confusion = np.zeros((self.num_classes, self.num_classes), np.int64)
        if not count_confusion(guess, truth, self._void, masked, confusion):
            raise ValueError(self._describe_bad_id(prediction, target))
        occurring = confusion.sum(axis=0) + confusion.sum(axis=1)
        trimap = count_trimap(masked, truth, self.num_classes, self._widths, self._void, self.trimap)
        if self.ignore_mode == "nearest":
            truth = truth.copy()
            occurring += self._fill(guess, truth, masked)
        common = (masked, truth, self.num_classes, self._widths, self._void)
        zero = self.ignore_mode == "zero"
        totals, matched, hidden = match_contours(*common, zero)  # the last row is that of contours of any class
        f = np.nan_to_num(f_measure(totals[:, :-1], matched[:, :-1]), nan=1.0)
        return {
            "images": np.ones((), np.int64),
            "confusion": confusion,
            "contour_totals": totals[:, :-1],
            "contour_matched": matched[:, :-1],
            "contour_totals_any": totals[:, -1],
            "contour_matched_any": matched[:, -1],
            "hidden_contours": hidden[1],
            "davis_sums": np.rint(f * _F_UNIT).astype(np.int64),
            "trimap": trimap,
            "boundary_bands": count_boundary_bands(*common, np.flatnonzero(occurring), zero),
        }

    def _fill(self, prediction: np.ndarray, target: np.ndarray, masked: np.ndarray) -> np.ndarray:
        """Give ignored pixels near valid ones the nearest label in ``target``, the predicted one in ``masked``.

        Returns how often each class [K] is predicted there.
        """
        pixels, sources = nearest_valid_pixels(target != self._void, self.ignore_distance)
        guesses = prediction.reshape(-1)[pixels]
        if pixels.size and guesses.max() >= self.num_classes:
            raise ValueError(
                "prediction holds ids outside the classes on ignored pixels, where ignore_mode 'nearest' counts it: "
                f"use 'ignore', or predictions without ignored pixels; ids may be 0..{self.num_classes - 1}"
            )
        target.reshape(-1)[pixels] = target.reshape(-1)[sources]
        masked.reshape(-1)[pixels] = guesses
        return np.bincount(guesses, minlength=self.num_classes)

    def _canonical(self, labels: np.ndarray, void: int) -> np.ndarray:
        """``labels`` as contiguous ids of the counting dtype, ``void`` mapped to its largest value.

        A value that is neither a class nor ``void`` may become the largest but one, which is no class either.
        """
        if labels.dtype != self._dtype or void != self._void:
            known = (labels >= 0) & (labels < self.num_classes)
            other = np.where(labels == void, self._void, self._void - 1)
            labels = np.where(known, labels, other).astype(self._dtype)
        return np.ascontiguousarray(labels)

    def _describe_bad_id(self, prediction: np.ndarray, target: np.ndarray) -> str:
        valid = target != self.ignore_value
        outside = {
            name: labels[valid & ((labels < 0) | (labels >= self.num_classes))]
            for name, labels in (("target", target), ("prediction", prediction))
        }
        name = "target" if outside["target"].size else "prediction"
        ids = ", ".join(str(value) for value in np.unique(outside[name])[:8])
        ignored = f" or {self.ignore_value} (ignored)" if name == "target" else ""
        return f"{name} holds ids outside the classes: {ids}; ids may be 0..{self.num_classes - 1}{ignored}"


def precision_and_recall(totals: np.ndarray, matched: np.ndarray) -> np.ndarray:
    """Matched share [2,...,D] (prediction: precision, target: recall) of contour pixels [2,...], matched [2,...,D].

    0 where one of the maps has no contour pixels, NaN where neither has.
    """
    neither = (totals == 0).all(axis=0)
    totals = np.broadcast_to(totals[..., None], matched.shape)
    shares = np.divide(matched, totals, out=np.zeros(matched.shape), where=totals > 0)
    shares[:, neither] = np.nan
    return shares


def f_measure(totals: np.ndarray, matched: np.ndarray) -> np.ndarray:
    """F = 2PR / (P + R) [...,D] of :func:`precision_and_recall`; 0 where P + R is 0, NaN where they are undefined."""
    precision, recall = precision_and_recall(totals, matched)
    total = precision + recall
    return np.divide(2 * precision * recall, total, out=np.where(np.isnan(total), np.nan, 0.0), where=total > 0)


def contour_scores(counts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The scores of contours that have one value a width.

    Args:
        counts: `contour_totals` [2,K,...], `contour_matched` [2,K,...,D] and, where they were counted,
            `contour_totals_any` [2,...] and `contour_matched_any` [2,...,D].

    Returns:
        ``boundary_f``, ``boundary_precision``, ``boundary_recall`` [...,D], means over the classes; the same of the
        pixels of all classes together (``boundary_f_micro``, ...) and of contours whatever their class
        (``boundary_f_any``, ...).
    """
    totals, matched = counts["contour_totals"], counts["contour_matched"]
    precision, recall = precision_and_recall(totals, matched)
    scores = {
        "boundary_f": mean_of_defined(f_measure(totals, matched)),
        "boundary_precision": mean_of_defined(precision),
        "boundary_recall": mean_of_defined(recall),
    }
    pooled = {"micro": (totals.sum(axis=1), matched.sum(axis=1))}
    if "contour_totals_any" in counts:
        pooled["any"] = (counts["contour_totals_any"], counts["contour_matched_any"])
    for name, of_both in pooled.items():
        scores[f"boundary_f_{name}"] = f_measure(*of_both)
        scores[f"boundary_precision_{name}"], scores[f"boundary_recall_{name}"] = precision_and_recall(*of_both)
    return scores


def _size(labels: np.ndarray) -> str:
    return " x ".join(str(side) for side in labels.shape)
