"""Imports point one way: losses <- modeling <- engine; data and evaluation know no model; the pure parts stay pure."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "epl_d2"
# Libraries that not every part may load.
LIBRARIES = {"cv2", "detectron2", "fvcore", "numba", "torch", "torchmetrics"}
# Every part of the package (a folder, or a module beside the folders), from the ground up -> the other parts, and those
# of the libraries, that its files may import.
MAY_IMPORT = {
    "__init__": set(),
    "quiet_detectron2": {"detectron2", "fvcore"},
    "files": set(),
    "processes": set(),
    "commands": set(),
    "provenance": set(),
    "run_record": {"files", "provenance"},
    "compilation": {"numba"},
    "contours": {"compilation", "cv2"},
    "losses": {"compilation", "files", "torch"},
    "config": {"losses", "registration", "detectron2"},
    "data": {"config", "contours", "files", "cv2", "detectron2", "fvcore", "torch"},
    "evaluation": {"compilation", "contours", "data", "files", "processes", "cv2", "detectron2", "torch"},
    "metrics": {"contours", "evaluation", "torch", "torchmetrics"},
    "visualization": {"contours", "data", "files", "losses", "cv2", "torch"},
    "modeling": {"config", "contours", "losses", "detectron2", "fvcore", "torch"},
    "registration": {"data", "modeling", "detectron2"},
    "checkpoint": {"config", "files", "detectron2", "torch"},
    "engine": {
        *("checkpoint", "commands", "config", "data", "evaluation", "files", "modeling", "processes", "provenance"),
        *("run_record", "visualization", "detectron2", "torch"),
    },
    "model_zoo": {"checkpoint", "config", "engine", "detectron2", "torch"},
    "analysis": {"contours", "data", "evaluation", "losses", "detectron2", "fvcore", "torch"},
    "inference": {
        *("checkpoint", "data", "engine", "files", "model_zoo", "modeling", "visualization"),
        *("cv2", "detectron2", "torch"),
    },
    "export": {"files", "modeling", "torch"},
    "experiments": {
        *("analysis", "checkpoint", "config", "data", "engine", "evaluation", "files", "modeling", "processes"),
        *("provenance", "run_record", "detectron2", "torch"),
    },
}
# The one step back: a config registers what it names, by a call that imports the models when it is made.
CALLED = "registration"
FILES = sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports_of(path: Path) -> set[str]:
    """Absolute names of the modules that a file imports anywhere but for type checkers."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_checkers = [
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    skipped = {inner for node in for_checkers for inner in ast.walk(node)}
    names = set()
    for node in set(ast.walk(tree)) - skipped:
        names |= imported_by(node, package)
    return names


def imported_by(node: ast.AST, package: tuple[str, ...] = ()) -> set[str]:
    """Absolute names of the modules, and of what may be modules, that a statement in a file of `package` imports."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        base = package[: len(package) - node.level + 1] if node.level else ()
        module = ".".join((*base, *(node.module or "").split("."))).strip(".")
        return {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_file_imports_against_the_rules(path):
    part = part_of(path)
    assert part in MAY_IMPORT, "a new part of the package: say in MAY_IMPORT what it may import"
    for name in imports_of(path):
        library, _, inner = name.partition(".")
        imported = inner.partition(".")[0] if library == "epl_d2" else library
        if (library == "epl_d2" and imported not in ("", part)) or library in LIBRARIES:
            assert imported in MAY_IMPORT[part], name


def test_the_rules_point_one_way():
    above = set()
    for part, imported in MAY_IMPORT.items():
        above.add(part)
        assert imported <= above | LIBRARIES | {CALLED}, part
    tree = ast.parse((PACKAGE / f"{CALLED}.py").read_text(encoding="utf-8"))
    assert not [name for node in tree.body for name in imported_by(node, ("epl_d2",)) if name.startswith("epl_d2")]


def run_python(code: str) -> str:
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
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


def test_pure_parts_load_neither_detectron2_nor_torch_where_they_do_not_need_it():
    code = """
import importlib, sys
for name in ("", ".contours", ".files", ".evaluation", ".metrics", ".visualization", ".data.label_io",
             ".data.datasets.metadata", ".data.shapes", ".experiments.launch", ".experiments.results"):
    importlib.import_module("epl_d2" + name)
    assert not {"torch", "detectron2"} & set(sys.modules), name
"""
    run_python(code)
    run_python("import sys, epl_d2.losses; assert not {'detectron2', 'fvcore', 'cv2'} & set(sys.modules)")


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


def test_a_config_registers_everything_and_a_pure_part_nothing():
    code = """
import sys
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY
def registered():
    registries = BACKBONE_REGISTRY, META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY
    names = {name for registry in registries for name, _ in registry}
    return names, dict(DatasetCatalog), {name: MetadataCatalog.get(name).as_dict() for name in MetadataCatalog.list()}

before = registered()
import epl_d2, epl_d2.contours, epl_d2.data.label_io, epl_d2.evaluation, epl_d2.losses, epl_d2.visualization
assert registered() == before and "epl_d2.modeling" not in sys.modules

from epl_d2.config import add_epl_config
add_epl_config(get_cfg())
names, datasets, _ = registered()
assert {"camvid_sem_seg_train", "camvid_sem_seg_val", "camvid_sem_seg_test"} <= set(datasets)
assert {"voc_2012_sem_seg_train", "voc_2012_sem_seg_train_aug", "voc_2012_sem_seg_val"} <= set(datasets)
assert {"cityscapes_fine_sem_seg_train", "cityscapes_fine_sem_seg_val"} <= set(datasets)
assert {"MobileNetV2", "EPLSemanticSegmentor", "EPLSemSegFPNHead", "EPLDeepLabV3Head", "EPLDeepLabV3PlusHead"} <= names

# Below a folder of the user's they stay, whatever is called afterwards.
from epl_d2.data.datasets import register_all_datasets
register_all_datasets("/elsewhere")
epl_d2.register()
epl_d2.get_cfg()
assert MetadataCatalog.get("camvid_sem_seg_val").image_root.startswith("/elsewhere")
"""
    run_python(code)


def test_setup_does_not_import_torch():
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    modules = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    modules |= {alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
    assert {module.partition(".")[0] for module in modules} == {"re", "pathlib", "setuptools"}


def test_files_of_others_are_unpickled_in_one_place_alone():
    """Everywhere else PyTorch's and NumPy's readers take tensors and arrays, or nothing."""
    folders = [PACKAGE, ROOT / "tools", ROOT / "demo"]
    for path in [ROOT / "train_net.py", *(path for folder in folders for path in folder.rglob("*.py"))]:
        for call in (n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)):
            name, arguments = ast.unparse(call.func), {word.arg: ast.unparse(word.value) for word in call.keywords}
            assert name != "torch.load" or arguments.get("weights_only") == "True", path
            assert name not in ("np.load", "numpy.load") or arguments.get("allow_pickle", "False") == "False", path
            assert name not in ("pickle.load", "pickle.loads", "pickle.Unpickler", "joblib.load"), path
