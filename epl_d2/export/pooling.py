"""Average pooling whose cells depend on the size of the picture, as matrix products that every exporter can express.

A pooling over rows and columns is separable: with a matrix A over the rows and B over the columns, in which each row
of a matrix holds 1 / count at the cells that it averages, the result is A x B^T. The matrices are computed in the
graph from the size of the features, so that they follow the picture.

Shape shorthand in this module:

    N, C, H, W: images, channels, height and width of the features
"""

from __future__ import annotations

import torch
from torch import nn

from epl_d2.modeling.layers.image_pooling import ImagePooling

__all__ = ["AdaptiveAveragePooling", "WindowAveragePooling", "replace_pooling"]


class AdaptiveAveragePooling(nn.Module):
    """`nn.AdaptiveAvgPool2d(cells)`: [N, C, H, W] to [N, C, cells, cells]."""

    def __init__(self, cells: int):
        super().__init__()
        self.cells = cells

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _pool(x, self._matrix(x, -2), self._matrix(x, -1))

    def _matrix(self, x: torch.Tensor, axis: int) -> torch.Tensor:
        size = x.shape[axis]
        cell = torch.arange(self.cells, device=x.device)[:, None]
        first = cell * size // self.cells
        last = ((cell + 1) * size + self.cells - 1) // self.cells  # rounded up: neighboring cells may overlap
        return _averages(first, last, size)


class WindowAveragePooling(nn.Module):
    """`ImagePooling(window)`: [N, C, H, W] to [N, C, max(H - h, 0) + 1, max(W - w, 0) + 1]."""

    def __init__(self, window: tuple[int, int]):
        super().__init__()
        self.window = window

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _pool(x, self._matrix(x, -2, self.window[0]), self._matrix(x, -1, self.window[1]))

    @staticmethod
    def _matrix(x: torch.Tensor, axis: int, window: int) -> torch.Tensor:
        size = x.shape[axis]
        # Under tracing sizes are tensors, under torch.export symbols.
        length = size.clamp(max=window) if isinstance(size, torch.Tensor) else torch.sym_min(size, window)
        first = torch.arange(size - length + 1, device=x.device)[:, None]
        return _averages(first, first + length, size)


def replace_pooling(module: nn.Module) -> None:
    """Replace every pooling below `module` that exporters cannot express for all sizes by its equal above, in place."""
    for name, child in module.named_children():
        if isinstance(child, ImagePooling):
            setattr(module, name, WindowAveragePooling(child.window))
        elif isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size not in (1, (1, 1)):
            if not isinstance(child.output_size, int):
                raise ValueError(
                    f"{name}: AdaptiveAvgPool2d({child.output_size}) is not exported, only square grids are"
                )
            setattr(module, name, AdaptiveAveragePooling(child.output_size))
        else:
            replace_pooling(child)


def _averages(first: torch.Tensor, last: torch.Tensor, size: int) -> torch.Tensor:
    """Rows [cells, size] that average the positions first <= j < last; `first` and `last` are [cells, 1]."""
    position = torch.arange(size, device=first.device)
    inside = (position >= first) & (position < last)
    return inside.float() / (last - first).float()


def _pool(x: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    return torch.matmul(torch.matmul(rows.to(x.dtype), x), columns.to(x.dtype).transpose(0, 1))
