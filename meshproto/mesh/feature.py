"""What peers can do with each other, one module each.

A feature says which messages it handles, and hears of peers that come and go.  The
node composes its features; nothing else of a mesh knows them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from meshproto.events import CloseReason
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.registry import PeerEntry
from meshproto.wire.messages import Message

#: Takes a message that arrived on a link of a peer.  Returns what of it was not
#: taken, because the link was paused or its turn is over: it is offered again.
Handler = Callable[[IPeerLink, PeerEntry, Any], Message | None]


class Feature:
    """Does nothing: a feature overrides what concerns it."""

    def handlers(self) -> Mapping[type, Handler]:
        """What handles the messages of each type; asked for once."""
        return {}

    def start(self) -> None:
        """The node runs."""

    def peer_joined(self, entry: PeerEntry, link: IPeerLink) -> None:
        """A peer has been announced, whose first link this is."""

    def peer_left(self, entry: PeerEntry, reason: CloseReason) -> None:
        """Its last link has ended, and that has been announced."""

    def link_ended(self, link: IPeerLink) -> None:
        """No more will come of this link, whether it got to a peer or not."""

    def stop(self) -> None:
        """The node is about to close its links: leave no timer behind."""


class Features:
    """The features of one node, and who handles which message."""

    def __init__(self) -> None:
        self._all: list[Feature] = []
        #: Who handles the messages of each type.  A message that is missing here is a
        #: mistake: the sessions let none through that no feature handles.
        self.handlers: dict[type, Handler] = {}

    def add(self, feature: Feature) -> None:
        """Compose one more.  Raises `ValueError` where two handle one message."""
        for kind, handler in feature.handlers().items():
            if kind in self.handlers:
                raise ValueError(f"two features handle {kind.__name__}")
            self.handlers[kind] = handler
        self._all.append(feature)

    def start(self) -> None:
        """The node runs."""
        for feature in self._all:
            feature.start()

    def peer_joined(self, entry: PeerEntry, link: IPeerLink) -> None:
        """A peer has been announced."""
        for feature in self._all:
            feature.peer_joined(entry, link)

    def peer_left(self, entry: PeerEntry, reason: CloseReason) -> None:
        """A peer is gone."""
        for feature in self._all:
            feature.peer_left(entry, reason)

    def link_ended(self, link: IPeerLink) -> None:
        """A link has ended."""
        for feature in self._all:
            feature.link_ended(link)

    def stop(self) -> None:
        """The node is about to close its links."""
        for feature in self._all:
            feature.stop()
