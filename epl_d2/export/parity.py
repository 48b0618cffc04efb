"""Whether an exported file computes what the model computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

__all__ = ["ParityError", "check_parity", "random_picture"]


class ParityError(RuntimeError):
    """An exported file computes something else than the model."""


def random_picture(size: tuple[int, int], dtype: torch.dtype, seed: int) -> torch.Tensor:
    """Noise over a ramp, [1, 3, *size] in 0..255: every value of the range and both smooth and rough parts."""
    generator = torch.Generator().manual_seed(seed)
    ramp = torch.linspace(0, 255, size[1]).expand(1, 3, *size)
    noise = 255 * torch.rand(1, 3, *size, generator=generator)
    rough = torch.arange(size[0])[:, None] % 64 < 32
    return torch.where(rough, noise, ramp).round().to(dtype)


def check_parity(
    model: nn.Module,
    run: Callable[[torch.Tensor], torch.Tensor],
    pictures: Sequence[torch.Tensor],
    *,
    labels: bool,
    reverse_channels: bool = False,
    tolerance: float = 1e-4,
) -> float:
    """Compare `run` with the model's own inference, `model([record])`.

    Args:
        model: an `EPLSemanticSegmentor` in evaluation mode.
        run: the exported file as a function from [N, 3, H, W], RGB, to logits [N, K, H, W] or labels [N, H, W].
        pictures: inputs of `run`.
        labels: `run` gives labels. They may differ from the model's only where its two largest logits are closer than
            the tolerance.
        reverse_channels: the model takes BGR.
        tolerance: largest difference of logits, relative to the largest logit where that is above 1.

    Returns:
        The largest such difference (for labels the largest lead of a class that was not chosen).

    Raises:
        ParityError: naming the size of the picture and the difference.
    """
    worst = 0.0
    for picture in pictures:
        images = picture.flip(1) if reverse_channels else picture
        with torch.no_grad():
            expected = torch.stack([model([{"image": image}])[0]["sem_seg"].cpu() for image in images])
        size = tuple(expected.shape[-2:])
        place = f"{size[0]} x {size[1]} pixels" + (f" and {len(picture)} pictures" if len(picture) > 1 else "")
        try:
            result = run(picture).cpu()
        except Exception as error:  # every runtime has its own exceptions
            raise ParityError(f"the exported file fails at {place}: {error}") from error
        wanted = (len(picture), *size) if labels else tuple(expected.shape)
        if tuple(result.shape) != wanted:
            raise ParityError(f"the exported file gives {list(result.shape)} instead of {list(wanted)}")
        if labels:
            chosen = expected.gather(1, result.long()[:, None])[:, 0]
            difference = (expected.max(dim=1).values - chosen).max()
        else:
            difference = (result - expected).abs().max()
        difference = float(difference / expected.abs().max().clamp(min=1))
        if not difference <= tolerance:
            raise ParityError(
                f"at {place} the exported file differs from the model by {difference:.2e} "
                f"(relative to the largest logit), more than {tolerance:.0e}"
            )
        worst = max(worst, difference)
    return worst
