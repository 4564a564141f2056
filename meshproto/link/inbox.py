"""What has arrived on one link, as messages that are still to be told.

The bound is the reader's: bytes are decoded a batch at a time, and the next batch
when that one has been told.  While a link is kept back its connection is not read.
"""

from __future__ import annotations

from typing import Any

from meshproto.wire.errors import RemoteProtocolError
from meshproto.wire.interfaces import IReader
from meshproto.wire.messages import Message


class _Deaf:
    """The reader of a link that is not listened to: bytes mean nothing."""

    waiting = False

    def established(self) -> None:
        """Nothing changes."""

    def feed(self, data: bytes) -> list[Message]:
        return []


# One for all links: there may be thousands.
_DEAF = _Deaf()


class Inbox:
    """The messages of one link that wait to be told.

    ``waiting`` are those that are decoded, the next one last; ``reader`` has the
    bytes that are not.  What the wire does not allow waits as an error behind
    all that was said before it.
    """

    __slots__ = ("reader", "waiting")

    def __init__(self) -> None:
        self.reader: IReader = _DEAF
        self.waiting: list[Message | RemoteProtocolError] = []

    def close(self) -> None:
        """Drop everything, and whatever comes after it."""
        self.reader = _DEAF
        self.waiting = []

    def feed(self, data: bytes) -> None:
        """Decode more bytes, or the next of those that are here."""
        heard: Any
        try:
            heard = self.reader.feed(data)
        except RemoteProtocolError as error:
            heard = [error]
        if len(heard) > 1:
            heard.reverse()
        if self.waiting:
            heard += self.waiting
        self.waiting = heard

    def give_back(self, message: Message) -> None:
        """What was not taken of the last message comes next once more."""
        if self.reader is not _DEAF:
            self.waiting.append(message)
