"""A wire: what two nodes speak once they have greeted each other.

`IWire` is stateless and shared by all links that speak it.  `IReader` is the
reading side of one link: where a message begins and ends, and how long it may
be, is known to it alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from meshproto.wire.messages import Data, Message


class IReader(Protocol):
    """What arrives on one link, as messages."""

    @property
    def waiting(self) -> bool:
        """Whether there is more to be had now, by ``feed(b"")``.

        That is another batch of messages, or the error that comes after them.
        """

    def established(self) -> None:
        """The handshake is over: messages of full size are taken from now on."""

    def feed(self, data: bytes) -> list[Message]:
        """Add bytes; returns the next messages, a new list.

        They are in the order in which they were sent, a batch of bounded size:
        there are more while `waiting`, and bytes given meanwhile come after
        those.  The list may be empty even then.

        Raises `RemoteProtocolError` with the reason, `LineTooLong` where a
        message has no end within its limit, when what comes next is not allowed
        by the wire.  The reader is of no use after that.
        """


class IWire(Protocol):
    """How messages become bytes, and who reads the bytes of the far end.

    A wire is hashable: what is said to many peers is encoded once for each.
    """

    #: Its name, ``mesh/1`` or ``mesh/2``.
    name: str

    def encode(self, message: Message) -> bytes:
        """A message as bytes.

        Raises `LocalProtocolError` for one that has no form on this wire.
        """

    def pieces(self, message: Data) -> Iterator[bytes]:
        """The frames of a payload; others may pass between them.

        Raises at once what `encode` raises.
        """

    def encode_chat(self, text: str) -> bytes:
        """A chat message as bytes; raises what `encode` raises."""

    def block_of(self, encoded: list[bytes]) -> bytes:
        """Encoded chat that leaves together, as one piece."""

    def reader(self) -> IReader:
        """The reading side of a new link."""
