"""Applications that wait until their messages are on the way.

They wait for every peer that takes what it is sent.  A peer that has taken
nothing for a while does not hold up the others: its queue grows, within its
bounds, until it takes again or is cut.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from meshproto.rules.registry import Registry

#: Seconds for which a peer that takes nothing is waited for.
PATIENCE = 0.25


class Drains:
    """Everybody who waits until no queue is above ``mark`` bytes."""

    def __init__(self, registry: Registry, clock: IReactorTime, mark: int) -> None:
        self._registry = registry
        self._clock = clock
        self._mark = mark
        self._waiting: list[Deferred[None]] = []
        self._timer: IDelayedCall | None = None

    def wait(self) -> Deferred[None]:
        """Fires, at once if need be, when nobody is to be waited for."""
        drained: Deferred[None] = Deferred()
        self._waiting.append(drained)
        self.check()
        return drained

    def check(self) -> None:
        """A queue has shrunk, or a link has ended."""
        if not self._waiting:
            return
        seconds = self._worth_waiting()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is None:
            waiting, self._waiting = self._waiting, []
            for drained in waiting:
                if not drained.called:
                    drained.callback(None)
        elif seconds > 0:
            self._timer = self._clock.callLater(seconds, self._due)

    def _due(self) -> None:
        self._timer = None
        self.check()

    def _worth_waiting(self) -> float | None:
        """How long to wait for the peers at least; None for not at all.

        0 stands for as long as it takes: there is nobody whom that holds up.
        """
        now = self._clock.seconds()
        links = [entry.link for entry in self._registry.entries()]
        above = [link for link in links if link.queued() > self._mark]
        if not above:
            return None
        if len(above) == len(links):
            return 0.0
        last = max(link.moved_at for link in above)
        return last + PATIENCE - now if now < last + PATIENCE else None
