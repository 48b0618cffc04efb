"""Label maps and logits for the tests of the losses."""

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors are tiny here: one thread is fastest."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def scene() -> Callable[..., tuple[Tensor, Tensor]]:
    """A factory of logits ``[N, K, H, W]`` that roughly fit labels ``[N, H, W]`` with contiguous regions."""

    def make(
        shape: tuple[int, int, int, int] = (2, 5, 30, 34),
        seed: int = 0,
        ignored: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, Tensor]:
        n, k, h, w = shape
        generator = torch.Generator().manual_seed(seed)
        coarse = torch.randn(n, k, 5, 5, generator=generator, dtype=torch.float64)
        field = F.interpolate(coarse, size=(h, w), mode="bicubic")
        labels = field.argmax(dim=1)
        noise = torch.randn(n, k, h, w, generator=generator, dtype=torch.float64)
        if ignored:
            labels[:, h // 3 : h // 3 + 2] = 255
            labels[:, :, -1:] = 255
            labels[torch.rand(n, h, w, generator=generator) < 0.05] = 255
        return (2 * field + noise).to(dtype), labels

    return make
