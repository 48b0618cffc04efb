"""The path of a CPU: kernels compiled by Numba, which compute the gradient together with the value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...formulas import probabilities
from ..plain import gradient
from . import line, nearest, point, point_on_lines
from .nearest import find_nearest

if TYPE_CHECKING:
    from ...target import Target

__all__ = ["Scene", "evaluate", "find_nearest", "gradient", "prepare"]

# By the name of a term and the pixels that it takes.
_LOSSES = {
    ("point", "image"): point.value_and_gradient,
    ("point", "lines"): point_on_lines.value_and_gradient,
    ("line", "lines"): line.value_and_gradient,
}


class Scene(NamedTuple):
    """What both losses need.

    Attributes:
        target: the labels.
        seen, position: class + 1 of a pixel, or 0 where a ray finds none, or where it is no position, ``[N, H, W]``.
        p: probabilities as rays see them, ``[N, K, H, W]``, contiguous.
    """

    target: Target
    seen: np.ndarray
    position: np.ndarray
    p: Tensor


def prepare(logits: Tensor, target: Target) -> Scene:
    """The scene of logits ``[N, K, H, W]``."""
    small = torch.uint8 if logits.shape[1] < 255 else torch.int32
    seen = (target.seen + 1).to(small).numpy()
    position = seen if target.position is target.seen else (target.position + 1).to(small).numpy()
    p = probabilities(logits, target).contiguous()
    if target.fill is not None:
        nearest.gather(*_by_place(p, target))
    return Scene(target, seen, position, p)


def evaluate(scene: Scene, term: Any, need_gradient: bool, last: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Value of a term, and its gradient by the logits if wanted, which replaces the probabilities of the scene (last)
    or a copy of them."""
    p = scene.p.clone() if need_gradient and not last else scene.p
    value = _LOSSES[term.name, term.region](p, scene.seen, scene.position, term, need_gradient)
    if not need_gradient:
        return value, ()
    if scene.target.fill is not None:
        nearest.scatter(*_by_place(p, scene.target))
    return value, (p,)


def _by_place(field: Tensor, target: Target) -> tuple[np.ndarray, ...]:
    """A contiguous ``[N, K, H, W]`` as ``[N, K, H W]``, and what is filled by what."""
    return field.flatten(2).numpy(), target.fill.places.numpy(), target.fill.sources.numpy()
