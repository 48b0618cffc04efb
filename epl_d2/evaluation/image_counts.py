"""Counts of every single image, and the scores of any resampling of the images (for a bootstrap).

Shape shorthand in this module:

    N: images
    K: number of classes
    D: number of widths
    B: resamplings
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from epl_d2.files import write_whole

from .boundary_statistics import contour_scores, f_measure
from .confusion import iou_from_counts, mean_of_defined
from .report import CURVES

__all__ = ["IMAGE_COUNTS_FILE", "ImageCounts", "read_image_counts", "write_image_counts"]

IMAGE_COUNTS_FILE = "image_counts.npz"

_COUNTS = ("confusion", "contour_totals", "contour_matched", "trimap", "boundary_bands")
_LATER_COUNTS = ("contour_totals_any", "contour_matched_any")  # absent from files of earlier versions

_WITHOUT_WIDTH = ("confusion", "contour_totals", "contour_totals_any")


@dataclass(frozen=True)
class ImageCounts:
    """The counts of `BoundaryStatistics.counts`, image by image.

    `names` [N], `widths` [D] ascending, and in `counts` `confusion` [N,K,K], `contour_totals` [N,2,K],
    `contour_matched` [N,2,K,D], `trimap` [N,3,K,D] and `boundary_bands` [N,3,K,D]; of files that hold them also
    `contour_totals_any` [N,2] and `contour_matched_any` [N,2,D].
    """

    names: tuple[str, ...]
    widths: tuple[int, ...]
    counts: Mapping[str, np.ndarray]

    def resampled_scores(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Scores as :meth:`BoundaryStatistics.compute` gives for each image taken so many times.

        Args:
            weights: [B,N] how often each image is taken, not negative.

        Returns:
            `mIoU` [B], and [D,B] what :data:`epl_d2.evaluation.report.CURVES` lists, but for `BF-davis`, and without
            `BF-any` where it was not counted; fractions, NaN where undefined.
        """
        totals = self._totals(weights)
        of_contours = contour_scores(totals)
        return {
            "mIoU": mean_of_defined(iou_from_counts(*totals["confusion"])),
            **{label: of_contours[key].T for label, key in CURVES.items() if key in of_contours},
            "Trimap-mIoU": mean_of_defined(iou_from_counts(*totals["trimap"])),
            "Boundary-IoU": mean_of_defined(iou_from_counts(*totals["boundary_bands"])),
        }

    def resampled_class_scores(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """The same for each class: `IoU` [K,B] and `BF@<d>px` [K,B] of every width d, named as in tables.

        Args:
            weights: as of :meth:`resampled_scores`.
        """
        totals = self._totals(weights)
        f = np.moveaxis(f_measure(totals["contour_totals"], totals["contour_matched"]), -1, 0)
        of_widths = {f"BF@{width}px": values for width, values in zip(self.widths, f, strict=True)}
        return {"IoU": iou_from_counts(*totals["confusion"]), **of_widths}

    def at_widths(self, widths: Sequence[int]) -> ImageCounts:
        """The same counts at some of the widths, ascending.

        Raises:
            ValueError: one of them was not counted.
        """
        missing = sorted(set(widths) - set(self.widths))
        if missing:
            raise ValueError(f"there are no counts at the widths {missing}; counted were {list(self.widths)}")
        chosen = [place for place, width in enumerate(self.widths) if width in widths]
        counts = {
            name: values if name in _WITHOUT_WIDTH else values[..., chosen] for name, values in self.counts.items()
        }
        return ImageCounts(self.names, tuple(self.widths[place] for place in chosen), counts)

    def write(self, path: str | Path) -> None:
        """Write the counts as compressed int32 arrays, for :func:`read_image_counts`."""
        stacked = {name: values.astype(np.int32) for name, values in self.counts.items()}
        names, widths = np.array(self.names), np.array(self.widths, np.int64)
        write_whole(Path(path), lambda file: np.savez_compressed(file, names=names, widths=widths, **stacked))

    def _totals(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Sums of :meth:`_summands` over images that are taken so many times, as `contour_scores` takes them."""
        # Sums of 2**53 and more would be inexact in float64; 10**9 images of 10**6 pixels are below.
        weights = np.asarray(weights, np.float64)
        totals = {name: np.tensordot(values, weights, axes=(0, 1)) for name, values in self._summands().items()}
        matched = {name: np.moveaxis(totals[name], -2, -1) for name in totals if name.startswith("contour_matched")}
        return {**totals, **matched}

    def _summands(self) -> dict[str, np.ndarray]:
        """The counts, and of the confusion [N,3,K] only what IoU needs: shared, target and predicted pixels."""
        confusion = self.counts["confusion"]
        shared = np.diagonal(confusion, axis1=1, axis2=2)
        return {
            **{name: values for name, values in self.counts.items() if name != "confusion"},
            "confusion": np.stack([shared, confusion.sum(axis=2), confusion.sum(axis=1)], axis=1),
        }


def write_image_counts(
    path: str | Path, counts: Mapping[str, Mapping[str, np.ndarray]], widths: tuple[int, ...]
) -> None:
    """Write the counts of each image as compressed int32 arrays.

    Args:
        path: an .npz file.
        counts: file of the image -> `BoundaryStatistics.counts` of that image; at least one.
        widths: those of the statistics.

    Raises:
        ValueError: there is no image.
    """
    if not counts:
        raise ValueError(f"{path}: there are no counts to write")
    files = sorted(counts)
    folder = os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file in files])
    names = [Path(os.path.relpath(file, folder)).as_posix() for file in files]
    stored = (*_COUNTS, *_LATER_COUNTS)
    stacked = {name: np.stack([counts[file][name] for file in files]) for name in stored}
    ascending = np.unique(np.asarray(widths, np.int64))
    ImageCounts(tuple(names), tuple(ascending.tolist()), stacked).write(path)


def read_image_counts(path: str | Path) -> ImageCounts:
    """Read what :func:`write_image_counts` wrote.

    Raises:
        ValueError: the file is missing or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = (*_COUNTS, *(name for name in _LATER_COUNTS if name in file))
            counts = {name: file[name].astype(np.int64) for name in stored}
            return ImageCounts(tuple(file["names"].tolist()), tuple(file["widths"].tolist()), counts)
    except (OSError, KeyError, ValueError, EOFError) as error:
        raise ValueError(f"{path}: no counts of images ({error})") from error
