"""The arguments by which every command takes a data set."""

from __future__ import annotations

import argparse
from typing import Any

from .metadata import DATASETS

__all__ = ["DATASET_FILE_HELP", "add_dataset_arguments", "add_renamed"]

DATASET_FILE_HELP = "YAML file that describes your data set (docs/data.md)"


def add_dataset_arguments(parser: argparse.ArgumentParser, *, required: bool = True) -> Any:
    """Add --dataset, a known one, and --dataset-file, of which one may be given; returns their group."""
    group = parser.add_mutually_exclusive_group(required=required)
    group.add_argument("--dataset", choices=sorted(DATASETS), help="known data set: classes, colors, file names")
    group.add_argument("--dataset-file", metavar="FILE", help=DATASET_FILE_HELP)
    return group


def add_renamed(parser: argparse.ArgumentParser, **names: str) -> None:
    """Refuse options by their former names, and name the present ones: add_renamed(parser, old_name="--new-name")."""

    class Refuse(argparse.Action):
        def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
            parser.error(f"{self.option_strings[0]} is called {names[self.dest]}")

    for name in names:
        parser.add_argument(f"--{name.replace('_', '-')}", action=Refuse, help=argparse.SUPPRESS)
