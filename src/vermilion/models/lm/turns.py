"""Taking turns: one thread at a time, in the order in which they ask."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition


class Turns:
    """A lock that is given to threads in the order in which they ask for it.

    A lock of Python's goes more often than not to the thread that has just let go of it. Here
    that thread stands at the end of the line, and one that is served in the meantime leaves it.
    """

    def __init__(self) -> None:
        self._line: deque[object] = deque()  # whoever stands first has its turn
        self._news = Condition()

    @contextmanager
    def take(self, served: Callable[[], bool] = lambda: False) -> Iterator[bool]:
        """Wait for a turn, or until `served` says that it is not needed; whether this is one."""
        ticket = object()
        try:
            with self._news:
                self._line.append(ticket)
                self._news.wait_for(lambda: self._line[0] is ticket or served())
                mine = self._line[0] is ticket
            yield mine
        finally:
            self._leave(ticket)

    @contextmanager
    def take_if_free(self) -> Iterator[bool]:
        """A turn, if nobody has one or waits for one; whether this is one. Never waits."""
        ticket = object()
        try:
            with self._news:
                free = not self._line
                if free:
                    self._line.append(ticket)
            yield free
        finally:
            self._leave(ticket)

    def tell(self) -> None:
        """Let those who wait ask again whether they are served."""
        with self._news:
            self._news.notify_all()

    def _leave(self, ticket: object) -> None:
        with self._news:
            if ticket in self._line:
                self._line.remove(ticket)
            self._news.notify_all()
