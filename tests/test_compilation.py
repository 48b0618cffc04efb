"""Compiled kernels: bit operations, the cache on disk, and working where nothing can be cached."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from epl_d2.compilation import compiled, count_ones, lowest_bit, zeros_above


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
