"""Joins the Triton kernels of a loss to autograd, and says which input they take."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

_LOGITS = (torch.float16, torch.bfloat16, torch.float32)
_LABELS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def is_taken(logits: Tensor, labels: Tensor, kernel_size: int, convolution: str) -> bool:
    """Whether the kernels can compute a loss of these inputs; if not, the plain path must.

    They index with 32 bits, and have 2048 counters for each class, image and direction.
    """
    return (
        logits.is_cuda
        and importlib.util.find_spec("triton") is not None
        and convolution == "anisotropic"
        and kernel_size <= 29
        and logits.dtype in _LOGITS
        and labels.dtype in _LABELS
        and logits.shape[0] < 2**16
        and logits.shape[0] * logits.shape[1] < 2**17
        and 0 < logits.numel() < 2**29
    )


class _Fused(torch.autograd.Function):
    """A scalar whose gradient by the logits is formed in the backward pass, by a kernel."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, logits: Tensor, labels: Tensor, loss: ModuleType, settings: tuple[Any, ...]
    ) -> Tensor:
        value, saved = loss.value(logits, labels, *settings)
        ctx.save_for_backward(logits, *saved)
        ctx.loss, ctx.settings = loss, settings
        return value

    @staticmethod
    def backward(ctx: FunctionCtx, slope: Tensor) -> tuple[Tensor | None, ...]:
        logits, *saved = ctx.saved_tensors
        return _Gradient.apply(slope, logits, tuple(saved), ctx.loss, ctx.settings), None, None, None


class _Gradient(torch.autograd.Function):
    """The gradient; refuses to be differentiated."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        slope: Tensor,
        logits: Tensor,
        saved: tuple[Tensor, ...],
        loss: ModuleType,
        settings: tuple[Any, ...],
    ) -> Tensor:
        with torch.cuda.device_of(logits):
            return loss.gradient(logits, saved, slope, *settings)

    @staticmethod
    def backward(ctx: FunctionCtx, *_: Tensor) -> None:
        raise RuntimeError(
            "EPL losses can be differentiated only once: kernels compute their gradient. For a second derivative use "
            "epl_d2.losses.reference, which is slower"
        )


@torch.compiler.disable
def with_kernels(loss: ModuleType, logits: Tensor, labels: Tensor, *settings: Any) -> Tensor:
    """The scalar of ``loss.value``, differentiable once by the logits with ``loss.gradient``.

    Args:
        loss: `triton_point` or `triton_line`.
        logits: ``[N, K, H, W]``.
        labels: ``[N, H, W]``.
        settings: the further arguments of ``loss.value``.
    """
    logits, labels = logits.contiguous(), labels.contiguous()
    with torch.autocast(logits.device.type, enabled=False), torch.cuda.device_of(logits):
        if torch.is_grad_enabled() and logits.requires_grad:
            return _Fused.apply(logits, labels, loss, settings)
        return loss.value(logits, labels, *settings)[0]
