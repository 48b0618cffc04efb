"""How the counting kernels are compiled, and the three bit operations that Numba lacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba.extending import intrinsic


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function`` with Numba: without the interpreter lock, kept on disk between runs.

    Numba writes beside the source file, else into the user's cache folder, or where ``NUMBA_CACHE_DIR`` says.
    Where none of them can be written the kernel is compiled once in every process instead, all of them in a
    few seconds.
    """
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # Numba: "no locator available for file ..."
        return numba.njit(nogil=True)(function)


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
