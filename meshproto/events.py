"""What happens in a mesh, one frozen value for each thing that happens.

Events speak of peers, not of sockets: a peer that was connected ends in
exactly one `PeerDisconnected`, however many TCP connections were tried.
Those below `DebugEvent` are wire chatter, for whoever debugs a mesh.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from meshproto.wire.address import PeerAddress, Target
from meshproto.wire.messages import NO_HEADERS


class Direction(Enum):
    """Who dialled."""

    INCOMING = "incoming"
    OUTGOING = "outgoing"


class CloseReason(Enum):
    """Why a link ended; the value is the text for people."""

    CLOSED_BY_PEER = "closed by peer"
    CONNECTION_LOST = "connection lost"
    TIMEOUT = "timeout"
    PROBE_UNANSWERED = "no answer to probe"
    REPLACED = "replaced by a new connection"
    FORGOTTEN = "forgotten by the peer"
    SLOW_CONSUMER = "slow consumer"
    LINE_TOO_LONG = "line too long"
    PROTOCOL_ERROR = "protocol error"
    HANDSHAKE_TIMEOUT = "handshake timeout"
    HANDSHAKE_BACKLOG = "too many unfinished handshakes"
    TOO_MANY_LINKS = "too many connections from its address"
    REFUSED = "refused"
    TURNED_AWAY = "refused by peer"
    CROSSED = "both nodes dialled at once"
    NO_COMMON_PROTOCOL = "speaks none of our protocols"
    OURSELVES = "our own address"
    STOPPED = "node stopped"


class Throttled(Enum):
    """What a peer does too much of; the value is the text for people."""

    GOSSIP = "too much gossip"
    CHAT = "too much chat"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A connected peer, as it was when this snapshot was made.

    ``host`` is the IP address at which we see it; ``address`` is where it listens,
    None as long as nothing tells.  ``connected_at`` and ``last_heard`` are seconds
    of the node's clock.  ``key`` tells one peer from another: it is equal in all
    snapshots of one peer, hashable, and otherwise opaque.  Nobody is found by a peer
    without a key.

    ``protocol`` is what the link speaks, ``mesh/1`` or ``mesh/2``.  With the latter,
    ``headers`` are the `NodeConfig.headers` of the peer, and ``round_trip`` is how
    many seconds the last ``PING`` and its answer took, None until one has been
    answered.
    """

    id: str
    name: str
    host: str
    address: PeerAddress | None
    direction: Direction
    connected_at: float
    last_heard: float
    key: Hashable = field(default=None, repr=False)
    protocol: str = "mesh/1"
    headers: Mapping[str, str] = NO_HEADERS
    round_trip: float | None = None

    @property
    def where(self) -> str:
        """Its listening address if that is known, else its host."""
        return str(self.address) if self.address else self.host


def _draft_of(frozen: type[Any]) -> Callable[[], Any]:
    """What becomes a value of a frozen dataclass, made fast.

    A frozen dataclass sets its fields one by one with a slow function, which
    takes several times as long as to set those of a draft, and then
    ``draft.__class__`` to the frozen class.  A draft has the slots of that class
    and nothing else of it, for Python allows that only when they agree.
    """
    of_object = ("__init__", "__setattr__", "__delattr__")
    namespace = {name: getattr(object, name) for name in of_object}
    namespace["__slots__"] = frozen.__slots__
    return type(f"{frozen.__name__}Draft", frozen.__bases__, namespace)


#: See `_draft_of`.
peer_draft = _draft_of(Peer)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownAddress:
    """An entry of the address book, as it was when this snapshot was made.

    ``linked``: it belongs to a connected peer.  ``proven``: a node answered
    there once.  ``bootstrap``: the user gave it.  ``failures`` counts the dials
    that failed since the last one that did not.
    """

    target: Target
    linked: bool
    proven: bool
    bootstrap: bool
    failures: int


class Delivery:
    """Whom a message was handed to; empty, and false, when there was nobody.

    ``missed`` are the peers that it could not be handed to, each with the reason:
    one that speaks only ``mesh/1`` takes lines of chat alone.
    """

    __slots__ = ("_missed", "_peers")

    def __init__(
        self, peers: Sequence[Peer], missed: tuple[tuple[Peer, str], ...] = ()
    ) -> None:
        self._peers = peers
        self._missed = missed

    @property
    def peers(self) -> tuple[Peer, ...]:
        """The peers, each as it is when this is asked."""
        # To make a snapshot of a peer costs more than to hand it a message.
        return tuple(self._peers)

    @property
    def missed(self) -> tuple[tuple[Peer, str], ...]:
        """Who could not be handed it, and why."""
        return self._missed

    def __len__(self) -> int:
        return len(self._peers)

    def __repr__(self) -> str:
        missed = f", missed={self.missed!r}" if self.missed else ""
        return f"Delivery(peers={self.peers!r}{missed})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The root of all events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStarted(Event):
    """The node listens.  ``port`` is the port really bound, 0 if it has none."""

    id: str
    name: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeError(Event):
    """Something went wrong that belongs to no connected peer.

    ``context`` says what was being done, ``error`` what happened.
    """

    context: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapSucceeded(Event):
    """A bootstrap address led to a peer (also when it was linked already)."""

    target: Target


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapFailed(Event):
    """A bootstrap address could not be joined; it is tried again.

    ``attempt`` counts from 1, ``retry_in`` is in seconds.
    """

    target: Target
    reason: str
    attempt: int
    retry_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerConnected(Event):
    """A peer finished the handshake.

    ``peer_count`` and ``max_peers`` are the node's seats, this peer included.
    """

    peer: Peer
    peer_count: int
    max_peers: int

    @property
    def direction(self) -> Direction:
        """Who dialled."""
        return self.peer.direction


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerDisconnected(Event):
    """The link to a peer ended.  Exactly one for each `PeerConnected`."""

    peer: Peer
    reason: CloseReason


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerReaped(Event):
    """Maintenance drops a silent peer; its `PeerDisconnected` follows."""

    peer: Peer
    silent_for: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PeersDiscovered(Event):
    """A peer told addresses that we did not know.

    ``count`` of them are new; the address book holds ``total_known``.
    """

    peer: Peer
    count: int
    total_known: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatReceived(Event):
    """A peer said something to us."""

    peer: Peer
    text: str


#: See `_draft_of`.
chat_draft = _draft_of(ChatReceived)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatsReceived(Event):
    """What a peer said to us, as much as arrived together, in its order.

    The same chat as in `ChatReceived`, for a program that is told so much that
    a call for each message is too slow.  Only those hear of it who ask for
    this kind by its name.
    """

    peer: Peer
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReceived(Event):
    """A peer sent a payload that is no line of chat.

    ``headers`` are what its sender gave with it.
    """

    peer: Peer
    payload: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerThrottled(Event):
    """A peer goes beyond a rate; told once in 10 seconds for each kind.

    ``ignored`` counts its ``PEERS`` and ``REQUEST_PEERS`` lines that were not
    heeded since the last time.  Chat is not ignored, only read later.
    """

    peer: Peer
    kind: Throttled
    ignored: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionFailed(Event):
    """A dial failed that `MeshNode.connect` asked for."""

    target: Target
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DebugEvent(Event):
    """The root of the events that only a debugging user wants to see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DialAttemptFailed(DebugEvent):
    """A dial of an address that peers told us failed."""

    target: Target
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRefused(DebugEvent):
    """We turned a dialler away.  ``host`` is where it came from.

    ``id`` and ``name`` are empty when it had to go before it said who it is.
    """

    id: str
    name: str
    host: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PingSent(DebugEvent):
    """We asked a peer for a sign of life."""

    peer: Peer


@dataclass(frozen=True, slots=True, kw_only=True)
class PingReceived(DebugEvent):
    """A peer asked us for a sign of life (and has been answered)."""

    peer: Peer


@dataclass(frozen=True, slots=True, kw_only=True)
class PongReceived(DebugEvent):
    """A peer answered our PING."""

    peer: Peer


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRequestSent(DebugEvent):
    """We asked a peer for the addresses it knows."""

    peer: Peer


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRequestReceived(DebugEvent):
    """A peer asked us for addresses (and has been answered)."""

    peer: Peer


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerListReceived(DebugEvent):
    """A peer told us addresses.

    ``skipped`` entries of its line were no addresses, or not believed.
    """

    peer: Peer
    addresses: tuple[PeerAddress, ...]
    skipped: int
