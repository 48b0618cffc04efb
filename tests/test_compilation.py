"""Compiled kernels: bit operations, the cache on disk, and working where nothing can be cached."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
from numba.core.caching import IndexDataCacheFile

from epl_d2.compilation import _Cache, compiled, count_ones, lowest_bit, zeros_above


@compiled
def all_three(word):
    return count_ones(word), lowest_bit(word), zeros_above(word)


def test_bit_operations():
    rng = np.random.default_rng(0)
    words = [
        1,
        1 << 63,
        (1 << 64) - 1,
        *(int(word) >> int(shift) | 1 << 5 for word, shift in rng.integers(0, 63, (50, 2))),
    ]
    words += [int(word) for word in rng.integers(1, 1 << 64, 50, dtype=np.uint64)]
    for word in words:
        digits = f"{word:064b}"
        expected = digits.count("1"), 63 - digits.rindex("1"), digits.index("1")
        assert tuple(map(int, all_three(np.uint64(word)))) == expected


def test_a_function_that_cannot_be_cached_is_compiled_all_the_same():
    namespace: dict[str, object] = {}
    exec("def double(number):\n    return 2 * number", namespace)  # has no file beside which a cache could lie
    double = compiled(namespace["double"])
    assert double(21) == 42
    assert double.signatures


@pytest.fixture
def kernel_file(tmp_path, monkeypatch):
    """A module with one kernel, which is cached beside it."""
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(_Cache, "_said", False)
    (tmp_path / "kernels.py").write_text("def double(number):\n    return 2 * number\n")

    def fresh():
        specification = importlib.util.spec_from_file_location("kernels", tmp_path / "kernels.py")
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        return compiled(module.double)

    return fresh, tmp_path / "__pycache__"


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
def test_a_damaged_cache_is_said_once_and_replaced(kernel_file, caplog, ending):
    fresh, folder = kernel_file
    assert fresh()(21) == 42
    (file,) = folder.glob(f"*.{ending}")
    file.write_bytes(file.read_bytes()[:40])
    for _ in range(2):
        kernel = fresh()
        assert kernel(21) == 42
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1 and f"Numba's cache in {folder} cannot be used" in said[0]
    assert sum(kernel.stats.cache_hits.values()) == 1  # the second one found a whole cache


def test_a_full_disk_below_the_cache_is_said_once(kernel_file, caplog, monkeypatch):
    fresh, folder = kernel_file

    def full(self, *arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(IndexDataCacheFile, "save", full)
    assert fresh()(21) == fresh()(21) == 42
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1 and str(folder) in said[0] and "No space left on device" in said[0]


@pytest.mark.slow
def test_a_second_run_compiles_nothing(tmp_path):
    code = (
        "import numpy as np\n"
        "from epl_d2.evaluation import BoundaryStatistics, boundary_iou, confusion, contours, trimap\n"
        "BoundaryStatistics(2, [1, 2]).update(np.eye(9, dtype=np.uint8), np.eye(9, dtype=np.uint8)[::-1])\n"
        "kernels = [value for module in (boundary_iou, confusion, contours, trimap)\n"
        "           for value in vars(module).values() if hasattr(value, 'stats') and value.signatures]\n"
        "print(len(kernels), sum(bool(kernel.stats.cache_hits) for kernel in kernels))\n"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    for run in range(2):
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        kernels, cached = map(int, done.stdout.split())
        assert kernels >= 8 and cached == (kernels if run else 0)
