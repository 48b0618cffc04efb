"""Joins the kernels to autograd: one function for every loss, path and device."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from .memory import memory_advice


class _Loss(torch.autograd.Function):
    """A scalar whose gradient by the logits the path knows."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, logits: Tensor, anchor: Tensor, path: ModuleType, scene: Any, term: Any, last: bool
    ) -> Tensor:
        value, saved = path.evaluate(scene, term, need_gradient=True, last=last)
        ctx.path, ctx.term, ctx.target = path, term, scene.target
        ctx.save_for_backward(anchor, *saved)
        return value

    @staticmethod
    def backward(ctx: FunctionCtx, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        anchor, *saved = ctx.saved_tensors
        return _Gradient.apply(anchor, grad_output, ctx.path, ctx.target, ctx.term, saved), *[None] * 5


class _Gradient(torch.autograd.Function):
    """The gradient by the logits; refuses to be differentiated instead of leaving out what it depends on."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, anchor: Tensor, grad_output: Tensor, path: ModuleType, target: Any, term: Any, saved: Any
    ) -> Tensor:
        with memory_advice(saved[0]):
            # Not rounded before: in float16 what is small would be lost, and a factor of 65536 (loss scaling) infinite.
            return path.gradient(target, term, saved, grad_output).to(anchor.dtype)

    @staticmethod
    def backward(ctx: FunctionCtx, *_: Tensor) -> None:
        raise RuntimeError(
            "EPL losses can be differentiated only once: kernels compute their gradient. For a second derivative use "
            "epl_d2.losses.reference, which is slower"
        )


def differentiable(path: ModuleType, logits: Tensor, scene: Any, term: Any, last: bool) -> Tensor:
    """The value of a term, differentiable once by the logits ``[N, K, H, W]``.

    Where no gradient is wanted (validation), none is computed.
    """
    if torch.is_grad_enabled() and logits.requires_grad:
        # Ties the gradient to the graph of the logits without keeping the logits.
        return _Loss.apply(logits, logits[:0].clone(), path, scene, term, last)
    return path.evaluate(scene, term, need_gradient=False, last=last)[0]
