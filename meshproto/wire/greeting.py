"""The first line of either wire: ``ID:NAME``, and what the sender speaks.

A node that speaks ``mesh/2`` as well ends the line with one tab.  A node that
speaks ``mesh/1`` alone ignores that tab, as it does other white space there.
"""

from __future__ import annotations

from typing import Final

from meshproto.wire.errors import RemoteProtocolError
from meshproto.wire.messages import MAX_ID, MAX_NAME, Greeting, is_id

DELIMITER: Final = b"\n"
#: At the end of a greeting: "I speak mesh/2 as well".
MARK: Final = b"\t"
#: Bytes of the longest greeting, with its mark: a character of a name takes up to
#: four.
MAX_GREETING: Final = MAX_ID + 1 + 4 * MAX_NAME + len(MARK)
#: Bytes of a far end's words that an error quotes.
MAX_QUOTED: Final = 40


def decode_greeting(line: bytes) -> tuple[Greeting, bool]:
    """Who greets, and whether it speaks ``mesh/2`` as well.

    ``line`` comes without its line end.  Raises `RemoteProtocolError` with the
    reason when it is no ``ID:NAME``.
    """
    # What is not UTF-8 becomes what neither an ID nor a name may hold.
    text = line.removesuffix(MARK).decode("utf-8", "surrogateescape")
    id, colon, name = text.partition(":")
    try:
        return Greeting(id, name.strip(" ") or id), line.endswith(MARK)
    except ValueError as error:
        is_near = is_id(id) or (colon and " " not in id.strip(" "))
        reason = f"bad handshake: {error}" if is_near else not_a_node(line)
        raise RemoteProtocolError(reason) from None


def encode_greeting(greeting: Greeting, *, mesh2: bool = False) -> bytes:
    """The line of a greeting, with its line end.

    ``mesh2``: say that the sender speaks ``mesh/2`` as well.
    """
    line = f"{greeting.id}:{greeting.name}".encode()
    return line + MARK + DELIMITER if mesh2 else line + DELIMITER


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
