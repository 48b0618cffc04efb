#!/usr/bin/env python
"""Collect, for a machine without network, what it lacks to train: one folder that PYTHONPATH takes.

    python tools/pack_for_offline.py output/offline --python 3.12 --data camvid
    # on the other machine, in a copy of this repository:
    export PYTHONPATH=$PWD:/path/to/offline DETECTRON2_DATASETS=/path/to/offline/datasets
    python tools/gpu_report.py

The machine has Python, PyTorch with torchvision, NumPy, SciPy, OpenCV, numba, matplotlib, Pillow, PyYAML, tqdm and
packaging (and pytest, for the tests). What is collected are the Python part of Detectron2 and what it needs beside
those. pip downloads it here, for that Python, as it is configured here.

With --data a data set below DETECTRON2_DATASETS is copied: its JPEGs, and CamVid's photos in PNG, as JPEG of --quality,
everything else, such as labels, bit for bit. The folder stays below --limit megabytes, or nothing is written.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps

from epl_d2.commands import command
from epl_d2.data.datasets.layout import refuse_loop

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / "requirements"
# Plain Python, which serves every version. The versions are those of requirements/base.txt, and for what only others
# need, these.
PURE = ("fvcore", "iopath", "yacs", "omegaconf", "hydra-core", "cloudpickle", "tabulate", "termcolor")
ALSO = ("antlr4-python3-runtime==4.9.3", "portalocker==3.2.0")
# Built for one version of Python and one platform.
COMPILED = ("pycocotools",)
PLATFORMS = tuple(f"manylinux{name}" for name in ("_2_28", "_2_17", "2014"))
CAMVID_SPLITS = ("train", "val", "test")  # its folders of photos, which it reads as PNG or JPEG
README = """\
Python packages and data that epl_d2 needs on a machine without network, for Python {python} on {machine}.

    export PYTHONPATH=/path/to/epl_d2:{folder} DETECTRON2_DATASETS={folder}/datasets
"""


class PackingError(Exception):
    """Nothing was written, and why."""


@command
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder to write; it must not exist")
    parser.add_argument("--python", default="3.12", help="version on the other machine (%(default)s)")
    parser.add_argument(
        "--machine", default="x86_64", choices=["x86_64", "aarch64"], help="its processor (%(default)s)"
    )
    parser.add_argument("--data", help="data set to copy: a folder below DETECTRON2_DATASETS, such as camvid")
    parser.add_argument("--quality", type=int, default=85, help="of its JPEGs, 1 to 95 (%(default)s)")
    parser.add_argument("--limit", type=float, default=55, metavar="MB", help="of the folder (%(default)g)")
    args = parser.parse_args()
    if not re.fullmatch(r"3\.(10|11|12)", args.python):
        parser.error(f"--python is {args.python!r}; it may be 3.10, 3.11 or 3.12")
    if not 1 <= args.quality <= 95:
        parser.error(f"--quality is {args.quality}; it may be 1 to 95")
    pack(args.output, args.python, args.machine, args.data, args.quality, args.limit)
    return 0


def pack(output: Path, python: str, machine: str, data: str | None, quality: int, limit: float) -> None:
    """Write the folder, whole or not at all.

    Raises:
        PackingError: what is in the way.
        ValueError: a link within the data leads back to a folder that holds it.
    """
    if output.exists():
        raise PackingError(f"{output} exists; remove it, or name another folder")
    if data and (Path(data).is_absolute() or ".." in Path(data).parts):
        # What is copied would lie outside the new folder, or over its source.
        raise PackingError(f"--data is {data}; it must name a folder below DETECTRON2_DATASETS, such as camvid")
    source = data and Path(os.environ.get("DETECTRON2_DATASETS", "datasets")) / data
    if source and not source.is_dir():
        raise PackingError(f"--data {data}: {source} is no folder (DETECTRON2_DATASETS is the folder above it)")
    partial = output.with_name(f"{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        collect_packages(partial, python, machine)
        check_compiled(partial, python)
        packages = megabytes(partial)
        if source:
            copy_pictures(source, partial / "datasets" / data, quality)
        text = README.format(python=python, machine=machine, folder=f"/path/to/{output.name}")
        (partial / "README.txt").write_text(text)
        size = megabytes(partial)
        if size >= limit:
            raise PackingError(
                f"{size:.1f} MB ({packages:.1f} of them packages), and --limit is {limit:g}: a smaller --quality, "
                "photos in JPEG or no --data makes it smaller"
            )
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(f"{output}: {size:.1f} MB, of which packages {packages:.1f}")


def collect_packages(folder: Path, python: str, machine: str) -> None:
    """Install what is missing into a folder."""
    pinned = pinned_versions()
    there = ["--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
    for platform in PLATFORMS:
        there += ["--platform", f"{platform}_{machine}"]
    pip(folder, [*there, *(f"{name}=={pinned[name]}" for name in COMPILED)])
    pip(folder, [*(f"{name}=={pinned[name]}" for name in PURE), *ALSO])
    # Tagged for Python 3.10, of which only the plain part is taken, as requirements/install.sh does.
    hashed = ["--require-hashes", "--only-binary=:all:", "--python-version", "3.10"]
    pip(folder, [*hashed, "-r", str(REQUIREMENTS / "detectron2.txt")])
    for name in ("tools", "bin", "detectron2/tracking", "detectron2/model_zoo/configs"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for path in folder.glob("detectron2/_C*.so"):
        path.unlink()
    for path in list(folder.rglob("__pycache__")):
        shutil.rmtree(path)


def pinned_versions() -> dict[str, str]:
    """Package -> version of requirements/base.txt; of those with markers the last."""
    lines = (REQUIREMENTS / "base.txt").read_text(encoding="utf-8").splitlines()
    return dict(re.match(r"([\w.-]+)==([\w.]+)", line).groups() for line in lines if "==" in line.split("#")[0])


def pip(folder: Path, arguments: Sequence[str]) -> None:
    """pip install into a folder, without what the packages depend on."""
    options = ["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--upgrade", "--no-compile"]
    command = [sys.executable, "-m", "pip", *options, "--target", str(folder), *arguments]
    if subprocess.run(command, check=False).returncode:
        raise PackingError(f"pip could not install {' '.join(arguments)}; what it says stands above")


def check_compiled(folder: Path, python: str) -> None:
    """Raise PackingError if a compiled file is for another Python."""
    tags = f".cpython-{python.replace('.', '')}-", ".abi3."
    files = [path for path in folder.rglob("*.so") if not any(tag in path.name for tag in tags)]
    wrong = [path.relative_to(folder).as_posix() for path in files]
    if wrong:
        raise PackingError(f"{', '.join(wrong)} cannot be loaded by Python {python}")


def copy_pictures(source: Path, target: Path, quality: int) -> None:
    """Copy a tree: JPEGs and the photos of CamVid become JPEGs of a quality, everything else stays as it is.

    Other PNGs may be labels in color, or stand by their names in lists and JSON files. What links lead to is copied.

    Raises:
        ValueError: a link leads back to a folder that holds it.
    """
    photos = [source / split for split in CAMVID_SPLITS] if source.name == "camvid" else []
    for path in everything_below(source):
        copy = target / path.relative_to(source)
        if path.is_dir():
            copy.mkdir(parents=True, exist_ok=True)
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        png = path.suffix.lower() == ".png" and path.parent in photos
        if png or path.suffix.lower() in (".jpg", ".jpeg"):
            with Image.open(path) as image:
                if image.mode in ("RGB", "RGBA"):
                    # Without EXIF a photo must lie as it is shown, which is how it fits its label.
                    upright = ImageOps.exif_transpose(image).convert("RGB")
                    upright.save(copy.with_suffix(".jpg") if png else copy, quality=quality, optimize=True)
                    continue
        shutil.copyfile(path, copy)


def everything_below(folder: Path) -> list[Path]:
    """Folders and files, also those behind links to folders, which `rglob` leaves out."""
    found = []
    for parent, subfolders, files in os.walk(folder, followlinks=True):
        for subfolder in subfolders:
            refuse_loop(parent, subfolder)
        found += [Path(parent, name) for name in (*subfolders, *files)]
    return sorted(found)


def megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


if __name__ == "__main__":
    sys.exit(main())
