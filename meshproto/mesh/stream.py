"""Events for ``async for``, with backpressure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from twisted.internet.defer import Deferred

from meshproto.events import DataReceived, Event

#: The node stops reading when this many bytes of payloads wait in one iterator.
MAX_WAITING: Final = 8 * 1024 * 1024

E = TypeVar("E", bound=Event)


class EventStream(Generic[E]):
    """An asynchronous iterator over the events of one node.

    Nothing is dropped.  ``on_full`` is called when ``limit`` events or `MAX_WAITING`
    bytes of payloads are waiting, and ``on_caught_up`` when half have been taken.  The
    iteration ends when the node has stopped or the stream is closed.
    """

    def __init__(
        self,
        limit: int,
        on_full: Callable[[EventStream[Any]], None],
        on_caught_up: Callable[[EventStream[Any]], None],
        on_closed: Callable[[EventStream[Any]], None],
    ) -> None:
        self._limit = limit
        self._on_full = on_full
        self._on_caught_up = on_caught_up
        self._on_closed = on_closed
        self._events: deque[E] = deque()
        self._size = 0
        self._waiting: deque[Deferred[None]] = deque()
        self._full = False
        self._ended = False

    def put(self, event: E) -> None:
        """Queue an event for the application."""
        if self._ended:
            return
        self._events.append(event)
        if isinstance(event, DataReceived):
            self._size += len(event.payload)
        if not self._full and (
            len(self._events) >= self._limit or self._size >= MAX_WAITING
        ):
            self._full = True
            self._on_full(self)
        self._wake()

    def end(self) -> None:
        """End the stream; events already waiting can still be taken."""
        self._ended = True
        while self._waiting:
            self._wake()

    def __aiter__(self) -> EventStream[E]:
        return self

    async def __anext__(self) -> E:
        while not self._events:
            if self._ended:
                raise StopAsyncIteration
            turn: Deferred[None] = Deferred(self._waiting.remove)
            self._waiting.append(turn)
            await turn
        event = self._events.popleft()
        if isinstance(event, DataReceived):
            self._size -= len(event.payload)
        if (
            self._full
            and len(self._events) <= self._limit // 2
            and self._size <= MAX_WAITING // 2
        ):
            self._full = False
            self._on_caught_up(self)
        return event

    async def aclose(self) -> None:
        """Close the stream and drop the waiting events."""
        self._events.clear()
        self._size = 0
        self.end()
        if self._full:
            self._full = False
            self._on_caught_up(self)
        self._on_closed(self)

    def _wake(self) -> None:
        if self._waiting:
            self._waiting.popleft().callback(None)
