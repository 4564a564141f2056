"""The frames of ``mesh/2``: their headers, and the fields in their payloads.

A frame is one line of ASCII, its header, then the payload that the header
announces::

    VERB argument argument +LENGTH<LF>
    LENGTH bytes

A header without ``+LENGTH`` has no payload.  Exactly one space precedes each
argument, and a line ends with LF alone.  A header has at most 1 024 bytes, line
feed included, and a payload at most 64 512, so a frame has at most 64 KiB.

Fields are ``key: value`` lines of UTF-8.  In a value ``\\\\`` stands for a
backslash, ``\\n`` for LF and ``\\r`` for CR.

Anything malformed raises `RemoteProtocolError`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from meshproto.wire.errors import LocalProtocolError, RemoteProtocolError
from meshproto.wire.greeting import quoted

#: Bytes of the longest header, line feed included.
MAX_HEADER: Final = 1024
MAX_FRAME: Final = 64 * 1024
#: Bytes of the longest payload of one frame.
MAX_CHUNK: Final = MAX_FRAME - MAX_HEADER

# The same few headers repeat, so short ones are cached.  Bounded, since peers
# choose them.
_SHORT, _MOST = 32, 1024
_VERB = rb"[A-Z][A-Z0-9_]{0,31}"
_ARGUMENT = rb"[!-*,-~][!-~]*"
_LENGTH = rb"0|[1-9][0-9]{0,4}"
_HEADER = re.compile(
    rb"(%b)((?: %b)*)(?: \+(%b))?" % (_VERB, _ARGUMENT, _LENGTH),
)
_BEGINNING = re.compile(rb"%b(?: |\Z)" % _VERB)
_KEY = re.compile(r"[!-9;-~]{1,80}\Z")
_ESCAPE = re.compile(r"\\(.?)", re.DOTALL)
_ESCAPED = {"\\": "\\", "n": "\n", "r": "\r"}


class Header(NamedTuple):
    """The first line of a frame; ``length`` is the payload's, in bytes."""

    verb: str
    arguments: tuple[str, ...]
    length: int


#: The cache of `parse_header`: headers by their lines.
remembered: dict[bytes, Header] = {}


def parse_header(line: bytes) -> Header:
    """Read a header, given without its line feed.

    Raises `RemoteProtocolError` saying what is wrong with it.
    """
    header = remembered.get(line)
    if header is None:
        header = _parse(line)
        if len(line) <= _SHORT:
            if len(remembered) >= _MOST:
                remembered.clear()
            remembered[line] = header
    return header


def _parse(line: bytes) -> Header:
    match = _HEADER.fullmatch(line)
    if match is None:
        raise RemoteProtocolError(f"bad frame: {_fault(line)}: {quoted(line)}")
    verb, arguments, length = match.groups()
    size = int(length or 0)
    if size > MAX_CHUNK:
        raise RemoteProtocolError(
            f"bad frame: a payload has at most {MAX_CHUNK} bytes: {quoted(line)}"
        )
    return Header(verb.decode("ascii"), tuple(arguments.decode("ascii").split()), size)


def _fault(line: bytes) -> str:
    """What is wrong with a malformed header."""
    if line.endswith(b"\r"):
        return "a header ends with LF alone"
    if not line:
        return "an empty line is no header"
    if not re.fullmatch(rb"[ -~]+", line):
        return "a header is printable ASCII"
    if not _BEGINNING.match(line):
        return "a header begins with a verb"
    if b"  " in line or line.endswith(b" "):
        return "one space stands before an argument, and none at the end"
    return "+LENGTH is a decimal number at the end of a header"


def too_long(line: bytes) -> RemoteProtocolError:
    """The error for a header that does not end within `MAX_HEADER` bytes."""
    return RemoteProtocolError(
        f"bad frame: a header has at most {MAX_HEADER} bytes: {quoted(line)}"
    )


def frame(verb: str, *arguments: object, payload: bytes = b"") -> bytes:
    """Build a whole frame.

    Raises `LocalProtocolError` when the payload is too long for one frame.
    """
    if len(payload) > MAX_CHUNK:
        raise LocalProtocolError(
            f"{verb} has at most {MAX_CHUNK} bytes, this one has {len(payload)}"
        )
    words = [verb, *map(str, arguments)]
    if payload:
        words.append(f"+{len(payload)}")
    return " ".join(words).encode("ascii") + b"\n" + payload


def encode_fields(fields: Iterable[tuple[str, str]]) -> bytes:
    """Encode fields as lines, in the given order."""
    return "".join(f"{key}: {_escape(value)}\n" for key, value in fields).encode()


def decode_fields(payload: bytes, what: str) -> dict[str, str]:
    """Read lines of fields; ``what`` names them in an error.

    Raises `RemoteProtocolError` for a line that is not a field, an unknown escape,
    a repeated key, and whatever `decode_lines` rejects.
    """
    if not payload:
        return {}
    fields: dict[str, str] = {}
    for line in decode_lines(payload, what):
        key, colon, value = line.partition(": ")
        if not colon or not _KEY.match(key):
            raise RemoteProtocolError(f"{what}: no field: {quoted(line.encode())}")
        if key in fields:
            raise RemoteProtocolError(f"{what}: twice: {quoted(key.encode())}")
        try:
            fields[key] = _ESCAPE.sub(_unescape, value)
        except KeyError:
            raise RemoteProtocolError(
                f"{what}: no such escape: {quoted(value.encode())}"
            ) from None
    return fields


def decode_lines(payload: bytes, what: str) -> list[str]:
    """The lines of a payload, without their line feeds.

    Raises `RemoteProtocolError` for a payload that is not UTF-8, contains a CR, or
    does not end with a line feed.
    """
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError:
        raise RemoteProtocolError(f"{what}: not UTF-8") from None
    if text[-1:] != "\n":
        raise RemoteProtocolError(f"{what}: the last line has no end")
    if "\r" in text:
        raise RemoteProtocolError(f"{what}: a CR")
    return text.split("\n")[:-1]


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def _unescape(match: re.Match[str]) -> str:
    return _ESCAPED[match[1]]
