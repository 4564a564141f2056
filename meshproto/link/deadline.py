"""One timer of a link."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Deadline:
    """Calls ``passed`` when the time set last is over."""

    __slots__ = ("_call", "_clock", "_passed")

    def __init__(self, clock: IReactorTime, passed: Callable[[], None]) -> None:
        self._clock = clock
        self._passed = passed
        self._call: IDelayedCall | None = None

    def set(self, seconds: float) -> None:
        """Start the timer, or restart it."""
        self.clear()
        self._call = self._clock.callLater(max(0.0, seconds), self._over)

    def clear(self) -> None:
        """Stop the timer."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _over(self) -> None:
        self._call = None
        self._passed()
