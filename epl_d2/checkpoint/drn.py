"""Checkpoints of fyu/drn: DRN-D-54 trained on ImageNet."""

from __future__ import annotations

from .renaming import CLASSIFIER, NORM_ENTRY, below, rename, rename_entries
from .state_dict import StateDict

__all__ = ["convert", "rename_drn"]

_RULES = (
    (r"(layer[01278]\.0)\.weight", r"\1.conv.weight"),
    (rf"(layer[01278])\.1\.{NORM_ENTRY}", r"\1.0.conv.norm.\2"),
    (r"(layer[3-6]\.\d+\.conv[123]\.weight)", r"\1"),
    (rf"(layer[3-6]\.\d+)\.bn([123])\.{NORM_ENTRY}", r"\1.conv\2.norm.\3"),
    (r"(layer[3-6]\.0)\.downsample\.0\.weight", r"\1.shortcut.weight"),
    (rf"(layer[3-6]\.0)\.downsample\.1\.{NORM_ENTRY}", r"\1.shortcut.norm.\2"),
)


def rename_drn(name: str) -> str | None:
    """Name of an entry of DRN-D-54's trunk in our `DRN`, without `backbone.`; None for any other entry."""
    return rename(name, _RULES)


def convert(state_dict: StateDict) -> StateDict:
    """`drn_d_54` -> backbone DRN; the classifier `fc` is dropped.

    Raises:
        ValueError: an entry is none of DRN-D-54's.
    """
    complaint = "this is no state dict of fyu/drn's drn_d_54"
    return rename_entries(state_dict, below("backbone.", rename_drn), complaint, dropped=CLASSIFIER)
