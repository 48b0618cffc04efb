"""Renaming by rules, for conversions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from .state_dict import StateDict

__all__ = ["CLASSIFIER", "NORM_ENTRY", "below", "rename", "rename_entries"]

# One group: the entry of a batch norm.
NORM_ENTRY = r"(weight|bias|running_mean|running_var|num_batches_tracked)"

# The classifier of an ImageNet model.
CLASSIFIER = r"fc\.(weight|bias)"


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


def rename_entries(
    state_dict: StateDict,
    rename_entry: Callable[[str], str | None],
    complaint: str,
    *,
    dropped: str = r"(?!)",
) -> StateDict:
    """Every entry under its new name.

    Args:
        state_dict: of another project.
        rename_entry: an entry's name -> ours; None for one that the model does not have.
        complaint: what the error says of the checkpoint, "this is no ...".
        dropped: regular expression of the whole names of entries to leave out.

    Raises:
        ValueError: naming the first entry that has no new name.
    """
    converted = {}
    for name, tensor in state_dict.items():
        if re.fullmatch(dropped, name):
            continue
        renamed = rename_entry(name)
        if renamed is None:
            raise ValueError(f"unexpected entry {name!r}: {complaint}")
        converted[renamed] = tensor
    return converted


def below(prefix: str, rename_entry: Callable[[str], str | None]) -> Callable[[str], str | None]:
    """`rename_entry` with `prefix` before each new name."""

    def renamed_below(name: str) -> str | None:
        renamed = rename_entry(name)
        return None if renamed is None else prefix + renamed

    return renamed_below
