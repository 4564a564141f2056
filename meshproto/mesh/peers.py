"""Peers that join and leave."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from meshproto.events import CloseReason, Event, PeerConnected, PeerDisconnected
from meshproto.mesh.dials import Dials
from meshproto.mesh.discovery import Discovery
from meshproto.mesh.feature import Features
from meshproto.rules.addressbook import AddressBook
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.registry import (
    Departure,
    Halved,
    Left,
    PeerEntry,
    Registry,
    Stranger,
)


class Peers:
    """Announces peers as they join and leave.

    ``probe`` is called with a link that may be dead.
    """

    def __init__(
        self,
        registry: Registry,
        book: AddressBook,
        dials: Dials,
        discovery: Discovery,
        features: Features,
        clock: IReactorTime,
        emit: Callable[[Event], None],
        *,
        probe: Callable[[IPeerLink], None],
    ) -> None:
        self._registry = registry
        self._book = book
        self._dials = dials
        self._discovery = discovery
        self._features = features
        self._clock = clock
        self._emit = emit
        self._probe = probe

    def established(self, entry: PeerEntry, link: IPeerLink) -> None:
        """Announce a new peer, or introduce ourselves on the second link of one."""
        self._discovery.locate(entry, link)
        if entry.second is link:
            self._discovery.introduce(link)
            # The peer may have restarted, so its first link may be dead.
            self._probe(entry.link)
        else:
            self._emit(
                PeerConnected(
                    peer=entry.snapshot(),
                    peer_count=len(self._registry),
                    max_peers=self._registry.max_peers,
                )
            )
            self._features.peer_joined(entry, link)
        self._dials.linked(link, entry)
        self._dials.met(entry)

    def departed(
        self, departure: Departure, link: IPeerLink, reason: CloseReason
    ) -> None:
        """A link of a peer has ended; announce that the peer left if it was the last.

        When one of two links ends, the other is closed too, unless a probe ended it.
        """
        match departure:
            case Left(entry):
                self._part(entry, reason)
            case Halved(entry) if reason is not CloseReason.PROBE_UNANSWERED:
                entry.link.close(reason)
            case Halved():
                pass
            case Stranger():
                pass

    def _part(self, entry: PeerEntry, reason: CloseReason) -> None:
        now = self._clock.seconds()
        self._book.peer_left(entry.key, now, now - entry.connected_at)
        self._emit(PeerDisconnected(peer=entry.snapshot(), reason=reason))
        self._features.peer_left(entry, reason)
        self._dials.pump()
