"""How the counting kernels are compiled, and the three bit operations that Numba lacks."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any

import numba
from numba.core.caching import FunctionCache
from numba.extending import intrinsic


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function`` with Numba: without the interpreter lock, kept on disk between runs.

    Numba writes beside the source file, else into the user's cache folder, or where ``NUMBA_CACHE_DIR`` says.
    Where none of them can be written, or what lies there is damaged, the kernel is compiled once in every process
    instead, all of them in a few seconds.
    """
    kernel = numba.njit(nogil=True)(function)
    with contextlib.suppress(RuntimeError):  # Numba: "no locator available for file ..."
        kernel._cache = _Cache(function)
    return kernel


class _Cache(FunctionCache):
    """Numba's cache on disk, without which everything works: nothing that is wrong with it ends a run."""

    _said = False

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # a damaged file can make a reader raise anything
            self._say(error)
            with contextlib.suppress(OSError):
                self.flush()  # so that the next process finds a whole one
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception as error:
            self._say(error)

    def _say(self, error: Exception) -> None:
        """Once a process: kernels share a folder, and so their troubles."""
        if not _Cache._said:
            _Cache._said = True
            logging.getLogger(__name__).warning(
                f"Numba's cache in {self.cache_path} cannot be used ({type(error).__name__}: {error}): compiling "
                "without it, some seconds in every process. Remove that folder if the disk is not full"
            )


@intrinsic
def count_ones(_context, word):
    """Number of set bits of an unsigned 64-bit word."""

    def generate(_context, builder, _signature, arguments):
        return builder.ctpop(arguments[0])

    return word(word), generate


@intrinsic
def lowest_bit(_context, word):
    """Index of the lowest set bit of a non-zero unsigned 64-bit word."""

    def generate(context, builder, _signature, arguments):
        return builder.cttz(arguments[0], context.get_constant(numba.types.boolean, True))

    return word(word), generate


@intrinsic
def zeros_above(_context, word):
    """Number of zero bits above the highest set bit of a non-zero unsigned 64-bit word."""

    def generate(context, builder, _signature, arguments):
        return builder.ctlz(arguments[0], context.get_constant(numba.types.boolean, True))

    return word(word), generate
