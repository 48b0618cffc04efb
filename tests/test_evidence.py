"""The tables of docs/evidence.md, and those of the README and the model zoo on its runs, are those of the counts."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRINTED = {"F": "BF", "micro-F": "BF-micro", "trimap": "Trimap-mIoU", "Boundary IoU": "Boundary-IoU"}
DOCUMENTS = {"README.md": "## Results so far", "MODEL_ZOO.md": "## .*a whole schedule", "docs/evidence.md": ""}
NUMBER = r"[+-]?\d+\.\d\d"


def tables_of(text: str) -> list[tuple[list[str], list[list[str]]]]:
    """(header, rows) of every table of a Markdown text."""
    tables = []
    for block in re.findall(r"(?:^ *\|.*\n)+", text, re.MULTILINE):
        lines = [line.strip().strip("|").split("|") for line in block.splitlines()]
        header, _, *rows = ([cell.strip() for cell in line] for line in lines)
        tables.append((header, rows))
    return tables


def named_as_printed(column: str) -> str | None:
    """The name of a metric in the documents, F@3 or F@3px, as compare_counts.py prints it; None for other columns."""
    if "@" not in column:
        return "mIoU" if column == "mIoU" else None
    name, _, width = column.partition("@")
    return f"{PRINTED[name]}@{width.removesuffix('px')}px"


def values(cell: str) -> list[str]:
    """What a cell holds: a difference or mean with its interval, a mean alone, the differences of several seeds."""
    return re.findall(rf"{NUMBER} \[{NUMBER}, {NUMBER}\]|{NUMBER} ± {NUMBER}|{NUMBER}", cell)


def sections_with_scores() -> dict[str, str]:
    """The sections of docs/evidence.md, and those of the README and the model zoo on the same runs, by headings."""
    found = {}
    for document, headings in DOCUMENTS.items():
        text = (ROOT / document).read_text(encoding="utf-8")
        for section in re.split(r"^(?=## )", text, flags=re.MULTILINE):
            if "| mIoU |" in section and re.match(headings, section):
                found[f"{document}, {section.splitlines()[0]}"] = section
    return found


@pytest.fixture(scope="module")
def printed() -> list[dict[str, str]]:
    """The rows that docs/evidence/tables.sh prints, metric -> value; those of means once more without intervals."""
    finished = subprocess.run(
        ["sh", str(ROOT / "docs/evidence/tables.sh")],
        env={**os.environ, "PYTHON": sys.executable, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    whole = [dict(zip(header, row, strict=True)) for header, rows in tables_of(finished.stdout) for row in rows]
    return whole + [{metric: cell.split(" ± ")[0] for metric, cell in row.items()} for row in whole]


@pytest.mark.slow
def test_every_row_of_a_table_comes_from_the_stored_counts(printed):
    sections = sections_with_scores()
    assert {title.split(",")[0] for title in sections} == {*DOCUMENTS}
    for title, section in sections.items():
        checked = 0
        for header, rows in tables_of(section):
            for row in rows:
                metrics = {named_as_printed(column): values(cell) for column, cell in zip(header, row, strict=True)}
                metrics.pop(None, None)
                # A cell with the differences of several seeds is as many rows.
                for seed in zip(*metrics.values(), strict=True):
                    wanted = dict(zip(metrics, seed, strict=True))
                    assert any(wanted.items() <= found.items() for found in printed), f"{title}: {row[0]}, {wanted}"
                    checked += 1
        assert checked >= 3, title
