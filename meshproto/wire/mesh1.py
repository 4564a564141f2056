"""The wire, ``mesh/1``: lines to values and values to lines.

UTF-8 lines over TCP, after the greeting (`greeting`).  We send LF; we take LF
and CRLF::

    dialler -> listener   REQUEST_PEERS        at once
    dialler -> listener   PEERS:<addr>,<addr>  share back, own address first
    listener -> dialler   PEERS:<addr>,<addr>  answers every REQUEST_PEERS
    either                PING / PONG          health check and its answer
    either                <any other text>     a chat message

An ``addr`` is ``host:port``, IPv6 in brackets.  A line holds at most 16 384
bytes, the line end not counted.

Nothing is nonsense: a bad entry in ``PEERS`` is skipped and counted, bytes that
are not UTF-8 become replacement characters, an empty line is ignored, and a line
with no other meaning is chat.

Chat that would be read as a command is sent with U+2060 (word joiner, no
width) before it, and one leading U+2060 is taken off on arrival, so every line
of text arrives as it was sent.  The original program trims white space before
it compares, so a padded command counts as a command here.

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
)

MAX_LINE: Final = 16_384
#: Lines and bytes that are decoded at once: as values, short lines take many
#: times their memory.  What a transport reads at once (64 KiB), with the line
#: that was incomplete before it, is one piece.
MAX_LINES: Final = 2048
PIECE: Final = 128 * 1024

WORD_JOINER: Final = "\u2060"

_PING = "PING"
_PONG = "PONG"
_REQUEST_PEERS = "REQUEST_PEERS"
_PEERS = "PEERS:"
#: With what a line that is not simply chat can begin.
_SUSPECT = frozenset({"", "P", "R", WORD_JOINER})
_SUSPECT_CHARACTERS = tuple(_SUSPECT - {""})
_BEGINNING = itemgetter(slice(1))
# BYTES: is a command only to later builds of the original; the escape costs
# nothing and keeps such a line chat there too.
_COMMAND_PREFIXES = (_PEERS, "BYTES:")
_COMMANDS = frozenset({_PING, _PONG, _REQUEST_PEERS})
#: With what a text can begin that has to be told from a command.
_ESCAPED = frozenset({text[0] for text in (*_COMMANDS, *_COMMAND_PREFIXES)}) | {
    WORD_JOINER
}


# One of each: a flood of them is a list of the same.
_WORDS: Final[dict[str, Message]] = {
    _PING: Ping(),
    _PONG: Pong(),
    _REQUEST_PEERS: RequestPeers(),
}


class Mesh1:
    """The codec of ``mesh/1``: lines in and out, with their line ends, and no state."""

    name = "mesh/1"

    def __init__(
        self, *, max_line: int = MAX_LINE, max_addresses: int = MAX_ADDRESSES
    ) -> None:
        self._max_line = max_line
        self._max_addresses = max_addresses

    def read(self, data: bytes, limit: int) -> tuple[list[Message], int]:
        """What the lines at the beginning say, and how many bytes they are.

        Chat that is not interrupted makes one `Chats`; empty lines say nothing.  As
        many lines as are complete and have at most ``limit`` bytes without
        their line end (LF or CRLF), but no more than `MAX_LINES`, nor than
        `PIECE` bytes.  None, and 0 bytes, when the first line is not complete or
        too long.
        """
        if len(data) <= limit and len(data) <= PIECE:
            # Nearly always, and not worth a call.
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
        # A line feed is no part of a longer UTF-8 sequence, so each text is what
        # its line says by itself.
        if len(texts) == 1:
            # Nearly always, and a single message waits for nothing else.
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
                _add_chats(messages, texts[begin:index])
                begin = index + 1
                if message is not None:
                    messages.append(message)
            texts = texts[begin:]
        _add_chats(messages, texts)
        return messages

    def encode(self, message: Message) -> bytes:
        """The line that says it, with its line end.

        Raises `LocalProtocolError` for a chat text that has no form on this
        wire: empty, with a line break, not encodable, or too long.
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
        """Raises `NoForm`: only lines of chat have a form here."""
        return iter((self.encode(message),))

    def encode_chat(self, text: str) -> bytes:
        """The line of a chat message; raises what `encode` raises."""
        if not text:
            raise LocalProtocolError("a chat message cannot be empty")
        if "\n" in text or "\r" in text:
            raise LocalProtocolError("a chat message is one line: no line breaks")
        # Most texts need no more than this look at their first character.
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
        """Encoded lines as one piece."""
        return b"".join(encoded)

    def reader(self) -> Mesh1Reader:
        """The reading side of a new link."""
        return Mesh1Reader(self, self._max_line)

    def _read(self, text: str) -> Message | None:
        """What a line says that begins as a command does; None for nothing."""
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
    """The lines of one link: what has arrived of them and is not decoded yet."""

    __slots__ = ("_limit", "_unread", "_wire", "waiting")

    def __init__(self, wire: Mesh1, limit: int) -> None:
        self._wire = wire
        self._limit = limit
        self._unread = b""
        #: Whether a line is complete, or too long.
        self.waiting = False

    def established(self) -> None:
        """A line is as long afterwards as before."""

    def feed(self, data: bytes) -> list[Message]:
        """Add bytes; returns what the next complete lines say.

        Raises `LineTooLong` when the next line is.
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
    # To look for a character in all lines at once costs next to nothing.
    for character in _SUSPECT_CHARACTERS:
        if character in joined:
            return not _SUSPECT.isdisjoint(map(_BEGINNING, texts))
    return not all(texts)


def _add_chats(messages: list[Message], texts: list[str]) -> None:
    for begin in range(0, len(texts), MAX_RUN):
        messages.append(Chats(tuple(texts[begin : begin + MAX_RUN])))


def next_lines(data: bytes, limit: int) -> int:
    """How many bytes at the beginning of ``data`` are lines to be decoded next.

    They are complete, and have at most ``limit`` bytes without their line end (LF
    or CRLF).  There are no more of them than `PIECE` bytes hold, and one at least
    if the first is complete and fits.
    """
    most = len(data)
    if most > PIECE:
        most = PIECE
    end = 0
    while end < most:
        # The last line feed that lines starting here can share one limit with.
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
