"""Who is connected, and who may be.

Two rules about this file.  Everything that decides which links live stands
here and nowhere else; and nothing here touches a link, reads a clock or waits:
a question is answered by a decision value, and the caller carries it out.

A peer is known by its ID *and* its host, since two hosts may both run
``peer-8001``.  All addresses of this machine are one host (`OWN_HOST`).

How one link of a pair survives
-------------------------------
A listener that has a live link to the newcomer says ``DUPLICATE``, so two
links of one pair can only come about when both nodes dial at once and each
says welcome before it hears the other's welcome.  Both then hold the same two
complete links, and both keep the one that was dialled by the greater ID (by
the greater address where the IDs are equal).  The other one is read to its end
before anything is read from or sent on the survivor; so what was sent on it is
neither lost nor overtaken.  When that begins is decided in `_merger`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple, cast, overload

from meshproto.errors import AmbiguousPeer, UnknownPeer
from meshproto.events import CloseReason, Delivery, Direction, Peer, peer_draft
from meshproto.rules.interfaces import IPeerLink
from meshproto.wire.address import PeerAddress, ip_of
from meshproto.wire.interfaces import IWire
from meshproto.wire.messages import Greeting, Message, PeerList, Pong, RequestPeers

#: The host of every peer on this machine, whatever address it came by.
OWN_HOST = "localhost"


class PeerKey(NamedTuple):
    """What tells one peer from another."""

    host: str
    id: str


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

    ``address`` is where the peer listens; ``proven`` when a dial showed it.
    ``second`` is another complete link of the peer, beside the one that is
    sent on; ``draining`` is one whose last lines are read.  ``asked``: the peer
    asked for addresses on a link that it dialled.  ``spoke_at`` is when it last
    said anything that is no answer.
    """

    key: PeerKey
    name: str
    link: IPeerLink
    connected_at: float
    address: PeerAddress | None = None
    proven: bool = False
    second: IPeerLink | None = None
    draining: IPeerLink | None = None
    asked: bool = False
    spoke_at: float = 0.0
    _introduction: _Introduction = _Introduction.AWAITED
    _chats_on: IPeerLink | None = None
    _left: IPeerLink | None = None

    def links(self) -> tuple[IPeerLink, ...]:
        """Every link of the peer, the one that is sent on first."""
        links = (self.link, self.second, self.draining)
        return tuple(link for link in links if link is not None)

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
        peer.id = self.key.id
        peer.name = self.name
        peer.host = link.remote_host
        peer.address = self.address
        peer.direction = link.direction
        peer.connected_at = self.connected_at
        peer.last_heard = link.last_heard
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


@dataclass(frozen=True, slots=True)
class Twin:
    """The far end has our ID but comes from another host.

    It is another node, or ourselves through a port forward: where it listens
    will tell.
    """


Verdict = Admitted | Replaced | Crossed | Duplicate | Full | Itself | Twin


@dataclass(frozen=True, slots=True)
class Left:
    """The peer of that link is gone; ``entry.draining`` may still be open."""

    entry: PeerEntry


@dataclass(frozen=True, slots=True)
class Drained:
    """The link that was drained has ended, normally because it was read to its end."""

    entry: PeerEntry

    def loses_words(self, reason: CloseReason) -> bool:
        """Whether its last words are lost, or would come after the next ones."""
        return reason in (CloseReason.TIMEOUT, CloseReason.CONNECTION_LOST)


@dataclass(frozen=True, slots=True)
class Halved:
    """The peer had two links and goes on with the other one."""

    entry: PeerEntry

    def loses_words(self, reason: CloseReason) -> bool:
        """Whether the other one cannot go on as if nothing had happened."""
        return reason in (CloseReason.SLOW_CONSUMER, CloseReason.REPLACED)


@dataclass(frozen=True, slots=True)
class Stranger:
    """The link never had a seat."""


Departure = Left | Drained | Halved | Stranger


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
        """The peer of that ID on that host."""
        return self._entries.get(key)

    def of_id(self, id: str) -> tuple[PeerEntry, ...]:
        """The peers of that ID: one at most for each host."""
        return tuple(e for e in self._entries.values() if e.key.id == id)

    def at_host(self, host: str) -> tuple[PeerEntry, ...]:
        """The peers on that host; `OWN_HOST` for this machine."""
        return tuple(e for e in self._entries.values() if e.key.host == host)

    def find(self, peer: Peer | str, is_own_host: Callable[[str], bool]) -> PeerEntry:
        """The peer of a snapshot, or of an ID.

        Raises `UnknownPeer`, and `AmbiguousPeer` for an ID that several have.
        """
        if isinstance(peer, Peer):
            host = OWN_HOST if is_own_host(peer.host) else peer.host
            entry = self.of_key(PeerKey(host, peer.id))
            if entry is None:
                raise UnknownPeer(f"{peer.id} at {peer.where} is not connected")
            return entry
        entries = self.of_id(peer)
        if not entries:
            raise UnknownPeer(f"no peer with the ID {peer!r} is connected")
        if len(entries) > 1:
            raise AmbiguousPeer(
                f"{len(entries)} hosts run a peer with the ID {peer!r}: "
                "pass one of peers()"
            )
        return entries[0]

    def admit(
        self, link: IPeerLink, hello: Greeting, now: float, *, confirmed: bool = False
    ) -> Verdict:
        """Decide on a link whose far end has said who it is.

        ``confirmed`` says that a `Twin` has been found to be another node.
        """
        key = PeerKey(host_key(link), hello.id)
        known = self._entries.get(key)
        incoming = link.direction is Direction.INCOMING
        if hello.id == self.own_id and link.same_machine:
            return Itself()
        if known is None:
            if self._is_full():
                return Full()
            if hello.id == self.own_id and not confirmed:
                return Twin()
            return Admitted(self._seat(key, hello, link, now))
        if all(each.gone for each in known.links()):
            # It is back, and is not to wait until its last words are told.
            return Replaced(self._seat(key, hello, link, now), known)
        if incoming and (not confirmed or known.link.direction is link.direction):
            return Duplicate(known)
        if hello.id == self.own_id and not confirmed:
            return Twin()
        crosses = known.link.direction is not link.direction
        if len(known.links()) > 1 or not crosses or known.name != hello.name:
            # A peer that says welcome to another dial of ours has given up the
            # link of the first: it would have said DUPLICATE otherwise.  And one
            # that bears another name has been started anew.
            return Replaced(self._seat(key, hello, link, now), known)
        return self._cross(known, link)

    def remove(self, link: IPeerLink) -> Departure:
        """Forget a link that has ended."""
        entry = self.of_link(link)
        if entry is None:
            return Stranger()
        link.seat = None
        if entry.draining is link:
            entry.draining = None
            return Drained(entry)
        if entry.second is not None:
            if entry.link is link:
                entry.link = entry.second
            entry.second = None
            return Halved(entry)
        if self._entries.get(entry.key) is entry:
            del self._entries[entry.key]
            self._changed()
        return Left(entry)

    def may_be_merged(self, entry: PeerEntry, pending: Iterable[str | None]) -> bool:
        """Whether a peer that has ended its link may live on by another one.

        Where both dialled at once the peer may know so before we do: it then
        half-closes the losing link while its welcome on ours is still on its
        way.  ``pending`` are the hosts of our dials that have not ended, None
        for a host that is not known yet.
        """
        if self.own_id < entry.key.id:
            # Its dial would be the survivor, and that is the link it ended.
            return False
        if self.own_id > entry.key.id and entry.link.direction is Direction.OUTGOING:
            return False
        return any(host is None or host == entry.key.host for host in pending)

    def ranked(self, entry: PeerEntry) -> tuple[IPeerLink, IPeerLink]:
        """The link that survives a merge, and the one that does not."""
        assert entry.second is not None
        pair = entry.link, entry.second
        loser, survivor = sorted(pair, key=lambda link: self._rank(link, entry.key.id))
        return survivor, loser

    def merge(self, entry: PeerEntry) -> tuple[IPeerLink, IPeerLink]:
        """Begin to drain one of two links; returns the survivor and the loser."""
        entry.link, entry.draining = self.ranked(entry)
        entry.second = None
        return entry.link, entry.draining

    def keep(self, entry: PeerEntry) -> tuple[IPeerLink, IPeerLink]:
        """Use both links of a peer; returns the newer, to send on, and the older."""
        assert entry.second is not None
        entry.link, entry.second = entry.second, entry.link
        return entry.link, entry.second

    def _is_full(self) -> bool:
        return len(self._entries) >= self.max_peers

    def _seat(
        self, key: PeerKey, hello: Greeting, link: IPeerLink, now: float
    ) -> PeerEntry:
        entry = PeerEntry(key, hello.name, link, now, spoke_at=now)
        self._entries[key] = entry
        link.seat = entry
        self._changed()
        return entry

    def _changed(self) -> None:
        """A peer has come or gone: what is kept for every message is outdated."""
        self._all = self._delivery = self._wires = None

    def _cross(self, entry: PeerEntry, new: IPeerLink) -> Crossed:
        entry.second = new
        new.seat = entry
        return Crossed(entry)

    def _rank(self, link: IPeerLink, peer_id: str) -> tuple[str, int, int]:
        """Orders two links of one pair alike on both sides: by who dialled."""
        ours = link.direction is Direction.OUTGOING
        ip = ip_of(link.local_host if ours else link.remote_host)
        version, number = (ip.version, int(ip)) if ip else (0, 0)
        return (self.own_id if ours else peer_id, version, number)


def host_key(link: IPeerLink) -> str:
    """The host of a link's far end, one value for all addresses of this machine."""
    return OWN_HOST if link.same_machine else link.remote_host
