"""Packaging of epl_d2. Detectron2, which PyPI does not have under its own name, is not declared: see INSTALL.md."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def version() -> str:
    text = (ROOT / "epl_d2" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE).group(1)


setup(
    name="epl_d2",
    version=version(),
    description="Contour-aware Equipotential Learning (EPL) for semantic segmentation in Detectron2",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    packages=find_packages(include=["epl_d2", "epl_d2.*"]),
    python_requires=">=3.10,<3.13",
    install_requires=[
        "torch>=2.1",
        "numpy>=1.24,<3",
        "opencv-python>=4.8,<6",
        "fvcore",
        "pycocotools",
        "numba",
        "scipy",
        "matplotlib",
        "submitit",  # tools/run_grid.py
        "tabulate",
        "termcolor",
        "tqdm",
    ],
    extras_require={
        "export": ["onnx", "onnxruntime"],
        "metrics": ["torchmetrics"],
        "integrations": ["torchmetrics", "segmentation-models-pytorch", "transformers", "accelerate", "lightning"],
        "wandb": ["wandb"],
        "test": ["pytest", "pytest-xdist", "hypothesis", "onnx", "onnxruntime", "torchmetrics"],
        "dev": ["pytest", "pytest-xdist", "hypothesis", "onnx", "onnxruntime", "torchmetrics", "ruff"],
    },
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
