"""The path of CUDA that may be relied on: Triton's kernels, and the plain formulas wherever these do not work.

Before the kernels count for the first time (on a device, for a type of logits and a term) they are checked on a tiny
input. Where they cannot be compiled or launched, then or later, or where they give another result than the plain
formulas, these take over after one warning that says why. Errors that the plain formulas have as well (a label out of
range, a broken device, no memory) are raised.

Shape shorthand in this module: N images, K classes, H x W pixels.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from . import plain
from .memory import OutOfMemoryError

if TYPE_CHECKING:
    from ..target import Target

# Why kernels are not to be used; None for those that have been checked.
_obstacles: dict[tuple[Any, ...], str | None] = {}
# Largest relative differences of value and gradient (in norm) that rounding explains. Where the energies of two windows
# are all but equal, it decides which of them lies on a line: a hundredth of the gradient, and nothing of the value.
_TOLERANCE = {"point": (1e-3, 1e-3), "line": (1e-3, 5e-2)}
_HALF_TOLERANCE = 2e-2  # the gradient is rounded


def kernels() -> ModuleType:
    """Triton's path. Not everywhere is there a Triton to import, or one that knows what the kernels are written in."""
    from . import triton

    return triton


def obstacle(logits: Tensor, term: Any, sigmoid: bool, warn: bool) -> str | None:
    """Why the kernels must not compute a term of these logits; None if they may.

    Waits for the device once, when they are checked. While a CUDA graph is captured nothing can be waited for: kernels
    that have not been checked are then taken as they are, and checked at the next call outside.

    Args:
        logits: ``[N, K, H, W]`` on CUDA.
        term: a `PointTerm` or `LineTerm`.
        sigmoid: whether the logits go through a sigmoid, see `Target`.
        warn: say so if they fail, once. What they are not made for is no failure.
    """
    key = (logits.device, logits.dtype, sigmoid, term)
    if key in _obstacles:
        return _obstacles[key]
    try:
        if not kernels().supports(logits, term):
            return (
                "its kernels take float16, bfloat16 and float32 logits of 1 to 2^29 - 1 elements, kernel sizes up to "
                f"29 and anisotropic convolution, and these are {logits.dtype}, {list(logits.shape)}, {term}"
            )
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            return None
        reason = _difference(logits, term, sigmoid)
    except OutOfMemoryError:
        raise
    except Exception as error:
        reason = _failure(error)
    _obstacles[key] = reason
    if reason and warn:
        _warn(reason, key)
    return reason


class Scene(NamedTuple):
    """The logits and labels, and what Triton's path makes of them; None where it failed."""

    target: Target
    logits: Tensor
    inner: Any


def prepare(logits: Tensor, target: Target) -> Scene:
    """The scene of logits ``[N, K, H, W]``."""
    try:
        return Scene(target, logits, kernels().prepare(logits, target))
    except OutOfMemoryError:
        raise
    except Exception as error:
        return Scene(target, logits, error)


def evaluate(scene: Scene, term: Any, need_gradient: bool, last: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Value of a term, and what `gradient` needs."""

    def compute() -> tuple[Tensor, tuple[Tensor, ...]]:
        if isinstance(scene.inner, Exception):
            raise scene.inner
        return kernels().evaluate(scene.inner, term, need_gradient, last)

    def instead() -> tuple[Tensor, tuple[Tensor, ...]]:
        return plain.evaluate(plain.prepare(scene.logits, scene.target), term, need_gradient, last=True)

    return _first_that_works(compute, instead, scene.logits, scene.target, term)


def gradient(target: Target, term: Any, saved: Sequence[Tensor], grad_output: Tensor) -> Tensor:
    """Gradient of a term by the logits, times ``grad_output``."""
    if len(saved) == 1:  # the plain path keeps its gradient alone
        return plain.gradient(target, term, saved, grad_output)
    # As the rays see them: at a pixel that counts, and with that everywhere, the plain path sees the same in these.
    logits = saved[0]

    def instead() -> Tensor:
        _, found = plain.evaluate(plain.prepare(logits, target), term, need_gradient=True, last=True)
        return plain.gradient(target, term, found, grad_output)

    return _first_that_works(
        lambda: kernels().gradient(target, term, saved, grad_output), instead, logits, target, term
    )


def _first_that_works(
    compute: Callable[[], Any], instead: Callable[[], Any], logits: Tensor, target: Target, term: Any
) -> Any:
    """What the kernels compute, or the plain formulas if they fail: from then on always."""
    try:
        return compute()
    except OutOfMemoryError:
        raise
    except Exception as error:
        # Where the device itself is broken this raises as well, and nothing is blamed on the kernels.
        result = instead()
        key = (logits.device, logits.dtype, target.sigmoid, term)
        _obstacles[key] = _failure(error)
        _warn(_obstacles[key], key)
        return result


def _failure(error: Exception) -> str:
    lines = str(error).strip().splitlines() or ["no message"]
    return f"they could not be compiled or launched ({type(error).__name__}: {lines[0][:300]})"


def _warn(reason: str, key: tuple[Any, ...]) -> None:
    device, dtype, sigmoid, term = key
    name = f"{device}, {torch.cuda.get_device_name(device)}" if device.type == "cuda" else str(device)
    kind = f"{dtype} logits of a sigmoid" if sigmoid else f"{dtype} logits"
    warnings.warn(
        f"EPL's Triton kernels are not used for {term} with {kind} on {name}: {reason}. Plain PyTorch takes "
        "over, which is slower and needs more memory. MODEL.EPL.BACKEND 'plain', or EPLLoss(backend='plain'), chooses "
        "it without this warning",
        RuntimeWarning,
        stacklevel=2,
    )


def _difference(logits: Tensor, term: Any, sigmoid: bool) -> str | None:
    """How far kernels and plain formulas differ on a tiny input, if they differ."""
    from ..modes import mask_target  # which import this package
    from ..target import make_target

    for_value, for_slopes = _TOLERANCE[term.name]
    if logits.dtype != torch.float32:
        for_slopes = max(for_slopes, _HALF_TOLERANCE)
    with torch.inference_mode(False), _allowed_to_wait():
        logits, labels = tiny_scene(logits)
        if sigmoid:
            masks = torch.stack([(labels == k).long().where(labels < 255, 255) for k in range(3)], dim=1)
            logits = logits.flatten(0, 1).unsqueeze(1)
            target = mask_target(logits, masks.flatten(0, 1), 255, "exclude", term.radius)
        else:
            target = make_target(labels, 255, "exclude", term.radius)
        found = []
        for path in (kernels(), plain):
            value, saved = path.evaluate(path.prepare(logits, target), term, need_gradient=True, last=True)
            slope = torch.ones((), dtype=value.dtype, device=value.device)
            found += [value.double(), path.gradient(target, term, saved, slope).double()]
        value, slopes, expected, expected_slopes = found
        by_value = (value - expected).abs() / expected.abs()
        by_slopes = (slopes - expected_slopes).norm() / expected_slopes.norm()
        by_value, by_slopes = torch.stack((by_value, by_slopes)).tolist()
    if by_value <= for_value and by_slopes <= for_slopes:  # False for what is not a number
        return None
    return (
        "they compute something else than the plain formulas on a test input (relative difference of the value "
        f"{by_value:.1e}, of the gradient {by_slopes:.1e}; rounding explains {for_value:.0e} and {for_slopes:.0e}): "
        "please report this"
    )


def tiny_scene(like: Tensor) -> tuple[Tensor, Tensor]:
    """Logits ``[2, 3, h, w]`` of the type of ``like``, and labels ``[2, h, w]`` with ignored pixels and absent classes.

    Of a size that takes more than one tile, and for which Triton compiles the same kernels: it looks whether a number
    is a multiple of 16. No global random state is used.
    """
    h, w = (16 * times + (0 if length % 16 == 0 else 1) for times, length in zip((2, 9), like.shape[2:], strict=True))
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (2, 3, 7), generator=generator, device="cpu")
    labels[1].clamp_(max=1)
    labels = labels.repeat_interleave(12, 1).repeat_interleave(21, 2)[:, :h, :w].contiguous()
    logits = 2 * torch.randn(2, 3, h, w, generator=generator, device="cpu")
    logits.scatter_add_(1, labels.roll((1, 2), (1, 2)).unsqueeze(1), torch.full((2, 1, h, w), 3.0))
    labels[:, 5:9, 30:60] = 255
    return logits.to(like.device, like.dtype), labels.to(like.device)


class _allowed_to_wait:
    """Lifts `torch.cuda.set_sync_debug_mode`, which a user may have set, for the one wait of the check."""

    def __enter__(self) -> None:
        self.mode = torch.cuda.get_sync_debug_mode() if torch.cuda.is_available() else 0
        if self.mode:
            torch.cuda.set_sync_debug_mode(0)

    def __exit__(self, *_: object) -> None:
        if self.mode:
            torch.cuda.set_sync_debug_mode(self.mode)
