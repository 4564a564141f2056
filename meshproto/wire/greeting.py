"""The greeting: the first line that each node sends, before any wire is chosen.

::

    dialler -> listener   ID:NAME      who I am
    listener -> dialler   ID:NAME      welcome; this is me
                          DUPLICATE    refused: I have that peer; closes
                          MAX_PEERS    refused: no seat left; closes

A node that also speaks ``mesh/2`` ends its ``ID:NAME`` with one tab.  A node that
speaks only ``mesh/1`` ignores the tab, as the original program trims white space.

A line ends with LF or CRLF; we send LF.  It has at most 512 bytes, not counting
the line end.  Anything else raises `RemoteProtocolError`, and the link is closed
without an answer.
"""

from __future__ import annotations

from typing import Final

from meshproto.wire.errors import RemoteProtocolError
from meshproto.wire.messages import MAX_ID, MAX_NAME, Greeting, Refusal, is_id

DELIMITER: Final = b"\n"
MAX_HANDSHAKE_LINE: Final = 512
#: Ends a greeting of a node that also speaks ``mesh/2``.
MARK: Final = b"\t"
#: Bytes of the longest greeting, mark included: each character of a name takes up
#: to four.
MAX_GREETING: Final = MAX_ID + 1 + 4 * MAX_NAME + len(MARK)
#: Most bytes from the far end that an error quotes.
MAX_QUOTED: Final = 40


def decode_greeting(line: bytes) -> Greeting:
    """Read a dialler's first line.

    Raises `RemoteProtocolError` with the reason when it is not ``ID:NAME``.
    """
    # Bytes that are not UTF-8 become surrogates, which no ID or name may contain.
    text = line.removesuffix(MARK).decode("utf-8", "surrogateescape")
    id, colon, name = text.partition(":")
    try:
        return Greeting(id, name.strip(" ") or id, mesh2=line.endswith(MARK))
    except ValueError as error:
        is_near = is_id(id) or (colon and " " not in id.strip(" "))
        reason = f"bad handshake: {error}" if is_near else not_a_node(line)
        raise RemoteProtocolError(reason) from None


def decode_answer(line: bytes) -> Greeting | Refusal:
    """Read a listener's answer to the greeting.

    Raises `RemoteProtocolError` with the reason when it is neither ``ID:NAME``
    nor a refusal.
    """
    for refusal in Refusal:
        if line == refusal.value.encode("ascii"):
            return refusal
    return decode_greeting(line)


def encode_greeting(message: Greeting | Refusal) -> bytes:
    """Encode a greeting or a refusal as a line, line end included."""
    if isinstance(message, Refusal):
        return f"{message.value}\n".encode()
    line = f"{message.id}:{message.name}".encode()
    return line + MARK + DELIMITER if message.mesh2 else line + DELIMITER


def not_a_node(said: bytes) -> str:
    """The reason to give when the far end is not a node; quotes its first line."""
    line = said.partition(DELIMITER)[0].removesuffix(b"\r")
    return f"not a mesh node, it said {quoted(line)}"


def quoted(said: bytes) -> str:
    """The first `MAX_QUOTED` bytes, quoted for an error as escaped ASCII."""
    text = ascii(said[:MAX_QUOTED])[2:-1].replace('"', '\\"')
    return f'"{text}{"..." if len(said) > MAX_QUOTED else ""}"'
