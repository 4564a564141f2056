"""Peers that come and go."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from meshproto.events import CloseReason, Event, PeerConnected, PeerDisconnected
from meshproto.mesh.dials import Dials
from meshproto.mesh.discovery import Discovery
from meshproto.mesh.feature import Features
from meshproto.mesh.links import OpenLinks
from meshproto.mesh.merger import Merger
from meshproto.rules.addressbook import AddressBook
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.registry import (
    Departure,
    Drained,
    Halved,
    Left,
    PeerEntry,
    Registry,
    Stranger,
)

_DEAD = CloseReason.PROBE_UNANSWERED


class Peers:
    """Announces peers, and carries out what the end of a link means for its peer."""

    def __init__(
        self,
        registry: Registry,
        book: AddressBook,
        links: OpenLinks,
        dials: Dials,
        discovery: Discovery,
        merger: Merger,
        features: Features,
        clock: IReactorTime,
        emit: Callable[[Event], None],
    ) -> None:
        self._registry = registry
        self._book = book
        self._links = links
        self._dials = dials
        self._discovery = discovery
        self._merger = merger
        self._features = features
        self._clock = clock
        self._emit = emit

    def established(self, entry: PeerEntry, link: IPeerLink) -> None:
        """Announce a new peer, or join the two links of one that we have."""
        self._discovery.locate(entry, link)
        if entry.second is link:
            self._merger.crossed(entry)
        elif entry.draining is None:
            self._emit(
                PeerConnected(
                    peer=entry.snapshot(),
                    peer_count=len(self._registry),
                    max_peers=self._registry.max_peers,
                )
            )
            self._features.peer_joined(entry, link)
        self._dials.linked(link, entry)
        self._merger.review()

    def departed(
        self, departure: Departure, link: IPeerLink, reason: CloseReason
    ) -> None:
        """A link of a peer has ended; tell of the peer if it is gone."""
        match departure:
            case Left(entry):
                self._part(entry, reason)
            case Drained(entry) if departure.loses_words(reason):
                entry.link.abort(reason)
            case Drained(entry):
                entry.link.resume(link)
            case Halved(entry):
                if self._merger.forget(entry) and not departure.loses_words(reason):
                    if entry.link.target is not None and not self._links.are_closing:
                        self._discovery.introduce(entry.link)
                elif reason is not _DEAD:
                    # An original: it has forgotten us with the one link.
                    entry.link.close(reason)
            case Stranger():
                pass

    def _part(self, entry: PeerEntry, reason: CloseReason) -> None:
        if entry.draining is not None:
            entry.draining.abort(reason)
        now = self._clock.seconds()
        self._book.peer_left(entry.key, now, now - entry.connected_at)
        self._emit(PeerDisconnected(peer=entry.snapshot(), reason=reason))
        self._features.peer_left(entry, reason)
        self._dials.pump()
