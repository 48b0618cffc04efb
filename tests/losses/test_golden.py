"""Values and gradients of the authors' released code, recorded in official_values.npz."""

from pathlib import Path

import numpy as np
import pytest
import torch

from epl_d2.losses import line_loss, point_loss, reference

RECORDED = np.load(Path(__file__).parent / "official_values.npz")
CASES = sorted(key.rsplit("/", 1)[0] for key in RECORDED.files if key.endswith("/point_loss"))


def settings_of(case: str) -> tuple[torch.Tensor, torch.Tensor, str, int, int]:
    scene, settings = case.split("/")
    splitter, width, mu = settings.split("-")
    logits = torch.tensor(RECORDED[f"{scene}/logits"], requires_grad=True)
    return logits, torch.tensor(RECORDED[f"{scene}/labels"]), splitter, int(width[1:]), int(mu[2:])


def check(case: str, name: str, value: torch.Tensor, logits: torch.Tensor) -> None:
    value.backward()
    assert value.item() == pytest.approx(float(RECORDED[f"{case}/{name}_loss"]), rel=1e-4)
    gradient = RECORDED[f"{case}/{name}_grad"]
    np.testing.assert_allclose(logits.grad.numpy(), gradient, rtol=1e-4, atol=1e-4 * np.abs(gradient).max())


def test_file_covers_all_splitters() -> None:
    assert len(CASES) == 24
    assert {case.split("/")[1][0] for case in CASES} == {"A", "B", "C"}


@pytest.mark.parametrize("case", CASES)
def test_point(case: str) -> None:
    logits, labels, splitter, kernel_size, _ = settings_of(case)
    check(case, "point", point_loss(logits, labels, kernel_size=kernel_size, splitter=splitter), logits)


@pytest.mark.parametrize("case", CASES)
def test_line(case: str) -> None:
    logits, labels, splitter, kernel_size, mu = settings_of(case)
    value = line_loss(logits, labels, kernel_size=kernel_size, splitter=splitter, mu=mu, formulation="official")
    check(case, "line", value, logits)


@pytest.mark.parametrize("case", CASES[::5])
def test_plain_losses(case: str) -> None:
    logits, labels, splitter, kernel_size, mu = settings_of(case)
    value = reference.point_loss(logits, labels, kernel_size, splitter, "anisotropic", "l2", "image", 255)
    check(case, "point", value, logits)
    logits, *_ = settings_of(case)
    value = reference.line_loss(logits, labels, kernel_size, splitter, "anisotropic", mu, "official", 255)
    check(case, "line", value, logits)
