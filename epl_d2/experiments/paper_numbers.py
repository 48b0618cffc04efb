"""Published numbers in a grid file: which of them stand beside which row of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import yaml

from .scores import headline_metrics
from .yaml_tree import fail, mapping, number, sequence, text, where

__all__ = ["PaperNumbers", "read_paper_numbers"]

_REQUIRED, _OPTIONAL = ("source", "split", "numbers"), ("classes", "notes")
_PUBLISHED = "published"
_METRIC = "mIoU"  # what a bare number means


@dataclass(frozen=True)
class PaperNumbers:
    """Published numbers that stand beside ours, in percent and for one split, in the order of the published table.

    Attributes:
        source: where they stand.
        split: of ours that they are compared with.
        numbers: row -> metric -> number.
        baselines: for the rows that are no method of the grid, the mIoU that was published for their baseline.
        classes: method -> IoU of each class, in the order of the data set.
        notes: sentences to show below the table.
        where: "file:line" of the classes of each method.
    """

    source: str
    split: str
    numbers: Mapping[str, Mapping[str, float]]
    baselines: Mapping[str, float]
    classes: Mapping[str, tuple[float, ...]]
    notes: tuple[str, ...]
    where: Mapping[str, str] = field(repr=False)

    def gain(self, row: str, baseline: str | None, metric: str) -> float | None:
        """What the paper's row is above its own baseline; None where it does not say so.

        Args:
            row: a row of `numbers`.
            baseline: the method with which ours is compared; of no effect for a row that is no method.
            metric: such as "mIoU".
        """
        if row in self.baselines:
            theirs = self.baselines[row] if metric == _METRIC else None
        else:
            theirs = None if row == baseline else self.numbers.get(baseline, {}).get(metric)
        ours = self.numbers[row].get(metric)
        return None if ours is None or theirs is None else ours - theirs


def read_paper_numbers(
    node: yaml.Node, entries: Mapping[str, Sequence[str]], splits: Sequence[str], widths: Sequence[int]
) -> PaperNumbers:
    """Read and check the `paper` of a grid file.

    Args:
        node: its value.
        entries: entry below `methods` as it is written -> names of its methods, one unless it is a product.
        splits: that the grid evaluates.
        widths: of the boundary scores in its tables.

    Raises:
        ValueError: "file:line: what is wrong and what may stand there".
    """
    keys = mapping(node, "paper", (*_REQUIRED, *_OPTIONAL))
    for key in _REQUIRED:
        if key not in keys:
            fail(node, f"paper lacks the key {key!r}")
    split = text(keys["split"], "split")
    if split not in splits:
        fail(keys["split"], f"split is {split!r}; the grid evaluates {' and '.join(splits)}")
    rows = {entry: tuple(names) for entry, names in entries.items()}
    rows.update((name, (name,)) for names in entries.values() for name in names)
    numbers: dict[str, dict[str, float]] = {}
    baselines: dict[str, float] = {}
    for row, content in mapping(keys["numbers"], "numbers").items():
        if isinstance(content, yaml.MappingNode) and _PUBLISHED in mapping(content, f"numbers of {row!r}"):
            if row in rows:
                fail(content, f"{row!r} is a method of this grid; its baseline is one, too, so give its number alone")
            baselines[row], numbers[row] = _published(content, row)
        elif row not in rows:
            known = ", ".join(entries)
            fail(
                content,
                f"numbers has the row {row!r}, which is no method; the methods are {known}. A row that is not trained "
                f"here is {row}: {{{_PUBLISHED}: [baseline, with the method]}}",
            )
        else:
            numbers.update(_numbers(content, row, rows[row], widths))
    classes, places = {}, {}
    names = [name for names in entries.values() for name in names]
    for row, content in mapping(keys["classes"], "classes", names).items() if "classes" in keys else ():
        what = f"classes of {row!r}"
        classes[row] = tuple(number(item, f"each of the {what}") for item in sequence(content, what))
        places[row] = where(content)
    notes = tuple(text(item, "each of notes") for item in sequence(keys["notes"], "notes")) if "notes" in keys else ()
    return PaperNumbers(text(keys["source"], "source"), split, numbers, baselines, classes, notes, places)


def _published(node: yaml.Node, row: str) -> tuple[float, dict[str, float]]:
    items = sequence(mapping(node, row, (_PUBLISHED,))[_PUBLISHED], f"{_PUBLISHED} of {row!r}")
    if len(items) != 2:
        fail(node, f"{_PUBLISHED} of {row!r} must be [baseline, with the method], got {len(items)} numbers")
    baseline, with_method = (number(item, f"{_PUBLISHED} of {row!r}") for item in items)
    return baseline, {_METRIC: with_method}


def _numbers(node: yaml.Node, row: str, methods: Sequence[str], widths: Sequence[int]) -> dict[str, dict[str, float]]:
    """A number, numbers by metric, or a list of numbers in the order of a product."""
    if isinstance(node, yaml.SequenceNode):
        items = sequence(node, f"numbers of {row!r}")
        if len(items) != len(methods):
            fail(node, f"{row!r} has {len(items)} numbers for {len(methods)} methods: {', '.join(methods)}")
        return {
            method: {_METRIC: number(item, f"{_METRIC} of {method!r}")}
            for method, item in zip(methods, items, strict=True)
        }
    if len(methods) > 1:
        fail(node, f"{row!r} is {len(methods)} methods; give a list of as many numbers, in their order")
    if not isinstance(node, yaml.MappingNode):
        return {methods[0]: {_METRIC: number(node, f"{_METRIC} of {row!r}")}}
    contents = mapping(node, f"numbers of {row!r}", headline_metrics(widths))
    if not contents:
        fail(node, f"numbers of {row!r} is empty; give a number for one metric at least")
    return {methods[0]: {metric: number(content, metric) for metric, content in contents.items()}}
