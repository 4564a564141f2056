"""A timer that outlives the errors of its body."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger


class Loop:
    """Calls ``body`` every ``interval`` seconds, first after one interval.

    A body that raises is logged and called again: one failed round must not
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
        """Begin; does nothing when it runs."""
        if not self._call.running:
            self._call.start(self._interval, now=False).addErrback(
                lambda failure: self.log.failure("A loop has ended", failure)
            )

    def stop(self) -> None:
        """End; does nothing when it does not run."""
        if self._call.running:
            self._call.stop()

    def _round(self) -> None:
        try:
            self._body()
        except Exception:
            self.log.failure("A round of {loop} failed", loop=self._body.__qualname__)
