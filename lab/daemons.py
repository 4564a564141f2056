"""Real daemons and raw sockets.

A `Fleet` holds whatever a test starts and ends all of it.  Every wait polls for
a condition until it holds, and fails with the daemons' logs when it never does.
"""

from __future__ import annotations

import ipaddress
import itertools
import os
import random
import re
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple, Self

from lab.terminals import environment

#: Seconds after which a wait is a failure.
PATIENCE = 45.0
_PAUSE = 0.01

_TWISTD = "from twisted.scripts.twistd import run; run()"
_ENTRY = re.compile(r"[0-9T:+-]{20,} \[([^]]*)\] (.*)")
_SHOWN = re.compile(r"\[[0-9:]{8}\] ")
_STARTED = re.compile(r"\[SYSTEM\] Node .* listening on port ([0-9]+)")
_CAME = re.compile(r"\[NETWORK\] (?:Peer|Connected to peer) (\S+) .*\([0-9]+/")
_WENT = re.compile(
    r"(?:\[NETWORK\] Peer|\[MAINTENANCE\] Removed stale peer) "
    r"(\S+) (?:disconnected|\(timeout\))"
)

PROC_TCP = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
HAS_PROC_TCP = all(path.exists() for path in PROC_TCP)
_DIAL_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
NO_PROC_TCP = "links are counted in /proc/net/tcp, which this system has not"


class Ended(AssertionError):
    """A connection has ended of which more was expected."""


Shape = Callable[[Sequence[int], int], Sequence[int]]


def chain(ports: Sequence[int], number: int) -> Sequence[int]:
    """Everybody knows the one before."""
    return ports[number - 1 : number] if number else ()


def star(ports: Sequence[int], number: int) -> Sequence[int]:
    """Everybody knows the first."""
    return ports[:1] if number else ()


class Daemon:
    """A program with a node in it, and everything that it has logged.

    ``port`` is the port that it listens on, 0 until that is known.
    """

    def __init__(self, name: str, folder: Path, command: Sequence[str], log: Path):
        self.name = name
        self.port = 0
        self.lines: list[str] = []
        self.complaints: list[str] = []
        self.raw = ""
        log.touch()
        self._log = log.open("rb")
        self._rest = b""
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def peers(self) -> list[str]:
        """The names of its peers, sorted, as its log tells.

        A peer that came twice without going stands there twice.
        """
        here: Counter[str] = Counter()
        for line in self.lines:
            if came := _CAME.match(line):
                here[came[1]] += 1
            elif went := _WENT.match(line):
                here[went[1]] -= 1
        return sorted(here.elements())

    @property
    def memory(self) -> int:
        """Bytes that it has in memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+([0-9]+) kB", status)
        assert found is not None
        return 1024 * int(found[1])

    def read(self) -> None:
        """Take what has been logged since the last time."""
        *lines, self._rest = (self._rest + self._log.read()).split(b"\n")
        for line in lines:
            text = line.decode()
            self.raw += text + "\n"
            self._take(text)
            if not self.port and (started := _STARTED.match(self.lines[-1])):
                self.port = int(started[1])

    def logged(self, text: str) -> int:
        """How many lines contain the text."""
        return sum(text in line for line in self.lines)

    def type(self, text: str) -> None:
        """Give the program a line of input."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()

    def send_signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it without a chance to say anything."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.kill()
        self.read()
        if self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.close()
        self._log.close()

    def _take(self, text: str) -> None:
        entry = _ENTRY.match(text)
        self.lines.append(entry[2] if entry else text)
        if entry is None or entry[1].endswith("#critical"):
            self.complaints.append(text)


class Prompt(Daemon):
    """A prompt: what it shows has a time, and no name of a logger."""

    def _take(self, text: str) -> None:
        self.lines.append(text.partition("] ")[2])
        if not _SHOWN.match(text):
            self.complaints.append(text)


class Fleet:
    """Daemons, sockets and what else has to end with the test."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.folder = Path(tempfile.mkdtemp(prefix="meshproto-"))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.home = self.folder / "home"
        self.home.mkdir()
        self.daemons: list[Daemon] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    def launch(
        self, name: str, *options: object, port: int = 0, bootstrap: Sequence[int] = ()
    ) -> Daemon:
        """Start ``twistd meshnode``; all daemons share a folder.

        Without a name it has none of its own.
        """
        command = [sys.executable, "-c", _TWISTD, "-n", "--pidfile=", "meshnode"]
        command += ["--port", str(port), *map(str, options)]
        if name:
            command += ["--name", name]
        for other in bootstrap:
            command += ["--bootstrap", f"localhost:{other}"]
        return self._launch(Daemon, name, command)

    def mesh(self, size: int, shape: Shape, *options: object) -> list[Daemon]:
        """Start that many daemons at the same instant, called n0, n1 and so on.

        ``shape`` tells by which of all their ports each of them is to join.
        """
        ports = free_ports(size)
        return [
            self.launch(
                f"n{number}", *options, port=port, bootstrap=shape(ports, number)
            )
            for number, port in enumerate(ports)
        ]

    def prompt(self, name: str, *options: object) -> Daemon:
        """Start ``meshproto`` with a pipe for its input, and wait for its port."""
        command = [sys.executable, "-m", "meshproto", "0", "--name", name]
        prompt = self._launch(Prompt, name, [*command, *map(str, options)])
        self.until_listening(prompt)
        return prompt

    def start(
        self, name: str, *options: object, port: int = 0, bootstrap: Sequence[int] = ()
    ) -> Daemon:
        """Start ``twistd meshnode`` and wait until it listens."""
        daemon = self.launch(name, *options, port=port, bootstrap=bootstrap)
        self.until_listening(daemon)
        return daemon

    def connect(self, daemon: Daemon, host: str = "127.0.0.1") -> Wire:
        """A connection to a daemon, on which nothing has been said."""
        return self._closing(Wire.connect(host, daemon.port))

    def greet(self, daemon: Daemon, hello: str) -> Wire:
        """A connection to a daemon that has said welcome."""
        wire = self.connect(daemon)
        wire.say(f"{hello}\n")
        welcome = wire.line()
        if welcome != f"peer-{daemon.port}:{daemon.name}\n".encode():
            raise AssertionError(f"{hello} is greeted with {welcome!r}")
        return wire

    def listener(self, host: str = "127.0.0.1") -> Listener:
        """A port of the test's own, on which daemons may call."""
        listener = Listener(host)
        self._stack.callback(listener.close)
        return listener

    def accept(self, listener: Listener) -> Wire:
        """The next connection on a port of the test's own."""
        return self._closing(listener.accept())

    def forwarder(self, port: int) -> Forwarder:
        """A port whose connections end at another one of this machine."""
        forwarder = Forwarder(port)
        self._stack.callback(forwarder.close)
        return forwarder

    def until(self, condition: Callable[[], object], what: str) -> float:
        """Wait until the condition holds; returns when that was.

        It reads the daemons' logs before it looks.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            for daemon in self.daemons:
                daemon.read()
            now = time.monotonic()
            if condition():
                return now
            if now > deadline:
                raise AssertionError(
                    f"in {PATIENCE:g} s there was no {what}\n{self.logs()}"
                )
            # Other processes log when they like: their files are looked at again.
            time.sleep(_PAUSE)

    def until_listening(self, *daemons: Daemon) -> float:
        return self.until(lambda: all(each.port for each in daemons), "listening port")

    def until_full(self, daemons: Sequence[Daemon]) -> float:
        """Wait until every daemon knows all others, by one TCP connection each."""
        return self.until(lambda: is_full_mesh(daemons), "full mesh")

    def until_logged(self, daemon: Daemon, text: str, times: int = 1) -> float:
        """Wait until a daemon has logged that many lines with the text."""
        return self.until(lambda: daemon.logged(text) >= times, f"line with {text!r}")

    def logs(self) -> str:
        return "\n".join(f"--- {each.name}\n{each.raw}" for each in self.daemons)

    def _launch(self, kind: type[Daemon], name: str, command: Sequence[str]) -> Daemon:
        log = self.folder / f"{len(self.daemons)}.log"
        daemon = kind(name, self.home, command, log)
        self.daemons.append(daemon)
        self._stack.callback(daemon.close)
        return daemon

    def _closing(self, wire: Wire) -> Wire:
        self._stack.callback(wire.close)
        return wire


class Wire:
    """One TCP connection, of which every byte is seen.

    ``was_reset`` tells, once the end has been read, that it was no orderly one.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = connection
        self.was_reset = False
        self._unread = b""

    @classmethod
    def connect(cls, host: str, port: int) -> Wire:
        return cls(socket.create_connection((host, port), PATIENCE))

    def say(self, data: str | bytes) -> None:
        """Send exactly that."""
        self.socket.sendall(data.encode() if isinstance(data, str) else data)

    def line(self) -> bytes:
        """The next line with its end; what there is when none follows."""
        while b"\n" not in self._unread and self._receive():
            pass
        line, end, self._unread = self._unread.partition(b"\n")
        return line + end

    def frame(self) -> tuple[bytes, bytes]:
        """The next frame of ``mesh/2``: its header with its end, and its payload.

        What there is of it when the connection ends.
        """
        header = self.line()
        length = header.rpartition(b" +")[2] if b" +" in header else b"0"
        size = int(length)
        while len(self._unread) < size and self._receive():
            pass
        payload, self._unread = self._unread[:size], self._unread[size:]
        return header, payload

    def lines_before(self, last: bytes) -> list[bytes]:
        """The lines that come before a certain one."""
        lines: list[bytes] = []
        while (line := self.line()) != last:
            if not line:
                raise Ended(f"the connection ended after {lines}, before {last!r}")
            lines.append(line)
        return lines

    def ping(self) -> list[bytes]:
        """Have the far end answer; returns the lines that came before that."""
        self.say("PING\n")
        return self.lines_before(b"PONG\n")

    def rest(self) -> bytes:
        """Everything up to the end that the far end puts to its half."""
        while self._receive():
            pass
        rest, self._unread = self._unread, b""
        return rest

    def finish(self) -> None:
        """Send nothing more."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Break the connection."""
        linger = struct.pack("ii", 1, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close()

    def close(self) -> None:
        self.socket.close()

    def _receive(self) -> bytes:
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            self.was_reset = True
            return b""
        self._unread += data
        return data


class Listener:
    """A listening port."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._socket = socket.create_server((host, 0))
        self._socket.settimeout(PATIENCE)
        self.port: int = self._socket.getsockname()[1]

    @property
    def is_called(self) -> bool:
        """Whether a connection waits to be accepted."""
        return bool(select.select([self._socket], [], [], 0)[0])

    def accept(self) -> Wire:
        return Wire(self._socket.accept()[0])

    def close(self) -> None:
        self._socket.close()


class Forwarder:
    """A port whose connections end at another port of this machine, ``target``.

    ``calls`` counts the connections that it has taken.
    """

    def __init__(self, target: int) -> None:
        self.calls = 0
        self.target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._others: dict[socket.socket, socket.socket] = {}
        self._wishes, self._wake = socket.socketpair()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def reset(self) -> None:
        """Break every connection, at both ends."""
        self._wake.send(b"r")

    def close(self) -> None:
        self._wake.send(b"q")
        self._thread.join()
        for each in (self._wake, self._wishes, self._server):
            each.close()

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select(
                [self._wishes, self._server, *self._others], [], []
            )
            for each in ready:
                if each is self._server:
                    self._take()
                elif each is not self._wishes:
                    self._forward(each)
                else:
                    wish = each.recv(1)
                    for broken in tuple(self._others):
                        self._break(broken)
                    if wish == b"q":
                        return

    def _take(self) -> None:
        near = self._server.accept()[0]
        self.calls += 1
        try:
            far = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            near.close()
            return
        self._others |= {near: far, far: near}

    def _forward(self, near: socket.socket) -> None:
        far = self._others.get(near)
        if far is None:
            return
        try:
            data = near.recv(65536)
            if data:
                far.sendall(data)
            else:
                far.shutdown(socket.SHUT_WR)
        except OSError:
            data = b""
        if not data:
            self._others.pop(near, None)
            if far not in self._others:
                near.close()
                far.close()

    def _break(self, each: socket.socket) -> None:
        self._others.pop(each, None)
        linger = struct.pack("ii", 1, 0)
        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        each.close()


class TcpSocket(NamedTuple):
    """One line of the system's list of TCP sockets."""

    local: tuple[str, int]
    remote: tuple[str, int]
    state: str
    inode: int


#: ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK and CLOSING: every
#: state in which a connection still occupies anybody.
_OPEN = frozenset({"01", "04", "05", "08", "09", "0B"})


def tcp_sockets() -> list[TcpSocket]:
    """Every TCP socket of this machine."""
    found = []
    for path in PROC_TCP:
        for line in path.read_text().splitlines()[1:]:
            words = line.split()
            local, remote = map(_socket_address, words[1:3])
            found.append(TcpSocket(local, remote, words[3], int(words[9])))
    return found


def open_connections(ports: Iterable[int]) -> int:
    """How many connections to those ports are open, or closed at one end only."""
    wanted = set(ports)
    return sum(
        each.state in _OPEN and each.local[1] in wanted for each in tcp_sockets()
    )


def links(daemons: Sequence[Daemon]) -> list[tuple[str, str]]:
    """Every TCP connection that one of these daemons has accepted.

    Each as who dialled and who listened; a dialler that is none of the daemons
    is ``?``.
    """
    owner = {}
    for daemon in daemons:
        for inode in _socket_inodes(daemon.pid):
            owner[inode] = daemon.name
    listener = {daemon.port: daemon.name for daemon in daemons}
    sockets = [each for each in tcp_sockets() if each.state in _OPEN]
    end = {(each.local, each.remote): each for each in sockets}
    found = []
    for each in sockets:
        if each.local[1] in listener:
            other = end.get((each.remote, each.local))
            dialler = owner.get(other.inode, "?") if other else "?"
            found.append((dialler, listener[each.local[1]]))
    return sorted(found)


def is_full_mesh(daemons: Sequence[Daemon]) -> bool:
    """Whether every daemon knows all others, and each pair has one link."""
    names = sorted(daemon.name for daemon in daemons)
    for daemon in daemons:
        if daemon.peers != [name for name in names if name != daemon.name]:
            return False
    found = sorted(tuple(sorted(link)) for link in links(daemons))
    return found == list(itertools.combinations(names, 2))


def free_ports(count: int) -> list[int]:
    """Ports that were free just now, none of which a dial takes for its own end."""
    low, high = 32_768, 60_999
    if _DIAL_PORTS.exists():
        low, high = map(int, _DIAL_PORTS.read_text().split())
    candidates = [*range(10_240, min(low, 65_536)), *range(high + 1, 65_536)]
    random.shuffle(candidates)
    found: list[int] = []
    for port in candidates:
        if len(found) == count:
            break
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                continue
        found.append(port)
    return found


def tell(text: str) -> None:
    """Say something to whoever watches the tests."""
    sys.stdout.write(f"{text}\n")


def _socket_address(text: str) -> tuple[str, int]:
    host, _, port = text.partition(":")
    # Words of four bytes, in the byte order of the machine.
    words = [int(host[start : start + 8], 16) for start in range(0, len(host), 8)]
    packed = b"".join(struct.pack("=I", word) for word in words)
    ip = ipaddress.ip_address(packed)
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return str(ip), int(port, 16)


def _socket_inodes(pid: int) -> list[int]:
    inodes = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with suppress(FileNotFoundError):
                target = os.readlink(entry.path)
                if target.startswith("socket:["):
                    inodes.append(int(target[8:-1]))
    return inodes
