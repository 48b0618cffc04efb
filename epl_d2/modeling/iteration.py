"""Where the running training stands."""

from __future__ import annotations

import math

from detectron2.utils.events import get_event_storage

__all__ = ["current_iteration"]


def current_iteration() -> float:
    """Iteration of the running trainer; outside of one the end of every schedule."""
    try:
        return get_event_storage().iter
    except AssertionError:
        return math.inf
