"""The printed tables: nothing is lost, and no line is wider than a terminal."""

import numpy as np
import pytest

from epl_d2.data.datasets.metadata import DATASETS
from epl_d2.evaluation import BoundaryStatistics
from epl_d2.evaluation.report import class_table, comparison_table, curves_record, format_table


@pytest.fixture(scope="module")
def record():
    classes = [*DATASETS["cityscapes"].classes[:-1], "a class with a name that is far too long for any table"]
    statistics = BoundaryStatistics(len(classes), range(1, 21))
    target = np.kron(np.random.default_rng(0).integers(0, 19, (8, 8)), np.ones((8, 8), int))
    statistics.update(np.roll(target, 1, axis=1), target)
    return curves_record(statistics, classes, "run")


@pytest.mark.parametrize("kind", ["classes", "runs"])
def test_a_table_is_at_most_100_columns_wide_and_holds_every_cell(record, kind):
    widths = (1, 3, 5, 9)
    rows = class_table(record, widths) if kind == "classes" else comparison_table([record, record], widths)
    blocks = format_table(rows).split("\n\n")
    assert all(len(line) <= 100 for block in blocks for line in block.splitlines())
    names = [line[0][:20] for line in rows[1:]]
    for row, cells in enumerate(rows[1:]):
        lines = [block.splitlines()[row + 1 - len(rows)] for block in blocks]
        assert all(line.startswith(names[row][:19]) for line in lines)
        values = [value for line in lines for value in line[max(map(len, names)) :].split()]
        assert values == cells[1:]


def test_the_widths_of_a_score_stay_together(record):
    first, second = format_table(class_table(record, (1, 3, 5, 9))).split("\n\n")
    assert first.splitlines()[2].split() == ["class", "IoU", "ACC", *("@1px", "@3px", "@5px", "@9px") * 2]
    assert second.splitlines()[1].split() == ["IoU"] * 8
