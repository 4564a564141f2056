"""The greeting: the first line of each end, before any wire is spoken.

::

    dialler -> listener   ID:NAME      who I am
    listener -> dialler   ID:NAME      welcome; this is me
                          DUPLICATE    refused: I have that peer; closes
                          MAX_PEERS    refused: no seat left; closes

A node that speaks ``mesh/2`` as well ends its ``ID:NAME`` with one tab.  A node that
speaks ``mesh/1`` alone ignores that tab, as the original does with white space.

A line ends with LF or CRLF; we send LF.  It has at most 512 bytes, the line end
not counted.  Anything else raises `RemoteProtocolError`: the link is closed
without an answer.
"""

from __future__ import annotations

from typing import Final

from meshproto.wire.errors import RemoteProtocolError
from meshproto.wire.messages import MAX_ID, MAX_NAME, Greeting, Refusal, is_id

DELIMITER: Final = b"\n"
MAX_HANDSHAKE_LINE: Final = 512
#: At the end of a greeting: "I speak mesh/2 as well".
MARK: Final = b"\t"
#: Bytes of the longest greeting, with its mark: a character of a name takes up to
#: four.
MAX_GREETING: Final = MAX_ID + 1 + 4 * MAX_NAME + len(MARK)
#: Bytes of a far end's words that an error quotes.
MAX_QUOTED: Final = 40


def decode_greeting(line: bytes) -> Greeting:
    """What a dialler's first line says.

    Raises `RemoteProtocolError` with the reason when it is no ``ID:NAME``.
    """
    # What is not UTF-8 becomes what neither an ID nor a name may hold.
    text = line.removesuffix(MARK).decode("utf-8", "surrogateescape")
    id, colon, name = text.partition(":")
    try:
        return Greeting(id, name.strip(" ") or id, mesh2=line.endswith(MARK))
    except ValueError as error:
        is_near = is_id(id) or (colon and " " not in id.strip(" "))
        reason = f"bad handshake: {error}" if is_near else not_a_node(line)
        raise RemoteProtocolError(reason) from None


def decode_answer(line: bytes) -> Greeting | Refusal:
    """What a listener answers to the greeting.

    Raises `RemoteProtocolError` with the reason when it is neither ``ID:NAME``
    nor a refusal.
    """
    for refusal in Refusal:
        if line == refusal.value.encode("ascii"):
            return refusal
    return decode_greeting(line)


def encode_greeting(message: Greeting | Refusal) -> bytes:
    """The line that says it, with its line end."""
    if isinstance(message, Refusal):
        return f"{message.value}\n".encode()
    line = f"{message.id}:{message.name}".encode()
    return line + MARK + DELIMITER if message.mesh2 else line + DELIMITER


def not_a_node(said: bytes) -> str:
    """What to tell of a far end that does not begin as a node does.

    Quotes the beginning of its first line.
    """
    line = said.partition(DELIMITER)[0].removesuffix(b"\r")
    return f"not a mesh node, it said {quoted(line)}"


def quoted(said: bytes) -> str:
    """The first `MAX_QUOTED` bytes for an error, in ASCII with all else escaped."""
    text = ascii(said[:MAX_QUOTED])[2:-1].replace('"', '\\"')
    return f'"{text}{"..." if len(said) > MAX_QUOTED else ""}"'
