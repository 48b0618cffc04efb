"""Potential fields: box sums along rays (anisotropic convolution) or over a square (standard convolution).

Shape shorthand in this module: N images, K fields (classes), S directions, H x W pixels.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .arguments import CONVOLUTIONS, PADDINGS, SPLITTERS, check_choice, check_field, check_kernel_size

Axis = tuple[int, int]

# One (dy, dx) an axis. An axis has two rays, one each way, which see the same windows.
_AXES: dict[str, tuple[Axis, ...]] = {
    "A": ((0, 1), (1, 0)),
    "B": ((1, 1), (1, -1)),
    "C": ((0, 1), (1, 0), (1, 1), (1, -1)),
}


def axes_of(splitter: str) -> tuple[Axis, ...]:
    """The axes (dy, dx) of a splitter. Each stands for two directions: itself and its opposite."""
    return _AXES[splitter]


def directions_of(splitter: str) -> tuple[Axis, ...]:
    """The unit steps (dy, dx) of the rays of a splitter, in the order of the direction dimension of a field."""
    return tuple(step for dy, dx in _AXES[splitter] for step in ((dy, dx), (-dy, -dx)))


def axis_of_each_direction(splitter: str, convolution: str) -> tuple[Axis | None, ...]:
    """The axis of each direction of a `potential_field`; None for a square."""
    return (None,) if convolution == "standard" else tuple(axis for axis in axes_of(splitter) for _ in range(2))


def pad(fields: Tensor, rows: int, columns: int, padding: str) -> Tensor:
    """Extend ``[..., H, W]`` by ``rows`` above and below and ``columns`` left and right.

    Replication is written with expanded edges, as the backward pass of `F.pad` is not deterministic on CUDA.
    """
    if padding == "zero" or fields.numel() == 0:
        return F.pad(fields, (columns, columns, rows, rows))
    if columns:
        left, right = fields[..., :1], fields[..., -1:]
        shape = (*fields.shape[:-1], columns)
        fields = torch.cat((left.expand(shape), fields, right.expand(shape)), dim=-1)
    if rows:
        top, bottom = fields[..., :1, :], fields[..., -1:, :]
        shape = (*fields.shape[:-2], rows, fields.shape[-1])
        fields = torch.cat((top.expand(shape), fields, bottom.expand(shape)), dim=-2)
    return fields


def along(fields: Tensor, axis: Axis, steps: int) -> tuple[Tensor, Tensor]:
    """Views of the pixels x and x + steps * axis of ``[..., H, W]``, for all x where both exist."""
    dy, dx = axis[0] * steps, axis[1] * steps
    h, w = fields.shape[-2:]
    near = fields[..., : h - dy, max(0, -dx) : w - max(0, dx)]
    far = fields[..., dy:, max(0, dx) : w - max(0, -dx)]
    return near, far


def windows(fields: Tensor, axis: Axis, taps: int) -> Tensor:
    """Sums of ``taps`` neighbors along ``axis``, for all windows that lie inside ``[..., H, W]``.

    Built from sums of 1, 2, 4, ... neighbors. Every caller takes this one order of additions, so that energies,
    and with them ranks, agree bit by bit between the plain and the fast losses.
    """
    total: Tensor | None = None
    done, power, size = 0, fields, 1
    while size <= taps:
        if taps & size:
            total = power if total is None else _join(total, power, axis, done, size)
            done += size
        if 2 * size <= taps:
            power = _join(power, power, axis, size, size)
        size *= 2
    assert total is not None  # taps is positive
    return total


def _join(first: Tensor, second: Tensor, axis: Axis, done: int, size: int) -> Tensor:
    """Sums of ``done + size`` taps: those of ``done`` taps and, right behind them, those of ``size`` taps."""
    dy, dx = axis[0] * done, axis[1] * done
    rows, columns = second.shape[-2] - dy, second.shape[-1] - abs(dx)
    # Towards the left (dx < 0) windows start at their right end, at column taps - 1 of what was summed.
    left = size if dx < 0 else 0
    return first[..., :rows, left : left + columns] + second[..., dy:, max(0, dx) : max(0, dx) + columns]


def widen(mask: Tensor, axes: Sequence[Axis | None], radius: int) -> Tensor:
    """Grow masks ``[N, S, K, H, W]`` by ``radius`` pixels both ways along an axis for each of the S, or by a square."""
    return torch.stack([_widen(m, axis, radius) for m, axis in zip(mask.unbind(1), axes, strict=True)], dim=1)


def _widen(mask: Tensor, axis: Axis | None, radius: int) -> Tensor:
    if axis is None:
        return _widen(_widen(mask, (0, 1), radius), (1, 0), radius)
    wide = mask.clone()
    for steps in range(1, radius + 1):
        if axis[0] * steps < mask.shape[-2] and abs(axis[1]) * steps < mask.shape[-1]:
            (near, far), (wide_near, wide_far) = along(mask, axis, steps), along(wide, axis, steps)
            wide_near |= far
            wide_far |= near
    return wide


def box_sums(fields: Tensor, radius: int, padding: str) -> Tensor:
    """Sums over the (2 radius + 1) square around each pixel, ``[..., H, W]``."""
    size = 2 * radius + 1
    return windows(windows(pad(fields, radius, radius, padding), (0, 1), size), (1, 0), size)


def axis_energies(fields: Tensor, radius: int, axis: Axis | None, padding: str) -> Tensor:
    """Energies of ``[N, K, H, W]`` along an axis and against it, ``[N, 2, K, H, W]``; of the square, if None, one."""
    if axis is None:
        # A division by w * w, not a factor: the energy of a full square must be r + 1 exactly.
        return (box_sums(fields, radius, padding) * (radius + 1) / (2 * radius + 1) ** 2).unsqueeze(1)
    padded = pad(fields, abs(axis[0]) * radius, abs(axis[1]) * radius, padding)
    # A window is the ray of its first pixel, and the opposite ray of its last.
    backward, forward = along(windows(padded, axis, radius + 1), axis, radius)
    return torch.stack((forward, backward), dim=1)


def potential_field(
    fields: Tensor,
    kernel_size: int,
    splitter: str = "A",
    padding: str = "replicate",
    convolution: str = "anisotropic",
) -> Tensor:
    """Potential energies of fields such as one-hot labels or probabilities (EPL, arXiv 2210.00223, eq. 1 and 2).

    With r = kernel_size // 2, the energy in a direction is the sum of the r + 1 values on the ray that starts at
    the pixel: 0 far outside a class, r + 1 deep inside, 1..r on the equipotential lines around its contour.

    Args:
        fields: floating point, ``[N, K, H, W]``. Differentiable.
        kernel_size: odd, positive.
        splitter: "A" (4 axis directions), "B" (4 diagonals) or "C" (all 8). Order: `directions_of`.
        padding: what lies outside the image: "replicate" (the nearest pixel) or "zero".
        convolution: "anisotropic" (rays) or "standard": the full square, scaled to the same range 0..r + 1; it has
            no direction, so S is 1 and the splitter is not used.

    Returns:
        Energies ``[N, S, K, H, W]``, S = 4 (A, B), 8 (C) or 1 (standard).

    Raises:
        ValueError: for an argument outside the above.

    Example:
        >>> row = torch.tensor([[[[0.0, 0, 0, 1, 1, 1]]]])
        >>> potential_field(row, kernel_size=5)[0, 0, 0].tolist()  # to the right: two lines before the contour
        [[0.0, 1.0, 2.0, 3.0, 3.0, 3.0]]
    """
    check_field("fields", fields)
    check_kernel_size("kernel_size", kernel_size)
    check_choice("splitter", splitter, SPLITTERS)
    check_choice("padding", padding, PADDINGS)
    check_choice("convolution", convolution, CONVOLUTIONS)
    axes = (None,) if convolution == "standard" else axes_of(splitter)
    radius = int(kernel_size) // 2
    return torch.cat([axis_energies(fields, radius, axis, padding) for axis in axes], dim=1)
