"""Peers that behave badly, one that behaves well, and what a node pays for them.

A `Stage` is a fleet whose nodes have a small application (`lab.echo_node`).
`Stage.watch` puts an honest peer beside the attack, which pings and chats all
the time, and measures the node's process meanwhile.  What comes out is an
`Outcome`, the same for the tests and for the benchmark.
"""

from __future__ import annotations

import os
import select
import selectors
import shlex
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from lab.daemons import PATIENCE, Daemon, Fleet, Wire, free_ports
from lab.terminals import COLUMNS, Terminal, meshproto

KiB = 1024
MiB = 1024 * KiB

_CPU_TICKS = os.sysconf("SC_CLK_TCK")
#: Seconds between two beats of the honest peer.
_BEAT = 0.1
_TWISTD = "from twisted.scripts.twistd import run; run()"


@dataclass(frozen=True)
class Report:
    """What the honest peer saw.

    ``answered`` counts its PINGs that were, ``slowest`` is the longest wait for
    a PONG in seconds.  ``said`` counts its messages, ``heard`` those that came
    back, in order and each once; ``round_trip`` is the longest wait for one.
    """

    pinged: int
    answered: int
    slowest: float
    said: int
    heard: int
    round_trip: float

    @property
    def is_complete(self) -> bool:
        """Whether nothing that it said or asked was lost."""
        return (self.answered, self.heard) == (self.pinged, self.said)


@dataclass
class Outcome:
    """What a case did to the node.

    ``memory`` is what its peak grew by, in bytes; ``cpu`` the processor time
    that it took, in seconds, of ``seconds`` in all.  ``cut_after`` is the longest
    time from the offence to the cut, None where nobody has to be cut.
    """

    case: str
    memory: int = 0
    cpu: float = 0.0
    seconds: float = 0.0
    cut_after: float | None = None
    honest: Report = Report(0, 0, 0.0, 0, 0, 0.0)
    seen: dict[str, Any] = field(default_factory=dict)

    @property
    def cpu_share(self) -> float:
        return self.cpu / self.seconds if self.seconds else 0.0


class Stage(Fleet):
    """A fleet for one attack."""

    def node(self, **settings: Any) -> Daemon:
        """Start ``twistd`` with a node that answers chat, and wait for its port.

        The settings are those of `lab.echo_node.build`.
        """
        node = self._launch(Daemon, "alice", self._command(settings))
        self.until_listening(node)
        return node

    def mute_node(self, redirections: str, *options: str, **settings: Any) -> Daemon:
        """The same, of which no log can be read, with options for ``twistd``.

        The redirections are words of the shell.
        """
        (port,) = free_ports(1)
        command = shlex.join(self._command({**settings, "port": port}, *options))
        shell = ["bash", "-c", f"exec {command} {redirections}"]
        node = self._launch(Daemon, "alice", shell)
        node.port = port
        self.until(lambda: _is_listening(port), "listening port")
        return node

    def honest(self, port: int, name: str = "honest", *, chats: bool = True) -> Honest:
        """A peer that pings, and chats, from now on."""
        honest = Honest(port, name, chats=chats)
        self._stack.callback(honest.close)
        return honest

    def terminal(self, *arguments: str, **variables: str) -> Terminal:
        """A prompt at a terminal."""
        terminal = Terminal(meshproto(*arguments), COLUMNS, **variables)
        self._stack.callback(terminal.close)
        return terminal

    def visit(self, port: int, hello: str, welcome: bytes = b":") -> Wire:
        """A peer of whatever listens there, which must have said that."""
        wire = self._closing(Wire.connect("127.0.0.1", port))
        wire.say(f"{hello}\n")
        if welcome and welcome not in (answer := wire.line()):
            raise AssertionError(f"{hello} is greeted with {answer!r}")
        return wire

    def rough_peer(self, daemon: Daemon, name: str, receive_buffer: int) -> Wire:
        """A peer whose system takes few bytes that it does not read."""
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.connect(("127.0.0.1", daemon.port))
        wire = self._closing(Wire(connection))
        wire.say(f"{name}:{name}\n")
        wire.line()
        return wire

    def watch(self, case: str, node: Daemon) -> AbstractContextManager[Outcome]:
        """Measure the node, with an honest peer beside, while the body attacks.

        The outcome is filled in when the body ends, and the honest peer has
        heard what it waits for.
        """
        return self._watch(case, node.pid, node.port, chats=True)

    def watch_prompt(
        self, case: str, terminal: Terminal
    ) -> AbstractContextManager[Outcome]:
        """The same of a prompt, which lets the honest peer ping only."""
        pid = terminal.process.pid
        return self._watch(case, pid, terminal.port, chats=False)

    @contextmanager
    def _watch(
        self, case: str, pid: int, port: int, *, chats: bool
    ) -> Iterator[Outcome]:
        outcome = Outcome(case)
        honest = self.honest(port, chats=chats)
        honest.wait_for_beats(2)
        meter = Meter(pid)
        yield outcome
        outcome.honest = honest.finish(beats=3)
        outcome.memory, outcome.cpu, outcome.seconds = meter.read()
        for daemon in self.daemons:
            daemon.read()

    def _command(self, settings: dict[str, Any], *options: str) -> list[str]:
        settings = {"port": 0, "name": "alice", **settings}
        written = self.folder / "node.tac"
        written.write_text(
            f"from lab.echo_node import build\napplication = build(**{settings!r})\n"
        )
        twistd = [sys.executable, "-c", _TWISTD, "-n", "--pidfile=", *options]
        return [*twistd, "-y", str(written)]


class Meter:
    """What a process takes from now on."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        # Lets the peak begin anew; without it an old peak may hide a small one.
        with suppress(OSError):
            (self._folder / "clear_refs").write_text("5")
        self._memory = self._kilobytes("VmRSS")
        self._cpu = self._processor_time()
        self._began = time.monotonic()

    def read(self) -> tuple[int, float, float]:
        """Bytes that the peak of its memory grew by, seconds of work, seconds."""
        grown = max(0, self._kilobytes("VmHWM") - self._memory)
        work = self._processor_time() - self._cpu
        return grown * KiB, work, time.monotonic() - self._began

    def _kilobytes(self, name: str) -> int:
        for line in (self._folder / "status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
        raise AssertionError(f"no {name}")

    def _processor_time(self) -> float:
        # The name in brackets may have spaces.
        words = (self._folder / "stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / _CPU_TICKS


class Honest:
    """A peer that keeps to the rules, in a thread of its own.

    Every tenth of a second it sends a PING and a message, which the node's
    application says back.  It answers what it is asked.  Without ``chats`` it
    only pings.
    """

    def __init__(self, port: int, name: str, *, chats: bool = True) -> None:
        self.received: deque[str] = deque()
        self.trouble = ""
        self._wire = Wire.connect("127.0.0.1", port)
        self._wire.say(f"{name}:{name}\n")
        if b":" not in (answer := self._wire.line()):
            raise AssertionError(f"{name} is greeted with {answer!r}")
        self._pings: deque[float] = deque()
        self._texts: deque[float] = deque()
        self._pinged = self._answered = self._said = self._heard = 0
        self._slowest = self._round_trip = 0.0
        self._unread = b""
        self._chats = chats
        self._talking = True
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def say(self, text: str) -> None:
        """Send a line besides the others."""
        self._wire.say(f"{text}\n")

    def wait_for_beats(self, count: int) -> None:
        """Wait until so many more PINGs are answered."""
        wanted = self._answered + count
        self._wait(lambda: self._answered >= wanted, f"{count} answers")

    def hear(self, start: str) -> str:
        """Wait for a line of the node that begins so, and take it."""
        found: list[str] = []

        def look() -> bool:
            while self.received and not found:
                line = self.received.popleft()
                if line.startswith(start):
                    found.append(line)
            return bool(found)

        self._wait(look, f"line with {start!r}")
        return found[0]

    def finish(self, beats: int = 0, patience: float = PATIENCE) -> Report:
        """After so many answers more, wait for what is on its way; tell all."""
        deadline = time.monotonic() + patience
        wanted = self._answered + beats
        while self._answered < wanted or self._pings or self._texts:
            self._talking = self._answered < wanted
            if self.trouble or time.monotonic() > deadline:
                break
            # The answers come in by another thread.
            time.sleep(_BEAT / 10)
        self._talking = False
        self.close()
        return Report(
            self._pinged,
            self._answered,
            self._slowest,
            self._said,
            self._heard,
            self._round_trip,
        )

    def close(self) -> None:
        self._closing = True
        self._thread.join()
        self._wire.close()

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if self.trouble or time.monotonic() > deadline:
                raise AssertionError(f"no {what}: {self.trouble or 'too late'}")
            # What is waited for comes in by another thread.
            time.sleep(_BEAT / 10)

    def _run(self) -> None:
        due = time.monotonic()
        try:
            while not self._closing:
                now = time.monotonic()
                if now >= due:
                    due = now + _BEAT
                    if self._talking:
                        self._beat(now)
                wait = max(0.0, min(due - now, _BEAT))
                if select.select([self._wire.socket], [], [], wait)[0]:
                    self._read()
        except (OSError, EOFError) as error:
            self.trouble = f"{type(error).__name__} {error}"

    def _beat(self, now: float) -> None:
        self._pings.append(now)
        self._pinged += 1
        self._wire.say("PING\n")
        if self._chats:
            self._texts.append(now)
            self._said += 1
            self._wire.say(f"echo beat {self._said}\n")

    def _read(self) -> None:
        data = self._wire.socket.recv(1 << 20)
        if not data:
            raise EOFError("the node has closed the link")
        *lines, self._unread = (self._unread + data).split(b"\n")
        now = time.monotonic()
        for line in lines:
            if line == b"PONG":
                self._slowest = max(self._slowest, now - self._pings.popleft())
                self._answered += 1
            elif line == b"PING":
                self._wire.say("PONG\n")
            elif line == b"beat %d" % (self._heard + 1):
                self._heard += 1
                self._round_trip = max(self._round_trip, now - self._texts.popleft())
            elif not line.startswith(b"flood "):
                self.received.append(line.decode())


def join(daemon: Daemon, name: str = "newcomer", host: str = "127.0.0.1") -> float:
    """Seconds from the dial of a new peer to its first PONG; it leaves again.

    Who is turned away tries again, as a node does.
    """
    began = time.monotonic()
    while True:
        with suppress(OSError, EOFError):
            wire = Wire.connect(host, daemon.port)
            try:
                wire.say(f"{name}:{name}\n")
                if b":" in wire.line():
                    wire.ping()
                    return time.monotonic() - began
            finally:
                wire.close()
        if time.monotonic() > began + PATIENCE:
            raise AssertionError(f"{name} could not join")


@dataclass
class Exchange:
    """What went over one connection, and whether the node ended it.

    ``seconds`` is the time to the end, or to the last byte.
    """

    sent: int = 0
    received: int = 0
    seconds: float = 0.0
    cut: bool = False


def pour(
    wire: Wire,
    data: bytes,
    total: int,
    *,
    reads: bool = True,
    patience: float = PATIENCE,
) -> Exchange:
    """Send the data again and again until it was ``total`` bytes, or the cut.

    A peer that ``reads`` takes every answer, and when it has said all it waits
    for the rest of them.  One that does not, never reads, and waits for the cut.
    """
    connection, exchange = wire.socket, Exchange()
    connection.setblocking(False)
    began = time.monotonic()
    data *= max(1, 64 * KiB // len(data))
    view, finished = memoryview(data), False
    start = 0
    try:
        while time.monotonic() < began + patience:
            done = exchange.sent >= total
            if done and reads and not finished:
                wire.finish()
                finished = True
            watched = select.poll()
            wanted = select.POLLIN if reads else 0
            watched.register(connection, wanted | (0 if done else select.POLLOUT))
            for _, happened in watched.poll(1000):
                if happened & (select.POLLERR | select.POLLHUP) and not reads:
                    raise ConnectionResetError
                if happened & (select.POLLIN | select.POLLHUP):
                    received = connection.recv(1 << 20)
                    exchange.received += len(received)
                    if not received:
                        exchange.cut = not finished
                        return exchange
                if happened & select.POLLOUT:
                    sent = connection.send(view[start:])
                    exchange.sent += sent
                    start = (start + sent) % len(data)
    except ConnectionError:
        exchange.cut = True
    finally:
        exchange.seconds = time.monotonic() - began
    return exchange


class Pourers:
    """Many peers that send the same data over and over, served by one thread.

    ``sent`` has the bytes that each has got rid of.  They read what they are
    told only if ``reads``.
    """

    def __init__(
        self, wires: Sequence[Wire], data: bytes, *, reads: bool = False
    ) -> None:
        self.sent = [0] * len(wires)
        self._events = selectors.EVENT_WRITE | (selectors.EVENT_READ if reads else 0)
        self._data = memoryview(data)
        self._numbers = {wire.socket: each for each, wire in enumerate(wires)}
        for connection in self._numbers:
            connection.setblocking(False)
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing = True
        self._thread.join()

    def _run(self) -> None:
        waiting = selectors.DefaultSelector()
        for connection in self._numbers:
            waiting.register(connection, self._events)
        with waiting:
            while not self._closing and waiting.get_map():
                for key, ready in waiting.select(0.1):
                    connection = cast(socket.socket, key.fileobj)
                    number = self._numbers[connection]
                    start = self.sent[number] % len(self._data)
                    try:
                        if ready & selectors.EVENT_READ:
                            connection.recv(1 << 20)
                        if ready & selectors.EVENT_WRITE:
                            self.sent[number] += connection.send(self._data[start:])
                    except BlockingIOError:
                        pass
                    except OSError:
                        # The node has gone, or has cut it.
                        waiting.unregister(connection)


def until_cut(wire: Wire) -> float:
    """Seconds until the node has ended the connection."""
    began = time.monotonic()
    wire.rest()
    return time.monotonic() - began


class Reader:
    """A peer that takes what it is told, in a thread of its own.

    ``numbers`` are those of the application's ``flood`` lines, ``ended_at`` when
    the flood was over.  With a ``speed`` it takes so many bytes a second.
    """

    def __init__(self, wire: Wire, speed: float | None = None) -> None:
        self.wire = wire
        self.numbers: list[int] = []
        self.taken = 0
        self.ended_at: float | None = None
        self.is_cut = False
        self._speed = speed
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing = True
        self._thread.join()

    def _run(self) -> None:
        unread = b""
        while not self._closing:
            if not select.select([self.wire.socket], [], [], 0.1)[0]:
                continue
            try:
                data = self.wire.socket.recv(int(self._speed or 1 << 20))
            except ConnectionError:
                data = b""
            if not data:
                self.is_cut = True
                return
            self.taken += len(data)
            *lines, unread = (unread + data).split(b"\n")
            for line in lines:
                self._take(line)
            if self._speed:
                # To read slowly is what this peer is there for.
                time.sleep(len(data) / self._speed)

    def _take(self, line: bytes) -> None:
        if line.startswith(b"flood "):
            word = line.split(b" ", 2)[1]
            if word == b"ends":
                self.ended_at = time.monotonic()
            else:
                self.numbers.append(int(word))
        elif line == b"PING":
            with suppress(OSError):
                self.wire.say("PONG\n")


class Victim:
    """A port that somebody is sent to: counts who calls, keeps what they say.

    With ``hangs_up`` it ends every call at once, else it holds all of them
    without a word.
    """

    def __init__(self, port: int = 0, *, hangs_up: bool = False) -> None:
        self._server = socket.create_server(("127.0.0.1", port), backlog=128)
        self._server.setblocking(False)
        self.port: int = self._server.getsockname()[1]
        self.calls: list[float] = []
        self.heard: list[bytes] = []
        self.open: dict[socket.socket, int] = {}
        self.hangs_up = hangs_up

    def sockets(self) -> list[socket.socket]:
        return [self._server, *self.open]

    def serve(self, ready: socket.socket) -> None:
        """Do what is due on one of its sockets."""
        if ready is self._server:
            with suppress(BlockingIOError):
                caller, _ = ready.accept()
                self.calls.append(time.monotonic())
                self.heard.append(b"")
                self.open[caller] = len(self.heard) - 1
                if self.hangs_up:
                    self._end(caller)
        elif ready in self.open:
            try:
                data = ready.recv(65536)
            except ConnectionError:
                data = b""
            self.heard[self.open[ready]] += data
            if not data:
                self._end(ready)

    def answer(self, hello: str) -> None:
        """Say hello to everybody who is on the line."""
        for caller in tuple(self.open):
            with suppress(OSError):
                caller.sendall(f"{hello}\n".encode())

    def hang_up(self) -> None:
        for caller in tuple(self.open):
            with suppress(OSError):
                caller.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for each in self.sockets():
            each.close()

    def _end(self, caller: socket.socket) -> None:
        del self.open[caller]
        caller.close()


class Victims:
    """Many victims, served by one thread; ``most_open`` at one time."""

    def __init__(self, *victims: Victim) -> None:
        self.all = victims
        self.most_open = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def calls(self) -> list[int]:
        """How often each has been called."""
        return [len(victim.calls) for victim in self.all]

    @property
    def open(self) -> int:
        """How many calls are not over."""
        return sum(len(victim.open) for victim in self.all)

    def close(self) -> None:
        self._closing = True
        self._thread.join()
        for victim in self.all:
            victim.close()

    def _run(self) -> None:
        while not self._closing:
            owner = {each: v for v in self.all for each in v.sockets()}
            for ready in select.select(list(owner), [], [], 0.05)[0]:
                owner[ready].serve(ready)
            self.most_open = max(self.most_open, self.open)


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def open_descriptors(daemon: Daemon) -> int:
    """How many files and sockets a process has open."""
    return len(os.listdir(f"/proc/{daemon.pid}/fd"))


def close_all(connections: Sequence[socket.socket]) -> None:
    for each in connections:
        each.close()
