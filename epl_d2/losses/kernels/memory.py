"""What an out-of-memory error in EPL should say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

# The name that PyTorch has had since 1.13; `torch.OutOfMemoryError` is the same class.
OutOfMemoryError = torch.cuda.OutOfMemoryError
_BEGINNING = "EPL ran out of memory"


@contextmanager
def memory_advice(logits: Tensor) -> Iterator[None]:
    """Adds to an error of the allocator's what was asked for, beside which ``[N, K, H, W]``, and what would help."""
    try:
        yield
    except OutOfMemoryError as error:
        if str(error).startswith(_BEGINNING):
            raise
        asked = re.search(r"Tried to allocate ([\d.]+ \w+)", str(error))
        size = logits.numel() * logits.element_size() / 2**20
        raise OutOfMemoryError(
            f"{_BEGINNING}: it asked for {asked[1] if asked else 'more'}, beside logits {list(logits.shape)} of "
            f"{size:.1f} MiB on {logits.device}. What helps: MODEL.EPL.STRIDE 2 or EPLLoss(stride=2), which takes a "
            f"quarter; a smaller batch (SOLVER.IMS_PER_BATCH) or crop (INPUT.CROP.SIZE). {error}"
        ) from error
