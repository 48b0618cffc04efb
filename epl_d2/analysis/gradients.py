"""Where each term of the loss pulls: the gradient at the logits, near contours and elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from detectron2.utils.events import EventStorage
from torch import nn

from epl_d2.contours import contour_sides, distance_to

__all__ = ["TermGradient", "analyze_gradients", "analyze_mask_gradients"]

CRITERION = "loss_sem_seg"
MASK_CRITERION = "loss_mask"
_NOTHING_IGNORED = 255  # masks have no ignored pixels
# They run as in inference, so that nothing is random and no statistics change.
_NORMS_AND_DROPOUT = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)


@dataclass(frozen=True)
class TermGradient:
    """A term of the loss, with its weight, over all batches.

    Attributes:
        name: as in the log.
        value: mean over the batches.
        magnitude: sum of the absolute gradient at the logits, as a multiple of the criterion's.
        magnitude_at_contours: the same within each of the widths.
        share: how much of the term's own absolute gradient lies within each of the widths, 0 to 1.
        cosine: of the angle between its gradient and the criterion's.
    """

    name: str
    value: float
    magnitude: float
    magnitude_at_contours: tuple[float, ...]
    share: tuple[float, ...]
    cosine: float


def analyze_gradients(
    model: nn.Module, batches: Iterable[list[dict[str, Any]]], widths: Sequence[int]
) -> tuple[list[TermGradient], tuple[float, ...]]:
    """Gradients of all terms with respect to the logits at the size of the labels.

    The terms of auxiliary branches, which do not depend on these logits, are left out. The model is left as it was.

    Args:
        model: an `EPLSemanticSegmentor` (or Detectron2's `SemanticSegmentor` with a head of this project).
        batches: training records, as the train loader gives them.
        widths: in pixels; 1 stands for the pixels with a 4-neighbor of another class.

    Returns:
        The terms, the criterion first, and the share of the labeled pixels that lies within each of the widths.

    Raises:
        ValueError: there is no batch, or no gradient in any.
    """
    ignore_value = model.sem_seg_head.ignore_value
    return _analyze(partial(_term_gradients, model), batches, widths, ignore_value, CRITERION)


def analyze_mask_gradients(
    model: nn.Module, batches: Iterable[list[dict[str, Any]]], widths: Sequence[int]
) -> tuple[list[TermGradient], tuple[float, ...]]:
    """As `analyze_gradients`, with respect to the logits of the masks of the foreground proposals.

    Args:
        model: a `GeneralizedRCNN` or `PanopticFPN` whose mask head has `layers`, as Detectron2's and ours have.
        batches: training records with instances.
        widths: in pixels of the masks.

    Returns:
        The terms, the criterion ("loss_mask") first, and the share of the masks' pixels within each of the widths.

    Raises:
        ValueError: there is no batch, no foreground proposal in any, or the mask head is of another kind.
    """
    head = model.roi_heads.mask_head
    if not hasattr(head, "layers"):
        raise ValueError(f"{type(head).__name__} has no `layers` from the features of a box to the logits of its mask")
    return _analyze(partial(_mask_gradients, model), batches, widths, _NOTHING_IGNORED, MASK_CRITERION)


def _analyze(
    gradients_of: Callable[[list[dict[str, Any]]], tuple[dict[str, np.ndarray], dict[str, float], np.ndarray]],
    batches: Iterable[list[dict[str, Any]]],
    widths: Sequence[int],
    ignore_value: int,
    criterion_name: str,
) -> tuple[list[TermGradient], tuple[float, ...]]:
    sums: dict[str, _Sums] = {}
    pixels = np.zeros(len(widths) + 1)
    count = 0
    for batch in batches:
        gradients, values, labels = gradients_of(batch)
        if not len(labels):  # no mask in the whole batch
            continue
        near = _within(labels, widths, ignore_value)
        valid = labels != ignore_value
        pixels += [*((band & valid).sum() for band in near), valid.sum()]
        for name, gradient in gradients.items():
            sums.setdefault(name, _Sums(len(widths))).add(values[name], gradient, gradients[criterion_name], near)
        count += 1
    if not count or not sums[criterion_name].total:
        raise ValueError(f"no gradient to look at in {count} batches: are all pixels ignored, or is there no mask?")
    criterion = sums[criterion_name]
    terms = [entry.summary(name, criterion, count) for name, entry in sums.items()]
    return terms, tuple((pixels[:-1] / pixels[-1]).tolist())


class _Sums:
    """What adds up over the batches for one term."""

    def __init__(self, widths: int):
        self.value = self.total = self.product = self.squares = 0.0
        self.near = np.zeros(widths)

    def add(self, value: float, gradient: np.ndarray, criterion: np.ndarray, near: list[np.ndarray]) -> None:
        """`gradient`, `criterion`: [N, K, H, W]; `near`: [N, H, W] for each width."""
        per_pixel = np.abs(gradient).sum(axis=1)
        self.value += value
        self.total += per_pixel.sum()
        self.near += [per_pixel[band].sum() for band in near]
        self.product += (gradient * criterion).sum()
        self.squares += (gradient * gradient).sum()

    def summary(self, name: str, criterion: _Sums, batches: int) -> TermGradient:
        norms = (self.squares * criterion.squares) ** 0.5
        with np.errstate(invalid="ignore", divide="ignore"):  # NaN where the criterion pulls at no such pixel
            at_contours = self.near / criterion.near
        return TermGradient(
            name=name,
            value=self.value / batches,
            magnitude=self.total / criterion.total,
            magnitude_at_contours=tuple(at_contours.tolist()),
            share=tuple((self.near / self.total).tolist() if self.total else [0.0] * len(self.near)),
            cosine=self.product / norms if norms else 0.0,
        )


def _term_gradients(
    model: nn.Module, batch: list[dict[str, Any]]
) -> tuple[dict[str, np.ndarray], dict[str, float], np.ndarray]:
    """Gradients [N, K, H, W] and values by term, and the labels [N, H, W]."""
    head = model.sem_seg_head
    with _frozen(model), _in_place_of(head, "upsample", _Probe(head.upsample)) as probe:
        losses = model(batch)
        labels = probe.targets
        terms = {name: loss for name, loss in losses.items() if loss.requires_grad}
        gradients = {
            name: torch.autograd.grad(loss, probe.logits, retain_graph=True)[0].double().cpu().numpy()
            for name, loss in terms.items()
        }
    return gradients, {name: float(loss.detach()) for name, loss in terms.items()}, labels.cpu().numpy()


def _mask_gradients(
    model: nn.Module, batch: list[dict[str, Any]]
) -> tuple[dict[str, np.ndarray], dict[str, float], np.ndarray]:
    """Gradients [B, C, M, M] and values by term, and the targets [B, M, M] of the foreground proposals."""
    head = model.roi_heads.mask_head
    # The heads log; an iteration beyond every schedule.
    with EventStorage(10**9), _frozen(model), _in_place_of(head, "layers", _MaskProbe(head.layers)) as probe:
        losses = model(batch)
        terms = {name: loss for name, loss in losses.items() if loss.requires_grad}
        gradients = {
            name: torch.autograd.grad(loss, probe.logits, retain_graph=True)[0].double().cpu().numpy()
            for name, loss in terms.items()
        }
    side = probe.logits.shape[-1]
    targets = [
        image.gt_masks.crop_and_resize(image.proposal_boxes.tensor, side) for image in probe.targets if len(image)
    ]
    masks = [(target if target.dtype == torch.bool else target > 0.5).cpu().numpy() for target in targets]
    labels = np.concatenate(masks).astype(np.int64) if masks else np.empty((0, side, side), np.int64)
    return gradients, {name: float(loss.detach()) for name, loss in terms.items()}, labels


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """The model computes its losses, but no parameter has a gradient, and norms and dropout are as in inference."""
    modes = {module: module.training for module in model.modules()}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.train()
    for module in modes:
        if isinstance(module, _NORMS_AND_DROPOUT):
            module.eval()
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
        for module, mode in modes.items():
            module.training = mode


class _Probe:
    """Stands in for a head's `upsample` and makes the first result a leaf, from which the losses are computed."""

    def __init__(self, upsample: Callable[..., torch.Tensor]):
        self.upsample = upsample
        self.logits: torch.Tensor | None = None
        self.targets: torch.Tensor | None = None

    def __call__(self, predictions: torch.Tensor, size: tuple[int, int] | None) -> torch.Tensor:
        if predictions is self.logits:
            return predictions
        result = self.upsample(predictions, size)
        if self.logits is None:
            self.logits = result = result.detach().requires_grad_()
        return result


class _MaskProbe:
    """Stands in for a mask head's `layers` and makes its result a leaf, from which the losses are computed."""

    def __init__(self, layers: Callable[[torch.Tensor], torch.Tensor]):
        self.layers = layers
        self.logits: torch.Tensor | None = None
        self.targets: list[Any] = []

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        self.logits = self.layers(features).detach().requires_grad_()
        return self.logits


@contextmanager
def _in_place_of(head: nn.Module, name: str, probe: _Probe | _MaskProbe) -> Iterator[_Probe | _MaskProbe]:
    """`probe` instead of the function `name` of `head`; it keeps the targets of the head's next call, too."""

    def keep_targets(_: nn.Module, inputs: tuple) -> None:
        probe.targets = inputs[1]

    handle = head.register_forward_pre_hook(keep_targets)
    setattr(head, name, probe)
    try:
        yield probe
    finally:
        delattr(head, name)
        handle.remove()


def _within(labels: np.ndarray, widths: Sequence[int], ignore_value: int) -> list[np.ndarray]:
    """[N, H, W] masks of the pixels that are less than each width away from a contour pixel."""
    distances = np.stack([distance_to(contour_sides(label, ignore_value)) for label in labels])
    return [distances < width for width in widths]
