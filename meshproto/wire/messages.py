"""The messages of nodes: one set of values for every wire."""

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
#: Most chat messages that are handed on together.
MAX_RUN: Final = 512
#: Bytes of the largest message in ``mesh/2``, headers included; a node may accept
#: less.
MAX_PAYLOAD: Final = 1024 * 1024
#: Most headers of one message, and most bytes of their keys and values together.
MAX_HEADERS: Final = 64
MAX_HEADER_BYTES: Final = 4096
MAX_FEATURES: Final = 64
#: Every number in ``mesh/2`` fits into 63 bits.
MAX_NUMBER: Final = 2**63 - 1

# The command words of ``mesh/1``: a greeting must not look like a command.
_RESERVED_IDS = frozenset(
    {"PING", "PONG", "REQUEST_PEERS", "PEERS", "BYTES", "DUPLICATE", "MAX_PEERS"}
)
_ID = re.compile(r"[!-9;-~]{1,64}\Z")
_IDENTITY = re.compile(r"[0-9a-f]{32,64}\Z")
_NONCE = re.compile(r"[0-9a-f]{32}\Z")
_TOKEN = re.compile(r"[0-9A-Za-z._-]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class Greeting:
    """``ID:NAME``: who the sender is.

    ``mesh2`` says that it also speaks ``mesh/2``; on the wire that is a trailing
    tab.

    Raises `ValueError` (the text says what is wrong) for an ID or a name that
    the grammar does not allow.
    """

    id: str
    name: str
    mesh2: bool = False

    def __post_init__(self) -> None:
        check_id(self.id)
        check_name(self.name)


class Refusal(Enum):
    """Why a listener refuses a dialler in ``mesh/1``."""

    #: A peer with that ID and host is already connected.
    DUPLICATE = "DUPLICATE"
    #: No seat is left.
    MAX_PEERS = "MAX_PEERS"


@dataclass(frozen=True, slots=True, order=True)
class Incarnation:
    """One run of the node with an identity: a stored counter and 128 random bits.

    The greater counter is the later incarnation.  Two with the same counter and
    different nonces are two nodes that share one identity.  Raises `ValueError` for
    a counter below 0 or above `MAX_NUMBER`, and for a nonce that is not 32
    lower-case hexadecimal digits.
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

    ``identity`` is opaque: 32 to 64 lower-case hexadecimal digits.  ``link`` is the
    sender's own number for this link.  ``ended``, sent only by a dialler, is the
    listener's number for their last link that ended at the dialler.  ``mesh`` is the
    name of the sender's mesh, with the syntax of a node's name, or empty.
    ``addresses`` are where the sender listens, at most `MAX_ADDRESSES`.
    ``features`` are words that `check_token` accepts.  ``max_payload`` is the
    largest message, in bytes with its headers, that the sender accepts.
    ``headers`` are what the application says about the node; see `check_headers`.

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
    """The listener accepts the dialler, in ``mesh/2``."""


class RefusalReason(Enum):
    """Why a listener refuses a dialler in ``mesh/2``."""

    #: The peer already has a live link.
    DUPLICATE = "duplicate"
    #: Our own dial to the peer is under way, and wins.
    CROSSING = "crossing"
    #: No seat is left.
    FULL = "full"
    #: The far end belongs to another mesh.
    ANOTHER_MESH = "another-mesh"
    #: The node has dialled itself.
    OURSELVES = "ourselves"
    #: A later incarnation of the identity has already been seen.
    OUTDATED = "outdated"
    #: Several nodes use one identity: its data directory was copied.
    CLONED = "cloned"
    #: A reason unknown to this version.
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Refused:
    """The listener refuses the dialler, in ``mesh/2``."""

    reason: RefusalReason


@dataclass(frozen=True, slots=True)
class Ready:
    """The dialler confirms that the link is established, in ``mesh/2``."""


@dataclass(frozen=True, slots=True)
class Ping:
    """Health check; the answer is `Pong`.

    In ``mesh/2`` it may carry a token, which the answer repeats so that the round
    trip can be measured; ``mesh/1`` sends no token.  Raises `ValueError` for a token
    that `check_token` rejects.
    """

    token: str = ""

    def __post_init__(self) -> None:
        if self.token:
            check_token("a token", self.token)


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to `Ping`, with its token; raises what `Ping` raises."""

    token: str = ""

    def __post_init__(self) -> None:
        if self.token:
            check_token("a token", self.token)


@dataclass(frozen=True, slots=True)
class RequestPeers:
    """Asks for a `PeerList`."""


@dataclass(frozen=True, slots=True)
class PeerList:
    """Addresses of peers, the sender's own first.

    ``skipped`` counts the received entries that were not valid addresses, or were
    above the maximum.
    """

    addresses: tuple[PeerAddress, ...]
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Chat:
    """A message of one line, without its wire encoding."""

    text: str


@dataclass(frozen=True, slots=True)
class Chats:
    """Consecutive chat messages, at most `MAX_RUN`."""

    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Data:
    """A message of any bytes, with headers; ``mesh/2`` only.

    Raises `ValueError` or `TypeError` for headers that `check_headers` rejects.
    """

    payload: bytes
    headers: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.headers:
            check_headers(self.headers)

    @property
    def size(self) -> int:
        """Bytes of the message as ``mesh/2`` counts them, headers included."""
        return len(self.payload) + sum(map(_size_of_field, self.headers))


def _size_of_field(field: tuple[str, str]) -> int:
    key, value = field
    # ``key: value`` and a line feed; an escaped character takes two bytes.
    escapes = value.count("\\") + value.count("\n") + value.count("\r")
    return len(key) + len(value.encode()) + escapes + 3


#: Every message.  Each wire can carry only some of them.
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


def add_chats(messages: list[Message], texts: list[str]) -> None:
    """Add chat to messages, as runs of at most `MAX_RUN`."""
    if 0 < len(texts) <= MAX_RUN:
        messages.append(Chats(tuple(texts)))
        return
    for begin in range(0, len(texts), MAX_RUN):
        messages.append(Chats(tuple(texts[begin : begin + MAX_RUN])))


def payload_of(
    message: str | bytes, headers: Mapping[str, str] | None, *, longest: float = inf
) -> Data | None:
    """The message as `Data`, or None when it can be sent as chat.

    Chat is one line of at most ``longest`` bytes, without headers.  Raises
    `LocalProtocolError` for a text or headers that cannot be sent, and `TypeError`
    for a message that is neither text nor bytes, or headers that are not a mapping
    of texts.
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
    """Whether the text has the syntax of an ID; it may still be a command word."""
    return bool(_ID.match(text))


def check_id(text: str) -> None:
    """Raise `ValueError` unless the text can be a node's ID.

    An ID is 1 to 64 printable ASCII characters without space or colon, and is not
    a command word.
    """
    if not is_id(text):
        raise ValueError(
            f"an ID is 1 to {MAX_ID} printable ASCII characters without space and colon"
        )
    if text in _RESERVED_IDS:
        raise ValueError(f"{text} is a word of the protocol, not an ID")


def check_name(text: str) -> None:
    """Raise `ValueError` unless the text can be a node's name.

    A name is 1 to 64 printable characters (as Unicode defines it: no control, format
    or line-separating characters), and neither begins nor ends with a space.
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

    Keys are unique and accepted by `check_token`.  A value is any Unicode text.
    There are at most `MAX_HEADERS` headers, with at most `MAX_HEADER_BYTES` bytes
    of UTF-8 in all.  Raises `TypeError` for a key or a value that is not text.
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
    """Immutable headers, which can therefore be hashed.

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
