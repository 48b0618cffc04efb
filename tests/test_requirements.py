"""The versions that setup.py admits."""

import itertools
import runpy
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def requirements_of(setup: Path) -> dict[str, Requirement]:
    """Name -> requirement, of the package itself and of the extras that requirements/base.txt installs."""
    given = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", given.update)
        runpy.run_path(str(setup))
    extras = (given["extras_require"][extra] for extra in ("eval", "train", "export", "test", "dev"))
    requirements = map(Requirement, itertools.chain(given["install_requires"], *extras))
    return {requirement.name: requirement for requirement in requirements}


def pinned_versions() -> dict[str, str]:
    lines = (ROOT / "requirements" / "base.txt").read_text(encoding="utf-8").splitlines()
    pinned = (line.partition(";")[0].strip().partition("==") for line in lines if "==" in line)
    return {name: version for name, _, version in pinned}


@pytest.mark.parametrize(
    ("name", "versions"), [("numpy", ("1.24.0", "2.0.0", "2.4.6")), ("opencv-python", ("4.8.0.74", "5.0.0.90"))]
)
def test_both_majors_are_admitted_and_the_next_is_not(name, versions):
    specifier = requirements_of(ROOT / "setup.py")[name].specifier
    assert all(specifier.contains(version) for version in versions)
    assert not specifier.contains(f"{int(versions[-1][0]) + 1}.0.0")


def test_no_torch_is_admitted_that_lacks_the_types_that_the_losses_name():
    """torch.uint16, uint32 and uint64 came with 2.3."""
    specifier = requirements_of(ROOT / "setup.py")["torch"].specifier
    assert specifier.contains("2.3.0") and not specifier.contains("2.2.2")


def test_the_pinned_versions_are_admitted():
    pinned = pinned_versions()
    for name, requirement in requirements_of(ROOT / "setup.py").items():
        assert requirement.specifier.contains(pinned[name]), name
