"""Reads standard input and writes standard output when they are not a terminal.

They may be pipes, files or devices, and no one way of waiting works for all.
Waiting must block neither the node nor the other direction.  So each read and write
runs in a thread of its own, which tells the reactor when it ends.  The descriptors
are not made non-blocking, because other processes share them.

Both directions are bounded: the next chunk is read on demand, and a writer is told
when too much is waiting.
"""

from __future__ import annotations

import os
import select
import signal
from collections import deque
from collections.abc import Callable
from threading import Thread
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

from meshproto.run.signals import held_back

_CHUNK = 64 * 1024
_FULL = 1024 * 1024

T = TypeVar("T")


class LineSplitter:
    """Splits bytes into lines, in bounded memory.

    Lines are UTF-8 and end with LF or CRLF; invalid bytes become replacement
    characters.  A line longer than ``max_line`` bytes is cut after one more byte, so
    that it is still too long and gets refused.
    """

    def __init__(self, max_line: int) -> None:
        self._keep = max_line + 1
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[str]:
        """The lines that these bytes complete."""
        *ends, rest = data.split(b"\n")
        lines = []
        for end in ends:
            lines.append(self._line(end))
        self._add(rest)
        return lines

    def finish(self) -> list[str]:
        """The last line, if it has no line end."""
        return [self._line(b"")] if self._rest else []

    def _line(self, end: bytes) -> str:
        # The CR of a CRLF does not count towards the length of the line.
        self._add(end)
        line = bytes(self._rest.removesuffix(b"\r"))
        self._rest.clear()
        return line[: self._keep].decode("utf-8", "replace")

    def _add(self, data: bytes) -> None:
        room = self._keep + 1 - len(self._rest)
        self._rest += data[: max(room, 0)]


class PipeReader:
    """The lines of a file descriptor, one by one."""

    def __init__(self, fd: int, max_line: int, reactor: IReactorFromThreads) -> None:
        self._fd = fd
        self._reactor = reactor
        self._splitter = LineSplitter(max_line)
        self._lines: deque[str] = deque()
        self._ended = False
        self._reading: Deferred[bytes] | None = None

    async def next_line(self) -> str | None:
        """The next line, without its end; None when there are no more."""
        while not self._lines and not self._ended:
            self._reading = _in_thread(self._reactor, lambda: _read(self._fd))
            try:
                chunk = await self._reading
            except OSError:
                chunk = b""
            self._reading = None
            if chunk:
                self._lines.extend(self._splitter.feed(chunk))
            elif not self._ended:
                self._ended = True
                self._lines.extend(self._splitter.finish())
        return self._lines.popleft() if self._lines else None

    def close(self) -> None:
        """Stop reading; a waiting `next_line` returns None, as at the end."""
        self._ended = True
        self._lines.clear()
        if self._reading is not None and not self._reading.called:
            self._reading.callback(b"")


class PipeWriter:
    """Writes lines to a file descriptor, in order, without blocking.

    ``on_full`` is called when more than 1 MiB is waiting, ``on_eased`` when half of
    that has been written, and ``on_broken`` once, with the reason, when writing has
    failed; later lines are dropped.
    """

    def __init__(
        self,
        fd: int,
        encoding: str,
        reactor: IReactorFromThreads,
        *,
        on_full: Callable[[], None],
        on_eased: Callable[[], None],
        on_broken: Callable[[OSError], None],
    ) -> None:
        self._fd = fd
        self._encoding = encoding
        self._reactor = reactor
        self._on_full = on_full
        self._on_eased = on_eased
        self._on_broken = on_broken
        self._waiting: list[bytes] = []
        self._size = 0
        #: Whether more is waiting than should be.
        self.is_full = False
        self._broken = False
        self._writing = False
        self._flushed: list[Deferred[None]] = []

    def write(self, line: str) -> None:
        """Write a line and its end."""
        if self._broken:
            return
        data = f"{line}\n".encode(self._encoding, "backslashreplace")
        self._waiting.append(data)
        self._size += len(data)
        if self._size > _FULL and not self.is_full:
            self.is_full = True
            self._on_full()
        self._write_on()

    def flush(self) -> Deferred[None]:
        """Fires when everything is written, or writing has failed."""
        flushed: Deferred[None] = Deferred()
        self._flushed.append(flushed)
        self._tell_flushed()
        return flushed

    def abandon(self) -> None:
        """Drop what is not written yet."""
        self._broken = True
        self._waiting.clear()
        self._tell_flushed()

    def _write_on(self) -> None:
        if self._writing or not self._waiting:
            return
        self._writing = True
        batch, self._waiting = b"".join(self._waiting), []
        writing = _in_thread(self._reactor, lambda: _write(self._fd, batch))
        writing.addCallbacks(self._written, self._not_written)

    def _written(self, size: int) -> None:
        self._writing = False
        self._size -= size
        if self.is_full and self._size <= _FULL // 2:
            self.is_full = False
            self._on_eased()
        self._write_on()
        self._tell_flushed()

    def _not_written(self, failure: Failure) -> None:
        self._writing = False
        failure.trap(OSError)
        if self._broken:
            return
        self._broken = True
        assert isinstance(failure.value, OSError)
        self._on_broken(failure.value)
        self.abandon()

    def _tell_flushed(self) -> None:
        if self._broken or not (self._waiting or self._writing):
            flushed, self._flushed = self._flushed, []
            for each in flushed:
                each.callback(None)


def _in_thread(reactor: IReactorFromThreads, call: Callable[[], T]) -> Deferred[T]:
    """Run a call that may block for ever; fires with its result.

    Unlike those of the reactor's pool, the thread is a daemon, so the process can
    end while it blocks.
    """
    outcome: Deferred[T] = Deferred()

    def tell(result: T | Failure) -> None:
        if not outcome.called:
            outcome.callback(result)

    def run() -> None:
        try:
            result: T | Failure = call()
        except OSError:
            result = Failure()
        reactor.callFromThread(tell, result)

    # Python handles signals in the main thread, so no other should receive them.
    with held_back(signal.valid_signals()):
        Thread(target=run, daemon=True).start()
    return outcome


def _read(fd: int) -> bytes:
    while True:
        try:
            return os.read(fd, _CHUNK)
        except BlockingIOError:
            select.select([fd], [], [])


def _write(fd: int, data: bytes) -> int:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            select.select([], [fd], [])
    return len(data)
