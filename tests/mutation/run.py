"""Breaks chosen lines of the wiring one at a time, in a copy of the repository, and shows that a test notices.

    make mutation                                  all of them
    python tests/mutation/run.py NAME ...          some of them
    python tests/mutation/run.py --list            what there is

A mutation that no test notices (a survivor) makes the script fail; so does one whose line is no longer there once.
Each is tried in a fork of this process, which has imported what takes long to import and nothing of epl_d2.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from mutations import MUTATIONS, Mutation

REPOSITORY = Path(__file__).resolve().parents[2]
LEFT_OUT = (".git", ".venv*", ".*_cache", "output", "build", "*.egg-info")
IMPORTED_ONCE = ("cv2", "detectron2.engine", "detectron2.projects.deeplab", "matplotlib.pyplot", "numba", "submitit")


def run_tests(folder: Path, tests: Sequence[str]) -> tuple[int | None, str]:
    """pytest's exit code and output, from the copy in `folder`."""
    log = folder.with_name("log.txt")
    process = multiprocessing.get_context("fork").Process(target=_run_pytest, args=(folder, tests, log))
    process.start()
    process.join()
    return process.exitcode, log.read_text(encoding="utf-8", errors="replace")


def _run_pytest(folder: Path, tests: Sequence[str], log: Path) -> None:
    with log.open("w") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True  # a mutated file and its original may have the same size and second
    os.environ.update(PYTHONPATH=str(folder), PYTHONDONTWRITEBYTECODE="1")
    code = pytest.main(["-q", "-x", "-p", "no:cacheprovider", *tests])
    sys.stdout.flush()
    os._exit(code)  # not by way of what this process inherited from the one that waits for it


def check(folder: Path, mutation: Mutation) -> str:
    """Why the tests of a mutation do not hold its line; "" if they do."""
    path = folder / mutation.file
    original = path.read_text(encoding="utf-8")
    if (found := original.count(mutation.old)) != 1:
        return f"{mutation.old!r} is found {found} times in {mutation.file}, expected once"
    path.write_text(original.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        code, output = run_tests(folder, mutation.tests)
    finally:
        path.write_text(original, encoding="utf-8")
    if code == 0:
        return f"SURVIVED: {' '.join(mutation.tests)} pass with {mutation.new!r} for {mutation.old!r}"
    return "" if code == pytest.ExitCode.TESTS_FAILED else f"the tests could not be run:\n{output}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutations to try; all if there are none")
    parser.add_argument("--list", action="store_true", help="print the names and what they break")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - {mutation.name for mutation in MUTATIONS}:
        parser.error(f"there is no mutation {', '.join(sorted(unknown))}; --list shows them")
    chosen = [mutation for mutation in MUTATIONS if not arguments.names or mutation.name in arguments.names]
    if arguments.list:
        for mutation in chosen:
            print(f"{mutation.name:34} {mutation.file}: {mutation.old!r} -> {mutation.new!r}")
        return 0

    os.environ["OMP_NUM_THREADS"] = "1"
    for module in IMPORTED_ONCE:
        importlib.import_module(module)
    with tempfile.TemporaryDirectory(prefix="epl_d2_mutation_") as temporary:
        folder = Path(temporary, "copy")
        shutil.copytree(REPOSITORY, folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
        code, output = run_tests(folder, sorted({test for mutation in chosen for test in mutation.tests}))
        if code != 0:
            print(output, "the tests do not pass as they are", sep="\n")
            return 1
        failures = 0
        for mutation in chosen:
            begin = time.perf_counter()
            problem = check(folder, mutation)
            failures += bool(problem)
            print(f"{mutation.name:34} {problem or 'noticed'} ({time.perf_counter() - begin:.0f} s)", flush=True)
    print(f"{len(chosen) - failures} of {len(chosen)} mutations noticed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
