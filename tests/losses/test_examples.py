"""The examples in the docstrings of the losses run as they stand."""

import doctest
import importlib
import pkgutil

import pytest
import torch

import epl_d2.losses

MODULES = [
    module.name
    for module in pkgutil.walk_packages(epl_d2.losses.__path__, "epl_d2.losses.")
    if ".triton" not in module.name  # not everywhere is there a Triton to import
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name), extraglobs={"torch": torch}).failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder()
    exported = [getattr(epl_d2.losses, name) for name in epl_d2.losses.__all__]
    for loss in exported:
        function = getattr(loss, "function", loss)
        assert any(test.examples for test in finder.find(function)), f"{function.__name__} has no example"
