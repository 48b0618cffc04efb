"""YAML files whose every value knows its file and line, and that include each other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

__all__ = [
    *("boolean", "fail", "integer", "integers", "load_tree", "mapping", "number", "sequence", "text", "value", "where"),
    "with_text",
]

_INCLUDE, _APPENDED = "include", "opts"


def load_tree(path: Path, above: tuple[Path, ...] = ()) -> yaml.MappingNode:
    """The mapping that a file holds, with what it includes.

    `include: FILE` or `include: [FILE, ...]`, relative to the file, takes over the keys of other files. Of a key that
    stands in several of them the mappings are merged, `opts` appended in the order of the files, the including file
    last, and of anything else the last one counts.

    Args:
        path: of the file.
        above: the files that include it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: "file:line: what is wrong".
    """
    try:
        content = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}:{line}: the file is not UTF-8: {error.reason}") from error
    try:
        loader = yaml.SafeLoader(content)
        loader.name = str(path)
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"{path}:{line}: no valid YAML: {error.problem}") from error
    except yaml.reader.ReaderError as error:
        line = content.count("\n", 0, error.position) + 1
        raise ValueError(
            f"{path}:{line}: no valid YAML: character U+{error.character:04X} may not stand here"
        ) from error
    if root is None:
        raise ValueError(f"{path}:1: the file is empty")
    if not isinstance(root, yaml.MappingNode):
        fail(root, "the file must hold a mapping (key: value)")
    _check_keys(root)
    own = yaml.MappingNode(root.tag, [pair for pair in root.value if value(pair[0]) != _INCLUDE], root.start_mark)
    result = None
    for node in _included(root):
        file = path.parent / text(node, _INCLUDE)
        if not file.is_file():
            fail(node, f"the included file {file} does not exist")
        if file.resolve() in (other.resolve() for other in (*above, path)):
            fail(node, f"{file} includes itself")
        tree = load_tree(file, (*above, path))
        result = tree if result is None else _merged(result, tree)
    return own if result is None else _merged(result, own)


def mapping(node: yaml.Node, what: str, allowed: Iterable[str] | None = None) -> dict[str, yaml.Node]:
    """The values of a mapping by key.

    Args:
        node: to read.
        what: name in messages.
        allowed: the keys that it may have; None for any.
    """
    if not isinstance(node, yaml.MappingNode):
        fail(node, f"{what} must be a mapping (key: value)")
    result = {}
    for key_node, content in node.value:
        key = str(value(key_node))
        if allowed is not None and key not in allowed:
            fail(key_node, f"{what} has the unknown key {key!r}; it may have {', '.join(allowed)}")
        result[key] = content
    return result


def sequence(node: yaml.Node, what: str) -> list[yaml.Node]:
    """The items of a list, at least one."""
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        fail(node, f"{what} must be a list with at least one entry")
    return node.value


def text(node: yaml.Node, what: str) -> str:
    content = value(node)
    if not isinstance(content, str) or not content:
        fail(node, f"{what} must be a text, got {content!r}")
    return content


def number(node: yaml.Node, what: str, *, positive: bool = False) -> float:
    content = value(node)
    if (
        isinstance(content, bool)
        or not isinstance(content, (int, float))
        or not math.isfinite(content)
        or (positive and content <= 0)
    ):
        fail(node, f"{what} must be a {'positive ' if positive else ''}number, got {content!r}")
    return float(content)


def integer(node: yaml.Node, what: str, least: int) -> int:
    content = value(node)
    if isinstance(content, bool) or not isinstance(content, int) or content < least:
        fail(node, f"{what} must be an integer, at least {least}, got {content!r}")
    return content


def integers(node: yaml.Node, what: str, least: int) -> tuple[int, ...]:
    """A list of different integers."""
    values = tuple(integer(item, f"each of {what}", least) for item in sequence(node, what))
    if len(set(values)) < len(values):
        fail(node, f"{what} holds a number twice: {list(values)}")
    return values


def boolean(node: yaml.Node, what: str) -> bool:
    content = value(node)
    if not isinstance(content, bool):
        fail(node, f"{what} must be true or false, got {content!r}")
    return content


def value(node: yaml.Node) -> Any:
    """What a node stands for in Python."""
    try:
        return SafeConstructor().construct_object(node, deep=True)
    except (ValueError, yaml.YAMLError) as error:
        fail(node, f"no valid value ({getattr(error, 'problem', None) or error}); quote it where it is a text")


def with_text(node: yaml.ScalarNode, content: str) -> yaml.ScalarNode:
    """The node with another text, which stands for a number where it looks like one."""
    tag = Resolver().resolve(yaml.ScalarNode, content, (True, False))
    return yaml.ScalarNode(tag, content, node.start_mark, node.end_mark)


def where(node: yaml.Node) -> str:
    """ "file:line" of a node."""
    return f"{node.start_mark.name}:{node.start_mark.line + 1}"


def fail(node: yaml.Node, message: str) -> NoReturn:
    raise ValueError(f"{where(node)}: {message}")


def _included(root: yaml.MappingNode) -> Sequence[yaml.Node]:
    node = mapping(root, "the file").get(_INCLUDE)
    if node is None:
        return []
    return sequence(node, _INCLUDE) if isinstance(node, yaml.SequenceNode) else [node]


def _check_keys(node: yaml.Node) -> None:
    """Refuse a key that stands twice in a mapping, anywhere below a node."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check_keys(item)
    elif isinstance(node, yaml.MappingNode):
        keys = set()
        for key_node, content in node.value:
            key = str(value(key_node))
            if key in keys:
                fail(key_node, f"the mapping has the key {key!r} twice")
            keys.add(key)
            _check_keys(content)


def _merged(base: yaml.Node, own: yaml.Node, key: str = "") -> yaml.Node:
    """`own` on top of `base`."""
    if isinstance(base, yaml.MappingNode) and isinstance(own, yaml.MappingNode):
        pairs = {str(value(key_node)): (key_node, content) for key_node, content in base.value}
        for key_node, content in own.value:
            name = str(value(key_node))
            if name in pairs:
                content = _merged(pairs[name][1], content, name)
            pairs[name] = (key_node, content)
        return yaml.MappingNode(own.tag, list(pairs.values()), own.start_mark)
    if key == _APPENDED and isinstance(base, yaml.SequenceNode) and isinstance(own, yaml.SequenceNode):
        return yaml.SequenceNode(own.tag, base.value + own.value, own.start_mark)
    return own
