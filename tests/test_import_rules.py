"""Imports point one way: losses <- modeling <- engine; data and evaluation know no model; the pure parts stay pure."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "epl_d2"
# What stands on top of the others: imported by the tools alone, and lazily by the package itself.
TOP = ("epl_d2.experiments", "epl_d2.export", "epl_d2.inference")
# Folder of the package -> prefixes of modules that its files may not import.
FORBIDDEN = {
    "losses": (
        *("detectron2", "fvcore", "cv2", "epl_d2.config", "epl_d2.modeling", "epl_d2.engine", "epl_d2.data"),
        *("epl_d2.evaluation", "epl_d2.visualization", *TOP),
    ),
    "contours": ("torch", "detectron2", "epl_d2.config", "epl_d2.data", "epl_d2.losses", "epl_d2.modeling", *TOP),
    "evaluation": ("epl_d2.modeling", "epl_d2.engine", "epl_d2.losses", *TOP),
    "data": ("epl_d2.modeling", "epl_d2.engine", "epl_d2.losses", "epl_d2.evaluation", *TOP),
    "modeling": ("epl_d2.engine", "epl_d2.data", "epl_d2.evaluation", *TOP),
    "engine": TOP,
    "visualization": ("detectron2", "epl_d2.modeling", "epl_d2.engine", *TOP),
    "checkpoint": ("epl_d2.modeling", "epl_d2.engine", *TOP),
}
FILES = sorted(path for folder in FORBIDDEN for path in (PACKAGE / folder).rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    """Absolute names of the modules that a file imports anywhere."""
    package = path.relative_to(PACKAGE.parent).with_suffix("").parts[:-1]
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *(node.module or "").split("."))).strip(".")
            names.add(module)
            names.update(f"{module}.{alias.name}" for alias in node.names)
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_file_imports_against_the_rules(path):
    forbidden = FORBIDDEN[path.relative_to(PACKAGE).parts[0]]
    wrong = {n for n in imports_of(path) for prefix in forbidden if n == prefix or n.startswith(prefix + ".")}
    assert not wrong


def run_python(code: str, **environment: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


BLOCK_DETECTRON2 = """
import sys
from importlib.abc import MetaPathFinder
class Block(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "detectron2":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == "detectron2" else real(name, *a)
"""


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("epl_d2.losses", ("detectron2",)),
        ("epl_d2.evaluation", ("detectron2", "torch")),
        ("epl_d2.visualization", ("detectron2", "torch")),
        ("epl_d2.data.label_io", ("detectron2", "torch")),
        ("epl_d2.data.datasets.metadata", ("detectron2", "torch")),
        ("epl_d2.data.shapes", ("detectron2", "torch")),
        ("epl_d2.experiments.launch", ("detectron2", "torch")),
        ("epl_d2.experiments.results", ("detectron2", "torch")),
    ],
)
def test_pure_parts_load_neither_detectron2_nor_what_else_they_do_not_need(module, unwanted):
    code = f"import sys, {module}; print([m for m in {unwanted!r} if m in sys.modules])"
    assert run_python(code, EPL_D2_STANDALONE="1").strip() == "[]"


def test_losses_work_where_detectron2_is_not_installed():
    code = BLOCK_DETECTRON2 + (
        "import torch, epl_d2\n"
        "from epl_d2.losses import EPLLoss\n"
        "losses = EPLLoss()(torch.zeros(1, 3, 8, 8), torch.zeros(1, 8, 8, dtype=torch.long))\n"
        "print(sorted(losses))\n"
        "try:\n    epl_d2.get_cfg\nexcept ImportError as error:\n    print(error)\n"
    )
    output = run_python(code)
    assert "['loss_epl_line', 'loss_epl_point']" in output
    assert "epl_d2.get_cfg needs detectron2" in output


def test_importing_the_package_registers_everything():
    code = (
        "import epl_d2\n"
        "from detectron2.data import DatasetCatalog\n"
        "from detectron2.modeling import BACKBONE_REGISTRY, SEM_SEG_HEADS_REGISTRY\n"
        "names = set(DatasetCatalog.list())\n"
        "assert {'camvid_sem_seg_train', 'camvid_sem_seg_val', 'camvid_sem_seg_test'} <= names\n"
        "assert {'voc_2012_sem_seg_train', 'voc_2012_sem_seg_train_aug', 'voc_2012_sem_seg_val'} <= names\n"
        "assert {'cityscapes_fine_sem_seg_train', 'cityscapes_fine_sem_seg_val'} <= names\n"
        "assert 'MobileNetV2' in BACKBONE_REGISTRY\n"
        "for head in ('EPLSemSegFPNHead', 'EPLDeepLabV3Head', 'EPLDeepLabV3PlusHead'):\n"
        "    assert head in SEM_SEG_HEADS_REGISTRY\n"
    )
    run_python(code)


def test_setup_does_not_import_torch():
    tree = ast.parse((PACKAGE.parent / "setup.py").read_text(encoding="utf-8"))
    modules = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    modules |= {alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
    assert modules == {"re", "pathlib", "setuptools"}
