"""Who is connected, and who may connect.

Two rules for this file.  Only this file decides which ``mesh/1`` links live; and
nothing here ends a link, reads a clock or waits: the answer is a decision value,
which the caller carries out.

A peer is known by its key, which `identity` makes.  All addresses of this machine
count as one host (`OWN_HOST`).

Two links of one pair
---------------------
A listener with a live link to the newcomer answers ``DUPLICATE``.  So a pair can have
two links only when both nodes dial at once and each welcomes the other before it
receives the other's welcome.  Then both links stay: each node sends on the link that
it had first, and reads both.  When one ends the other is closed too, and the peer is
dialled again, because the original program forgets us when either ends.
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

#: The host of every peer on this machine, whichever address it used.
OWN_HOST = "localhost"


class _Introduction(Enum):
    """How far a peer has come in its first messages.

    Our node asks for addresses and at once tells its own.  The original program
    tells first, or is silent until it is asked.
    """

    AWAITED = auto()
    HAS_ASKED = auto()
    OVER = auto()


@dataclass(slots=True, eq=False)
class PeerEntry:
    """A taken seat: one peer and its link.

    ``headers``, ``max_payload`` (bytes, 0 for none) and ``said`` (its addresses, None
    on ``mesh/1``) come from the peer's HELLO.  ``address`` is where the peer listens;
    ``proven`` says that a dial has reached it there.  ``round_trip`` is in seconds,
    None until it is known.  ``link`` is the one that we send on; ``second`` is the
    peer's other link, if it has two.  ``asked`` says that the peer asked for
    addresses on a link that it dialled.  ``spoke_at`` is when it last sent anything
    but an answer.
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
        """Every link of the peer; the one that we send on comes first."""
        return (self.link,) if self.second is None else (self.link, self.second)

    def hears(self, link: IPeerLink, message: Message) -> bool:
        """Note a message of the peer that is not chat.

        Returns whether it is the peer list that ends an introduction, whose first
        address is the peer's own.
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
        """Whether earlier chat on the peer's other link still waits."""
        before = self._chats_on
        return before is not link and before in self.links() and before.waits

    def chats(self, link: IPeerLink) -> bool:
        """Note that the peer chats on a link; False when the chat is too late.

        A peer with two links sends on one, and may then change to the other.  After
        that, anything still arriving on the first is out of order.
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
    """The newcomer takes the seat of ``old``, whose link the peer has abandoned."""

    entry: PeerEntry
    old: PeerEntry


@dataclass(frozen=True, slots=True)
class Crossed:
    """Both dialled at once: the newcomer becomes the ``second`` link of the entry."""

    entry: PeerEntry


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The peer already has a link, which should be probed."""

    entry: PeerEntry


@dataclass(frozen=True, slots=True)
class Full:
    """No seat is left."""


@dataclass(frozen=True, slots=True)
class Itself:
    """The node has dialled itself."""


Verdict = Admitted | Replaced | Crossed | Duplicate | Full | Itself


@dataclass(frozen=True, slots=True)
class Left:
    """The link was the peer's last: the peer is gone."""

    entry: PeerEntry


@dataclass(frozen=True, slots=True)
class Halved:
    """The peer had two links and still has the other."""

    entry: PeerEntry


@dataclass(frozen=True, slots=True)
class Stranger:
    """The link never had a seat."""


Departure = Left | Halved | Stranger


class Audience(Sequence[Peer]):
    """A lazy sequence of peers: each snapshot is taken on access."""

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
    """The seats of one node, of which there are ``max_peers``."""

    _all: tuple[PeerEntry, ...] | None
    _delivery: Delivery | None
    _wires: tuple[IWire, ...] | None

    def __init__(self, own_id: str, max_peers: int) -> None:
        self.own_id = own_id
        self.max_peers = max_peers
        #: Seats kept for peers that are still in their handshake.
        self.reserved = 0
        self._entries: dict[PeerKey, PeerEntry] = {}
        self._changed()

    def __len__(self) -> int:
        return len(self._entries)

    def entries(self) -> tuple[PeerEntry, ...]:
        """Every peer, in the order of arrival."""
        if self._all is None:
            self._all = tuple(self._entries.values())
        return self._all

    def snapshots(self) -> tuple[Peer, ...]:
        """A snapshot of every peer."""
        return Audience(self.entries())[:]

    def delivery(self) -> Delivery:
        """The recipients of a message to every peer."""
        if self._delivery is None:
            self._delivery = Delivery(Audience(self.entries()))
        return self._delivery

    def wires(self) -> tuple[IWire, ...]:
        """The distinct wires that the peers' links speak."""
        if self._wires is None:
            wires = dict.fromkeys(entry.link.wire for entry in self.entries())
            self._wires = tuple(wires)
        return self._wires

    def of_link(self, link: IPeerLink) -> PeerEntry | None:
        """The peer that the link belongs to, or None."""
        # Kept on the link rather than in a dictionary: a node may have thousands.
        return cast("PeerEntry | None", link.seat)

    def of_key(self, key: PeerKey) -> PeerEntry | None:
        """The peer with that key, or None."""
        return self._entries.get(key)

    def of_id(self, id: str) -> tuple[PeerEntry, ...]:
        """The peers with that ID."""
        return tuple(e for e in self._entries.values() if e.id == id)

    def at_host(self, host: str) -> tuple[PeerEntry, ...]:
        """The peers on that host; `OWN_HOST` for this machine."""
        return tuple(e for e in self._entries.values() if host_key(e.link) == host)

    def find(self, peer: Peer | str) -> PeerEntry:
        """The peer of a snapshot, or with an ID.

        Raises `UnknownPeer` if it is not connected, and `AmbiguousPeer` for an ID
        that several peers have.
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
        """Decide on a link whose far end has sent its greeting."""
        key = key_of_greeting(greeting, host_key(link))
        known = self._entries.get(key)
        if greeting.id == self.own_id and link.same_machine:
            return Itself()

        def seat() -> PeerEntry:
            return self.seat(key, greeting, link, now)

        if known is None:
            return Full() if self._is_full() else Admitted(seat())
        if all(each.gone for each in known.links()):
            # It is back, and need not wait until its last messages are delivered.
            return Replaced(seat(), known)
        if link.direction is Direction.INCOMING:
            return Duplicate(known)
        crosses = known.second is None and known.link.direction is Direction.INCOMING
        if not crosses or known.name != greeting.name:
            # A peer that welcomes a second dial of ours has abandoned the link of
            # the first, or it would have answered DUPLICATE.  And a peer with
            # another name has restarted.
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
        """How many seats are taken, by peers and by links in their handshake."""
        return len(self._entries) + self.reserved

    def _is_full(self) -> bool:
        return self.taken >= self.max_peers

    def seat(
        self, key: PeerKey, said: Greeting | Hello, link: IPeerLink, now: float
    ) -> PeerEntry:
        """Give the peer a seat with this link; returns its new entry."""
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
        """A peer has come or gone: drop what is cached for broadcasts."""
        self._all = self._delivery = self._wires = None


def host_key(link: IPeerLink) -> str:
    """A link's remote host, or `OWN_HOST` for every address of this machine."""
    return OWN_HOST if link.same_machine else link.remote_host
