"""Checks of the arguments of the losses: what is wrong, what it was and what it may be."""

import math
from collections.abc import Callable
from numbers import Integral, Real

import torch
from torch import Tensor

SPLITTERS = ("A", "B", "C")
CONVOLUTIONS = ("anisotropic", "standard")
PADDINGS = ("replicate", "zero")
NORMS = ("l1", "l2")
REGIONS = ("image", "lines")
FORMULATIONS = ("official", "contour", "band")
IGNORE_MODES = ("nearest", "exclude", "background")
REDUCTIONS = ("mean", "none")
BACKENDS = ("auto", "plain", "numba", "triton")


def _is_int(value: object) -> bool:
    """Whether a value is a whole number, Python's or NumPy's."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_real(value: object) -> bool:
    """Whether a value is a real number, Python's or NumPy's."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_kernel_size(name: str, value: object, minimum: int = 1) -> None:
    """Raise ValueError unless ``value`` is an odd integer of at least ``minimum``, which is 1 or 3."""
    if not _is_int(value) or value < minimum or value % 2 == 0:
        expected = "a positive odd integer" if minimum == 1 else f"an odd integer of at least {minimum}"
        raise ValueError(f"{name} must be {expected}, got {value!r}")


def check_mu(value: object) -> None:
    """Raise ValueError unless ``value`` is a positive even integer (an odd power would not be a distance)."""
    if not _is_int(value) or value < 2 or value % 2 == 1:
        raise ValueError(f"mu must be a positive even integer, got {value!r}")


def check_integer(name: str, value: object, minimum: int | None = None) -> None:
    """Raise ValueError unless ``value`` is an integer of at least ``minimum``."""
    if not _is_int(value) or (minimum is not None and value < minimum):
        bound = "" if minimum is None else f" of at least {minimum}"
        raise ValueError(f"{name} must be an integer{bound}, got {value!r}")


def check_number(name: str, value: object, fits: Callable[[float], bool], expected: str) -> None:
    """Raise ValueError unless ``value`` is a real number that ``fits``; ``expected`` says which do."""
    if not _is_real(value) or not fits(value):
        raise ValueError(f"{name} must be {expected}, got {value!r}")


def check_flag(name: str, value: object) -> None:
    """Raise ValueError unless ``value`` is a bool."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}")


def check_weight(name: str, value: object) -> None:
    """Raise ValueError unless ``value`` is a finite number of at least 0."""
    check_number(name, value, lambda x: 0 <= x < math.inf, "a finite number of at least 0")


def check_tensor(name: str, value: object, floating: bool = False) -> None:
    """Raise ValueError unless ``value`` is a tensor of real numbers, floating-point ones if wanted."""
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} must be a tensor, got {type(value).__name__}")
    if value.is_complex() or (floating and not value.is_floating_point()):
        raise ValueError(f"{name} must be a {'floating-point' if floating else 'real'} tensor, got {value.dtype}")


def check_field(name: str, value: object) -> None:
    """Raise ValueError unless ``value`` is a real floating-point tensor of shape ``[N, K, H, W]`` with K > 0."""
    check_tensor(name, value, floating=True)
    if value.ndim != 4:
        raise ValueError(f"{name} must have the shape [N, K, H, W], got {list(value.shape)}")
    if value.shape[1] == 0:
        raise ValueError(f"{name} must have at least one class (dimension 1), got the shape {list(value.shape)}")


def check_labels(labels: object) -> None:
    """Raise ValueError unless ``labels`` is an integer tensor of shape ``[N, H, W]``."""
    if not isinstance(labels, Tensor):
        raise ValueError(f"labels must be a tensor, got {type(labels).__name__}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels must be an integer tensor of class ids, got {labels.dtype}")
    if labels.ndim != 3:
        raise ValueError(f"labels must have the shape [N, H, W], got {list(labels.shape)}")


def check_ignore_value(value: object) -> None:
    """Raise ValueError unless ``value`` is an integer."""
    if value is None:
        raise ValueError(
            "ignore_value must be an integer, got None: any that no label has, such as -100, ignores nothing"
        )
    check_integer("ignore_value", value)


def check_sizes(logits: Tensor, labels: Tensor) -> None:
    """Raise ValueError unless logits ``[N, K, H, W]`` and labels ``[N, H, W]`` have one size and one device."""
    n, k, h, w = logits.shape
    if labels.shape != (n, h, w):
        hint = ""
        if labels.shape[0] == n and labels.shape[1] > h and labels.shape[2] > w:
            hint = (
                f": logits at a stride are resized by F.interpolate(logits, {list(labels.shape[1:])}, mode='bilinear') "
                f"or EPLLoss(resize_logits=True); EPLLoss(stride={max(2, labels.shape[1] // h)}) takes them as they are"
            )
        wanted, found = f"{[n, h, w]} to fit logits of shape {[n, k, h, w]}", f"{list(labels.shape)}"
        raise ValueError(f"labels must have the shape {wanted}, got {found}{hint}")
    if labels.device != logits.device:
        raise ValueError(f"labels must be on the device of logits ({logits.device}), got {labels.device}")


def check_inputs(logits: object, labels: object, ignore_value: object) -> Tensor:
    """The labels as int64, or a ValueError unless logits ``[N, K, H, W]`` and labels ``[N, H, W]`` fit each other.

    Only the result may be compared with ``ignore_value``: a narrow type would wrap it (-100 is 156 in uint8).

    The range of the labels is checked as well: on a CPU with a ValueError, elsewhere with an assertion on the
    device (as in `torch.nn.functional.cross_entropy`), because reading it back would stop the device.
    """
    check_field("logits", logits)
    check_labels(labels)
    check_ignore_value(ignore_value)
    check_sizes(logits, labels)
    k = logits.shape[1]
    wide = labels.long()
    wrong = ((wide < 0) | (wide >= k)) & (wide != ignore_value)
    if labels.dtype == torch.uint64:
        wrong |= wide < 0  # what lies beyond int64 has wrapped
    if labels.device.type != "cpu":
        torch._assert_async(~wrong.any(), f"labels must be in 0..{k - 1} or {ignore_value} (ignored)")
    elif bool(wrong.any()):
        found = sorted(set(labels[wrong][:1000].tolist()))
        raise ValueError(f"labels must be in 0..{k - 1} or {ignore_value} (ignored), got {found[:8]}")
    return wide
