"""Joins losses that compute their gradient together with their value to autograd."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

ValueAndGradient = Callable[..., tuple[Tensor, Tensor | None]]


class _Precomputed(torch.autograd.Function):
    """A scalar whose gradient by one tensor is known."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, logits: Tensor, anchor: Tensor, compute: ValueAndGradient, arguments: tuple[Any, ...]
    ) -> Tensor:
        value, gradient = compute(logits, *arguments, need_gradient=True)
        ctx.save_for_backward(gradient, anchor)
        return value

    @staticmethod
    def backward(ctx: FunctionCtx, slope: Tensor) -> tuple[Tensor | None, ...]:
        gradient, anchor = ctx.saved_tensors
        return _Scaled.apply(gradient, slope, anchor), None, None, None


class _Scaled(torch.autograd.Function):
    """The gradient times the incoming slope; refuses to be differentiated instead of leaving out what it depends on."""

    @staticmethod
    def forward(ctx: FunctionCtx, gradient: Tensor, slope: Tensor, anchor: Tensor) -> Tensor:
        return gradient * slope.to(gradient.dtype)

    @staticmethod
    def backward(ctx: FunctionCtx, *_: Tensor) -> None:
        raise RuntimeError(
            "EPL losses can be differentiated only once: their gradient was computed together with their value. For a "
            "second derivative use epl_d2.losses.reference, which is slower"
        )


@torch.compiler.disable
def with_gradient(compute: ValueAndGradient, logits: Tensor, *arguments: Any) -> Tensor:
    """The scalar ``compute(logits, *arguments)``, differentiable once by ``logits``.

    ``compute`` returns the value and, if ``need_gradient``, its gradient by the logits. It runs with autocast off.
    Where no gradient is wanted (validation), none is computed. Under `torch.compile` the surrounding model is
    compiled and this call is left as it is: what to compute depends on the data.
    """
    with torch.autocast(logits.device.type, enabled=False):
        if torch.is_grad_enabled() and logits.requires_grad:
            # Ties the gradient to the graph of the logits without keeping the logits.
            anchor = logits[:0].clone()
            return _Precomputed.apply(logits, anchor, compute, arguments)
        return compute(logits.detach(), *arguments, need_gradient=False)[0]
