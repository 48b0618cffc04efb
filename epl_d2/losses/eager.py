"""What `torch.compile` leaves alone."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

Function = TypeVar("Function", bound=Callable[..., Any])


def not_compiled(function: Function) -> Function:
    """`torch.compiler.disable`, whose own annotations lose those of the function.

    Where a compiled model calls `function`, its graph ends and another begins behind it: the compiled kernels of the
    losses work on memory and sizes that no graph knows.
    """
    return cast(Function, torch.compiler.disable(function))
