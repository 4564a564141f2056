"""The bounded send queue of one link.

A Twisted transport buffers without limit, but pauses its producer when it holds too
much (64 KiB).  The outbox is that producer, and keeps further bytes in a queue of
its own, which it counts.  So the memory used for one peer is bounded, a peer that
reads nothing is noticed, and control messages can overtake waiting chat.  Both can
pass between the pieces of a large message.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from twisted.internet.interfaces import (
    IConsumer,
    IDelayedCall,
    IPushProducer,
    IReactorTime,
)
from zope.interface import implementer

from meshproto.link.sockets import is_direct, write_now

_BATCH = 64 * 1024
#: Shared by all links with an empty queue; never added to.
_NONE: deque[bytes] = deque(maxlen=0)
_NO_PIECES: deque[tuple[int, bytes]] = deque(maxlen=0)


class OutboxOwner(Protocol):
    """The owner of an `Outbox`."""

    def overrun(self) -> None:
        """Too much is queued, or nothing has moved for too long: end the link."""

    def eased(self) -> None:
        """The queue has shrunk."""


@implementer(IPushProducer)
class Outbox:
    """The send queue of one link.

    ``size`` counts the bytes queued here.  ``moved_at`` is when the transport last
    became full or empty, in clock seconds.  The owner is told when more than
    ``limit`` bytes are queued, when nothing has moved for ``stall_timeout`` seconds,
    and whenever the queue has shrunk.
    """

    # A node may have thousands of links, most of them with nothing to send.
    __slots__ = (
        "_behind",
        "_clock",
        "_closed",
        "_congested",
        "_is_direct",
        "_limit",
        "_lines",
        "_on_flushed",
        "_owner",
        "_pieces",
        "_stall_check",
        "_stall_timeout",
        "_transport",
        "_urgent",
        "moved_at",
        "size",
    )

    def __init__(
        self,
        transport: IConsumer,
        clock: IReactorTime,
        *,
        limit: int,
        stall_timeout: float,
        owner: OutboxOwner,
    ) -> None:
        self._transport = transport
        self._is_direct = is_direct(transport)
        self._clock = clock
        self._limit = limit
        self._stall_timeout = stall_timeout
        self._owner = owner
        self._on_flushed: Callable[[], None] | None = None
        self._lines = _NONE
        # Each piece with the count of lines that must be sent before it.
        self._pieces = _NO_PIECES
        self._behind = 0
        self.size = 0
        self._congested = False
        self._closed = False
        self._urgent: tuple[bytes, ...] = ()
        self.moved_at = 0.0
        self._stall_check: IDelayedCall | None = None
        transport.registerProducer(self, True)

    def write(self, lines: bytes, *, at_once: bool = False) -> None:
        """Append lines; ``at_once`` writes to the socket now if none are queued."""
        if self._lines or self._congested:
            self._enqueue(lines, urgent=False)
        elif self._closed:
            pass
        elif at_once and self._is_direct:
            write_now(self._transport, lines)
        else:
            self._transport.write(lines)

    def write_pieces(self, pieces: Iterable[bytes]) -> None:
        """Append a message in pieces.

        Lines that are written later may be sent before or between the pieces.
        """
        first, *others = pieces
        if not (others or self._pieces):
            self.write(first, at_once=True)
            return
        for piece in (first, *others):
            if self._congested or self._lines or self._pieces:
                self._enqueue_piece(piece)
            elif not self._closed:
                self._transport.write(piece)

    def write_urgent(self, line: bytes) -> None:
        """Queue a line ahead of the others, replacing one with the same first word.

        So a peer that asks a thousand times without reading the answers gets only
        the latest.
        """
        if self._congested:
            self._enqueue(line, urgent=True)
        elif not self._closed:
            self._transport.write(line)

    def finish(self, on_flushed: Callable[[], None]) -> None:
        """Accept no more lines; close and call back once the queue is written."""
        self._on_flushed = on_flushed
        self._flush()

    def close(self) -> None:
        """The link has ended: drop everything."""
        if self._closed:
            return
        self._closed = True
        self._lines = _NONE
        self._pieces = _NO_PIECES
        self._urgent = ()
        self.size = 0
        self._on_flushed = None
        self._transport.unregisterProducer()
        if self._stall_check is not None and self._stall_check.active():
            self._stall_check.cancel()
        self._stall_check = None

    # IPushProducer: the transport reports the state of its buffer.

    def pauseProducing(self) -> None:
        """The transport is full."""
        self._congested = True
        self.moved_at = self._clock.seconds()
        if self._stall_check is None and not self._closed:
            self._stall_check = self._clock.callLater(
                self._stall_timeout, self._check_stall
            )

    def resumeProducing(self) -> None:
        """The transport is empty."""
        self._congested = False
        self.moved_at = self._clock.seconds()
        self._flush()

    def stopProducing(self) -> None:
        """The connection is gone."""
        self.close()

    def _enqueue(self, line: bytes, *, urgent: bool) -> None:
        if self._closed or self._on_flushed is not None:
            return
        if urgent:
            word = line.split(None, 1)[0]
            older = [each for each in self._urgent if each.split(None, 1)[0] == word]
            self.size -= sum(map(len, older))
            others = tuple(each for each in self._urgent if each not in older)
            self._urgent = (*others, line)
        else:
            if self._lines is _NONE:
                self._lines = deque()
            self._lines.append(line)
            self._behind += 1
        self._grow(len(line))

    def _enqueue_piece(self, piece: bytes) -> None:
        if self._closed or self._on_flushed is not None:
            return
        if self._pieces is _NO_PIECES:
            self._pieces = deque()
        self._pieces.append((self._behind, piece))
        self._grow(len(piece))

    def _grow(self, size: int) -> None:
        self.size += size
        if self.size > self._limit:
            self._owner.overrun()

    def _flush(self) -> None:
        shrunk = False
        while not (self._congested or self._closed):
            batch = list(self._urgent)
            if not (batch or self._lines or self._pieces):
                break
            self._urgent = ()
            size = sum(map(len, batch))
            while self._lines and size < _BATCH:
                line = self._lines.popleft()
                batch.append(line)
                size += len(line)
            # One piece each time, so that a flood of lines cannot hold it up.
            if self._pieces and self._pieces[0][0] <= self._behind - len(self._lines):
                _, piece = self._pieces.popleft()
                batch.append(piece)
                size += len(piece)
            self.size -= size
            shrunk = True
            self._transport.write(b"".join(batch))
        if shrunk:
            if not self._lines:
                self._lines = _NONE
            if not self._pieces:
                self._pieces = _NO_PIECES
            self._owner.eased()
        waiting = self._lines or self._urgent or self._pieces
        if self._on_flushed is not None and not waiting:
            flushed, self._on_flushed = self._on_flushed, None
            self.close()
            flushed()

    def _check_stall(self) -> None:
        self._stall_check = None
        if not self._congested:
            return
        still_allowed = self.moved_at + self._stall_timeout - self._clock.seconds()
        if still_allowed <= 0:
            self._owner.overrun()
        else:
            self._stall_check = self._clock.callLater(still_allowed, self._check_stall)
