"""A reader of ``mesh/2``, and a far end that sends anything, in any pieces.

An input is the far end's bytes, with `CUT` where one piece ends and the next
begins.  `one_input` feeds them piece by piece, in one piece and byte by byte, and
says that

* nothing but `RemoteProtocolError` is raised;
* the messages and the error are the same, whatever the pieces;
* they are what the words of ``docs/mesh2.md`` say;
* no more is kept than a frame and a message in pieces;
* no turn hands out more than its share;
* every message can be said again, and is heard as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from fuzz.receive import CUT
from meshproto.errors import AddressError, RemoteProtocolError
from meshproto.wire.address import PeerAddress
from meshproto.wire.frames import MAX_FRAME
from meshproto.wire.mesh2 import BATCH, Mesh2, Mesh2Reader
from meshproto.wire.messages import (
    MAX_ADDRESSES,
    MAX_RUN,
    Chat,
    Chats,
    Data,
    Hello,
    Incarnation,
    Message,
    PeerList,
    Ping,
    Pong,
    Ready,
    RefusalReason,
    Refused,
    RequestPeers,
    Welcome,
)

#: Small, so that an input of some hundred bytes gets to every bound.
ADDRESSES: Final = 3
PAYLOAD: Final = 64

_CODEC: Final = Mesh2(max_addresses=ADDRESSES, max_payload=PAYLOAD)
_CAPITALS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_DIGITS = frozenset("0123456789")


def one_input(data: bytes) -> None:
    """Play one input of the fuzzer; raises when a rule is broken."""
    pieces = data.split(CUT)
    stream = b"".join(pieces)
    step = len(stream) // 64 + 1
    equal = [stream[at : at + step] for at in range(0, len(stream), step)]
    wanted = [*expected(stream)]
    for cutting in (pieces, [stream], equal):
        heard = [*play(cutting)]
        assert heard == wanted, f"{cutting}: heard\n{heard}\ninstead of\n{wanted}"
    for message in wanted:
        if isinstance(message, PeerList):
            # How many entries were none is not said again.
            message = PeerList(message.addresses)
        if message is not None:
            again = [*play([_CODEC.encode(message)])]
            assert again == [message], f"{message} was heard as {again}"


def play(pieces: Iterable[bytes]) -> Iterator[Message | None]:
    """What a reader tells, chat by chat; None for the end of the link."""
    reader = _CODEC.reader()
    reader.established()
    unread = 0
    for piece in pieces:
        unread += len(piece)
        try:
            yield from _turn(reader, piece)
            while reader.waiting:
                assert reader.held <= unread + PAYLOAD, f"{reader.held} bytes are kept"
                yield from _turn(reader, b"")
        except RemoteProtocolError as error:
            _check_end(reader, str(error))
            yield None
            return
        assert reader.held < MAX_FRAME + PAYLOAD, f"{reader.held} bytes are kept"


def _turn(reader: Mesh2Reader, piece: bytes) -> Iterator[Message]:
    told = 0
    for message in reader.feed(piece):
        if isinstance(message, Chats):
            assert 0 < len(message.texts) <= MAX_RUN
            told += len(message.texts)
            yield from map(Chat, message.texts)
        else:
            told += 1
            yield message
    assert told < BATCH + MAX_RUN, f"{told} messages in one turn"


def _check_end(reader: Mesh2Reader, reason: str) -> None:
    """It has ended for good, with a reason fit for a log."""
    assert reason.isascii(), reason
    assert reason.isprintable(), reason
    assert len(reason) < 300, reason
    assert not reader.held, f"{reader.held} bytes are kept"
    assert not reader.waiting
    again = ""
    try:
        reader.feed(b"PING\n")
    except RemoteProtocolError as error:
        again = str(error)
    assert again == reason, f"{reason}, and then: {again}"


class _Bad(Exception):
    """The stream ends its link here."""


def expected(stream: bytes) -> Iterator[Message | None]:
    """What a stream says.

    Written for the reader and not for speed: frame by frame, from the first byte
    to the last, with no thought of pieces.
    """
    open_message: tuple[str, int, int, bytes] | None = None
    while stream:
        line, newline, rest = stream.partition(b"\n")
        if len(line) >= 1024:
            yield None
            return
        if not newline:
            return
        try:
            verb, arguments, length = _header(line)
            payload = rest[:length]
            whole = len(payload) == length
            if not whole and verb in {"HELLO", "PEERS", "CHAT", "DATA", "PIECE"}:
                return
            match verb:
                case "DATA":
                    number, size, fields = map(_number, _first(arguments, 3))
                    if size > PAYLOAD or fields > size:
                        raise _Bad
                    if length > size or (length == 0 and size):
                        raise _Bad
                    if length == size:
                        yield _data(payload, fields)
                    elif open_message is not None:
                        raise _Bad
                    else:
                        open_message = str(number), size, fields, payload
                case "PIECE":
                    number = _number(_first(arguments, 1)[0])
                    if open_message is not None and open_message[0] == str(number):
                        name, size, fields, content = open_message
                        content += payload
                        if not payload or len(content) > size:
                            raise _Bad
                        open_message = name, size, fields, content
                        if len(content) == size:
                            open_message = None
                            yield _data(content, fields)
                case "ABORT":
                    number = _number(_first(arguments, 1)[0])
                    if open_message is not None and open_message[0] == str(number):
                        open_message = None
                case "CHAT":
                    yield from map(Chat, _run(payload))
                case _:
                    yield from _simple(verb, arguments, payload)
        except (_Bad, ValueError, KeyError):
            yield None
            return
        if not whole:
            return
        stream = rest[length:]


def _header(line: bytes) -> tuple[str, list[str], int]:
    if not all(0x20 <= byte <= 0x7E for byte in line):
        raise _Bad
    verb, *arguments = line.decode().split(" ")
    length = 0
    if arguments and arguments[-1].startswith("+"):
        length = _number(arguments.pop()[1:])
    if (
        not 1 <= len(verb) <= 32
        or verb[0] not in _CAPITALS
        or not set(verb) <= _CAPITALS | _DIGITS | {"_"}
        or "" in arguments
        or any(argument.startswith("+") for argument in arguments)
        or length > 64_512
    ):
        raise _Bad
    return verb, arguments, length


def _simple(verb: str, arguments: list[str], payload: bytes) -> Iterator[Message]:
    match verb:
        case "HELLO":
            yield _hello(payload)
        case "PEERS":
            if payload and not payload.endswith(b"\n"):
                raise _Bad
            entries = payload.decode("utf-8", "replace").split("\n")[:-1]
            found = _addresses(entries[:ADDRESSES])
            yield PeerList(found, len(entries) - len(found))
        case "PING":
            yield Ping(_argument(arguments))
        case "PONG":
            yield Pong(_argument(arguments))
        case "REQUEST_PEERS":
            yield RequestPeers()
        case "WELCOME":
            yield Welcome()
        case "READY":
            yield Ready()
        case "REFUSED":
            reason = _first(arguments, 1)[0]
            known = [each for each in RefusalReason if each.value == reason]
            yield Refused(known[0] if known else RefusalReason.OTHER)


def _argument(arguments: list[str]) -> str:
    return arguments[0] if arguments else ""


def _first(arguments: list[str], count: int) -> list[str]:
    if len(arguments) < count:
        raise _Bad
    return arguments[:count]


def _number(text: str) -> int:
    if not text or not set(text) <= _DIGITS or len(text) > 19:
        raise _Bad
    if str(int(text)) != text or int(text) >= 2**63:
        raise _Bad
    return int(text)


def _lines(payload: bytes) -> list[str]:
    *lines, last = payload.decode("utf-8").split("\n")
    if last or any("\r" in line for line in lines):
        raise _Bad
    return lines


def _run(payload: bytes) -> list[str]:
    texts = _lines(payload)
    if not 1 <= len(texts) <= MAX_RUN or "" in texts:
        raise _Bad
    return texts


def _fields(payload: bytes) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in _lines(payload):
        key, colon, raw = line.partition(": ")
        good = all("!" <= character <= "~" for character in key)
        if not (colon and good and ":" not in key and 1 <= len(key) <= 80):
            raise _Bad
        if key in fields:
            raise _Bad
        value, characters = "", iter(raw)
        for character in characters:
            if character == "\\":
                character = {"\\": "\\", "n": "\n", "r": "\r"}[next(characters, "")]
            value += character
        fields[key] = value
    return fields


def _data(content: bytes, fields: int) -> Data:
    return Data(content[fields:], tuple(_fields(content[:fields]).items()))


def _addresses(entries: list[str]) -> tuple[PeerAddress, ...]:
    found = []
    for entry in entries:
        try:
            found.append(PeerAddress.parse(entry))
        except AddressError:
            pass
    return tuple(found)


def _hello(payload: bytes) -> Hello:
    fields = _fields(payload)
    counter, _, nonce = fields["incarnation"].partition(" ")
    listed = fields.get("addresses", "").split(" ")[:MAX_ADDRESSES]
    features = fields.get("features", "")
    return Hello(
        identity=fields["identity"],
        incarnation=Incarnation(_number(counter), nonce),
        link=_number(fields["link"]),
        ended=_number(fields["ended"]) if "ended" in fields else None,
        id=fields["id"],
        name=fields["name"],
        mesh=fields.get("mesh", ""),
        addresses=_addresses(listed),
        features=frozenset(features.split(" ") if features else ()),
        max_payload=_number(fields["max_payload"]),
        headers=tuple(
            (key[len("header.") :], value)
            for key, value in fields.items()
            if key.startswith("header.")
        ),
    )
