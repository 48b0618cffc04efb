"""The search for ranks against a full stable sort, and its helpers."""

import pytest
import torch
from torch import Tensor

from epl_d2.losses import equal_count
from epl_d2.losses.equal_count import find_candidates, nonzero_flat, pick, row_sums


def sorted_choice(energy: Tensor, valid: Tensor, low: int, high: int) -> list[int]:
    order = energy.masked_fill(~valid, torch.inf).flatten().sort(stable=True).indices
    return sorted(order[low:high].tolist())


@pytest.mark.parametrize("kind", ["smooth", "noise", "ties", "constant"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "sample, margins",
    [(4096, (3.0,)), (64, (3.0, 12.0)), (64, (-9.0, 12.0)), (64, (-9.0, -9.0))],
    ids=["whole", "sampled", "widened", "failing"],
)
def test_ranks(monkeypatch: pytest.MonkeyPatch, kind: str, masked: bool, sample: int, margins: tuple) -> None:
    monkeypatch.setattr(equal_count, "_SAMPLE", sample)
    monkeypatch.setattr(equal_count, "_MARGINS", margins)
    generator = torch.Generator().manual_seed(0)
    rows, height, width, shift = 3, 30, 37, 3
    field = torch.rand(rows, height, width + shift, generator=generator)
    if kind == "smooth":
        field = field.cumsum(2) / 40
    elif kind == "ties":
        field = (5 * field).floor()
    elif kind == "constant":
        field = torch.ones_like(field)
    valid = torch.rand(rows, height, width, generator=generator) < 0.7 if masked else None
    ranked = torch.ones(rows, height, width, dtype=torch.bool) if valid is None else valid
    total = ranked.flatten(1).sum(1)
    low = torch.stack([total // 3, total - total // 5])
    high = torch.stack([total // 2, total])
    high[0, 1] = low[0, 1]  # a row without a line

    found = find_candidates(field, (height, width), [(0, shift), (0, 0)], valid, low, high)
    for view, start in enumerate((shift, 0)):
        row, place, energy = pick([found[view]])
        line = width + shift
        pixel = place // line % height * width + place % line - start
        for b in range(rows):
            crop = field[b, :, start : start + width]
            mine = pixel[row == b]
            expected = sorted_choice(crop, ranked[b], int(low[view, b]), int(high[view, b]))
            assert sorted(mine.tolist()) == expected
            assert torch.equal(energy[row == b], crop.flatten()[mine])


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (3, 32, 32), (2, 40, 65), (1, 70, 64)], ids=str)
@pytest.mark.parametrize("density", [0.0, 0.03, 1.0])
def test_row_sums_and_nonzero(shape: tuple[int, int, int], density: float) -> None:
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(0)) <= density - (density == 0)
    assert torch.equal(row_sums(mask), mask.flatten(1).sum(dim=1))
    assert torch.equal(nonzero_flat(mask), mask.flatten().nonzero()[:, 0])


def test_row_sums_of_a_view() -> None:
    mask = torch.ones(1, 50, 41, dtype=torch.bool)
    assert row_sums(mask[:, 3:]).item() == 47 * 41
    assert row_sums(mask[..., 1:]).item() == 50 * 40
