"""Renaming by rules, for conversions."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["NORM_ENTRY", "rename"]

# One group: the entry of a batch norm.
NORM_ENTRY = r"(weight|bias|running_mean|running_var|num_batches_tracked)"


def rename(name: str, rules: Iterable[tuple[str, str]]) -> str | None:
    r"""The first rule that takes the whole name, applied; None where no rule does.

    Args:
        name: an entry of a state dict.
        rules: pairs of a regular expression and a replacement, in which \1 stands for its first group.
    """
    for pattern, replacement in rules:
        if match := re.fullmatch(pattern, name):
            return match.expand(replacement)
    return None
