"""All open connections of a node."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from meshproto.events import CloseReason
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.registry import Registry


class OpenLinks:
    """The open connections, and the reasons why reading is paused, if any."""

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
        """Whether the node is stopping, so that new links are closed at once."""
        return self._closing is not None

    def add(self, link: IPeerLink) -> None:
        """A connection was made."""
        self._open[link] = None

    def discard(self, link: IPeerLink) -> None:
        """A connection has closed."""
        self._open.pop(link, None)
        self._check_closed()

    def established(self, link: IPeerLink) -> None:
        """The link now belongs to a peer: apply the pauses in force."""
        for reason in tuple(self._pauses):
            link.pause(reason)

    def pause(self, reason: object) -> None:
        """Stop reading from all peers until `resume` with the same reason."""
        self._pauses[reason] = None
        for entry in self._registry.entries():
            for link in entry.links():
                link.pause(reason)

    def resume(self, reason: object) -> None:
        """Undo the `pause` for a reason."""
        self._pauses.pop(reason, None)
        for link in tuple(self._open):
            if link in self._open:
                # Move it to the end, so that another link goes first next time.
                self._open[link] = self._open.pop(link)
            link.resume(reason)
            if reason in self._pauses:
                # This link's backlog has caused the same pause again.
                break

    def close(self, reason: CloseReason) -> Deferred[None]:
        """Close every link after sending its queue; fires when all are closed."""
        self._closing = Deferred()
        for link in tuple(self._open):
            link.close(reason)
        self._check_closed()
        return self._closing

    def _check_closed(self) -> None:
        if self._closing is not None and not self._open and not self._closing.called:
            self._closing.callback(None)
