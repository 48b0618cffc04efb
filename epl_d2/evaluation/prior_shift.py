"""Class priors that are taken out of a model's scores before the best class is chosen.

A model trained by cross entropy predicts rare classes rarely. `logits - tau * log(prior)` (Menon et al., 2021, arXiv
2007.07314, after training) gives them back for free; a loss that is compared by means over classes has to beat it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["prior_shift"]


def prior_shift(pixels: np.ndarray, tau: float, class_names: Sequence[str]) -> np.ndarray:
    """What to subtract from the logits of each class: `tau * log(prior)`.

    Args:
        pixels: [K] labeled training pixels of each class.
        tau: 0 changes nothing, 1 takes the prior out altogether.
        class_names: K names.

    Returns:
        float64 [K].

    Raises:
        ValueError: a class never occurs, so that its prior has no logarithm; names it.
    """
    missing = [name for name, count in zip(class_names, pixels, strict=True) if count == 0]
    if missing:
        raise ValueError(
            f"a prior shift needs training pixels of every class, and {', '.join(map(repr, missing))} never occurs"
        )
    return tau * np.log(pixels / pixels.sum())
