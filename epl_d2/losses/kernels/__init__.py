"""How the losses of EPL are computed: in plain PyTorch, by Numba on a CPU, by Triton on CUDA.

A *path* is a module with three functions:

- ``prepare(logits, target)`` gives a scene: what both losses need, the softmax above all;
- ``evaluate(scene, term, need_gradient, last)`` gives the value of a term (`PointTerm`, `LineTerm`) and what `gradient`
  needs; ``last`` allows it to use up the scene;
- ``gradient(target, term, saved, grad_output)`` gives the gradient of the term by the logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import plain
from .autograd import differentiable

if TYPE_CHECKING:
    from ..target import Target

try:
    from . import cpu
except ModuleNotFoundError as error:
    if error.name != "numba":
        raise
    cpu = None  # the plain formulas run


_HAS_TRITON = find_spec("triton") is not None


def choose(logits: Tensor, term: Any) -> ModuleType:
    """The path for a term of these logits."""
    if logits.device.type == "cpu" and cpu is not None:
        return cpu
    if logits.is_cuda and _HAS_TRITON:
        from . import triton  # not everywhere is there a Triton to import

        if triton.supports(logits, term):
            return triton
    return plain


def evaluate(logits: Tensor, target: Target, terms: Sequence[Any]) -> list[Tensor]:
    """The value of each term, differentiable once by the logits ``[N, K, H, W]``; nothing is checked."""
    paths = [choose(logits, term) for term in terms]
    values = []
    with torch.autocast(logits.device.type, enabled=False):
        scenes = {path: path.prepare(logits.detach(), target) for path in dict.fromkeys(paths)}
        for i, (path, term) in enumerate(zip(paths, terms, strict=True)):
            values.append(differentiable(path, logits, scenes[path], term, last=path not in paths[i + 1 :]))
    return values
