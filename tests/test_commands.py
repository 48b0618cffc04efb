"""What a user sees of every command before it does anything."""

import argparse
import ast
import os
import re
import runpy
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from epl_d2.commands import add_overrides

ROOT = Path(__file__).parents[1]
COMMANDS = sorted(path for folder in (".", "tools", "demo", "datasets") for path in ROOT.joinpath(folder).glob("*.py"))
QUIET = "epl_d2.quiet_detectron2"
# Names of the package that load Detectron2 when they are asked for.
LAZY = {f"epl_d2.{name}" for name in ("Predictor", "add_epl_config", "get_cfg", "model_zoo", "modeling", "register")}


@cache
def imports_in_order(path: Path, *, lazy: bool) -> list[str]:
    """Absolute names of the modules that a file imports, where `lazy` those inside functions as well."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            skipped |= set(ast.walk(node))
        if isinstance(node, ast.FunctionDef | ast.Lambda) and not lazy:
            skipped |= set(ast.walk(node))
    package = path.relative_to(ROOT).parts[:-1]
    names = []
    for node in sorted(set(ast.walk(tree)) - skipped, key=lambda node: getattr(node, "lineno", 0)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *filter(None, [node.module])))
            names += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return names


@cache
def loads_detectron2(name: str) -> bool:
    """Whether importing a module, or a name of the package, loads Detectron2 or fvcore."""
    waiting, seen = [name], set()
    while waiting:
        name = waiting.pop()
        if name.split(".")[0] in ("detectron2", "fvcore") or name in LAZY:
            return True
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            file = ROOT.joinpath(*parts[:end])
            for path in {file.with_suffix(".py"), file / "__init__.py"} - seen:
                seen.add(path)
                if parts[0] == "epl_d2" and path.exists():
                    waiting += imports_in_order(path, lazy=False)
    return False


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.name)
def test_a_command_imports_detectron2_quietly_or_not_at_all(path):
    names = imports_in_order(path, lazy=True)
    first = next((name for name in names if loads_detectron2(name)), QUIET)
    assert first == QUIET, f"{first} comes before {QUIET}"


def test_the_warnings_of_the_import_are_gone_and_no_others():
    code = """
import runpy, sys
sys.argv = ["train_net.py", "--help"]
try:
    runpy.run_path("train_net.py", run_name="__main__")
except SystemExit:
    pass
print("of the command", file=sys.stderr)
import torch
torch.jit.script(torch.nn.Identity())
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    before, after = done.stderr.split("of the command")
    assert before.strip() == ""
    assert len(re.findall("torch.jit.script. is deprecated", after)) == 1


def test_overrides_follow_an_option_of_several_values_after_two_dashes():
    parser = argparse.ArgumentParser()
    parser.add_argument("--widths", type=int, nargs="+", default=[9])
    parser.add_argument("--size", type=int)
    add_overrides(parser)
    assert "-- before them" in " ".join(parser.format_help().split())
    for arguments, widths, opts in [
        ("--widths 3 1 -- A.B x", [3, 1], ["A.B", "x"]),
        ("--widths 3 1 --size 4 A.B x", [3, 1], ["A.B", "x"]),
        ("A.B -1 C --", [9], ["A.B", "-1", "C", "--"]),
        ("-- A.B x", [9], ["A.B", "x"]),
        ("--widths 3", [3], []),
        ("", [9], []),
    ]:
        parsed = parser.parse_args(arguments.split())
        assert (parsed.widths, parsed.opts) == (widths, opts)


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.name)
def test_overrides_without_an_option_of_their_own_are_taken_alike(path):
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    rest = [ast.unparse(call.args[0]) for call in calls if "argparse.REMAINDER" in map(ast.unparse, values_of(call))]
    assert set(rest) <= {"'--opts'"}, "use add_overrides of epl_d2.commands"


def values_of(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(keyword.value for keyword in call.keywords)]


# What takes longer than ten seconds at its defaults, and is not Detectron2's evaluation, which says where it is.
SLOW = (
    *("tools/analyze_gradients.py", "tools/analyze_ignored.py", "tools/analyze_model.py", "tools/benchmark_data.py"),
    *("tools/benchmark_evaluation.py", "tools/benchmark_inference.py", "tools/benchmark_losses.py"),
    *("tools/find_loss_weights.py", "datasets/prepare_shapes.py"),
)


@pytest.mark.parametrize("name", SLOW)
def test_what_is_slow_shows_its_progress_on_a_terminal_alone(name):
    nodes = ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8")))
    calls = [
        node for node in nodes if isinstance(node, ast.Call) and "tqdm" in map(ast.unparse, [node.func, *node.args])
    ]
    assert calls
    for call in calls:
        settings = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert settings.get("disable") == "None" and "unit" in settings


def test_the_generated_scenes_are_counted_as_they_are_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["prepare_shapes.py", "--root", str(tmp_path), "--train", "3", "--val", "2"])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(ROOT / "datasets" / "prepare_shapes.py"), run_name="__main__")
    shown = capsys.readouterr().err
    assert "3/3 [" in shown and "2/2 [" in shown
