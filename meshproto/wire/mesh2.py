"""The wire ``mesh/2``: frames to values and values to frames.

It is spoken when both greetings offer it (`greeting`)::

    listener -> dialler   HELLO +n             who I am in full: fields
    dialler -> listener   HELLO +n
    listener -> dialler   WELCOME              or REFUSED reason
    dialler -> listener   READY                the link is established
    either                PING token           PONG token answers
                          REQUEST_PEERS        PEERS +n answers: one address a line
                          CHAT +n              a run: one message a line
                          DATA number size fields +n
                          PIECE number +n      continues that message
                          ABORT number         abandons it

``docs/mesh2.md`` has the grammar.  To leave room for extensions, a reader ignores
frames of an unknown verb with their payload, extra arguments, the payload of a verb
that has none, unknown fields, and a ``PIECE`` or ``ABORT`` of a message that it is
not reading.  Anything missing or malformed raises `RemoteProtocolError` and ends the
link: the reader does not resynchronise.

A chat message is one line: it has neither LF nor CR, and needs no escape.
Everything else travels as ``DATA``.  ``size`` counts the bytes of the whole
message; the first ``fields`` of them are its headers.  A message that does not fit
into its ``DATA`` frame continues in ``PIECE`` frames, and any other frame may come
between them.  Each direction of a link carries one message in pieces at a time.

This module, `frames` and `verbs` know the grammar.  They read no clock, and know
neither sockets nor peers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from meshproto.wire.errors import LocalProtocolError, NoForm, RemoteProtocolError
from meshproto.wire.frames import (
    MAX_CHUNK,
    MAX_HEADER,
    encode_fields,
    frame,
    parse_header,
    remembered,
    too_long,
)
from meshproto.wire.messages import (
    MAX_ADDRESSES,
    MAX_PAYLOAD,
    MAX_RUN,
    Chat,
    Chats,
    Data,
    Greeting,
    Hello,
    Message,
    PeerList,
    Ping,
    Pong,
    Ready,
    Refusal,
    Refused,
    RequestPeers,
    Welcome,
    add_chats,
)
from meshproto.wire.verbs import (
    WORDS,
    data_of,
    fields_of,
    hello_of,
    numbers_of,
    peer_list_of,
    texts_of,
)

#: Bytes of the longest chat message: its line feed is part of the payload.
MAX_TEXT: Final = MAX_CHUNK - 1
#: Most bytes of a message's headers, as encoded.
MAX_FIELDS: Final = 16 * 1024
#: The budget of one batch.  A chat message costs 1, a frame 4, and 64 bytes of
#: payload cost 1: at most 2048 messages, 512 frames or 128 KiB, plus one frame.
BATCH: Final = 2048

_CHAT = "CHAT"
_WITH_PAYLOAD = frozenset({"DATA", "PIECE", "PEERS", "HELLO"})
# Precomputed: formatting the number is the slowest part of encoding a short run.
_COMMON = 2048
_RUNS = [b"CHAT +%d\n" % size for size in range(_COMMON)]


class Mesh2:
    """The codec of ``mesh/2``: encodes values, and makes a reader for each link.

    Stateless, so all links share one.  ``max_payload`` is the largest message, in
    bytes with its headers, that is sent or accepted.
    """

    name = "mesh/2"

    def __init__(
        self, *, max_addresses: int = MAX_ADDRESSES, max_payload: int = MAX_PAYLOAD
    ) -> None:
        self._max_addresses = max_addresses
        self._max_payload = max_payload

    def reader(self) -> Mesh2Reader:
        """A reader for a new link."""
        return Mesh2Reader(
            max_addresses=self._max_addresses, max_payload=self._max_payload
        )

    def encode(self, message: Message) -> bytes:
        """Encode a message as frames; an empty run gives none.

        Raises `LocalProtocolError` for a chat text that is empty, has a line break,
        cannot be encoded or is too long; for a message of more than ``max_payload``
        bytes; and for a peer list too long for one frame.  Raises its subclass
        `NoForm` for a greeting or a refusal of ``mesh/1``.
        """
        match message:
            case Chat(text):
                return self.block_of([self.encode_chat(text)])
            case Chats(texts):
                return self.block_of([*map(self.encode_chat, texts)])
            case Data():
                return b"".join(self.pieces(message))
            case Ping(token):
                return frame("PING", token) if token else b"PING\n"
            case Pong(token):
                return frame("PONG", token) if token else b"PONG\n"
            case RequestPeers():
                return b"REQUEST_PEERS\n"
            case PeerList(addresses):
                lines = "".join(f"{address}\n" for address in addresses)
                return frame("PEERS", payload=lines.encode("ascii"))
            case Hello():
                return frame("HELLO", payload=encode_fields(fields_of(message)))
            case Welcome():
                return b"WELCOME\n"
            case Refused(reason):
                return frame("REFUSED", reason.value)
            case Ready():
                return b"READY\n"
            case Greeting() | Refusal():
                raise NoForm("a greeting comes before mesh/2")

    def encode_chat(self, text: str) -> bytes:
        """Encode one chat message, for `block_of`; raises what `encode` raises."""
        if not text:
            raise LocalProtocolError("a chat message cannot be empty")
        if "\n" in text or "\r" in text:
            raise LocalProtocolError("a chat message is one line: no line breaks")
        try:
            line = text.encode("utf-8")
        except UnicodeEncodeError:
            raise LocalProtocolError(
                "a chat message is Unicode text: no lone surrogates"
            ) from None
        if len(line) > MAX_TEXT:
            raise LocalProtocolError(
                f"a chat message is at most {MAX_TEXT} bytes, this one has {len(line)}"
            )
        return line + b"\n"

    def block_of(self, lines: list[bytes]) -> bytes:
        """Put chat messages that are sent together into as few frames as possible."""
        payload = b"".join(lines)
        if len(payload) <= MAX_CHUNK and len(lines) <= MAX_RUN:
            return _run(payload)
        frames = []
        begin = size = 0
        for end, line in enumerate(lines):
            if size + len(line) > MAX_CHUNK or end - begin == MAX_RUN:
                frames.append(_run(b"".join(lines[begin:end])))
                begin, size = end, 0
            size += len(line)
        frames.append(_run(b"".join(lines[begin:])))
        return b"".join(frames)

    def pieces(self, message: Data, number: int = 0) -> Iterator[bytes]:
        """The frames of a message, made lazily.

        ``number`` tells it from other messages in pieces on the same link.  Other
        frames may be sent in between.  Raises `LocalProtocolError`, before the first
        frame, when the message is too large.
        """
        if message.size > self._max_payload:
            raise LocalProtocolError(
                f"a message is at most {self._max_payload} bytes, headers included, "
                f"this one has {message.size}"
            )
        return _pieces(encode_fields(message.headers), message.payload, number)


class Mesh2Reader:
    """Reads the frames of one link, however the bytes are split.

    ``max_payload`` is the largest message, in bytes with its headers, that is
    accepted once the link is `established`; before that no message is accepted.
    During the handshake every message ends a batch, since it may establish the link.

    While nothing is `waiting` it holds less than one frame (`MAX_FRAME` bytes) and
    the pieces of one message (``max_payload`` bytes).
    """

    def __init__(
        self, *, max_addresses: int = MAX_ADDRESSES, max_payload: int = MAX_PAYLOAD
    ) -> None:
        # 0 until the link is established: no `Data` is accepted before.
        self.max_payload = 0
        self._is_established = False
        self._max_payload = max_payload
        #: Whether ``feed(b"")`` may give more messages, or an error.
        self.waiting = False
        self._max_addresses = max_addresses
        # Unread bytes, their number, and how many are needed to read on.
        self._kept: list[bytes] = []
        self._kept_size = self._need = 0
        # Bytes still to skip of an ignored payload.
        self._skip = 0
        self._error = ""
        # The message in pieces: bytes so far, its number, size and header bytes.
        self._pieces: bytearray | None = None
        self._number = self._size = self._fields = 0

    def established(self) -> None:
        """Accept messages of up to ``max_payload`` bytes from now on."""
        self.max_payload = self._max_payload
        self._is_established = True

    def feed(self, data: bytes) -> list[Message]:
        """Add bytes; returns the messages of the complete frames, a bounded batch.

        Consecutive chat makes one `Chats` of at most `MAX_RUN` texts.  While
        `waiting` is true, ``feed(b"")`` gives the next batch.

        Raises `RemoteProtocolError` for anything that ``mesh/2`` does not allow,
        once every message before it has been returned, and on every call after that.
        """
        if self._error:
            self.waiting = False
            raise RemoteProtocolError(self._error)
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        if self._kept:
            self._kept.append(data)
            self._kept_size += len(data)
            if self._kept_size < self._need:
                return []
            data = b"".join(self._kept)
            self._kept = []
        self.waiting = False
        messages: list[Message] = []
        texts: list[str] = []
        try:
            at = self._read(data, messages, texts)
        except RemoteProtocolError as error:
            self._pieces = None
            self._error = str(error)
            if not (messages or texts):
                raise
            self.waiting = True
        else:
            if at < len(data):
                self._kept = [data[at:]]
                self._kept_size = len(data) - at
        add_chats(messages, texts)
        return messages

    @property
    def held(self) -> int:
        """Bytes that were fed and are not yet returned in messages."""
        return sum(map(len, self._kept)) + len(self._pieces or b"")

    def _read(self, data: bytes, messages: list[Message], texts: list[str]) -> int:
        """Read frames until the data or the batch ends; returns where it stopped.

        Appends to ``messages``; ``texts`` collects the chat after the last of them.
        """
        at, end, left = 0, len(data), BATCH
        known = remembered
        self._need = 0
        while at < end:
            if left <= 0:
                self.waiting = True
                break
            newline = data.find(b"\n", at, at + MAX_HEADER)
            if newline < 0:
                if end - at >= MAX_HEADER:
                    raise too_long(data[at : at + MAX_HEADER])
                break
            line = data[at:newline]
            verb, arguments, length = known.get(line) or parse_header(line)
            begin = newline + 1
            stop = begin + length
            left -= 4 + (length >> 6)
            message: Message | None = None
            if verb == _CHAT:
                if stop > end:
                    self._need = stop - at
                    break
                run = texts_of(data[begin:stop])
                left -= len(run)
                texts += run
                at = stop
                continue
            if verb in _WITH_PAYLOAD:
                if stop > end:
                    self._need = stop - at
                    break
                message = self._with_payload(verb, arguments, data[begin:stop])
            elif verb in WORDS:
                message = WORDS[verb](arguments)
            elif verb == "ABORT":
                self._abort(arguments)
            if message is not None:
                add_chats(messages, texts)
                texts.clear()
                messages.append(message)
                if not self._is_established:
                    left = 0
            if stop > end:
                self._skip = stop - end
                return end
            at = stop
        return at

    def _with_payload(
        self, verb: str, arguments: tuple[str, ...], payload: bytes
    ) -> Message | None:
        match verb:
            case "DATA":
                return self._data(arguments, payload)
            case "PIECE":
                return self._piece(arguments, payload)
            case "PEERS":
                return peer_list_of(payload, self._max_addresses)
            case _:
                return hello_of(payload)

    def _data(self, arguments: tuple[str, ...], payload: bytes) -> Data | None:
        number, size, fields = numbers_of("DATA", arguments, 3)
        if size > self.max_payload:
            raise RemoteProtocolError(
                f"DATA: {size} bytes, but a message has at most {self.max_payload}"
            )
        if fields > min(size, MAX_FIELDS):
            raise RemoteProtocolError(f"DATA: {fields} bytes of headers")
        if len(payload) == size:
            return data_of(payload, fields)
        if not 0 < len(payload) < size:
            raise RemoteProtocolError(f"DATA: {len(payload)} bytes of {size}")
        if self._pieces is not None:
            raise RemoteProtocolError("DATA: another message is in pieces")
        self._pieces = bytearray(payload)
        self._number, self._size, self._fields = number, size, fields
        return None

    def _piece(self, arguments: tuple[str, ...], payload: bytes) -> Data | None:
        (number,) = numbers_of("PIECE", arguments, 1)
        if self._pieces is None or number != self._number:
            return None
        if not payload:
            raise RemoteProtocolError("PIECE: empty")
        self._pieces += payload
        if len(self._pieces) < self._size:
            return None
        content, self._pieces = self._pieces, None
        if len(content) > self._size:
            raise RemoteProtocolError(f"PIECE: {len(content)} bytes of {self._size}")
        return data_of(bytes(content), self._fields)

    def _abort(self, arguments: tuple[str, ...]) -> None:
        (number,) = numbers_of("ABORT", arguments, 1)
        if number == self._number:
            self._pieces = None


def _run(payload: bytes) -> bytes:
    """The frame of a run; nothing for an empty one."""
    size = len(payload)
    if size >= _COMMON:
        return b"CHAT +%d\n" % size + payload
    return _RUNS[size] + payload if size else b""


def _pieces(fields: bytes, payload: bytes, number: int) -> Iterator[bytes]:
    size, begin = len(fields) + len(payload), MAX_CHUNK - len(fields)
    first = fields + payload[:begin]
    yield frame("DATA", number, size, len(fields), payload=first)
    for begin in range(len(first) - len(fields), len(payload), MAX_CHUNK):
        yield frame("PIECE", number, payload=payload[begin : begin + MAX_CHUNK])
