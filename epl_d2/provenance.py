"""Which code and which device a result comes from."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

__all__ = ["describe_commit", "describe_device", "sha256_of_file"]


def describe_commit(root: Path) -> dict[str, str | bool]:
    """`commit` (12 digits, "unknown" outside of git) and `dirty`: whether the work tree differs from it."""
    try:
        commit = _git(root, "rev-parse", "HEAD").strip()[:12]
        return {"commit": commit, "dirty": bool(_git(root, "status", "--porcelain").strip())}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": "unknown", "dirty": False}


def describe_device(cuda: bool, threads: int, environment: Mapping[str, str]) -> str:
    """The GPU that a training with `environment` uses, or the CPU and the number of threads."""
    if cuda and environment.get("CUDA_VISIBLE_DEVICES") != "":
        try:
            command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
            wanted = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")[0]
            if wanted:
                command += ["--id", wanted]
            finished = subprocess.run(command, capture_output=True, text=True, check=True)
            return finished.stdout.splitlines()[0].strip()
        except (OSError, subprocess.CalledProcessError, IndexError):
            pass  # no NVIDIA GPU: the training fell back to the CPU
    return f"{_cpu_name()}, {threads} thread{'s' if threads > 1 else ''}"


def sha256_of_file(path: str | os.PathLike) -> str:
    """Hex digest of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _cpu_name() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def _git(root: Path, *arguments: str) -> str:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # `git status` would refresh the index of a tree in use
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
