"""The few moments in which EPL may wait for a CUDA device: checks in the first call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["allowed_to_wait", "is_capturing"]


def is_capturing() -> bool:
    """Whether a CUDA graph is being captured, in which nothing can be waited for."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


@contextmanager
def allowed_to_wait() -> Iterator[None]:
    """Lifts `torch.cuda.set_sync_debug_mode`, which a user may have set, meanwhile."""
    mode = torch.cuda.get_sync_debug_mode() if torch.cuda.is_available() else 0
    if mode:
        torch.cuda.set_sync_debug_mode(0)
    try:
        yield
    finally:
        if mode:
            torch.cuda.set_sync_debug_mode(mode)
