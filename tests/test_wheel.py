"""The wheel: built from the source archive, without a network, and imported away from the checkout."""

import os
import runpy
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement

import epl_d2

ROOT = Path(__file__).parents[1]
INFO = f"epl_d2-{epl_d2.__version__}.dist-info"
FILES = ["CITATION.cff", "LICENSE", "MANIFEST.in", "pyproject.toml", "setup.py", "train_net.py"]
DOCUMENTS = [path.name for path in ROOT.glob("*.md")]
FOLDERS = ["configs", "demo", "epl_d2", "tools"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with both archives, and below `site` what installing the wheel would copy."""
    folder, checkout = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("checkout")
    for name in (*FILES, *DOCUMENTS, *FOLDERS):  # a build writes beside setup.py
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, checkout / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(checkout)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "site")
    return folder


@pytest.fixture(scope="module")
def extras():
    """Extra -> names of its distributions."""
    given = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", given.update)
        runpy.run_path(str(ROOT / "setup.py"))
    return {extra: {Requirement(text).name for text in texts} for extra, texts in given["extras_require"].items()}


def contents(folder: Path, pattern: str) -> dict[str, bytes]:
    """Path below `folder` -> content, of the files that match."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob(pattern) if path.is_file()}


def test_the_wheel_holds_code_configs_and_models(built):
    package = built / "site" / "epl_d2"
    assert contents(package, "*.py") == contents(ROOT / "epl_d2", "*.py")
    configs = contents(ROOT / "configs", "*.yaml")
    wanted = {name: text for name, text in configs.items() if not name.startswith("grids/")}
    assert len(wanted) > 100
    assert contents(package / "model_zoo" / "configs", "*") == wanted
    models = contents(ROOT / "epl_d2" / "model_zoo" / "checkpoints", "*")
    assert contents(package / "model_zoo" / "checkpoints", "*") == models
    assert (package / "py.typed").is_file()
    assert {path.name for path in (built / "site").iterdir()} == {"epl_d2", INFO}


def test_wheel_and_source_archive_have_the_licence(built):
    licence = (ROOT / "LICENSE").read_bytes()
    assert b"Apache License" in licence and b"Version 2.0, January 2004" in licence
    assert licence in contents(built / "site" / INFO, "LICENSE").values()
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "CITATION.cff", "train_net.py", "configs/Base-SemSeg.yaml", "tools/run_grid.py"} <= names
    assert f"\nversion: {epl_d2.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


HIDE = """
import importlib.util, sys
from importlib.abc import MetaPathFinder
hidden = set({hidden!r})
class Hide(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hide())
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in hidden else find_spec(name, *rest)
import epl_d2
assert epl_d2.__file__.startswith({site!r}), epl_d2.__file__
"""


def run_wheel(built: Path, code: str, hidden: set[str] = frozenset()) -> str:
    """What `code` prints where the wheel is installed and some modules are not."""
    # PYTHONPATH comes before an editable installation of the checkout; the working directory is no checkout.
    environment = {**os.environ, "PYTHONPATH": str(built / "site"), "NUMBA_CACHE_DIR": str(built / "numba")}
    code = HIDE.format(hidden=sorted(hidden), site=str(built / "site")) + code
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=built, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def modules_beyond(extras: dict[str, set[str]], *installed: str) -> set[str]:
    """Top-level modules of the distributions that only the extras not `installed` have, and Detectron2."""
    kept = set().union(*(extras[extra] for extra in installed))
    dropped = {name.lower() for name in set().union(*extras.values()) - kept}
    dropped -= {"packaging", "setuptools", "pyyaml"}  # numba, torch and Python's own tools may need them
    owners = packages_distributions().items()
    return {"detectron2"} | {module for module, names in owners if {name.lower() for name in names} & dropped}


def test_the_losses_need_torch_numpy_and_numba_alone(built, extras):
    hidden = modules_beyond(extras)
    assert {"cv2", "scipy", "matplotlib", "PIL", "fvcore", "pycocotools", "tabulate"} <= hidden
    code = """
import torch
from epl_d2.losses import EPLLoss
logits = torch.randn(1, 3, 16, 16, requires_grad=True)
labels = torch.arange(16).expand(1, 16, 16) // 6
sum(EPLLoss()(logits, labels).values()).backward()
print(bool(logits.grad.abs().sum() > 0))
for name in ("get_cfg", "Predictor", "model_zoo"):
    try:
        getattr(epl_d2, name)
    except ImportError as error:
        print(error)
"""
    output = run_wheel(built, code, hidden)
    assert output.splitlines() == [
        "True",
        *(f"epl_d2.{name} needs detectron2, which is not installed (see INSTALL.md)" for name in
          ("get_cfg", "Predictor", "model_zoo")),
    ]  # fmt: skip


def test_label_metrics_need_the_extra_eval(built, extras):
    hidden = modules_beyond(extras, "eval")
    assert {"torchvision", "scipy", "fvcore"} <= hidden and not {"cv2", "PIL"} & hidden
    code = """
import numpy as np
from epl_d2.evaluation import BoundaryStatistics
from epl_d2.evaluation.report import write_report
labels = np.arange(24).reshape(1, 24).repeat(24, 0) // 9
statistics = BoundaryStatistics(3, [1, 2])
statistics.update(labels, labels)
print(statistics.compute()["mIoU"], "torch" in sys.modules)
"""
    assert run_wheel(built, code, hidden) == "1.0 False\n"


def test_configs_are_found_away_from_the_checkout(built):
    code = """
from epl_d2 import model_zoo
print(model_zoo.get_config_file("CamVid/semantic_fpn_R_50_epl.yaml"))
print(model_zoo.get_config("CamVid/semantic_fpn_R_50_epl.yaml").MODEL.SEM_SEG_HEAD.NAME)
"""
    file, head = run_wheel(built, code).splitlines()
    assert Path(file) == built / "site" / "epl_d2" / "model_zoo" / "configs" / "CamVid" / "semantic_fpn_R_50_epl.yaml"
    assert head == "EPLSemSegFPNHead"
