"""Who is connected, and who may be.

Two rules about this file.  Everything that decides which links live stands
here and nowhere else; and nothing here touches a link, reads a clock or waits:
a question is answered by a decision value, and the caller carries it out.

A peer is known by its key, which `identity` makes.  All addresses of this machine
are one host (`OWN_HOST`).

Two links of one pair
---------------------
A listener that has a live link to the newcomer says ``DUPLICATE``, so two links
of one pair can only come about when both nodes dial at once and each says welcome
before it hears the other's welcome.  Both links then live: each node says
everything on the one that it had first, and hears both.  When one ends the other
is closed as well, and the peer is dialled anew: the original program has forgotten
us with either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import cast, overload

from meshproto.errors import AmbiguousPeer, UnknownPeer
from meshproto.events import Delivery, Direction, Peer, peer_draft
from meshproto.rules.identity import PeerKey, key_of_greeting
from meshproto.rules.interfaces import IPeerLink
from meshproto.wire.address import PeerAddress
from meshproto.wire.interfaces import IWire
from meshproto.wire.messages import (
    NO_HEADERS,
    Greeting,
    Headers,
    Hello,
    Message,
    PeerList,
    Pong,
    RequestPeers,
)

#: The host of every peer on this machine, whatever address it came by.
OWN_HOST = "localhost"


class _Introduction(Enum):
    """How far a peer has come with its first words.

    A node like us asks for addresses, and at once tells its own.  An original
    tells first, or is silent until it is asked.
    """

    AWAITED = auto()
    HAS_ASKED = auto()
    OVER = auto()


@dataclass(slots=True, eq=False)
class PeerEntry:
    """A seat that is taken: one peer and its link.

    ``headers`` and ``max_payload`` (bytes, 0 for none) are what it said of itself.
    ``said`` are the addresses that it said of itself, None on ``mesh/1``.
    ``address`` is where the peer listens; ``proven`` when a dial showed it.
    ``round_trip`` is in seconds, None as long as it is not known.
    ``second`` is another link of the peer, beside the one that is sent on.
    ``asked``: the peer asked for addresses on a link that it dialled.  ``spoke_at``
    is when it last said anything that is no answer.
    """

    key: PeerKey
    id: str
    name: str
    link: IPeerLink
    connected_at: float
    headers: Headers = NO_HEADERS
    max_payload: int = 0
    said: tuple[PeerAddress, ...] | None = None
    round_trip: float | None = None
    address: PeerAddress | None = None
    proven: bool = False
    second: IPeerLink | None = None
    asked: bool = False
    spoke_at: float = 0.0
    _introduction: _Introduction = _Introduction.AWAITED
    _chats_on: IPeerLink | None = None
    _left: IPeerLink | None = None

    def links(self) -> tuple[IPeerLink, ...]:
        """Every link of the peer, the one that is sent on first."""
        return (self.link,) if self.second is None else (self.link, self.second)

    def hears(self, link: IPeerLink, message: Message) -> bool:
        """Note what the peer says, chat apart.

        Returns whether that ends its introduction, so that its first address is
        its own.
        """
        if not isinstance(message, Pong | PeerList):
            self.spoke_at = link.last_heard
        before = self._introduction
        if not isinstance(message, RequestPeers):
            self._introduction = _Introduction.OVER
        elif link.direction is Direction.INCOMING:
            self.asked = True
            is_first = before is _Introduction.AWAITED
            self._introduction = (
                _Introduction.HAS_ASKED if is_first else _Introduction.OVER
            )
        return before is _Introduction.HAS_ASKED and isinstance(message, PeerList)

    def speaks_elsewhere(self, link: IPeerLink) -> bool:
        """Whether chat of another link was said before, and is still to be told."""
        before = self._chats_on
        return before is not link and before in self.links() and before.waits

    def chats(self, link: IPeerLink) -> bool:
        """Note that the peer chats on a link; False when that comes too late.

        Of two links a peer speaks on one, and then perhaps on the other.  What
        still comes from the first was said before what has been heard since.
        """
        if link is not self._chats_on:
            if link is self._left:
                return False
            if self._chats_on in self.links():
                self._left = self._chats_on
            self._chats_on = link
        self.spoke_at = link.last_heard
        return True

    def snapshot(self) -> Peer:
        """The peer as applications see it."""
        link = self.link
        peer = peer_draft()
        peer.key = self.key
        peer.id = self.id
        peer.name = self.name
        peer.host = link.remote_host
        peer.address = self.address
        peer.direction = link.direction
        peer.connected_at = self.connected_at
        peer.last_heard = link.last_heard
        peer.protocol = link.wire.name
        peer.headers = self.headers
        peer.round_trip = self.round_trip
        peer.__class__ = Peer
        return cast("Peer", peer)


@dataclass(frozen=True, slots=True)
class Admitted:
    """The newcomer has a seat."""

    entry: PeerEntry


@dataclass(frozen=True, slots=True)
class Replaced:
    """The newcomer has the seat of ``old``, whose link the peer has given up."""

    entry: PeerEntry
    old: PeerEntry


@dataclass(frozen=True, slots=True)
class Crossed:
    """Both dialled at once: the newcomer is the ``second`` link of the entry."""

    entry: PeerEntry


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The peer has a live link already; whether it still lives is to be probed."""

    entry: PeerEntry


@dataclass(frozen=True, slots=True)
class Full:
    """No seat is left."""


@dataclass(frozen=True, slots=True)
class Itself:
    """The far end is this very node."""


Verdict = Admitted | Replaced | Crossed | Duplicate | Full | Itself


@dataclass(frozen=True, slots=True)
class Left:
    """The peer of that link is gone."""

    entry: PeerEntry


@dataclass(frozen=True, slots=True)
class Halved:
    """The peer had two links, and has the other one left."""

    entry: PeerEntry


@dataclass(frozen=True, slots=True)
class Stranger:
    """The link never had a seat."""


Departure = Left | Halved | Stranger


class Audience(Sequence[Peer]):
    """Peers as applications see them, each as it is when it is looked at."""

    def __init__(self, entries: tuple[PeerEntry, ...]) -> None:
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> Peer: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Peer, ...]: ...
    def __getitem__(self, index: int | slice) -> Peer | tuple[Peer, ...]:
        if isinstance(index, slice):
            return tuple(entry.snapshot() for entry in self._entries[index])
        return self._entries[index].snapshot()


class Registry:
    """The seats of one node.  Never more than ``max_peers`` are taken."""

    _all: tuple[PeerEntry, ...] | None
    _delivery: Delivery | None
    _wires: tuple[IWire, ...] | None

    def __init__(self, own_id: str, max_peers: int) -> None:
        self.own_id = own_id
        self.max_peers = max_peers
        #: Seats that are kept for peers whose handshake is not over.
        self.reserved = 0
        self._entries: dict[PeerKey, PeerEntry] = {}
        self._changed()

    def __len__(self) -> int:
        return len(self._entries)

    def entries(self) -> tuple[PeerEntry, ...]:
        """Every peer, in the order in which they came."""
        if self._all is None:
            self._all = tuple(self._entries.values())
        return self._all

    def snapshots(self) -> tuple[Peer, ...]:
        """Every peer as applications see it."""
        return Audience(self.entries())[:]

    def delivery(self) -> Delivery:
        """What a message to every peer is handed to."""
        if self._delivery is None:
            self._delivery = Delivery(Audience(self.entries()))
        return self._delivery

    def wires(self) -> tuple[IWire, ...]:
        """What the peers' links speak, each once."""
        if self._wires is None:
            wires = dict.fromkeys(entry.link.wire for entry in self.entries())
            self._wires = tuple(wires)
        return self._wires

    def of_link(self, link: IPeerLink) -> PeerEntry | None:
        """The peer one of whose links this is."""
        # Noted there, not in a dictionary here: a node may have thousands.
        return cast("PeerEntry | None", link.seat)

    def of_key(self, key: PeerKey) -> PeerEntry | None:
        """The peer of that key."""
        return self._entries.get(key)

    def of_id(self, id: str) -> tuple[PeerEntry, ...]:
        """The peers that call themselves so."""
        return tuple(e for e in self._entries.values() if e.id == id)

    def at_host(self, host: str) -> tuple[PeerEntry, ...]:
        """The peers on that host; `OWN_HOST` for this machine."""
        return tuple(e for e in self._entries.values() if host_key(e.link) == host)

    def find(self, peer: Peer | str) -> PeerEntry:
        """The peer of a snapshot, or of an ID.

        Raises `UnknownPeer`, and `AmbiguousPeer` for an ID that several have.
        """
        if isinstance(peer, Peer):
            entry = self._entries.get(cast("PeerKey", peer.key))
            if entry is None:
                raise UnknownPeer(f"{peer.id} at {peer.where} is not connected")
            return entry
        entries = self.of_id(peer)
        if not entries:
            raise UnknownPeer(f"no peer with the ID {peer!r} is connected")
        if len(entries) > 1:
            raise AmbiguousPeer(
                f"{len(entries)} peers have the ID {peer!r}: pass one of peers()"
            )
        return entries[0]

    def admit(self, link: IPeerLink, greeting: Greeting, now: float) -> Verdict:
        """Decide on a link whose far end has said who it is."""
        key = key_of_greeting(greeting, host_key(link))
        known = self._entries.get(key)
        if greeting.id == self.own_id and link.same_machine:
            return Itself()

        def seat() -> PeerEntry:
            return self.seat(key, greeting, link, now)

        if known is None:
            return Full() if self._is_full() else Admitted(seat())
        if all(each.gone for each in known.links()):
            # It is back, and is not to wait until its last words are told.
            return Replaced(seat(), known)
        if link.direction is Direction.INCOMING:
            return Duplicate(known)
        crosses = known.second is None and known.link.direction is Direction.INCOMING
        if not crosses or known.name != greeting.name:
            # A peer that says welcome to another dial of ours has given up the
            # link of the first: it would have said DUPLICATE otherwise.  And one
            # that bears another name has been started anew.
            return Replaced(seat(), known)
        known.second = link
        link.seat = known
        return Crossed(known)

    def remove(self, link: IPeerLink) -> Departure:
        """Forget a link that has ended."""
        entry = self.of_link(link)
        if entry is None:
            return Stranger()
        link.seat = None
        if entry.second is not None:
            if entry.link is link:
                entry.link = entry.second
            entry.second = None
            return Halved(entry)
        if self._entries.get(entry.key) is entry:
            del self._entries[entry.key]
            self._changed()
        return Left(entry)

    @property
    def taken(self) -> int:
        """How many seats are taken, by peers and by handshakes."""
        return len(self._entries) + self.reserved

    def _is_full(self) -> bool:
        return self.taken >= self.max_peers

    def seat(
        self, key: PeerKey, said: Greeting | Hello, link: IPeerLink, now: float
    ) -> PeerEntry:
        """Have a link be that of a peer from now on."""
        entry = PeerEntry(key, said.id, said.name, link, now, spoke_at=now)
        if isinstance(said, Hello):
            entry.headers = Headers(dict(said.headers))
            entry.max_payload = said.max_payload
            entry.said = said.addresses
        self._entries[key] = entry
        link.seat = entry
        self._changed()
        return entry

    def _changed(self) -> None:
        """A peer has come or gone: what is kept for every message is outdated."""
        self._all = self._delivery = self._wires = None


def host_key(link: IPeerLink) -> str:
    """The host of a link's far end, one value for all addresses of this machine."""
    return OWN_HOST if link.same_machine else link.remote_host
