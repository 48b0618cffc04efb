"""Reading a grid file: which methods, seeds and data sets; every mistake is named with its line (docs/grids.md)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import yaml

from .paper_numbers import PaperNumbers, read_paper_numbers
from .yaml_tree import (
    boolean,
    fail,
    integer,
    integers,
    load_tree,
    mapping,
    number,
    sequence,
    text,
    value,
    where,
    with_text,
)

__all__ = ["SPLITS", "Grid", "Method", "Override", "read_grid"]

SPLITS = ("val", "test")

_REQUIRED = ("name", "evaluate", "seeds", "methods")
_OPTIONAL = (
    *("config", "output", "runs", "opts", "product", "widths", "jobs", "threads", "baseline", "controls", "block"),
    *("classes", "paper"),
)
_METHOD_KEYS = ("config", "opts", "size", "baseline", "product")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_VARIABLE = re.compile(r"\{(\w+)\}")

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
    """A row of the result: a config file and overrides, those of the grid first.

    `baseline` is the method with which it is compared; None for a method that is a baseline itself. `size` is that of
    the gradients of added losses, by the keys of their weights; a number for the only one.
    """

    name: str
    config: str
    overrides: tuple[Override, ...]
    baseline: str | None
    where: str
    config_where: str
    baseline_where: str
    size: float | Mapping[str, float] | None = None


@dataclass(frozen=True)
class Grid:
    """What a grid file says. `where` gives "file:line" of its top-level keys.

    The tables go to `output`, the runs to `runs`/METHOD/seed_N; grids that name the same `runs` share them.
    Differences are taken to the baseline of each method and to each of the `controls`; intervals draw `block` frames
    together.
    """

    path: Path
    name: str
    output: str
    runs: str
    evaluate: Mapping[str, str]
    widths: tuple[int, ...]
    seeds: tuple[int, ...]
    methods: tuple[Method, ...]
    jobs: int
    threads: int
    controls: tuple[str, ...]
    block: int | None
    classes: bool
    paper: PaperNumbers | None
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
    root = load_tree(path)
    nodes = mapping(root, "a grid", (*_REQUIRED, *_OPTIONAL))
    for key in _REQUIRED:
        if key not in nodes:
            fail(root, f"the key {key!r} is missing")
    name = text(nodes["name"], "name")
    if not _NAME.fullmatch(name):
        fail(nodes["name"], f"name must consist of letters, digits and _ . + -, got {name!r}")
    output = text(nodes["output"], "output") if "output" in nodes else f"output/grids/{name}"
    evaluate = _evaluate(nodes["evaluate"])
    widths = integers(nodes["widths"], "widths", 1) if "widths" in nodes else (1, 3, 5, 9)
    entries = _methods(nodes)
    classes = boolean(nodes["classes"], "classes") if "classes" in nodes else False
    names = {entry: [method.name for method in methods] for entry, methods in entries.items()}
    paper = read_paper_numbers(nodes["paper"], names, list(evaluate), widths) if "paper" in nodes else None
    if paper is not None and paper.classes and not classes:
        raise ValueError(
            f"{next(iter(paper.where.values()))}: classes of the paper are shown with `classes: true` only"
        )
    return Grid(
        path=path,
        name=name,
        output=output,
        runs=text(nodes["runs"], "runs") if "runs" in nodes else output,
        evaluate=evaluate,
        widths=widths,
        seeds=integers(nodes["seeds"], "seeds", 0),
        methods=tuple(method for methods in entries.values() for method in methods),
        jobs=integer(nodes["jobs"], "jobs", 1) if "jobs" in nodes else 1,
        threads=integer(nodes["threads"], "threads", 1) if "threads" in nodes else 1,
        controls=_controls(nodes["controls"], entries) if "controls" in nodes else (),
        block=integer(nodes["block"], "block", 1) if "block" in nodes else None,
        classes=classes,
        paper=paper,
        where={key: where(node) for key, node in nodes.items()},
    )


def _methods(nodes: Mapping[str, yaml.Node]) -> dict[str, list[Method]]:
    """The methods by the entry, as it is written, that they come from."""
    entries: dict[str, list[Method]] = {}
    known: dict[str, str] = {}
    for entry, node in mapping(nodes["methods"], "methods").items():
        # What a method does not say itself the grid says for all.
        keys = {key: nodes[key] for key in ("config", "baseline") if key in nodes}
        keys.update(mapping(node, f"the method {entry!r}", _METHOD_KEYS))
        if "config" not in keys:
            fail(node, f"the method {entry!r} has no config, and the grid has none for all")
        opts = [level["opts"] for level in (nodes, keys) if "opts" in level]
        products = [level["product"] for level in (nodes, keys) if "product" in level]
        entries[entry] = [_method(entry, node, keys, opts, chosen) for chosen in _product(products)]
        for method in entries[entry]:
            if not _NAME.fullmatch(method.name):
                fail(node, f"the method {method.name!r} names a folder: letters, digits and _ . + - alone")
            if method.name in known:
                fail(node, f"the method {method.name!r} stands here and at {known[method.name]}")
            known[method.name] = where(node)
    if not known:
        fail(nodes["methods"], "methods is empty; at least the baseline must be there")
    for method in (method for methods in entries.values() for method in methods):
        if method.baseline is not None and method.baseline not in known:
            raise ValueError(
                f"{method.baseline_where}: baseline is {method.baseline!r}, but the methods are {', '.join(known)}"
            )
    return entries


def _method(
    entry: str,
    node: yaml.Node,
    keys: Mapping[str, yaml.Node],
    opts: Sequence[yaml.Node],
    chosen: Mapping[str, str] | None,
) -> Method:
    """One method of an entry, with the values `chosen` for its variables; None where it is no product."""

    def fill(content: str, place: yaml.Node) -> str:
        if chosen is None:
            return content
        for variable in _VARIABLE.findall(content):
            if variable not in chosen:
                fail(place, f"{content!r} has the variable {variable!r}; the product has {', '.join(chosen)}")
        return _VARIABLE.sub(lambda match: chosen[match[1]], content)

    missing = [variable for variable in chosen or () if variable not in _VARIABLE.findall(entry)]
    if missing:
        fail(node, f"the name {entry!r} must hold {{{missing[0]}}}, else methods of the product share one name")
    name = fill(entry, node)
    overrides = tuple(
        replace(override, key=fill(override.key, place), value=fill(override.value, place))
        for place in opts
        for override in _overrides(place)
    )
    baseline = fill(text(keys["baseline"], "baseline"), keys["baseline"]) if "baseline" in keys else None
    return Method(
        name=name,
        config=fill(text(keys["config"], "config"), keys["config"]),
        overrides=overrides,
        baseline=None if baseline == name else baseline,
        where=where(node),
        config_where=where(keys["config"]),
        baseline_where=where(keys.get("baseline", node)),
        size=_size(keys["size"], fill) if "size" in keys else None,
    )


def _product(nodes: Sequence[yaml.Node]) -> list[dict[str, str] | None]:
    """Every choice of a value for each variable, the last variable changing fastest; one None without a product."""
    if not nodes:
        return [None]
    variables: dict[str, yaml.Node] = {}
    for node in nodes:
        own = mapping(node, "product")
        if not own:
            fail(node, "product is empty; give each variable a list of values")
        if both := sorted(own.keys() & variables.keys()):
            fail(own[both[0]], f"the product of the grid has the variable {both[0]!r}, too; name this one otherwise")
        variables.update(own)
    choices = []
    for variable, node in variables.items():
        items = [node] if isinstance(node, yaml.ScalarNode) else sequence(node, f"the values of {variable!r}")
        values = [value(item) for item in items]
        if any(isinstance(content, (list, dict)) or content is None for content in values):
            fail(node, f"the values of {variable!r} must be texts or numbers, got {values}")
        texts = [str(content) for content in values]
        if len(set(texts)) < len(texts):
            fail(node, f"the values of {variable!r} hold one twice: {', '.join(texts)}")
        choices.append(texts)
    return [dict(zip(variables, chosen, strict=True)) for chosen in product(*choices)]


def _size(node: yaml.Node, fill: Callable[[str, yaml.Node], str]) -> float | dict[str, float]:
    def one(content: yaml.Node, what: str) -> float:
        if isinstance(content, yaml.ScalarNode) and _VARIABLE.search(content.value):
            content = with_text(content, fill(content.value, content))
        return number(content, what, positive=True)

    if isinstance(node, yaml.MappingNode):
        sizes = {fill(key, node): content for key, content in mapping(node, "size").items()}
        return {key: one(content, f"the size of {key}") for key, content in sizes.items()}
    return one(node, "size")


def _controls(node: yaml.Node, entries: Mapping[str, Sequence[Method]]) -> tuple[str, ...]:
    if not isinstance(node, yaml.SequenceNode):
        fail(node, "controls must be a list of methods")
    others = [method.name for methods in entries.values() for method in methods if method.baseline is not None]
    names = tuple(text(item, "each of controls") for item in node.value)
    for item, name in zip(node.value, names, strict=True):
        if name not in others:
            fail(item, f"controls has {name!r}; it may have {', '.join(others)}")
    return names


def _overrides(node: yaml.Node) -> tuple[Override, ...]:
    if not isinstance(node, yaml.SequenceNode):
        fail(node, "opts must be a list [KEY, value, KEY, value, ...]")
    values = [value(item) for item in node.value]
    texts = [content if isinstance(content, str) else repr(content) for content in values]
    return _pair_up(texts, [where(item) for item in node.value], where(node))


def _evaluate(node: yaml.Node) -> dict[str, str]:
    splits = mapping(node, "evaluate", SPLITS)
    if not splits:
        fail(node, "evaluate is empty; give the data set of val, of test, or both")
    return {split: text(content, split) for split, content in splits.items()}


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
