"""Packaging of epl_d2. Detectron2, which PyPI does not have under its own name, is not declared: see INSTALL.md."""

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent

# Boundary metrics of label maps.
EVAL = [
    "matplotlib",
    "opencv-python>=4.8,<6",
    "pillow",
    "pycocotools",
    "pyyaml",  # data sets of your own
    "tabulate",
]
# Models and training; the second half is what Detectron2 itself needs.
TRAIN = [
    *EVAL,
    "fvcore",
    "scipy",
    "submitit",  # tools/run_grid.py
    "tqdm",
    "cloudpickle",
    "hydra-core",
    "iopath",
    "omegaconf",
    "packaging",
    "setuptools<81",  # for its pkg_resources
    "tensorboard",
    "termcolor",
    "torchvision",
    "yacs",
]
EXPORT = ["onnx", "onnxruntime"]
TEST = [*TRAIN, *EXPORT, "build", "hypothesis", "pytest", "pytest-xdist", "torchmetrics", "wheel"]


class BuildWithConfigs(build_py):
    """Puts configs/ into a wheel as `epl_d2/model_zoo/configs`; an editable installation reads them in their place."""

    def run(self) -> None:
        super().run()
        for source, target in () if self.editable_mode else self._configs():
            target.parent.mkdir(parents=True, exist_ok=True)
            self.copy_file(str(source), str(target))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        configs = () if self.editable_mode else self._configs()
        return [*super().get_outputs(include_bytecode), *(str(target) for _, target in configs)]

    def _configs(self) -> list[tuple[Path, Path]]:
        """File of the repository -> file of the wheel; grids are for tools/run_grid.py, which is not in a wheel."""
        folder = ROOT / "configs"
        files = (path.relative_to(folder) for path in sorted(folder.rglob("*.yaml")))
        target = Path(self.build_lib, "epl_d2", "model_zoo", "configs")
        return [(folder / path, target / path) for path in files if path.parts[0] != "grids"]


def version() -> str:
    text = (ROOT / "epl_d2" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE).group(1)


setup(
    name="epl_d2",
    version=version(),
    description="Contour-aware Equipotential Learning (EPL) for semantic segmentation in Detectron2",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["epl_d2", "epl_d2.*"]),
    package_data={"epl_d2": ["py.typed"], "epl_d2.model_zoo": ["checkpoints/**/*.pth", "checkpoints/**/*.md"]},
    cmdclass={"build_py": BuildWithConfigs},
    python_requires=">=3.10,<3.13",
    install_requires=["torch>=2.3", "numpy>=1.24,<3", "numba"],  # the losses, which name torch.uint16
    extras_require={
        "eval": EVAL,
        "metrics": [*EVAL, "torchmetrics"],
        "train": TRAIN,
        "export": EXPORT,
        "integrations": [
            *EVAL,
            *("accelerate", "lightning", "segmentation-models-pytorch", "torchmetrics", "torchvision", "transformers"),
        ],
        "wandb": ["wandb"],
        "test": TEST,
        "dev": [*TEST, "mypy", "ruff"],
    },
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
)
