"""A wire: what two nodes speak after the greeting.

`IWire` is stateless and shared by all links that speak it.  `IReader` is the
reading side of one link, and alone knows where a message begins and ends and how
long it may be.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from meshproto.wire.messages import Data, Message


class IReader(Protocol):
    """Decodes what arrives on one link into messages."""

    @property
    def waiting(self) -> bool:
        """Whether ``feed(b"")`` would give more now: more messages, or an error."""

    def established(self) -> None:
        """The handshake is over: accept messages of full size from now on."""

    def feed(self, data: bytes) -> list[Message]:
        """Add bytes; returns the next messages as a new list.

        The list is a batch of bounded size, in the order of sending.  While
        `waiting` is true more messages may follow, ahead of any bytes fed
        meanwhile; a batch may be empty even then.

        Raises `RemoteProtocolError` with the reason when the wire does not allow
        what comes next, and its subclass `LineTooLong` when a line exceeds its
        limit.  The reader is unusable after that.
        """


class IWire(Protocol):
    """Encodes messages, and makes the readers that decode them.

    A wire is hashable, so that a broadcast is encoded once for each wire.
    """

    #: ``mesh/1`` or ``mesh/2``.
    name: str

    def encode(self, message: Message) -> bytes:
        """Encode a message.

        Raises `LocalProtocolError` for one that this wire cannot carry.
        """

    def pieces(self, message: Data) -> Iterator[bytes]:
        """The frames of a payload; other frames may be sent between them.

        Raises what `encode` raises, before the first frame.
        """

    def encode_chat(self, text: str) -> bytes:
        """Encode one chat message, for `block_of`; raises what `encode` raises."""

    def block_of(self, encoded: list[bytes]) -> bytes:
        """Join encoded chat messages that are sent together."""

    def reader(self) -> IReader:
        """A reader for a new link."""
