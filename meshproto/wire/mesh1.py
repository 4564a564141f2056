"""The wire ``mesh/1``: lines to values and values to lines.

UTF-8 lines over TCP, after the greeting (`greeting`).  We send LF and accept LF
and CRLF::

    dialler -> listener   REQUEST_PEERS        at once
    dialler -> listener   PEERS:<addr>,<addr>  share back, own address first
    listener -> dialler   PEERS:<addr>,<addr>  answers every REQUEST_PEERS
    either                PING / PONG          health check and its answer
    either                <any other text>     a chat message

An ``addr`` is ``host:port``, IPv6 in brackets.  A line has at most 16 384 bytes,
not counting the line end.

Every line that is not too long is valid: a bad entry in ``PEERS`` is skipped and
counted, bytes that are not UTF-8 become replacement characters, an empty line is
ignored, and a line with no other meaning is chat.

Chat that looks like a command is sent with a leading U+2060 (word joiner, no
width), and the receiver strips one leading U+2060, so every line of text arrives as
it was sent.  The original program trims white space before it compares, so padded
commands are escaped too.

This is the only module that knows the grammar.  It reads no clock and knows
neither sockets nor peers.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from typing import Final

from meshproto.wire.address import PeerAddress
from meshproto.wire.errors import AddressError, LineTooLong, LocalProtocolError, NoForm
from meshproto.wire.greeting import DELIMITER, encode_greeting
from meshproto.wire.messages import (
    MAX_ADDRESSES,
    MAX_RUN,
    Chat,
    Chats,
    Data,
    Greeting,
    Message,
    PeerList,
    Ping,
    Pong,
    Refusal,
    RequestPeers,
    add_chats,
)

MAX_LINE: Final = 16_384
#: Most lines and bytes that are decoded at once.  Bounded, because short lines take
#: many times their memory as values.  One piece holds a read of the transport
#: (64 KiB) and the incomplete line before it.
MAX_LINES: Final = 2048
PIECE: Final = 128 * 1024

WORD_JOINER: Final = "\u2060"

_PING = "PING"
_PONG = "PONG"
_REQUEST_PEERS = "REQUEST_PEERS"
_PEERS = "PEERS:"
#: The first characters of lines that may not be plain chat.
_SUSPECT = frozenset({"", "P", "R", WORD_JOINER})
_SUSPECT_CHARACTERS = tuple(_SUSPECT - {""})
_BEGINNING = itemgetter(slice(1))
# Only later builds of the original know the command BYTES:.  Escaping it keeps such
# a line chat there too.
_COMMAND_PREFIXES = (_PEERS, "BYTES:")
_COMMANDS = frozenset({_PING, _PONG, _REQUEST_PEERS})
#: The first characters of texts that may need the escape.
_ESCAPED = frozenset({text[0] for text in (*_COMMANDS, *_COMMAND_PREFIXES)}) | {
    WORD_JOINER
}


# Shared, so that a flood of them makes no new objects.
_WORDS: Final[dict[str, Message]] = {
    _PING: Ping(),
    _PONG: Pong(),
    _REQUEST_PEERS: RequestPeers(),
}


class Mesh1:
    """The codec of ``mesh/1``.  Stateless; its lines include their line ends."""

    name = "mesh/1"

    def __init__(
        self, *, max_line: int = MAX_LINE, max_addresses: int = MAX_ADDRESSES
    ) -> None:
        self._max_line = max_line
        self._max_addresses = max_addresses

    def read(self, data: bytes, limit: int) -> tuple[list[Message], int]:
        """Decode the lines at the beginning of ``data``.

        Returns their messages and how many bytes they took.  Consecutive chat makes
        one `Chats` of at most `MAX_RUN` texts; empty lines are ignored.  Reads
        complete lines of at most ``limit`` bytes, not counting the line end (LF or
        CRLF), and stops at `MAX_LINES` lines or `PIECE` bytes.  Returns no messages
        and 0 when the first line is incomplete or too long.
        """
        if len(data) <= limit and len(data) <= PIECE:
            # The common case, inlined to save a call.
            end = data.rfind(DELIMITER) + 1
        else:
            end = next_lines(data, limit)
        if not end:
            return [], 0
        if b"\r" in data:
            lines = data[:end].replace(b"\r\n", DELIMITER)[:-1]
        else:
            lines = data[: end - 1]
        joined = lines.decode("utf-8", "replace")
        texts = joined.split("\n", MAX_LINES)
        if len(texts) > MAX_LINES:
            texts.pop()
            end -= len(data[:end].split(DELIMITER, MAX_LINES)[-1])
        return self._messages(joined, texts), end

    def _messages(self, joined: str, texts: list[str]) -> list[Message]:
        # A line feed is never part of a longer UTF-8 sequence, so decoding the lines
        # together gives what decoding each alone would.
        if len(texts) == 1:
            # The common case, and the one where latency counts.
            if joined[:1] not in _SUSPECT:
                return [Chats((joined,))]
            is_mixed = True
        else:
            is_mixed = _may_hold_more_than_chat(joined, texts)
            if not is_mixed and len(texts) <= MAX_RUN:
                return [Chats(tuple(texts))]
        messages: list[Message] = []
        begin = 0
        if is_mixed:
            for index, text in enumerate(texts):
                if text[:1] not in _SUSPECT:
                    continue
                message = self._read(text)
                if isinstance(message, Chat):
                    texts[index] = message.text
                    continue
                add_chats(messages, texts[begin:index])
                begin = index + 1
                if message is not None:
                    messages.append(message)
            texts = texts[begin:]
        add_chats(messages, texts)
        return messages

    def encode(self, message: Message) -> bytes:
        """Encode a message as a line, line end included.

        Raises `LocalProtocolError` for a chat text that is empty, has a line break,
        cannot be encoded or is too long, and its subclass `NoForm` for a kind of
        message that this wire cannot carry.
        """
        match message:
            case Chat(text):
                return self.encode_chat(text)
            case Greeting() | Refusal():
                return encode_greeting(message)
            case Ping():
                return f"{_PING}\n".encode()
            case Pong():
                return f"{_PONG}\n".encode()
            case RequestPeers():
                return f"{_REQUEST_PEERS}\n".encode()
            case PeerList(addresses):
                return f"{_PEERS}{','.join(map(str, addresses))}\n".encode()
            case Chats(texts):
                return b"".join(map(self.encode_chat, texts))
            case _:
                what = type(message).__name__
                raise NoForm(f"mesh/1 has no form for {what}")

    def pieces(self, message: Data) -> Iterator[bytes]:
        """Raises `NoForm`: this wire cannot carry `Data`."""
        return iter((self.encode(message),))

    def encode_chat(self, text: str) -> bytes:
        """Encode a chat message as a line; raises what `encode` raises."""
        if not text:
            raise LocalProtocolError("a chat message cannot be empty")
        if "\n" in text or "\r" in text:
            raise LocalProtocolError("a chat message is one line: no line breaks")
        # For most texts the first character is enough to tell.
        first = text[0]
        if (first in _ESCAPED or first.isspace()) and _looks_like_command(text):
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

    def block_of(self, encoded: list[bytes]) -> bytes:
        """Join encoded lines."""
        return b"".join(encoded)

    def reader(self) -> Mesh1Reader:
        """A reader for a new link."""
        return Mesh1Reader(self, self._max_line)

    def _read(self, text: str) -> Message | None:
        """Read a line that may be a command; None for an empty one."""
        if not text:
            return None
        if text in _WORDS:
            return _WORDS[text]
        if text.startswith(_PEERS):
            return self._peer_list(text[len(_PEERS) :])
        return Chat(text.removeprefix(WORD_JOINER))

    def _peer_list(self, text: str) -> PeerList:
        entries = [entry.strip() for entry in text.split(",")] if text else []
        addresses: list[PeerAddress] = []
        parse, add = PeerAddress.parse, addresses.append
        for entry in entries[: self._max_addresses]:
            try:
                add(parse(entry))
            except AddressError:
                continue
        return PeerList(tuple(addresses), skipped=len(entries) - len(addresses))


class Mesh1Reader:
    """Reads the lines of one link, and keeps what is not decoded yet."""

    __slots__ = ("_limit", "_unread", "_wire", "waiting")

    def __init__(self, wire: Mesh1, limit: int) -> None:
        self._wire = wire
        self._limit = limit
        self._unread = b""
        #: Whether the next line is complete, or too long.
        self.waiting = False

    def established(self) -> None:
        """Changes nothing: the limit of a line stays the same."""

    def feed(self, data: bytes) -> list[Message]:
        """Add bytes; returns the messages of the next complete lines.

        Raises `LineTooLong` when the next line is too long.
        """
        if self._unread:
            data = self._unread + data
        messages, end = self._wire.read(data, self._limit)
        if end == len(data):
            self._unread = b""
            self.waiting = False
            return messages
        self._unread = rest = data[end:]
        is_too_long = len(rest.removesuffix(b"\r")) > self._limit
        self.waiting = is_too_long or DELIMITER in rest
        if is_too_long and not end:
            raise LineTooLong(f"more than {self._limit} bytes")
        return messages


def _looks_like_command(text: str) -> bool:
    trimmed = text.strip()
    return (
        trimmed in _COMMANDS
        or trimmed.startswith(_COMMAND_PREFIXES)
        or text.startswith(WORD_JOINER)
    )


def _may_hold_more_than_chat(joined: str, texts: list[str]) -> bool:
    # Searching the joined text for a character costs next to nothing.
    for character in _SUSPECT_CHARACTERS:
        if character in joined:
            return not _SUSPECT.isdisjoint(map(_BEGINNING, texts))
    return not all(texts)


def next_lines(data: bytes, limit: int) -> int:
    """How many bytes at the beginning of ``data`` to decode next.

    They are complete lines of at most ``limit`` bytes, not counting the line end (LF
    or CRLF), and at most `PIECE` bytes in all, but always include the first line if
    it is complete and fits.
    """
    most = len(data)
    if most > PIECE:
        most = PIECE
    end = 0
    while end < most:
        # Up to the last line feed within the limit every line is short enough.
        stop = end + limit + 1
        newline = data.rfind(DELIMITER, end, stop if stop < most else most)
        if newline < 0:
            if end and stop > most:
                break
            newline = data.find(DELIMITER, end, stop + 1)
            if newline < 0 or (newline == stop and data[newline - 1 : stop] != b"\r"):
                break
        end = newline + 1
    return end
