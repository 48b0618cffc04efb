"""From scores to ids."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["best_classes"]


def best_classes(scores: Tensor, dim: int) -> Tensor:
    """The id of the class with the highest score, the first of equal ones: uint8, or int32 for more than 256 classes.

    Args:
        scores: logits or probabilities with the classes along `dim`.
        dim: their dimension, which the result lacks.

    Raises:
        ValueError: a score is NaN, which would count as the best.
    """
    # On a CPU max() is several times as fast as argmax() along the first axis, and its values tell of NaN.
    best = scores.max(dim=dim)
    if best.values.isnan().any():
        raise ValueError("the scores of the prediction are NaN in some pixels")
    return best.indices.to(torch.uint8 if scores.shape[dim] <= 256 else torch.int32)
