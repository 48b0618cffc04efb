"""Drawn inputs for every loss: any shape, type, layout, label and setting, with numbers that are none anywhere.

`make fuzz` draws 20,000 (FUZZ_DRAWS), the suite a few hundred. A failure names its seed: `check(draw(SEED))`. Every
third has sigmoids (`mode`) instead of a softmax.
"""

import contextlib
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from epl_d2 import losses
from epl_d2.losses import reference
from epl_d2.losses.criteria.gscnn import dual_task_loss, edge_attention_loss

DRAWS = int(os.environ.get("FUZZ_DRAWS", "400"))
BLOCKS = 20
SIZES = [0, 1, 1, 2, 3, 5, 8, 13]
LABEL_TYPES = [torch.uint8, torch.int16, torch.int32, torch.int64, torch.uint16]
LOGIT_TYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float32, torch.float64]


@dataclass
class Case:
    """A loss of (logits, labels), its input, and whether all logits that count are numbers.

    `counted` can be expanded to the shape of the logits. `plain` is the same loss by other means, in double precision;
    None where rounding decides which of two equal energies ranks first, or there is nothing to compare with.
    """

    seed: int
    name: str
    loss: Callable[[Tensor, Tensor], Tensor]
    logits: Tensor
    labels: Tensor
    counted: Tensor
    finite: bool
    autocast: bool
    plain: Callable[[Tensor, Tensor], Tensor] | None = None


def settings_of(rng: random.Random) -> dict[str, Any]:
    return {
        "kernel_size": rng.choice([1, 3, 5, 7, 11, 21, 63]),
        "splitter": rng.choice("ABC"),
        "convolution": rng.choice(["anisotropic", "anisotropic", "standard"]),
        "ignore_mode": rng.choice(["nearest", "exclude"]),
    }


def with_lines(rays: dict[str, Any]) -> dict[str, Any]:
    """With a kernel that has a line."""
    return {**rays, "kernel_size": max(3, rays["kernel_size"])}


def loss_of(rng: random.Random, n: int, k: int, h: int, w: int, ignore_value: int) -> tuple[str, Callable]:
    """Any of the losses with any settings, as a function of logits ``[n, k, h, w]`` and labels ``[n, h, w]``."""
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    distances = 9 * torch.rand(n, h, w, generator=generator)
    signed = torch.randn(n, k, h, w, generator=generator)
    uniform = torch.rand(n, k, h, w, generator=generator)
    rays, ignore = settings_of(rng), {"ignore_value": ignore_value}
    line = {"mu": rng.choice([2, 4, 10, 20]), "formulation": rng.choice(["official", "contour", "band"])}
    epl = losses.EPLLoss(
        point_weight=1,
        line_weight=1,
        stride=rng.choice([1, 2, 3]),
        point_kernel_size=rays["kernel_size"],
        line_kernel_size=rng.choice([3, 7]),
        ignore_mode=rays["ignore_mode"],
        **line,
        **ignore,
    )
    choices = {
        "point": lambda x, y: losses.point_loss(x, y, norm=rng.choice(["l1", "l2"]), **rays, **ignore),
        "line": lambda x, y: losses.line_loss(x, y, **line, **with_lines(rays), **ignore),
        "epl": lambda x, y: sum(epl(x, y).values()),
        "dice": lambda x, y: losses.generalized_dice_loss(x, y, **ignore),
        "boundary": lambda x, y: losses.boundary_loss(x, y, signed, **ignore),
        "active boundary": lambda x, y: losses.active_boundary_loss(x, y, distances, **ignore),
        "lovasz": lambda x, y: losses.lovasz_softmax_loss(x, y, per_image=bool(n % 2), **ignore),
        "boundary f": lambda x, y: losses.boundary_f_loss(x, y, tolerance=n, **ignore),
        "band": lambda x, y: losses.band_cross_entropy(x, y, distances, **ignore),
        "class weighted": lambda x, y: losses.class_weighted_cross_entropy(
            x, y, class_weights=[0.5 + c for c in range(k)], **ignore
        ),
        "ohem": lambda x, y: losses.ohem_cross_entropy(x, y, min_kept=5, factor=1 + n % 2, **ignore),
        "label relaxation": lambda x, y: losses.label_relaxation_loss(x, y, border=n, **ignore),
        "image weighted": lambda x, y: losses.image_weighted_cross_entropy(x, y, **ignore),
        "dual task": lambda x, y: dual_task_loss(x, y, uniform_noise=uniform, **ignore),
        "edge attention": lambda x, y: edge_attention_loss(x, y, uniform[:, :1], threshold=0.3, **ignore),
    }
    name = rng.choice(["point", "line", "line", "epl", *choices])
    if name == "point":  # the norm must not change between two calls
        norm, region = rng.choice(["l1", "l2"]), rng.choice(["image", "lines"])
        rays = with_lines(rays) if region == "lines" else rays
        return name, lambda x, y: losses.point_loss(x, y, norm=norm, region=region, **rays, **ignore)
    return name, choices[name]


def draw(seed: int) -> Case:
    return draw_masks(seed) if seed % 3 == 2 else draw_classes(seed)


def draw_classes(seed: int) -> Case:
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    n, k, h, w = rng.choice([0, 1, 1, 2, 3]), rng.choice([1, 2, 3, 5]), rng.choice(SIZES), rng.choice(SIZES)
    ignore_value = rng.choice([255, 255, 254, 0])
    name, loss = loss_of(rng, n, k, h, w, ignore_value)
    if name in ("point", "line", "epl"):
        k = max(k, 2)  # they refuse a softmax over one class
    scale = rng.choice([0.0, 1.0, 5.0, 100.0, 1e4])
    logits = scale * torch.randn(n, k, h, w, generator=generator, dtype=torch.float64)
    # Ties; of even numbers, whose sum over the classes is not 1, as that of probabilities, which are refused.
    logits = 2 * (logits / 2).round() if rng.random() < 0.3 else logits
    labels = torch.randint(0, k, (n, h, w), generator=generator)
    if rng.random() < 0.5:  # regions instead of noise
        labels = torch.randint(0, k, (n, 1, w), generator=generator).expand(n, h, w).clone()
    share = rng.choice([0.0, 0.1, 0.5, 1.0])
    labels[torch.rand(n, h, w, generator=generator) < share] = ignore_value
    counted = labels != ignore_value
    logits = logits.to(rng.choice(LOGIT_TYPES))
    bad = rng.choice([torch.nan, torch.inf, -torch.inf])
    where = torch.rand(n, h, w, generator=generator) < 0.3
    everywhere = rng.random() < 0.1
    logits = logits.masked_fill((where if everywhere else where & ~counted).unsqueeze(1), bad)
    finite = bool(logits.isfinite().all(1)[counted].all())
    if rng.random() < 0.3:
        logits = logits.to(memory_format=torch.channels_last)
    elif rng.random() < 0.3:
        logits = logits.transpose(2, 3).contiguous().transpose(2, 3)
    labels = labels.to(rng.choice(LABEL_TYPES))
    return Case(seed, name, loss, logits, labels, counted.unsqueeze(1), finite, rng.random() < 0.2)


def draw_masks(seed: int) -> Case:
    """Logits of sigmoids: ``[N, H, W]`` or ``[N, 1, H, W]`` (binary), or ``[N, K, H, W]`` (multilabel)."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    n, k, h, w = rng.choice([0, 1, 1, 2, 3]), rng.choice([1, 2, 3]), rng.choice(SIZES), rng.choice(SIZES)
    mode = rng.choice(["binary", "multilabel"])
    shapes = [(n, h, w), (n, 1, h, w)] if mode == "binary" else [(n, k, h, w)]
    shape, label_shape = rng.choice(shapes), rng.choice(shapes)
    scale = rng.choice([0.0, 1.0, 1.0, 5.0, 100.0, 1e4])
    logits = scale * torch.randn(shape, generator=generator, dtype=torch.float64)
    rounded = rng.random() < 0.3
    logits = logits.round() if rounded else logits
    targets = torch.randint(0, 2, shape, generator=generator)
    if rng.random() < 0.5:  # stripes instead of noise
        targets = targets[..., :1, :].expand(shape).clone()
    counted = torch.rand(shape, generator=generator) >= rng.choice([0.0, 0.1, 0.5, 1.0])
    ignore_value = rng.choice([255, 255, -100, 2, 70000])
    targets[~counted] = ignore_value
    logits = logits.to(rng.choice(LOGIT_TYPES))
    where = torch.rand(shape, generator=generator) < 0.3
    everywhere = rng.random() < 0.1
    logits = logits.masked_fill(
        where if everywhere else where & ~counted, rng.choice([torch.nan, torch.inf, -torch.inf])
    )
    finite = bool(logits[counted].isfinite().all())
    generic = scale in (1, 5) and not rounded and logits.dtype in (torch.float32, torch.float64)
    loss, plain = mask_loss_of(rng, mode, ignore_value)
    targets = in_memory(rng, targets.reshape(label_shape).to(rng.choice(types_of(targets))))
    return Case(
        seed,
        mode,
        loss,
        in_memory(rng, logits),
        targets,
        counted,
        finite,
        rng.random() < 0.2,
        plain if generic and finite else None,
    )


def types_of(targets: Tensor) -> list[torch.dtype]:
    """The types that hold the values of masks."""
    values = targets.unique().tolist()
    types = [
        t for t in (torch.uint8, torch.int8, *LABEL_TYPES) if all(torch.tensor(v).to(t).item() == v for v in values)
    ]
    return [*types, torch.float32, torch.float64, *([torch.bool] if set(values) <= {0, 1} else [])]


def in_memory(rng: random.Random, field: Tensor) -> Tensor:
    """The same tensor in any layout."""
    if field.ndim == 4 and rng.random() < 0.3:
        return field.to(memory_format=torch.channels_last)
    if rng.random() < 0.3:
        return field.transpose(-1, -2).contiguous().transpose(-1, -2)
    if rng.random() < 0.3:
        return torch.stack((field, field), dim=-1)[..., 0]
    return field


def mask_loss_of(rng: random.Random, mode: str, ignore_value: int) -> tuple[Callable, Callable | None]:
    """One of the losses of masks, and its plain form."""
    kind, rays = rng.choice(["point", "line", "line", "epl"]), settings_of(rng)
    rays["ignore_mode"] = rng.choice(["nearest", "nearest", "exclude"])
    ignore = {"ignore_value": ignore_value, "mode": mode}
    line = {"mu": rng.choice([2, 4, 10, 20]), "formulation": rng.choice(["official", "contour", "band"])}
    point = {"norm": rng.choice(["l1", "l2"]), "region": rng.choice(["image", "lines"])}
    if kind == "epl":
        stride, kernel_size = rng.choice([1, 2, 3]), rays.pop("kernel_size")
        sizes = {"point_kernel_size": kernel_size, "line_kernel_size": rng.choice([3, 7])}
        epl = losses.EPLLoss(point_weight=1, line_weight=1, stride=stride, **sizes, **line, **rays, **ignore)
        return lambda x, y: sum(epl(x, y).values()), None
    rays = with_lines(rays) if kind == "line" or point["region"] == "lines" else rays
    settings = {**rays, **(line if kind == "line" else point)}
    loss, formula = (getattr(module, f"{kind}_loss") for module in (losses, reference))
    # What is outside has the mirror image of the mask's field, and so the same loss, but for these settings.
    mirrored = rays["ignore_mode"] == "nearest" and rays["convolution"] == "anisotropic"
    mirrored &= kind == "point" or line["formulation"] != "official"

    def plain(x: Tensor, y: Tensor) -> Tensor:
        if not mirrored:
            return formula(x, y, **settings, **ignore)
        x, y = (field.flatten(0, -3) for field in (x, y.long()))
        return formula(torch.stack((torch.zeros_like(x), x), dim=1), y, ignore_value=ignore_value, **settings)

    return lambda x, y: loss(x, y, **settings, **ignore), plain


def check(case: Case) -> None:
    """Assert what holds for every input."""
    logits, labels = case.logits.clone().requires_grad_(), case.labels.clone()
    context = torch.autocast("cpu", dtype=torch.bfloat16) if case.autocast else contextlib.nullcontext()
    with context:
        value = case.loss(logits, labels)
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.shape == ()
    assert value.dtype == (torch.float64 if logits.dtype == torch.float64 else torch.float32)
    assert gradient.dtype == logits.dtype
    assert torch.equal(labels, case.labels)
    assert torch.equal(logits.nan_to_num(), case.logits.nan_to_num())
    with torch.no_grad():
        torch.testing.assert_close(case.loss(logits, labels), value.detach(), equal_nan=True)
    if not case.finite:
        return
    assert value.isfinite()
    assert gradient.isfinite().all()
    ignored = ~case.counted.expand_as(gradient)
    assert not gradient[ignored].any()
    other = case.logits.clone().masked_fill_(ignored, 1.0).requires_grad_()  # of the same layout
    again = case.loss(other, labels)
    assert torch.equal(again, value)
    assert torch.equal(torch.autograd.grad(again, other)[0], gradient)
    if not case.counted.any() and case.name != "dual task":  # it compares all pixels of the batch
        assert value == 0
    if case.plain is not None:
        exact = case.logits.double().masked_fill(ignored, 0).requires_grad_()
        expected = case.plain(exact, labels)
        torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-6)
        of_expected = torch.autograd.grad(expected, exact)[0]
        assert (gradient - of_expected).norm() <= 1e-3 * of_expected.norm() + 1e-6


@pytest.mark.parametrize("block", range(BLOCKS))
def test_fuzz(block: int) -> None:
    failures = []
    for seed in range(block, DRAWS, BLOCKS):
        case = draw(seed)
        try:
            check(case)
        except Exception as error:
            failures.append(
                f"seed {seed}, {case.name}, {list(case.logits.shape)}: {type(error).__name__}: {error}"[:300]
            )
    assert not failures, f"{len(failures)} of {len(range(block, DRAWS, BLOCKS))}:\n" + "\n".join(failures[:10])
