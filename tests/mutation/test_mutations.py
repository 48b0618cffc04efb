"""The list of mutations is true: each line is where it is said to be, once, and its tests exist."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def mutations():
    spec = importlib.util.spec_from_file_location("mutations", Path(__file__).with_name("mutations.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.MUTATIONS


@pytest.mark.parametrize("mutation", mutations(), ids=lambda mutation: mutation.name)
def test_its_line_occurs_once_and_its_tests_exist(mutation):
    assert (ROOT / mutation.file).read_text(encoding="utf-8").count(mutation.old) == 1
    assert mutation.new != mutation.old
    for test in mutation.tests:
        path, _, name = test.partition("::")
        text = (ROOT / path).read_text(encoding="utf-8")
        assert not name or f"def {name.partition('[')[0]}(" in text, test


def test_names_are_unique():
    names = [mutation.name for mutation in mutations()]
    assert len(set(names)) == len(names)
