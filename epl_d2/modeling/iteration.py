"""Where the running training stands."""

from __future__ import annotations

from detectron2.utils.events import get_event_storage

__all__ = ["current_iteration"]


def current_iteration() -> int | None:
    """Iteration of the running trainer; None outside of one."""
    try:
        return get_event_storage().iter
    except AssertionError:
        return None
