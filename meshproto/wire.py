"""The wire, ``mesh/1``: lines to values and values to lines.

UTF-8 lines over TCP.  We send LF; we take LF and CRLF::

    dialler -> listener   ID:NAME              who I am
    listener -> dialler   ID:NAME              welcome; this is me
                          DUPLICATE            refused: I have that peer; closes
                          MAX_PEERS            refused: no seat left; closes
    dialler -> listener   REQUEST_PEERS        at once
    dialler -> listener   PEERS:<addr>,<addr>  share back, own address first
    listener -> dialler   PEERS:<addr>,<addr>  answers every REQUEST_PEERS
    either                PING / PONG          health check and its answer
    either                <any other text>     a chat message

An ``addr`` is ``host:port``, IPv6 in brackets.  A line holds at most 16 384
bytes, a handshake line 512, the line end not counted.

What is nonsense, and what becomes of it:

* in the handshake, anything but the lines above raises `RemoteProtocolError`:
  the link is closed without an answer;
* after it nothing is nonsense: a bad entry in ``PEERS`` is skipped and
  counted, bytes that are not UTF-8 become replacement characters, an empty
  line is ignored, and a line with no other meaning is chat.

Chat that would be read as a command is sent with U+2060 (word joiner, no
width) before it, and one leading U+2060 is taken off on arrival, so every line
of text arrives as it was sent.  The original program trims white space before
it compares, so a padded command counts as a command here.

This is the only module that knows the grammar.  It reads no clock, holds no
state and knows neither sockets nor peers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from meshproto.address import PeerAddress
from meshproto.errors import AddressError, LocalProtocolError, RemoteProtocolError

DELIMITER: Final = b"\n"
MAX_LINE: Final = 16_384
MAX_HANDSHAKE_LINE: Final = 512
MAX_ID: Final = 64
MAX_NAME: Final = 64
#: Bytes of the longest ``ID:NAME``: a character of a name takes up to four.
MAX_HELLO: Final = MAX_ID + 1 + 4 * MAX_NAME
MAX_ADDRESSES: Final = 100

WORD_JOINER: Final = "\u2060"

_PING = b"PING"
_PONG = b"PONG"
_REQUEST_PEERS = b"REQUEST_PEERS"
_PEERS = b"PEERS:"
# BYTES: is a command only to later builds of the original; the escape costs
# nothing and keeps such a line chat there too.
_COMMAND_PREFIXES = ("PEERS:", "BYTES:")
_COMMANDS = frozenset({"PING", "PONG", "REQUEST_PEERS"})
_RESERVED_IDS = _COMMANDS | {"PEERS", "BYTES", "DUPLICATE", "MAX_PEERS"}
_ID = re.compile(r"[!-9;-~]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class Hello:
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
    """A message of one line, as its author wrote it."""

    text: str


@dataclass(frozen=True, slots=True)
class Blank:
    """An empty line: nothing was said."""


Message = Hello | Refusal | Ping | Pong | RequestPeers | PeerList | Chat | Blank


def check_id(text: str) -> None:
    """Raise `ValueError` unless the text can be a node's ID.

    An ID is 1 to 64 printable ASCII characters without space and colon, and
    not one of the command words.
    """
    if not _ID.match(text):
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


class Mesh1:
    """The codec of ``mesh/1``: one line in or out, no state.

    Lines go in and come out without their line end.
    """

    def __init__(
        self, *, max_line: int = MAX_LINE, max_addresses: int = MAX_ADDRESSES
    ) -> None:
        self._max_line = max_line
        self._max_addresses = max_addresses

    def decode_greeting(self, line: bytes) -> Hello:
        """What a dialler's first line says.

        Raises `RemoteProtocolError` with the reason when it is no ``ID:NAME``.
        """
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            raise RemoteProtocolError("handshake is not UTF-8") from None
        id, _, name = text.partition(":")
        try:
            return Hello(id, name.strip(" ") or id)
        except ValueError as error:
            raise RemoteProtocolError(f"bad handshake: {error}") from None

    def decode_answer(self, line: bytes) -> Hello | Refusal:
        """What a listener answers to the greeting.

        Raises `RemoteProtocolError` with the reason when it is neither
        ``ID:NAME`` nor a refusal.
        """
        for refusal in Refusal:
            if line == refusal.value.encode("ascii"):
                return refusal
        return self.decode_greeting(line)

    def decode(self, line: bytes) -> Message:
        """What a line after the handshake says.  Never raises."""
        if not line:
            return Blank()
        if line == _PING:
            return Ping()
        if line == _PONG:
            return Pong()
        if line == _REQUEST_PEERS:
            return RequestPeers()
        text = line.decode("utf-8", "replace")
        if line.startswith(_PEERS):
            return self._peer_list(text[len(_PEERS) :])
        return Chat(text.removeprefix(WORD_JOINER))

    def encode(self, message: Message) -> bytes:
        """The line that says it, with its line end.

        Raises `LocalProtocolError` for a chat text that has no form on this
        wire: empty, with a line break, not encodable, or too long.
        """
        match message:
            case Chat(text):
                return self._chat(text)
            case Hello(id, name):
                return f"{id}:{name}\n".encode()
            case Refusal():
                return f"{message.value}\n".encode()
            case Ping():
                return _PING + DELIMITER
            case Pong():
                return _PONG + DELIMITER
            case RequestPeers():
                return _REQUEST_PEERS + DELIMITER
            case PeerList(addresses):
                return f"PEERS:{','.join(map(str, addresses))}\n".encode()
            case Blank():
                return DELIMITER

    def _peer_list(self, text: str) -> PeerList:
        entries = [entry.strip() for entry in text.split(",")] if text else []
        addresses = []
        for entry in entries[: self._max_addresses]:
            try:
                addresses.append(PeerAddress.parse(entry))
            except AddressError:
                continue
        return PeerList(tuple(addresses), skipped=len(entries) - len(addresses))

    def _chat(self, text: str) -> bytes:
        if not text:
            raise LocalProtocolError("a chat message cannot be empty")
        if "\n" in text or "\r" in text:
            raise LocalProtocolError("a chat message is one line: no line breaks")
        trimmed = text.strip()
        if (
            trimmed in _COMMANDS
            or trimmed.startswith(_COMMAND_PREFIXES)
            or text.startswith(WORD_JOINER)
        ):
            text = WORD_JOINER + text
        try:
            line = text.encode("utf-8")
        except UnicodeEncodeError:
            raise LocalProtocolError(
                "a chat message is Unicode text: no lone surrogates"
            ) from None
        if len(line) > self._max_line:
            raise LocalProtocolError(
                f"a chat message is at most {self._max_line} bytes, "
                f"this one has {len(line)}"
            )
        return line + DELIMITER
