"""What nodes can say to each other: one set of values for every wire."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from meshproto.wire.address import PeerAddress

MAX_ID: Final = 64
MAX_NAME: Final = 64
MAX_ADDRESSES: Final = 100
#: Chat messages that are handed on as one.
MAX_RUN: Final = 512
#: Bytes of the largest message in ``mesh/2``, unless a node says less.
MAX_PAYLOAD: Final = 1024 * 1024

# The first words of lines in ``mesh/1``: a greeting must not look like one.
_RESERVED_IDS = frozenset(
    {"PING", "PONG", "REQUEST_PEERS", "PEERS", "BYTES", "DUPLICATE", "MAX_PEERS"}
)
_ID = re.compile(r"[!-9;-~]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class Greeting:
    """``ID:NAME``: who is at the other end.

    Raises `ValueError` (the text says what is wrong) for an ID or a name that
    the grammar does not allow, so no such value exists.
    """

    id: str
    name: str

    def __post_init__(self) -> None:
        check_id(self.id)
        check_name(self.name)


class Refusal(Enum):
    """Why a listener turned a dialler away."""

    #: A peer of that ID, from that host, is connected already.
    DUPLICATE = "DUPLICATE"
    #: No seat is left.
    MAX_PEERS = "MAX_PEERS"


@dataclass(frozen=True, slots=True, order=True)
class Incarnation:
    """One life of an identity: a counter that is kept with it, and 128 random bits.

    The greater counter is the later life.  Two lives of one counter are two nodes
    with one identity.
    """

    counter: int
    nonce: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Who a node is, in ``mesh/2``.

    ``identity`` is opaque, 32 to 64 lower-case hexadecimal digits.  ``link`` is the
    sender's own number for this link; ``ended``, which only a dialler says, is the
    listener's number for the last link with it that has ended here.  ``mesh`` is
    the name of the mesh that the sender belongs to.  ``max_payload`` is the largest
    message, in bytes, that it takes.
    """

    identity: str
    incarnation: Incarnation
    link: int
    ended: int | None = None
    id: str
    name: str
    mesh: str = ""
    addresses: tuple[PeerAddress, ...] = ()
    features: frozenset[str] = frozenset()
    max_payload: int = MAX_PAYLOAD
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Welcome:
    """The listener's verdict in ``mesh/2``: the dialler may come in."""


class RefusalReason(Enum):
    """Why a listener refuses a dialler in ``mesh/2``."""

    #: The peer has a live link already.
    DUPLICATE = "duplicate"
    #: Our own dial to the peer is under way, and wins.
    CROSSING = "crossing"
    #: No seat is left.
    FULL = "full"
    #: The far end belongs to another mesh.
    ANOTHER_MESH = "another-mesh"
    #: The far end is this very node.
    OURSELVES = "ourselves"
    #: The identity has had a later life already.
    OUTDATED = "outdated"
    #: One identity is used by several nodes: its data directory was copied.
    CLONED = "cloned"


@dataclass(frozen=True, slots=True)
class Refused:
    """The listener's verdict in ``mesh/2``: the dialler may not come in."""

    reason: RefusalReason


@dataclass(frozen=True, slots=True)
class Ready:
    """The dialler's verdict in ``mesh/2``: the link is established."""


@dataclass(frozen=True, slots=True)
class Ping:
    """Health check: to be answered with `Pong`."""


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to `Ping`."""


@dataclass(frozen=True, slots=True)
class RequestPeers:
    """To be answered with `PeerList`."""


@dataclass(frozen=True, slots=True)
class PeerList:
    """Addresses of peers, the sender's own first.

    ``skipped`` counts the entries of a received line that were no addresses,
    or too many.
    """

    addresses: tuple[PeerAddress, ...]
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Chat:
    """A message of one line, as its author writes it."""

    text: str


@dataclass(frozen=True, slots=True)
class Chats:
    """Chat messages that arrived one after the other, `MAX_RUN` at most."""

    texts: tuple[str, ...]


Message = Greeting | Refusal | Ping | Pong | RequestPeers | PeerList | Chat | Chats


def is_id(text: str) -> bool:
    """Whether the text has the form of an ID, which `check_id` tells of."""
    return bool(_ID.match(text))


def check_id(text: str) -> None:
    """Raise `ValueError` unless the text can be a node's ID.

    An ID is 1 to 64 printable ASCII characters without space and colon, and
    not one of the command words.
    """
    if not is_id(text):
        raise ValueError(
            f"an ID is 1 to {MAX_ID} printable ASCII characters without space and colon"
        )
    if text in _RESERVED_IDS:
        raise ValueError(f"{text} is a word of the protocol, not an ID")


def check_name(text: str) -> None:
    """Raise `ValueError` unless the text can be a node's name.

    A name is 1 to 64 printable characters (Unicode's sense: no control, format
    or line-separating characters) that neither begins nor ends with a space.
    """
    if not (1 <= len(text) <= MAX_NAME and text.isprintable()):
        raise ValueError(f"a name is 1 to {MAX_NAME} printable characters")
    if text != text.strip(" "):
        raise ValueError("a name neither begins nor ends with a space")
