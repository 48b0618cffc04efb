"""The losses against an independent version with plain loops over pixels, in NumPy float64."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from epl_d2.losses import line_loss, point_loss, potential_field

STEPS = {
    "A": [(0, 1), (0, -1), (1, 0), (-1, 0)],
    "B": [(1, 1), (-1, -1), (1, -1), (-1, 1)],
}
STEPS["C"] = STEPS["A"] + STEPS["B"]


def pixel(image: np.ndarray, y: int, x: int, padding: str) -> float:
    h, w = image.shape
    if padding == "zero" and not (0 <= y < h and 0 <= x < w):
        return 0.0
    return float(image[min(max(y, 0), h - 1), min(max(x, 0), w - 1)])


def energies(image: np.ndarray, kernel_size: int, splitter: str, convolution: str, padding: str) -> list[np.ndarray]:
    """One map a direction."""
    r = kernel_size // 2
    h, w = image.shape
    maps = []
    if convolution == "standard":
        out = np.zeros((h, w))
        for y, x in itertools.product(range(h), range(w)):
            square = itertools.product(range(-r, r + 1), repeat=2)
            out[y, x] = sum(pixel(image, y + dy, x + dx, padding) for dy, dx in square) * (r + 1) / kernel_size**2
        return [out]
    for dy, dx in STEPS[splitter]:
        out = np.zeros((h, w))
        for y, x in itertools.product(range(h), range(w)):
            out[y, x] = sum(pixel(image, y + t * dy, x + t * dx, padding) for t in range(r + 1))
        maps.append(out)
    return maps


def shown_pixel(valid: np.ndarray, y: int, x: int) -> tuple[int, int]:
    """The nearest valid pixel of any distance; of several the upper, then the left one."""
    return min(zip(*np.nonzero(valid), strict=True), key=lambda at: ((at[0] - y) ** 2 + (at[1] - x) ** 2, *at))


def fields(logits: np.ndarray, labels: np.ndarray, ignore_mode: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """y and p as rays see them, 0 where they see nothing, and which pixels are positions."""
    n, _, h, w = logits.shape
    if ignore_mode == "background":
        labels = np.where(labels == 255, 0, labels)
    y, p = np.zeros(logits.shape), np.zeros(logits.shape)
    for i, a, b in itertools.product(range(n), range(h), range(w)):
        at = (a, b)
        if labels[i][at] == 255:
            if ignore_mode == "exclude":
                continue
            at = shown_pixel(labels[i] != 255, a, b)
        y[i, labels[i][at], a, b] = 1
        values = logits[i, :, at[0], at[1]]
        exponents = [math.exp(v - max(values)) for v in values]
        p[i, :, a, b] = np.array(exponents) / sum(exponents)
    return y, p, labels != 255


def mask_fields(logits: np.ndarray, targets: np.ndarray, ignore_mode: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same for masks ``[R, H, W]``, each of which is a field of its own."""
    if ignore_mode == "background":
        targets = np.where(targets == 255, 0, targets)
    y, p = np.zeros(logits.shape), np.zeros(logits.shape)
    for i, a, b in np.ndindex(logits.shape):
        at = (a, b)
        if targets[i][at] == 255:
            if ignore_mode == "exclude":
                continue
            at = shown_pixel(targets[i] != 255, a, b)
        y[i, a, b] = targets[i][at]
        p[i, a, b] = 1 / (1 + math.exp(-logits[i][at]))
    return y[:, None], p[:, None], targets != 255


Fields = tuple[np.ndarray, np.ndarray, np.ndarray]


def brute_point(found: Fields, kernel_size: int, splitter: str, convolution: str, power: int) -> float:
    y, p, valid = found
    total, terms = 0.0, 0
    for i, k in itertools.product(range(y.shape[0]), range(y.shape[1])):
        of_y = energies(y[i, k], kernel_size, splitter, convolution, "replicate")
        of_p = energies(p[i, k], kernel_size, splitter, convolution, "replicate")
        for a, b in zip(of_y, of_p, strict=True):
            for here in zip(*np.nonzero(valid[i]), strict=True):
                total += abs(a[here] - b[here]) ** power
                terms += 1
    return total / terms


def line_regions(e_y: np.ndarray, e_p: np.ndarray, valid: np.ndarray, r: int) -> tuple[set, set]:
    places = [tuple(place) for place in np.argwhere(valid)]
    # E(y) of the standard convolution is a fraction: its rounding must not decide.
    target = {place for place in places if 1 - 1e-9 <= e_y[place] < r + 1 - 1e-9}
    below = sum(e_y[place] < 1 - 1e-9 for place in places)
    ranked = sorted(places, key=lambda place: (e_p[place], place))
    return target, set(ranked[below : below + len(target)])


def brute_point_on_lines(found: Fields, kernel_size: int, splitter: str, convolution: str, power: int) -> float:
    y, p, valid = found
    means = []
    for i, k in itertools.product(range(y.shape[0]), range(y.shape[1])):
        of_y = energies(y[i, k], kernel_size, splitter, convolution, "replicate")
        of_p = energies(p[i, k], kernel_size, splitter, convolution, "replicate")
        for a, b in zip(of_y, of_p, strict=True):
            places, _ = line_regions(a, b, valid[i], kernel_size // 2)
            if places:
                means.append(sum(abs(a[place] - b[place]) ** power for place in places) / len(places))
    return sum(means) / len(means)


def band(target: set, mask: np.ndarray, r: int, direction: int, splitter: str, convolution: str) -> set:
    """The valid pixels that lie within r steps of a line along the ray, or in the square around one."""
    dy, dx = STEPS[splitter][direction] if convolution == "anisotropic" else (0, 0)
    steps = [(t * dy, t * dx) for t in range(-r, r + 1)]
    if convolution == "standard":
        steps = list(itertools.product(range(-r, r + 1), repeat=2))
    valid = {tuple(place) for place in np.argwhere(mask)}
    return {(y + a, x + b) for y, x in target for a, b in steps} & valid


def brute_line(found: Fields, kernel_size: int, splitter: str, convolution: str, mu: int, formulation: str) -> float:
    y, p, valid = found
    r = kernel_size // 2
    padding = "zero" if formulation == "official" else "replicate"
    directions = 1 if convolution == "standard" else len(STEPS[splitter])
    rows: list[list] = [[] for _ in range(directions)]
    for i, k in itertools.product(range(y.shape[0]), range(y.shape[1])):
        of_y = energies(y[i, k], kernel_size, splitter, convolution, padding)
        of_p = energies(p[i, k], kernel_size, splitter, convolution, padding)
        for s in range(directions):
            rows[s].append((of_y[s], of_p[s], *line_regions(of_y[s], of_p[s], valid[i], r), valid[i]))

    def activity(energy: float, tau: int) -> float:
        return math.exp(-min((energy - tau) ** mu, 700.0))

    def has_line(row: tuple, tau: int) -> bool:
        return any(abs(row[0][place] - tau) <= 0.5 + 1e-9 for place in row[2])

    total, terms = 0.0, 0
    for (s, row_list), tau in itertools.product(enumerate(rows), range(1, r + 1)):
        if formulation == "official":
            if not any(has_line(row, tau) for row in row_list):
                continue
            g_list, h_list = [], []
            for e_y, e_p, target, predicted, mask in row_list:
                for place in map(tuple, np.argwhere(mask)):
                    g_list.append(activity(e_y[place] if place in target else 0.0, tau))
                    h_list.append(activity(e_p[place] if place in predicted else 0.0, tau))
            g, h = np.array(g_list), np.array(h_list)
            total += 1 - 2 * ((g * h).sum() + 1) * g.sum() / ((g.sum() + h.sum() + 1) * (g * g).sum())
            continue
        for row in row_list:
            if not has_line(row, tau):
                continue
            e_y, e_p, target, predicted, mask = row
            if formulation == "band":
                target = predicted = band(target, mask, r, s, splitter, convolution)
            d = {place: activity(e_y[place], tau) for place in target}
            dh = {place: activity(e_p[place], tau) for place in predicted}
            constant = sum(d.values()) / sum(v * v for v in d.values())
            common = sum(d[place] * dh[place] for place in target & predicted)
            total += max(0.0, 1 - 2 * constant * common / (sum(d.values()) + sum(dh.values())))
            terms += 1
    return total / directions if formulation == "official" else total / terms


@pytest.fixture
def small(scene: Callable) -> tuple[torch.Tensor, torch.Tensor]:
    logits, labels = scene((2, 3, 9, 8), seed=3, dtype=torch.float64)
    labels[0, 4, 2:5] = 255
    labels[1, :2, -2:] = 255
    return logits, labels


@pytest.mark.parametrize("padding", ["replicate", "zero"])
@pytest.mark.parametrize("splitter, convolution", [("A", "anisotropic"), ("B", "anisotropic"), ("C", "standard")])
@pytest.mark.parametrize("kernel_size", [1, 3, 7, 11])
def test_potential_field(padding: str, splitter: str, convolution: str, kernel_size: int) -> None:
    values = torch.randn(1, 2, 5, 7, dtype=torch.float64)
    result = potential_field(values, kernel_size, splitter, padding, convolution)
    expected = [energies(v.numpy(), kernel_size, splitter, convolution, padding) for v in values[0]]
    np.testing.assert_allclose(result[0].transpose(0, 1).numpy(), np.array(expected), atol=1e-12)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("splitter, convolution", [("A", "anisotropic"), ("C", "anisotropic"), ("A", "standard")])
@pytest.mark.parametrize("kernel_size", [3, 7, 21])
@pytest.mark.parametrize("ignore_mode", ["nearest", "exclude", "background"])
@pytest.mark.parametrize("region", ["image", "lines"])
def test_point(
    small: tuple, power: int, splitter: str, convolution: str, kernel_size: int, ignore_mode: str, region: str
) -> None:
    logits, labels = small
    value = point_loss(
        logits,
        labels,
        kernel_size=kernel_size,
        splitter=splitter,
        convolution=convolution,
        norm=f"l{power}",
        region=region,
        ignore_mode=ignore_mode,
    )
    found = fields(logits.numpy(), labels.numpy(), ignore_mode)
    brute = {"image": brute_point, "lines": brute_point_on_lines}[region]
    assert value.item() == pytest.approx(brute(found, kernel_size, splitter, convolution, power), rel=1e-10)


@pytest.mark.parametrize("formulation", ["official", "contour", "band"])
@pytest.mark.parametrize("splitter, convolution", [("A", "anisotropic"), ("C", "anisotropic"), ("A", "standard")])
@pytest.mark.parametrize("kernel_size, mu", [(3, 2), (7, 10), (11, 4), (21, 20)])
@pytest.mark.parametrize("ignore_mode", ["nearest", "exclude", "background"])
def test_line(
    small: tuple, formulation: str, splitter: str, convolution: str, kernel_size: int, mu: int, ignore_mode: str
) -> None:
    logits, labels = small
    value = line_loss(
        logits,
        labels,
        kernel_size=kernel_size,
        splitter=splitter,
        convolution=convolution,
        mu=mu,
        formulation=formulation,
        ignore_mode=ignore_mode,
    )
    found = fields(logits.numpy(), labels.numpy(), ignore_mode)
    expected = brute_line(found, kernel_size, splitter, convolution, mu, formulation)
    assert value.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("mode", ["binary", "multilabel"])
@pytest.mark.parametrize("ignore_mode", ["nearest", "exclude", "background"])
@pytest.mark.parametrize("splitter, convolution", [("C", "anisotropic"), ("A", "standard")])
def test_masks(scene: Callable, mode: str, ignore_mode: str, splitter: str, convolution: str) -> None:
    """Each field is a row of its own; of a multilabel target, each class has ignored pixels of its own."""
    field, labels = scene((2, 2, 9, 8), seed=3, dtype=torch.float64)
    targets = torch.stack((labels, (field.roll(2, -1)[:, 0] > 0).long()), dim=1)
    targets[0, 0, 4, 2:5] = 255
    targets[1, 1, :2, -2:] = 255
    rows = field.flatten(0, 1).numpy(), targets.flatten(0, 1).numpy()
    given = (field, targets) if mode == "multilabel" else (field.flatten(0, 1), targets.flatten(0, 1))
    found = mask_fields(*rows, ignore_mode)
    shared = {
        "kernel_size": 7,
        "splitter": splitter,
        "convolution": convolution,
        "ignore_mode": ignore_mode,
        "mode": mode,
    }
    for power in (1, 2):
        value = point_loss(*given, norm=f"l{power}", **shared)
        assert value.item() == pytest.approx(brute_point(found, 7, splitter, convolution, power), rel=1e-10)
        value = point_loss(*given, norm=f"l{power}", region="lines", **shared)
        assert value.item() == pytest.approx(brute_point_on_lines(found, 7, splitter, convolution, power), rel=1e-10)
    for formulation, mu in (("official", 4), ("contour", 2), ("band", 2)):
        value = line_loss(*given, mu=mu, formulation=formulation, **shared)
        expected = brute_line(found, 7, splitter, convolution, mu, formulation)
        assert value.item() == pytest.approx(expected, rel=1e-9)
