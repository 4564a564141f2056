"""What nodes can say to each other: one set of values for every wire."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Final

from meshproto.wire.address import PeerAddress
from meshproto.wire.errors import LocalProtocolError

MAX_ID: Final = 64
MAX_NAME: Final = 64
MAX_ADDRESSES: Final = 100
#: Chat messages that are handed on as one.
MAX_RUN: Final = 512
#: Bytes of the largest message in ``mesh/2``, unless a node says less.
MAX_PAYLOAD: Final = 1024 * 1024
#: Headers of one message, and the bytes of their keys and values together.
MAX_HEADERS: Final = 64
MAX_HEADER_BYTES: Final = 4096
MAX_FEATURES: Final = 64
#: Every number in ``mesh/2`` fits into 63 bits.
MAX_NUMBER: Final = 2**63 - 1

# The first words of lines in ``mesh/1``: a greeting must not look like one.
_RESERVED_IDS = frozenset(
    {"PING", "PONG", "REQUEST_PEERS", "PEERS", "BYTES", "DUPLICATE", "MAX_PEERS"}
)
_ID = re.compile(r"[!-9;-~]{1,64}\Z")
_IDENTITY = re.compile(r"[0-9a-f]{32,64}\Z")
_NONCE = re.compile(r"[0-9a-f]{32}\Z")
_TOKEN = re.compile(r"[0-9A-Za-z._-]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class Greeting:
    """``ID:NAME``: who is at the other end.

    ``mesh2``: it speaks ``mesh/2`` as well, which a tab behind the name says.

    Raises `ValueError` (the text says what is wrong) for an ID or a name that
    the grammar does not allow, so no such value exists.
    """

    id: str
    name: str
    mesh2: bool = False

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
    with one identity.  Raises `ValueError` for a counter below 0 or above
    `MAX_NUMBER`, and for a nonce that is not 32 lower-case hexadecimal digits.
    """

    counter: int
    nonce: str

    def __post_init__(self) -> None:
        check_number("a counter", self.counter)
        if not _NONCE.match(self.nonce):
            raise ValueError("a nonce is 32 lower-case hexadecimal digits")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Who a node is, in ``mesh/2``.

    ``identity`` is opaque, 32 to 64 lower-case hexadecimal digits.  ``link`` is the
    sender's own number for this link; ``ended``, which only a dialler says, is the
    listener's number for the last link with it that has ended here.  ``mesh`` is
    the name of the mesh that the sender belongs to, spelled as a node's name is, or
    empty.  ``addresses`` are where the sender listens, `MAX_ADDRESSES` at most.
    ``features`` are words as `check_token` takes them.  ``max_payload`` is the
    largest message, in bytes, that the sender takes, its headers included.
    ``headers`` are what the application says of the node; see `check_headers`.

    Raises `ValueError` (the text says what is wrong) for anything else, so every
    `Hello` fits into one frame.
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

    def __post_init__(self) -> None:
        if not _IDENTITY.match(self.identity):
            raise ValueError("an identity is 32 to 64 lower-case hexadecimal digits")
        check_number("the number of a link", self.link)
        if self.ended is not None:
            check_number("the number of a link", self.ended)
        check_id(self.id)
        check_name(self.name)
        if self.mesh:
            check_name(self.mesh)
        if len(self.addresses) > MAX_ADDRESSES:
            raise ValueError(f"a node has at most {MAX_ADDRESSES} addresses")
        if len(self.features) > MAX_FEATURES:
            raise ValueError(f"a node has at most {MAX_FEATURES} features")
        for feature in self.features:
            check_token("a feature", feature)
        check_number("max_payload", self.max_payload)
        check_headers(self.headers)


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
    #: A reason that this version does not know.
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Refused:
    """The listener's verdict in ``mesh/2``: the dialler may not come in."""

    reason: RefusalReason


@dataclass(frozen=True, slots=True)
class Ready:
    """The dialler's verdict in ``mesh/2``: the link is established."""


@dataclass(frozen=True, slots=True)
class Ping:
    """Health check: to be answered with `Pong`.

    In ``mesh/2`` it may have a token, which the answer repeats, so that the round
    trip can be measured.  ``mesh/1`` sends none.  Raises `ValueError` for a token
    that `check_token` does not take.
    """

    token: str = ""

    def __post_init__(self) -> None:
        if self.token:
            check_token("a token", self.token)


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to `Ping`, with its token."""

    token: str = ""

    def __post_init__(self) -> None:
        if self.token:
            check_token("a token", self.token)


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


@dataclass(frozen=True, slots=True)
class Data:
    """A message of any bytes, with headers.  ``mesh/2`` only.

    Raises `ValueError` for headers that `check_headers` does not take.
    """

    payload: bytes
    headers: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.headers:
            check_headers(self.headers)

    @property
    def size(self) -> int:
        """Bytes of the message as ``mesh/2`` counts them, its headers included."""
        return len(self.payload) + sum(map(_size_of_field, self.headers))


def _size_of_field(field: tuple[str, str]) -> int:
    key, value = field
    # ``key: value`` and a line feed; each of these takes two bytes.
    escapes = value.count("\\") + value.count("\n") + value.count("\r")
    return len(key) + len(value.encode()) + escapes + 3


#: Everything that can be said; which of it a wire has a form for is its own business.
Message = (
    Greeting
    | Refusal
    | Hello
    | Welcome
    | Refused
    | Ready
    | Ping
    | Pong
    | RequestPeers
    | PeerList
    | Chat
    | Chats
    | Data
)


def payload_of(
    message: str | bytes, headers: Mapping[str, str] | None, *, longest: float = inf
) -> Data | None:
    """The message as a payload; None when it is chat.

    Chat is a line of at most ``longest`` bytes, and has no headers.  Raises
    `LocalProtocolError` for a text or headers that cannot be sent, and `TypeError`
    for what is neither text nor bytes, and headers that are no mapping of texts.
    """
    if not isinstance(headers, Mapping | None):
        raise TypeError(f"headers are a mapping of texts, not {headers!r}")
    if isinstance(message, str):
        if (
            not headers
            and "\n" not in message
            and "\r" not in message
            and (4 * len(message) <= longest or _size_of(message) <= longest)
        ):
            return None
        try:
            message = message.encode("utf-8")
        except UnicodeEncodeError:
            raise LocalProtocolError(
                "a message is Unicode text: no lone surrogates"
            ) from None
    elif not isinstance(message, bytes | bytearray | memoryview):
        raise TypeError(f"a message is text or bytes, not {type(message).__name__}")
    try:
        return Data(bytes(message), tuple((headers or {}).items()))
    except ValueError as error:
        raise LocalProtocolError(f"headers: {error}") from None


def _size_of(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


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


def check_token(what: str, text: str) -> None:
    """Raise `ValueError` unless the text is 1 to 64 ASCII letters, digits, ``._-``."""
    if not _TOKEN.match(text):
        raise ValueError(
            f"{what} is 1 to 64 ASCII letters, digits, dots, underscores and hyphens, "
            f"not {text[:40]!a}"
        )


def check_number(what: str, number: int) -> None:
    """Raise `ValueError` unless the number is from 0 to `MAX_NUMBER`."""
    if not 0 <= number <= MAX_NUMBER:
        raise ValueError(f"{what} is from 0 to {MAX_NUMBER}")


def check_headers(headers: tuple[tuple[str, str], ...]) -> None:
    """Raise `ValueError` unless these can be the headers of a message.

    A key is what `check_token` takes, and no key comes twice.  A value is any
    Unicode text.  There are at most `MAX_HEADERS`, with at most `MAX_HEADER_BYTES`
    bytes of UTF-8 in all.  Raises `TypeError` for what is not text.
    """
    if len(headers) > MAX_HEADERS:
        raise ValueError(f"{len(headers)} headers are more than {MAX_HEADERS}")
    size = 0
    for key, value in headers:
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"the header {key!r}: {value!r} is not text")
        check_token("the key of a header", key)
        try:
            size += len(key) + len(value.encode("utf-8"))
        except UnicodeEncodeError:
            raise ValueError(f"the header {key} has a lone surrogate") from None
    if size > MAX_HEADER_BYTES:
        raise ValueError(f"headers of {size} bytes are more than {MAX_HEADER_BYTES}")
    if len(dict(headers)) < len(headers):
        raise ValueError("a header comes once")


class Headers(Mapping[str, str]):
    """Headers that cannot be changed, and so can be hashed.

    Raises what `check_headers` raises.
    """

    __slots__ = ("_values",)

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        self._values = dict(headers or {})
        if self._values:
            check_headers(tuple(self._values.items()))

    def __getitem__(self, key: str) -> str:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(frozenset(self._values.items()))

    def __repr__(self) -> str:
        return repr(self._values)


NO_HEADERS: Final = Headers()
