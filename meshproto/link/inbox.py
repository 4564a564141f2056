"""The messages of one link that have arrived and are not delivered yet.

The reader bounds them: it decodes one batch at a time, and the next batch only when
that one has been delivered.  While a link is held its connection is not read.
"""

from __future__ import annotations

from typing import Any

from meshproto.wire.errors import RemoteProtocolError
from meshproto.wire.interfaces import IReader
from meshproto.wire.messages import Message


class _Deaf:
    """The reader of a link before its greeting and after its end: ignores all bytes."""

    waiting = False

    def established(self) -> None:
        """Nothing changes."""

    def feed(self, data: bytes) -> list[Message]:
        return []


# One for all links: there may be thousands.
_DEAF = _Deaf()


class Inbox:
    """The undelivered messages of one link.

    ``waiting`` has the decoded messages in reverse order: the next one is last.
    ``reader`` has the bytes that are not decoded yet.  A protocol error waits behind
    the messages before it.
    """

    __slots__ = ("reader", "waiting")

    def __init__(self) -> None:
        self.reader: IReader = _DEAF
        self.waiting: list[Message | RemoteProtocolError] = []

    def close(self) -> None:
        """Drop everything, and ignore whatever follows."""
        self.reader = _DEAF
        self.waiting = []

    def feed(self, data: bytes) -> None:
        """Decode these bytes, or with none the next batch that waits."""
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
        """Put back the part of the last message that was not accepted."""
        if self.reader is not _DEAF:
            self.waiting.append(message)
