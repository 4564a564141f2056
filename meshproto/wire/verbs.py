"""The verbs of ``mesh/2``: their arguments and payloads to values.

`frames` splits bytes into frames, and `mesh2` joins messages that span several.  A
missing or malformed argument or field raises `RemoteProtocolError`; extra arguments
and unknown fields are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from meshproto.wire.address import PeerAddress
from meshproto.wire.errors import AddressError, RemoteProtocolError
from meshproto.wire.frames import decode_fields
from meshproto.wire.greeting import quoted
from meshproto.wire.messages import (
    MAX_ADDRESSES,
    MAX_RUN,
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
    check_number,
    check_token,
)

#: Prefix of a header's key in ``HELLO``.
_HEADER = "header."


def fields_of(hello: Hello) -> Iterator[tuple[str, str]]:
    """The fields of ``HELLO``, in the order we send them."""
    life = hello.incarnation
    yield "identity", hello.identity
    yield "incarnation", f"{life.counter} {life.nonce}"
    yield "link", str(hello.link)
    if hello.ended is not None:
        yield "ended", str(hello.ended)
    yield "id", hello.id
    yield "name", hello.name
    if hello.mesh:
        yield "mesh", hello.mesh
    if hello.addresses:
        yield "addresses", " ".join(map(str, hello.addresses))
    if hello.features:
        yield "features", " ".join(sorted(hello.features))
    yield "max_payload", str(hello.max_payload)
    for key, value in hello.headers:
        yield _HEADER + key, value


def hello_of(payload: bytes) -> Hello:
    """Read the payload of ``HELLO``.  Invalid addresses are skipped."""
    fields = decode_fields(payload, "HELLO")
    try:
        counter, _, nonce = fields["incarnation"].partition(" ")
        return Hello(
            identity=fields["identity"],
            incarnation=Incarnation(_number(counter), nonce),
            link=_number(fields["link"]),
            ended=_number(fields["ended"]) if "ended" in fields else None,
            id=fields["id"],
            name=fields["name"],
            mesh=fields.get("mesh", ""),
            addresses=_addresses(_list(fields, "addresses")[:MAX_ADDRESSES]),
            features=frozenset(_list(fields, "features")),
            max_payload=_number(fields["max_payload"]),
            headers=tuple(
                (key.removeprefix(_HEADER), value)
                for key, value in fields.items()
                if key.startswith(_HEADER)
            ),
        )
    except KeyError as error:
        raise RemoteProtocolError(f"HELLO: no {error.args[0]}") from None
    except ValueError as error:
        raise RemoteProtocolError(f"HELLO: {error}") from None


def _list(fields: dict[str, str], key: str) -> list[str]:
    value = fields.get(key)
    return value.split(" ") if value else []


def peer_list_of(payload: bytes, max_addresses: int) -> PeerList:
    """Read the payload of ``PEERS``.

    Invalid addresses, and those above the maximum, are skipped and counted.
    """
    if not payload:
        return PeerList(())
    if not payload.endswith(b"\n"):
        raise RemoteProtocolError("PEERS: the last line has no end")
    entries = payload.decode("utf-8", "replace").split("\n")
    entries.pop()
    addresses = _addresses(entries[:max_addresses])
    return PeerList(addresses, skipped=len(entries) - len(addresses))


def _addresses(entries: list[str]) -> tuple[PeerAddress, ...]:
    """The entries that are valid addresses."""
    addresses: list[PeerAddress] = []
    for entry in entries:
        try:
            addresses.append(PeerAddress.parse(entry))
        except AddressError:
            continue
    return tuple(addresses)


def texts_of(payload: bytes) -> list[str]:
    """Read the chat messages of a run."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        fault = "not UTF-8" if payload.endswith(b"\n") else _fault(payload, [], "")
        raise RemoteProtocolError(f"CHAT: {fault}") from None
    texts = text.split("\n", MAX_RUN)
    # Every message ends with a line feed, so nothing follows the last one.
    rest = texts.pop()
    if rest or not texts or "\r" in text or not all(texts):
        raise RemoteProtocolError(f"CHAT: {_fault(payload, texts, rest)}")
    return texts


def _fault(payload: bytes, texts: list[str], rest: str) -> str:
    """What is wrong with a malformed run."""
    if not payload.endswith(b"\n"):
        return "the last text has no end"
    if rest and len(texts) == MAX_RUN:
        return f"more than {MAX_RUN} texts"
    return "a CR" if b"\r" in payload else "an empty text"


def data_of(content: bytes, fields: int) -> Data:
    """Read a whole message, whose first ``fields`` bytes are its headers."""
    headers = decode_fields(content[:fields], "DATA")
    try:
        return Data(content[fields:], tuple(headers.items()))
    except ValueError as error:
        raise RemoteProtocolError(f"DATA: {error}") from None


def _number(text: str) -> int:
    """Read a decimal number without leading zeros; raises `ValueError`."""
    if not (text.isascii() and text.isdigit() and len(text) <= 19) or (
        text[0] == "0" and text != "0"
    ):
        raise ValueError(f"no number: {quoted(text.encode())}")
    number = int(text)
    check_number("a number", number)
    return number


def numbers_of(verb: str, arguments: tuple[str, ...], count: int) -> list[int]:
    """Read the first ``count`` arguments as numbers."""
    if len(arguments) < count:
        raise RemoteProtocolError(f"{verb}: {len(arguments)} of {count} arguments")
    try:
        return [_number(text) for text in arguments[:count]]
    except ValueError as error:
        raise RemoteProtocolError(f"{verb}: {error}") from None


def _ping(arguments: tuple[str, ...]) -> Ping:
    return Ping(_token("PING", arguments[0])) if arguments else _PING


def _pong(arguments: tuple[str, ...]) -> Pong:
    return Pong(_token("PONG", arguments[0])) if arguments else _PONG


def _token(verb: str, text: str) -> str:
    try:
        check_token("a token", text)
    except ValueError as error:
        raise RemoteProtocolError(f"{verb}: {error}") from None
    return text


def _refused(arguments: tuple[str, ...]) -> Refused:
    if not arguments:
        raise RemoteProtocolError("REFUSED: no reason")
    return Refused(_REASONS.get(arguments[0], RefusalReason.OTHER))


# Shared, so that a flood of them makes no new objects.
_PING, _PONG, _REQUEST_PEERS = Ping(), Pong(), RequestPeers()
_WELCOME, _READY = Welcome(), Ready()
_REASONS = {reason.value: reason for reason in RefusalReason}

#: Verbs without a payload: what reads their arguments.
WORDS: Final[dict[str, Callable[[tuple[str, ...]], Message]]] = {
    "PING": _ping,
    "PONG": _pong,
    "REQUEST_PEERS": lambda _: _REQUEST_PEERS,
    "WELCOME": lambda _: _WELCOME,
    "READY": lambda _: _READY,
    "REFUSED": _refused,
}
