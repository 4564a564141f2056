"""Lets an application wait until its messages are on their way.

It waits only for peers that are accepting data.  A peer that has accepted nothing
for a while does not hold up the others: its queue grows, within its limit, until
it accepts data again or is cut.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from meshproto.rules.registry import Registry

#: Seconds to wait for a peer that accepts nothing.
PATIENCE = 0.25


class Drains:
    """The callers waiting until no queue is above ``mark`` bytes."""

    def __init__(self, registry: Registry, clock: IReactorTime, mark: int) -> None:
        self._registry = registry
        self._clock = clock
        self._mark = mark
        self._waiting: list[Deferred[None]] = []
        self._timer: IDelayedCall | None = None

    def wait(self) -> Deferred[None]:
        """Fires once there is no peer to wait for, at once if there is none now."""
        drained: Deferred[None] = Deferred()
        self._waiting.append(drained)
        self.check()
        return drained

    def check(self) -> None:
        """Fire if possible; called when a queue has shrunk or a link has ended."""
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
        """Seconds until the next check; None if there is nothing to wait for.

        0 means no limit: every peer is behind, so waiting delays nobody.
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
