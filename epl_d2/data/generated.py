"""Folders of generated data, which are whole or absent and say in a manifest what they were made with."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from epl_d2.files import whole_folder

__all__ = ["write_generated"]


def write_generated(root: str, manifest: dict[str, Any], fill: Callable[[str], object]) -> bool:
    """Make the folder `root` with what `fill` writes and a manifest.json; it appears when it is complete.

    Args:
        root: the folder.
        manifest: the settings that the content follows from, as JSON keeps them.
        fill: writes the content into the folder that it is given.

    Returns:
        True if the folder was written, False if it was already there.

    Raises:
        ValueError: `root` holds something else, or was made with other settings.
    """
    if _is_present(root, manifest):
        return False
    try:
        with whole_folder(root) as partial:
            fill(os.fspath(partial))
            (partial / "manifest.json").write_text(json.dumps(manifest, indent=2), encoding="utf-8")
    except OSError:
        if not _is_present(root, manifest):
            raise
        return False  # another process was faster
    return True


def _is_present(root: str, manifest: dict[str, Any]) -> bool:
    if not os.path.isdir(root) or not os.listdir(root):
        return False
    path = os.path.join(root, "manifest.json")
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        raise ValueError(
            f"{root} is not empty and has no readable manifest.json; remove it or choose another folder"
        ) from None
    if found != manifest:
        raise ValueError(
            f"{root} holds {os.path.basename(root)} made with {found}, wanted {manifest}; remove it or choose "
            "another folder"
        )
    return True
