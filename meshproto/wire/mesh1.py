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

from operator import itemgetter
from typing import Final

from meshproto.wire import greeting
from meshproto.wire.address import PeerAddress
from meshproto.wire.errors import AddressError, LocalProtocolError
from meshproto.wire.messages import (
    MAX_ADDRESSES,
    MAX_RUN,
    Chat,
    Chats,
    Greeting,
    Message,
    PeerList,
    Ping,
    Pong,
    Refusal,
    RequestPeers,
)

DELIMITER: Final = greeting.DELIMITER
MAX_GREETING: Final = greeting.MAX_GREETING
MAX_LINE: Final = 16_384
MAX_HANDSHAKE_LINE: Final = 512
#: Lines and bytes that are decoded at once: as values, short lines take many
#: times their memory.  What a transport reads at once (64 KiB), with the line
#: that was incomplete before it, is one piece.
MAX_LINES: Final = 2048
PIECE: Final = 128 * 1024

#: What to tell of a far end that does not begin as a node does.
not_a_node = greeting.not_a_node

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
    """The codec of ``mesh/1``: one line in or out, no state.

    Lines go in and come out without their line end.
    """

    def __init__(
        self, *, max_line: int = MAX_LINE, max_addresses: int = MAX_ADDRESSES
    ) -> None:
        self._max_line = max_line
        self._max_addresses = max_addresses

    def decode_greeting(self, line: bytes) -> Greeting:
        """What a dialler's first line says.  One tab at its end says nothing here.

        Raises `RemoteProtocolError` with the reason when it is no ``ID:NAME``.
        """
        return greeting.decode_greeting(line)[0]

    def decode_answer(self, line: bytes) -> Greeting | Refusal:
        """What a listener answers to the greeting.

        Raises `RemoteProtocolError` with the reason when it is neither
        ``ID:NAME`` nor a refusal.
        """
        for refusal in Refusal:
            if line == refusal.value.encode("ascii"):
                return refusal
        return self.decode_greeting(line)

    def read(self, data: bytes, limit: int) -> tuple[list[Message], int]:
        """What the lines at the beginning say, and how many bytes they are.

        As many lines as are complete and have at most ``limit`` bytes without
        their line end (LF or CRLF), but no more than `MAX_LINES`, nor than
        `PIECE` bytes.  None, and 0 bytes, when the first line is not complete or
        too long.
        """
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

    def decode(self, lines: bytes) -> list[Message]:
        """What lines after the handshake say.  Never raises.

        ``lines`` are one or more, with a line feed between them.  Chat that is
        not interrupted makes one `Chats`; empty lines say nothing.
        """
        joined = lines.decode("utf-8", "replace")
        return self._messages(joined, joined.split("\n"))

    def _messages(self, joined: str, texts: list[str]) -> list[Message]:
        # A line feed is no part of a longer UTF-8 sequence, so each text is what
        # its line says by itself.
        messages: list[Message] = []
        begin = 0
        if _may_hold_more_than_chat(joined, texts):
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
            case Greeting():
                return greeting.encode_greeting(message)
            case Refusal():
                return f"{message.value}\n".encode()
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
            break
    else:
        if all(texts):
            return False
    return not _SUSPECT.isdisjoint(map(_BEGINNING, texts))


def _add_chats(messages: list[Message], texts: list[str]) -> None:
    if 0 < len(texts) <= MAX_RUN:
        # Nearly always, and a single message waits for nothing else.
        messages.append(Chats(tuple(texts)))
        return
    for begin in range(0, len(texts), MAX_RUN):
        messages.append(Chats(tuple(texts[begin : begin + MAX_RUN])))


def block_of(lines: list[bytes]) -> bytes:
    """Encoded lines as one piece."""
    return b"".join(lines)


def next_lines(data: bytes, limit: int) -> int:
    """How many bytes at the beginning of ``data`` are lines to be decoded next.

    They are complete, and have at most ``limit`` bytes without their line end (LF
    or CRLF).  There are no more of them than `PIECE` bytes hold, and one at least
    if the first is complete and fits.
    """
    if len(data) <= limit and len(data) <= PIECE:
        return data.rfind(DELIMITER) + 1
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
