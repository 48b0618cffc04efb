"""With what force each loss moves a predicted contour that lies beside the true one.

Shape shorthand in this module:

    H, W: size of the picture, two classes
    B: offsets
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from epl_d2.losses import generalized_dice_loss, line_loss, lovasz_softmax_loss, point_loss

__all__ = ["LOSSES", "contour_force", "ray_response"]

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

_HEIGHT, _WIDTH = 16, 64

# What is drawn by default: name -> (logits [1,2,H,W], labels [1,H,W]) -> scalar.
LOSSES: dict[str, Loss] = {
    "cross entropy": F.cross_entropy,
    "point loss, w = 7": point_loss,
    "point loss on the lines": partial(point_loss, region="lines"),
    "line loss, mu = 2": partial(line_loss, mu=2, formulation="contour"),
    "line loss, mu = 10": partial(line_loss, mu=10, formulation="contour"),
    "generalized dice": generalized_dice_loss,
    "Lovász": lovasz_softmax_loss,
}


def contour_force(loss: Loss, offsets: Sequence[float], width: float) -> np.ndarray:
    """d loss / d offset for a straight upright contour, in the unit of the loss per pixel.

    The class behind the contour has the probability sigmoid((x - offset) / width), x in pixels from the true contour:
    73% at a distance of `width`. A positive value pulls a contour with a positive offset back.

    Args:
        loss: of two classes.
        offsets: pixels to the right of the true contour.
        width: of the transition, pixels, positive.

    Returns:
        [B].
    """
    x = torch.arange(_WIDTH, dtype=torch.float64) + 0.5 - _WIDTH / 2
    labels = (x > 0).long().expand(1, _HEIGHT, _WIDTH).contiguous()
    forces = []
    for offset in offsets:
        place = torch.tensor(float(offset), dtype=torch.float64, requires_grad=True)
        half = ((x - place) / (2 * width)).expand(1, _HEIGHT, _WIDTH)
        value = loss(torch.stack([-half, half], dim=1), labels)
        forces.append(float(torch.autograd.grad(value, place)[0]))
    return np.array(forces)


def ray_response(periods: np.ndarray, kernel_size: int) -> np.ndarray:
    """What a ray of EPL leaves of a wave along it: amplitude of its mean over `kernel_size // 2 + 1` pixels, 0 to 1.

    Args:
        periods: of the wave, pixels, above 1.
        kernel_size: w.
    """
    taps = kernel_size // 2 + 1
    angle = np.pi / np.asarray(periods, float)
    return np.abs(np.sin(taps * angle) / (taps * np.sin(angle)))
