"""The boundary scores as torchmetrics modules.

Shape shorthand in this module:

    N, H, W: images, image size
    K: number of classes
    D: number of widths
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from ..contours.nearest import MAX_DISTANCE
from ..evaluation import BoundaryStatistics
from ..evaluation.best_classes import best_classes
from ..evaluation.boundary_statistics import IGNORE_MODES, TRIMAPS

__all__ = ["BoundaryFScore", "BoundaryIoU", "TrimapIoU"]


class _BoundaryMetric(Metric):
    """What the three have in common: the counts of `BoundaryStatistics` as integer states that processes add up.

    All hold all counts, so that those of one `torchmetrics.MetricCollection` with equal settings count once.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    plot_legend_name = "Class"

    # `average` -> name in `BoundaryStatistics.compute`
    _scores: ClassVar[dict[str, str]]

    def __init__(
        self,
        num_classes: int,
        width: int | Sequence[int] = 3,
        average: str | None = "macro",
        *,
        ignore_index: int = 255,
        ignore_mode: str = "ignore",
        trimap: str = "label-change",
        ignore_distance: int = MAX_DISTANCE,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        average = "none" if average is None else average
        if average not in self._scores:
            raise ValueError(f"average must be one of {tuple(self._scores)} or None, got {average!r}")
        self.average = average
        self.several = not isinstance(width, (int, np.integer))
        widths = width if self.several else (width,)
        self.empty = BoundaryStatistics(num_classes, widths, ignore_index, ignore_mode, trimap, ignore_distance)
        for name, values in self.empty.counts.items():
            self.add_state(name, torch.from_numpy(values), dist_reduce_fx="sum")
        # A MetricCollection lets metrics share their states if these are equal after the first batch, as they can be
        # by chance. What decides on the counts is a state as well, so that only metrics that count alike share them.
        settings = ignore_index, IGNORE_MODES.index(ignore_mode), TRIMAPS.index(trimap), ignore_distance
        self.add_state("settings", torch.tensor([*settings, *sorted(set(self.empty.widths))]), dist_reduce_fx="max")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Count a batch, or nothing of it if there is an error.

        Args:
            preds: scores (logits or probabilities) ``[N, K, H, W]``, of which the best is taken, or ids ``[N, H, W]``.
            target: ids ``[N, H, W]``, 0..K-1 or ``ignore_index``.

        Raises:
            ValueError: shapes, dtypes or ids are none of these, or scores are NaN.
        """
        if preds.ndim == 4:
            if preds.shape[1] != self.empty.num_classes:
                raise ValueError(
                    f"preds must be [N,K,H,W] with the K = {self.empty.num_classes} classes, got {list(preds.shape)}"
                )
            preds = best_classes(preds, 1)  # few bytes leave the device
        if preds.ndim != 3 or target.ndim != 3:
            raise ValueError(
                "preds must be [N,K,H,W] or [N,H,W], and target [N,H,W], "
                f"got {list(preds.shape)} and {list(target.shape)}"
            )
        batch = self.empty.empty_copy()
        batch.update(preds.detach().cpu().numpy(), target.detach().cpu().numpy())
        for name, values in batch.counts.items():
            setattr(self, name, getattr(self, name) + torch.from_numpy(values).to(self.device))

    def compute(self) -> Tensor:
        """The scores so far: a scalar, ``[D]`` for several widths; ``[K]`` or ``[K, D]`` with ``average=None``."""
        statistics = self.empty.empty_copy()
        statistics.add_counts({name: getattr(self, name).cpu().numpy() for name in statistics.counts})
        values = torch.as_tensor(statistics.compute()[self._scores[self.average]])
        values = values.to(self.device, torch.get_default_dtype())
        return values if self.several else values[..., 0]

    def plot(self, val: Tensor | Sequence[Tensor] | None = None, ax: Any = None) -> Any:
        """Draw a result, or a list of results as a curve over the steps.

        Args:
            val: what `compute` or `forward` returned, or a list of such; None: `compute` is called.
            ax: an axis of Matplotlib to draw on; None: a new figure.

        Returns:
            Figure and axis.
        """
        val = self.compute() if val is None else val
        if self.several:
            val = self._by_width(val) if isinstance(val, Tensor) else [self._by_width(step) for step in val]
        return self._plot(val, ax)

    def _by_width(self, values: Tensor) -> dict[str, Tensor]:
        if values.ndim == 1:
            return {f"{width} px": value for width, value in zip(self.empty.widths, values, strict=True)}
        return {
            f"Class {label}, {width} px": value
            for label, row in enumerate(values)
            for width, value in zip(self.empty.widths, row, strict=True)
        }

    def set_dtype(self, dst_type: str | torch.dtype) -> _BoundaryMetric:
        """Counts stay integers: nothing changes."""
        return self


class BoundaryFScore(_BoundaryMetric):
    """F of the contour pixels that have a partner within ``width`` pixels (``docs/evaluation.md``, `BF`).

    Args:
        num_classes: K.
        width: pixels; for several, `compute` returns one value each, at the cost of one.
        average: ``"macro"``: mean over the classes; ``"micro"``: the contour pixels of all classes together; ``"any"``:
            contours whatever their class; ``"davis"``: mean over images and classes, as DAVIS and GSCNN report it; None
            or ``"none"``: a value for each class, NaN where neither map has a contour.
        ignore_index: the id of ignored pixels in the target; no class.
        ignore_mode, trimap, ignore_distance: see :class:`epl_d2.evaluation.BoundaryStatistics`.
        kwargs: those of `torchmetrics.Metric`.

    Raises:
        ValueError: for a setting out of range.

    Example:
        >>> target = torch.zeros(1, 8, 8, dtype=torch.long)
        >>> target[:, 2:6, 2:6] = 1
        >>> metric = BoundaryFScore(num_classes=2, width=[1, 3])
        >>> metric.update(target.roll(2, dims=2), target)
        >>> metric.compute()
        tensor([0.6897, 1.0000])
    """

    _scores = {
        "macro": "boundary_f",
        "micro": "boundary_f_micro",
        "any": "boundary_f_any",
        "davis": "boundary_f_davis",
        "none": "boundary_f_per_class",
    }


class TrimapIoU(_BoundaryMetric):
    """IoU of the pixels within ``width`` of the target's contours (``docs/evaluation.md``, `Trimap-mIoU`).

    Args:
        average: ``"macro"``: mean over the classes of the target's band; None or ``"none"``: a value for each class,
            NaN for the others.
        num_classes, width, ignore_index, ignore_mode, trimap, ignore_distance, kwargs: as in `BoundaryFScore`.

    Raises:
        ValueError: for a setting out of range.

    Example:
        >>> target = torch.zeros(1, 8, 8, dtype=torch.long)
        >>> target[:, 2:6, 2:6] = 1
        >>> metric = TrimapIoU(num_classes=2, width=1)
        >>> metric.update(target.roll(1, dims=2), target)
        >>> metric.compute()
        tensor(0.5500)
    """

    _scores = {"macro": "trimap_miou", "none": "trimap_iou_per_class"}


class BoundaryIoU(_BoundaryMetric):
    """IoU of what lies within ``width`` of each class's own contour (``docs/evaluation.md``, `Boundary-IoU`).

    Args:
        average: ``"macro"``: mean over the classes with a band in the target; None or ``"none"``: a value for each
            class, NaN for the others.
        num_classes, width, ignore_index, ignore_mode, trimap, ignore_distance, kwargs: as in `BoundaryFScore`.

    Raises:
        ValueError: for a setting out of range.

    Example:
        >>> target = torch.zeros(1, 8, 8, dtype=torch.long)
        >>> target[:, 2:6, 2:6] = 1
        >>> metric = BoundaryIoU(num_classes=2, width=1)
        >>> metric.update(target.roll(1, dims=2), target)
        >>> metric.compute()
        tensor(0.5321)
    """

    _scores = {"macro": "boundary_iou", "none": "boundary_iou_per_class"}
