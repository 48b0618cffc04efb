"""Breaks chosen lines of the wiring one at a time, in a copy of the repository, and shows that a test notices.

    make mutation                                  all of them
    python tests/mutation/run.py NAME ...          some of them
    python tests/mutation/run.py --list            what there is

A mutation that no test notices (a survivor) makes the script fail; so does one whose line is no longer there once.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from mutations import MUTATIONS, Mutation

REPOSITORY = Path(__file__).resolve().parents[2]
LEFT_OUT = (".git", ".venv", "output", "build", "*.egg-info", ".pytest_cache", ".ruff_cache")
TESTS_FAILED = 1  # pytest's exit codes; any other than 0 and this one means that it could not run them


def run_tests(folder: Path, tests: Sequence[str]) -> tuple[int, str]:
    """pytest's exit code and output, from the copy in `folder`."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    finished = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return finished.returncode, finished.stdout + finished.stderr


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
    return "" if code == TESTS_FAILED else f"the tests could not be run:\n{output}"


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
