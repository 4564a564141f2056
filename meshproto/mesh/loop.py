"""A repeating timer that survives errors in its body."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger


class Loop:
    """Calls ``body`` every ``interval`` seconds, first after one interval.

    An error in the body is logged, and the loop goes on: one failed round must not
    end a node's discovery or maintenance.
    """

    log = Logger()

    def __init__(
        self, clock: IReactorTime, interval: float, body: Callable[[], None]
    ) -> None:
        self._body = body
        self._interval = interval
        self._call = LoopingCall(self._round)
        self._call.clock = clock

    def start(self) -> None:
        """Start the loop; does nothing if it is running."""
        if not self._call.running:
            self._call.start(self._interval, now=False).addErrback(
                lambda failure: self.log.failure("A loop has ended", failure)
            )

    def stop(self) -> None:
        """Stop the loop; does nothing if it is not running."""
        if self._call.running:
            self._call.stop()

    def _round(self) -> None:
        try:
            self._body()
        except Exception:
            self.log.failure("A round of {loop} failed", loop=self._body.__qualname__)
