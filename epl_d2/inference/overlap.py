"""Reading ahead and writing behind: while the model works, the next picture is read and the last one written."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

__all__ = ["WriteBehind", "read_ahead"]

T = TypeVar("T")
_END: Any = object()


def read_ahead(items: Iterable[T], depth: int = 4) -> Iterator[T]:
    """Iterate over `items` in a thread, at most `depth` of them ahead.

    An error of the iterator is raised where its item would have come.
    """
    iterator = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as reader:
        pending = deque(reader.submit(next, iterator, _END) for _ in range(depth))
        try:
            while (item := pending.popleft().result()) is not _END:
                pending.append(reader.submit(next, iterator, _END))
                yield item
        finally:
            for future in pending:
                future.cancel()


class WriteBehind:
    """Runs functions in a thread, in the order in which they come; at most `depth` wait.

    An error of one is raised by a later `submit`, or at the end of the `with` block.
    """

    def __init__(self, depth: int = 4):
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="write-behind")
        self._pending: deque[Future[None]] = deque()
        self._depth = depth

    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        """Run `function(*args)` soon; waits if too many calls are pending."""
        while self._pending and (self._pending[0].done() or len(self._pending) >= self._depth):
            self._pending.popleft().result()
        self._pending.append(self._writer.submit(function, *args))

    def __enter__(self) -> WriteBehind:
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        try:
            while self._pending:
                self._pending.popleft().result()
        except Exception:
            if error_type is None:  # else the first error is the one to tell
                raise
        finally:
            self._writer.shutdown(cancel_futures=True)
