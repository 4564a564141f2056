"""Every connection of a node, until it is closed."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from meshproto.events import CloseReason
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.registry import Registry


class OpenLinks:
    """The connections that are open, and the reasons for which none is read."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._open: dict[IPeerLink, None] = {}
        self._pauses: dict[object, None] = {}
        self._closing: Deferred[None] | None = None

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    @property
    def are_closing(self) -> bool:
        """Whether the node is leaving, so that no new link may stay."""
        return self._closing is not None

    def add(self, link: IPeerLink) -> None:
        """A connection came about."""
        self._open[link] = None

    def discard(self, link: IPeerLink) -> None:
        """A connection is closed."""
        self._open.pop(link, None)
        self._check_closed()

    def established(self, link: IPeerLink) -> None:
        """The link belongs to a peer: what holds for the others holds for it."""
        for reason in tuple(self._pauses):
            link.pause(reason)

    def pause(self, reason: object) -> None:
        """Read from no peer until the reason is resumed."""
        self._pauses[reason] = None
        for entry in self._registry.entries():
            for link in entry.links():
                link.pause(reason)

    def resume(self, reason: object) -> None:
        """Take back a `pause`."""
        self._pauses.pop(reason, None)
        for link in tuple(self._open):
            if link in self._open:
                # Next time it is the turn of another one first.
                self._open[link] = self._open.pop(link)
            link.resume(reason)
            if reason in self._pauses:
                # What it had to say was too much again.
                break

    def close(self, reason: CloseReason) -> Deferred[None]:
        """End every link, sending what is queued; fires when all are closed."""
        self._closing = Deferred()
        for link in tuple(self._open):
            link.close(reason)
        self._check_closed()
        return self._closing

    def _check_closed(self) -> None:
        if self._closing is not None and not self._open and not self._closing.called:
            self._closing.callback(None)
