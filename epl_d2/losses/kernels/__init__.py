"""How the losses of EPL are computed: in plain PyTorch, by Numba on a CPU, by Triton on CUDA (`backend`).

A *path* is a module with three functions:

- ``prepare(logits, target)`` gives a scene: what both losses need, the softmax above all;
- ``evaluate(scene, term, need_gradient, last)`` gives the value of a term (`PointTerm`, `LineTerm`) and what `gradient`
  needs; ``last`` allows it to use up the scene;
- ``gradient(target, term, saved, grad_output)`` gives the gradient of the term by the logits, in their type or float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import guarded, plain
from .autograd import differentiable

if TYPE_CHECKING:
    from ..target import Target

try:
    from . import cpu
except ModuleNotFoundError as error:
    if error.name != "numba":
        raise
    cpu = None  # the plain formulas run


# Type of the device -> the backend that "auto" takes there; everywhere else it takes the plain path.
COMPILED = {"cpu": "numba", "cuda": "triton"}
_HAS_TRITON = find_spec("triton") is not None


def choose(logits: Tensor, term: Any, backend: str = "auto", sigmoid: bool = False) -> ModuleType:
    """The path for a term of these logits, which go through a softmax or a sigmoid.

    Raises:
        ValueError: the backend that was asked for cannot compute it, and why.
    """
    name = COMPILED.get(logits.device.type, "plain") if backend == "auto" else backend
    if name == "plain" or (name == "triton" and logits.numel() == 0):
        return plain
    reason = _obstacle(name, logits, term, sigmoid, warn=backend == "auto")
    if reason is None:
        return cpu if name == "numba" else guarded if backend == "auto" else guarded.kernels()
    if backend == "auto":
        return plain
    raise ValueError(f"backend {backend!r} (MODEL.EPL.BACKEND) cannot be used: {reason}. 'auto' takes what can")


def _obstacle(name: str, logits: Tensor, term: Any, sigmoid: bool, warn: bool) -> str | None:
    """Why compiled kernels cannot compute a term of these logits; None if they can."""
    if COMPILED.get(logits.device.type) != name:
        there = " and ".join(device for device, backend in COMPILED.items() if backend == name)
        return f"it computes on devices of type {there}, and the logits are on {logits.device}"
    if name == "numba":
        return "numba is not installed" if cpu is None else None
    return guarded.obstacle(logits, term, sigmoid, warn) if _HAS_TRITON else "triton is not installed"


def evaluate(logits: Tensor, target: Target, terms: Sequence[Any], backend: str = "auto") -> list[Tensor]:
    """The value of each term, differentiable once by the logits ``[N, K, H, W]``; only the backend is checked."""
    values = []
    with torch.autocast(logits.device.type, enabled=False):
        paths = [choose(logits, term, backend, target.sigmoid) for term in terms]
        scenes = {path: path.prepare(logits.detach(), target) for path in dict.fromkeys(paths)}
        for i, (path, term) in enumerate(zip(paths, terms, strict=True)):
            values.append(differentiable(path, logits, scenes[path], term, last=path not in paths[i + 1 :]))
    return values
