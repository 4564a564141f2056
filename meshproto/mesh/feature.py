"""The base of a node's features, which have one module each.

A feature says which messages it handles, and is told when peers join and leave.
The node composes its features; nothing else in the mesh knows them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from meshproto.events import CloseReason
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.registry import PeerEntry
from meshproto.wire.messages import Message

#: Handles a message that arrived on a peer's link.  Returns the part not handled,
#: because the link was paused or its turn is over; that part is offered again.
Handler = Callable[[IPeerLink, PeerEntry, Any], Message | None]


class Feature:
    """Does nothing; a feature overrides the methods it needs."""

    def handlers(self) -> Mapping[type, Handler]:
        """The handler for each type of message; called once."""
        return {}

    def start(self) -> None:
        """The node is running."""

    def peer_joined(self, entry: PeerEntry, link: IPeerLink) -> None:
        """A peer has been announced; ``link`` is its first link."""

    def peer_left(self, entry: PeerEntry, reason: CloseReason) -> None:
        """The peer's last link has ended, and that has been announced."""

    def link_ended(self, link: IPeerLink) -> None:
        """A link has ended, whether or not it led to a peer."""

    def stop(self) -> None:
        """Cancel all timers; the node closes its links next."""


class Features:
    """The features of one node, and the handlers of its messages."""

    def __init__(self) -> None:
        self._all: list[Feature] = []
        #: The handler for each type of message.  A missing type is a bug: sessions
        #: pass on only messages that a feature handles.
        self.handlers: dict[type, Handler] = {}

    def add(self, feature: Feature) -> None:
        """Add a feature.  Raises `ValueError` if two handle the same message."""
        for kind, handler in feature.handlers().items():
            if kind in self.handlers:
                raise ValueError(f"two features handle {kind.__name__}")
            self.handlers[kind] = handler
        self._all.append(feature)

    def start(self) -> None:
        """The node is running."""
        for feature in self._all:
            feature.start()

    def peer_joined(self, entry: PeerEntry, link: IPeerLink) -> None:
        """A peer has been announced, with its first link."""
        for feature in self._all:
            feature.peer_joined(entry, link)

    def peer_left(self, entry: PeerEntry, reason: CloseReason) -> None:
        """A peer has left."""
        for feature in self._all:
            feature.peer_left(entry, reason)

    def link_ended(self, link: IPeerLink) -> None:
        """A link has ended."""
        for feature in self._all:
            feature.link_ended(link)

    def stop(self) -> None:
        """Cancel all timers; the node closes its links next."""
        for feature in self._all:
            feature.stop()
