"""How a command begins and ends: overrides of its config, and one sentence for what a user can put right."""

from __future__ import annotations

import argparse
import ast
import builtins
import functools
import os
import re
import sys
import traceback
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

__all__ = ["TRACEBACK", "add_overrides", "command", "expected_reason"]

# Set to 1 in the environment it shows the traceback of every error.
TRACEBACK = "EPL_D2_TRACEBACK"

# Whose `raise` speaks to the user: the project, and the packages that answer for what stands in a config.
_PACKAGES = ("epl_d2", "detectron2", "fvcore", "yacs", "yaml")

# The end of a traceback that another process, or a worker of a loader, has sent as text.
_SENT = re.compile(
    r'.*^  File "(?P<file>[^"\n]+)", line \d+, in [^\n]*\n    (?P<line>[^\n]*)\n(?:[ ~^]+\n)?'
    r"(?:\w+\.)*(?P<kind>\w+): (?P<said>.*)",
    re.DOTALL | re.MULTILINE,
)


def command(main: Callable[..., int | None]) -> Callable[..., int]:
    """Let `main` give back an exit code, and end in one sentence on standard error where an error is expected.

    The sentence begins with "error: ". The exit code is 0 where `main` gives back None, 1 after an error and 130 after
    Ctrl-C. Errors that are not expected are bugs, and keep their traceback.
    """
    file = main.__code__.co_filename

    @functools.wraps(main)
    def wrapped(*args: object, **keywords: object) -> int:
        try:
            return main(*args, **keywords) or 0
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        except Exception as error:
            reason = expected_reason(error, file)
            if reason is None or os.environ.get(TRACEBACK, "0") != "0":
                raise
            print(f"error: {reason}", file=sys.stderr)
            return 1

    return wrapped


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Let a command take config overrides, as `opts`, after everything else."""
    parser.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        action=_Overrides,
        help="config overrides: KEY VALUE ..., with -- before them where an option with several values comes last",
    )


class _Overrides(argparse.Action):
    """Leaves out the -- before what remains, which argparse keeps."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        setattr(namespace, self.dest, values[1:] if values[:1] == ["--"] else values)


def expected_reason(error: BaseException, *files: str) -> str | None:
    """What an error says to the user; None for a bug.

    It is expected where a file, a device or the network is at fault, and where a `raise` (or an `assert` with a
    message) of the project or of the packages that read its configs made it: in this process, in another one or in a
    worker of a loader.

    Args:
        error: as caught.
        files: further files of Python code whose `raise` counts.
    """
    said = str(error)
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else said
    sent = _SENT.fullmatch(said) if "Traceback (most recent call last):" in said else None
    if sent is not None:
        kind, file, line, said = sent.group("kind", "file", "line", "said")
        if issubclass(getattr(builtins, kind, object), OSError):
            return re.sub(r"^\[Errno \d+\] (.*): '(.*)'$", r"\2: \1", said.strip(), flags=re.DOTALL)
    else:
        frames = traceback.extract_tb(error.__traceback__)
        if not frames:
            return None
        kind, file, line = type(error).__name__, frames[-1].filename, frames[-1].line or ""
    package = "" if file in files else _package_of(file)
    meant = line.startswith("raise") or (line.startswith("assert") and said)
    # yacs answers with an AttributeError where the code reads a key that does not exist.
    if package is None or not meant or kind == "AttributeError":
        return None
    if kind == "KeyError":
        said = str(ast.literal_eval(said))
    return " ".join(said.split()) if package == "yaml" else said.strip()


def _package_of(file: str) -> str | None:
    """Which of the packages a file of code belongs to."""
    return next((name for name, folder in _folders().items() if file.startswith(folder)), None)


@functools.cache
def _folders() -> dict[str, str]:
    found = {name: find_spec(name) for name in _PACKAGES}
    return {name: f"{Path(spec.origin).parent}{os.sep}" for name, spec in found.items() if spec and spec.origin}
