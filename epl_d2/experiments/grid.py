"""Reading a grid file: which methods, seeds and data sets; every mistake is named with its line (docs/grids.md)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import yaml

__all__ = ["SPLITS", "Grid", "Method", "Override", "PaperNumbers", "read_grid"]

SPLITS = ("val", "test")

_KEYS = {
    "required": ("name", "output", "config", "evaluate", "seeds", "baseline", "methods"),
    "optional": ("opts", "widths", "jobs", "threads", "paper", "controls", "block"),
}
_METHOD_KEYS = ("config", "opts", "size")
_PAPER_KEYS = ("source", "split", "numbers")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")

# Keys of the configuration that the runner sets itself, and what to write instead.
_OWN_KEYS = {
    "SEED": "`seeds`",
    "OUTPUT_DIR": "`output`",
    "DATASETS.TEST": "`evaluate`",
    "TEST.BOUNDARY.REPORT_WIDTHS": "`widths`",
    "TEST.SAVE_IMAGE_COUNTS": "nothing, it is always on",
}


@dataclass(frozen=True)
class Override:
    """One KEY VALUE pair as on `train_net.py`'s command line, and where it stands."""

    key: str
    value: str
    where: str


@dataclass(frozen=True)
class Method:
    """A row of the result: a config file and overrides on top of those of the grid.

    `size` is that of the gradients of added losses, by the keys of their weights; a number for the only one.
    """

    name: str
    config: str
    overrides: tuple[Override, ...]
    where: str
    config_where: str
    size: float | Mapping[str, float] | None = None


@dataclass(frozen=True)
class PaperNumbers:
    """Published numbers that stand beside ours: percent by method and metric, for one split."""

    source: str
    split: str
    numbers: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Grid:
    """What a grid file says. `where` gives "file:line" of its top-level keys.

    Differences are taken to the `baseline` and to each of the `controls`; intervals draw `block` frames together.
    """

    path: Path
    name: str
    output: str
    evaluate: Mapping[str, str]
    widths: tuple[int, ...]
    seeds: tuple[int, ...]
    baseline: str
    methods: tuple[Method, ...]
    overrides: tuple[Override, ...]
    jobs: int
    threads: int
    paper: PaperNumbers | None
    controls: tuple[str, ...]
    block: int | None
    where: Mapping[str, str] = field(repr=False)

    def with_overrides(self, pairs: Sequence[str]) -> Grid:
        """The grid with KEY VALUE pairs of the command line applied to all methods, after their own.

        Raises:
            ValueError: a key has no value, or is one that the grid sets.
        """
        extra = _pair_up(list(pairs), ["--opts"] * len(pairs), "--opts")
        methods = tuple(replace(method, overrides=method.overrides + extra) for method in self.methods)
        return replace(self, methods=methods)


def read_grid(path: str | Path) -> Grid:
    """Read and check a grid file; what needs Detectron2 (configs, keys, data sets) is checked by `plan_runs`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: "file:line: what is wrong and what may stand there".
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such grid file")
    loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
    try:
        node = loader.get_single_node()
        if node is None:
            raise ValueError(f"{path}:1: the file is empty")
        return _Reader(path, loader).grid(node)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"{path}:{line}: no valid YAML: {error.problem}") from error
    finally:
        loader.dispose()


class _Reader:
    """Turns YAML nodes, which know their lines, into a `Grid`."""

    def __init__(self, path: Path, loader: yaml.SafeLoader):
        self.path = path
        self.loader = loader

    def grid(self, root: yaml.Node) -> Grid:
        nodes = self.mapping(root, "a grid", (*_KEYS["required"], *_KEYS["optional"]))
        for key in _KEYS["required"]:
            if key not in nodes:
                self.fail(root, f"the key {key!r} is missing")
        methods = self.methods(nodes["methods"], nodes["config"])
        names = [method.name for method in methods]
        baseline = self.text(nodes["baseline"], "baseline")
        if baseline not in names:
            self.fail(nodes["baseline"], f"baseline is {baseline!r}, but the methods are {', '.join(names)}")
        return Grid(
            path=self.path,
            name=self.name(nodes["name"], "name"),
            output=self.text(nodes["output"], "output"),
            evaluate=self.evaluate(nodes["evaluate"]),
            widths=self.numbers(nodes["widths"], "widths", 1) if "widths" in nodes else (1, 3, 5, 9),
            seeds=self.numbers(nodes["seeds"], "seeds", 0),
            baseline=baseline,
            methods=methods,
            overrides=self.overrides(nodes["opts"]) if "opts" in nodes else (),
            jobs=self.number(nodes["jobs"], "jobs", 1) if "jobs" in nodes else 1,
            threads=self.number(nodes["threads"], "threads", 1) if "threads" in nodes else 1,
            paper=self.paper(nodes["paper"], names) if "paper" in nodes else None,
            controls=self.controls(nodes["controls"], names, baseline) if "controls" in nodes else (),
            block=self.number(nodes["block"], "block", 1) if "block" in nodes else None,
            where={key: self.where(node) for key, node in nodes.items()},
        )

    def methods(self, node: yaml.Node, default_config: yaml.Node) -> tuple[Method, ...]:
        methods = []
        for name, value in self.mapping(node, "methods").items():
            if not _NAME.fullmatch(name):
                self.fail(value, f"the method {name!r} must consist of letters, digits and _ . + - (it names a folder)")
            keys = self.mapping(value, f"the method {name!r}", _METHOD_KEYS)
            config = keys.get("config", default_config)
            overrides = self.overrides(keys["opts"]) if "opts" in keys else ()
            where, config_where = self.where(value), self.where(config)
            size = self.size(keys["size"]) if "size" in keys else None
            methods.append(Method(name, self.text(config, "config"), overrides, where, config_where, size))
        if not methods:
            self.fail(node, "methods is empty; at least the baseline must be there")
        return tuple(methods)

    def size(self, node: yaml.Node) -> float | dict[str, float]:
        if isinstance(node, yaml.MappingNode):
            return {
                key: self.positive(value, f"the size of {key}") for key, value in self.mapping(node, "size").items()
            }
        return self.positive(node, "size")

    def positive(self, node: yaml.Node, what: str) -> float:
        value = self.value(node)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
            self.fail(node, f"{what} must be a positive number, got {value!r}")
        return float(value)

    def controls(self, node: yaml.Node, methods: Sequence[str], baseline: str) -> tuple[str, ...]:
        if not isinstance(node, yaml.SequenceNode):
            self.fail(node, "controls must be a list of methods")
        others = [name for name in methods if name != baseline]
        names = tuple(self.text(item, "each of controls") for item in node.value)
        for item, name in zip(node.value, names, strict=True):
            if name not in others:
                self.fail(item, f"controls has {name!r}; it may have {', '.join(others)}")
        return names

    def overrides(self, node: yaml.Node) -> tuple[Override, ...]:
        if not isinstance(node, yaml.SequenceNode):
            self.fail(node, "opts must be a list [KEY, value, KEY, value, ...]")
        values = [self.value(item) for item in node.value]
        texts = [value if isinstance(value, str) else repr(value) for value in values]
        return _pair_up(texts, [self.where(item) for item in node.value], self.where(node))

    def evaluate(self, node: yaml.Node) -> dict[str, str]:
        splits = self.mapping(node, "evaluate", SPLITS)
        if not splits:
            self.fail(node, "evaluate is empty; give the data set of val, of test, or both")
        return {split: self.text(value, split) for split, value in splits.items()}

    def paper(self, node: yaml.Node, methods: Sequence[str]) -> PaperNumbers:
        keys = self.mapping(node, "paper", _PAPER_KEYS)
        for key in _PAPER_KEYS:
            if key not in keys:
                self.fail(node, f"paper lacks the key {key!r}")
        numbers: dict[str, dict[str, float]] = {}
        for method, value in self.mapping(keys["numbers"], "numbers", methods).items():
            numbers[method] = {}
            for metric, number in self.mapping(value, f"numbers of {method!r}").items():
                content = self.value(number)
                if isinstance(content, bool) or not isinstance(content, (int, float)):
                    self.fail(number, f"{metric} must be a number (percent), got {content!r}")
                numbers[method][metric] = float(content)
        split = self.text(keys["split"], "split")
        if split not in SPLITS:
            self.fail(keys["split"], f"split is {split!r}; it may be {' or '.join(SPLITS)}")
        return PaperNumbers(self.text(keys["source"], "source"), split, numbers)

    def mapping(self, node: yaml.Node, what: str, allowed: Sequence[str] | None = None) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            self.fail(node, f"{what} must be a mapping (key: value)")
        result: dict[str, yaml.Node] = {}
        for key_node, value in node.value:
            key = str(self.value(key_node))
            if key in result:
                self.fail(key_node, f"{what} has the key {key!r} twice")
            if allowed is not None and key not in allowed:
                self.fail(key_node, f"{what} has the unknown key {key!r}; it may have {', '.join(allowed)}")
            result[key] = value
        return result

    def text(self, node: yaml.Node, what: str) -> str:
        value = self.value(node)
        if not isinstance(value, str) or not value:
            self.fail(node, f"{what} must be a text, got {value!r}")
        return value

    def name(self, node: yaml.Node, what: str) -> str:
        value = self.text(node, what)
        if not _NAME.fullmatch(value):
            self.fail(node, f"{what} must consist of letters, digits and _ . + -, got {value!r}")
        return value

    def number(self, node: yaml.Node, what: str, least: int) -> int:
        value = self.value(node)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            self.fail(node, f"{what} must be an integer, at least {least}, got {value!r}")
        return value

    def numbers(self, node: yaml.Node, what: str, least: int) -> tuple[int, ...]:
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            self.fail(node, f"{what} must be a list of integers, at least one")
        values = tuple(self.number(item, f"each of {what}", least) for item in node.value)
        if len(set(values)) < len(values):
            self.fail(node, f"{what} holds a number twice: {list(values)}")
        return values

    def value(self, node: yaml.Node) -> Any:
        return self.loader.construct_object(node, deep=True)

    def where(self, node: yaml.Node) -> str:
        return f"{self.path}:{node.start_mark.line + 1}"

    def fail(self, node: yaml.Node, message: str) -> NoReturn:
        raise ValueError(f"{self.where(node)}: {message}")


def _pair_up(texts: Sequence[str], places: Sequence[str], where: str) -> tuple[Override, ...]:
    if len(texts) % 2:
        raise ValueError(f"{where}: opts must be KEY VALUE pairs, but {texts[-1]!r} has no value")
    overrides = tuple(
        Override(key, value, place) for key, value, place in zip(texts[::2], texts[1::2], places[::2], strict=True)
    )
    for override in overrides:
        if override.key in _OWN_KEYS:
            raise ValueError(
                f"{override.where}: {override.key} is set by the grid runner; use {_OWN_KEYS[override.key]}"
            )
    return overrides
