"""What happens in a mesh, as frozen values.

Events are about peers, not sockets: each `PeerConnected` is followed by exactly
one `PeerDisconnected`, however many TCP connections were involved.  Subclasses of
`DebugEvent` are wire chatter, for debugging a mesh.
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
    """Why a link ended; the value is a text for people."""

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
    """What a peer sends too much of; the value is a text for people."""

    GOSSIP = "too much gossip"
    CHAT = "too much chat"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A snapshot of a connected peer.

    ``host`` is the IP address we see it at; ``address`` is where it listens, None
    until known.  ``connected_at`` and ``last_heard`` are seconds of the node's clock.
    ``key`` identifies the peer: hashable, equal in all its snapshots, otherwise
    opaque.  `MeshNode.send` finds no peer for a snapshot without a key.

    ``protocol`` is what the link speaks: ``mesh/1`` or ``mesh/2``.  Over ``mesh/2``,
    ``headers`` are the peer's `NodeConfig.headers`, and ``round_trip`` is the time in
    seconds from the last ``PING`` to its answer, None until one has been answered.
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
        """Its listening address if known, else its host."""
        return str(self.address) if self.address else self.host


def _draft_of(frozen: type[Any]) -> Callable[[], Any]:
    """A mutable twin of a frozen dataclass, for making its instances fast.

    A frozen dataclass sets its fields through a slow function.  It is several times
    faster to set the fields of a draft and then set ``draft.__class__`` to the frozen
    class.  Python allows that only because both have the same slots.
    """
    of_object = ("__init__", "__setattr__", "__delattr__")
    namespace = {name: getattr(object, name) for name in of_object}
    namespace["__slots__"] = frozen.__slots__
    return type(f"{frozen.__name__}Draft", frozen.__bases__, namespace)


#: See `_draft_of`.
peer_draft = _draft_of(Peer)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownAddress:
    """A snapshot of an entry in the address book.

    ``linked``: it belongs to a connected peer.  ``proven``: a node has answered
    there.  ``bootstrap``: it is one of `NodeConfig.bootstrap`.  ``failures``: failed
    dials since the last success.
    """

    target: Target
    linked: bool
    proven: bool
    bootstrap: bool
    failures: int


class Delivery:
    """The peers that a message was queued for; false if there were none.

    ``missed`` pairs each peer that could not take it with the reason: for example, a
    peer that speaks only ``mesh/1`` takes nothing but lines of chat.
    """

    __slots__ = ("_missed", "_peers")

    def __init__(
        self, peers: Sequence[Peer], missed: tuple[tuple[Peer, str], ...] = ()
    ) -> None:
        self._peers = peers
        self._missed = missed

    @property
    def peers(self) -> tuple[Peer, ...]:
        """The peers; their snapshots are taken on access."""
        # A snapshot costs more than queueing the message does.
        return tuple(self._peers)

    @property
    def missed(self) -> tuple[tuple[Peer, str], ...]:
        """The peers that could not take the message, each with the reason."""
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
    """The node is listening on ``port``; 0 if its endpoint has no port."""

    id: str
    name: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeError(Event):
    """Something went wrong that concerns no connected peer.

    ``context`` says what the node was doing, ``error`` what happened.
    """

    context: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapSucceeded(Event):
    """A bootstrap address led to a peer, perhaps one that was connected already."""

    target: Target


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapFailed(Event):
    """The dial of a bootstrap address failed; the node will retry.

    ``attempt`` counts from 1; ``retry_in`` is in seconds.
    """

    target: Target
    reason: str
    attempt: int
    retry_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerConnected(Event):
    """A peer finished the handshake.

    ``peer_count`` of the node's ``max_peers`` seats are taken, this peer's included.
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
    """The link to a peer ended; sent exactly once for each `PeerConnected`."""

    peer: Peer
    reason: CloseReason


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerReaped(Event):
    """A peer was silent too long and is dropped; its `PeerDisconnected` follows.

    ``silent_for`` is in seconds.
    """

    peer: Peer
    silent_for: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PeersDiscovered(Event):
    """A peer sent addresses that we did not know.

    ``count`` of them are new; the address book now holds ``total_known``.
    """

    peer: Peer
    count: int
    total_known: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatReceived(Event):
    """A peer sent a line of chat."""

    peer: Peer
    text: str


#: See `_draft_of`.
chat_draft = _draft_of(ChatReceived)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatsReceived(Event):
    """Lines of chat that arrived together from one peer, in order.

    The same chat as `ChatReceived`, for a program that receives too much to handle
    one call per message.  Only a subscriber that names this kind gets it.
    """

    peer: Peer
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReceived(Event):
    """A peer sent a payload: a message that is not a line of chat.

    ``headers`` are those that the sender passed with it.
    """

    peer: Peer
    payload: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerThrottled(Event):
    """A peer exceeds a rate; sent at most once in 10 seconds for each kind.

    ``ignored`` counts the ``PEERS`` and ``REQUEST_PEERS`` lines ignored since the
    last such event.  Chat is never ignored, only read later.
    """

    peer: Peer
    kind: Throttled
    ignored: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionFailed(Event):
    """A dial asked for with `MeshNode.connect` failed."""

    target: Target
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DebugEvent(Event):
    """The root of the events that matter only for debugging."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DialAttemptFailed(DebugEvent):
    """The dial of an address learned from peers failed."""

    target: Target
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRefused(DebugEvent):
    """We refused an incoming connection from ``host``.

    ``id`` and ``name`` are empty if it was refused before it said who it was.
    """

    id: str
    name: str
    host: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PingSent(DebugEvent):
    """We pinged a peer."""

    peer: Peer


@dataclass(frozen=True, slots=True, kw_only=True)
class PingReceived(DebugEvent):
    """A peer pinged us, and has been answered."""

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
    """A peer asked us for addresses, and has been answered."""

    peer: Peer


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerListReceived(DebugEvent):
    """A peer sent us addresses.

    ``skipped`` counts the entries of its line that were invalid or not believed.
    """

    peer: Peer
    addresses: tuple[PeerAddress, ...]
    skipped: int
