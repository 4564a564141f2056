"""Real programs on real terminals: a pty each, read through pyte."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
#: Seconds after which a wait is a failure.
PATIENCE = 30.0
COLUMNS, ROWS = 100, 40


def environment() -> dict[str, str]:
    """An environment in which a program finds the checkout and nothing odd."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(
            ("PROMPT_TOOLKIT", "COV", "LINES", "COLUMNS", "NO_COLOR")
        )
    }
    paths = [str(ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(paths),
        "TERM": "xterm-256color",
        "LC_ALL": "C.UTF-8",
        "PYTHONWARNINGS": "",
        # No folder: what is typed in a test goes into nobody's history.
        "XDG_STATE_HOME": os.devnull,
    }


def meshproto(*arguments: str) -> list[str]:
    """The command line of a prompt."""
    return [sys.executable, "-m", "meshproto", *arguments]


def free_port() -> int:
    """A TCP port that was free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Terminal:
    """A program on a terminal of its own.

    ``lines`` is what a person sees, scrolled-off rows included.
    """

    def __init__(
        self, command: Sequence[str], columns: int = COLUMNS, **variables: str
    ) -> None:
        # Here, so that all the rest of the module does without it.
        import pyte

        self.master, slave = pty.openpty()
        self.modes = termios.tcgetattr(slave)
        self.columns = columns
        self.screen = pyte.HistoryScreen(columns, ROWS, history=10_000, ratio=0.5)
        self._stream = pyte.ByteStream(self.screen)
        self.resize(columns)

        def take_terminal() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**environment(), **variables},
            start_new_session=True,
            preexec_fn=take_terminal,
        )
        os.close(slave)
        self.raw = bytearray()

    @property
    def port(self) -> int:
        """Where its node listens, as its first line says."""
        return listening_port(self.lines)

    @property
    def lines(self) -> list[str]:
        above = [
            "".join(row[column].data for column in range(self.columns)).rstrip()
            for row in self.screen.history.top
        ]
        return above + [row.rstrip() for row in self.screen.display]

    @property
    def coloured(self) -> list[tuple[str, str]]:
        """Each row with what is not plain in it, rows scrolled off included."""
        rows = [*self.screen.history.top, *self.screen.buffer.values()]
        plain = self.screen.default_char
        found = []
        for row in rows:
            cells = [row[column] for column in range(self.columns)]
            special = "".join(
                cell.data for cell in cells if cell._replace(data=plain.data) != plain
            )
            if special:
                found.append(("".join(cell.data for cell in cells).rstrip(), special))
        return found

    @property
    def typed(self) -> str:
        """The line that is being typed, the prompt included."""
        return self.screen.display[self.screen.cursor.y].rstrip()

    def resize(self, columns: int) -> None:
        size = struct.pack("HHHH", ROWS, columns, 0, 0)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, size)
        self.columns = columns
        self.screen.resize(ROWS, columns)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def read(self) -> None:
        """Take what the program has written, without waiting."""
        while select.select([self.master], [], [], 0)[0]:
            try:
                data = os.read(self.master, 65536)
            except OSError:  # the other end is closed
                return
            if not data:
                return
            self.raw += data
            self._stream.feed(data)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)


def wait_until(
    condition: Callable[[], object],
    what: str,
    terminals: Iterable[Terminal] = (),
    patience: float = PATIENCE,
) -> None:
    """Read the terminals until the condition holds; fail when it never does."""
    terminals = tuple(terminals)
    deadline = time.monotonic() + patience
    while True:
        for each in terminals:
            each.read()
        if condition():
            return
        if time.monotonic() > deadline:
            shown = "\n".join(
                "\n".join(["-" * 20, *filter(None, each.lines)]) for each in terminals
            )
            raise AssertionError(f"in {patience} s there was no {what}\n{shown}")
        masters = [each.master for each in terminals if each.process.poll() is None]
        select.select(masters, [], [], 0.02)


class Piped:
    """A program with a pipe, or a file, to read from and a file to write to."""

    def __init__(
        self, command: Sequence[str], output: str, stdin: IO[bytes] | None = None
    ) -> None:
        self.output = Path(output)
        with self.output.open("wb") as file:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if stdin is None else stdin,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment(),
                start_new_session=True,
            )

    @property
    def lines(self) -> list[str]:
        return self.output.read_text("utf-8").splitlines()

    @property
    def port(self) -> int:
        """Where its node listens, as its first line says."""
        return listening_port(self.lines)

    def type(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def end_input(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        if self.process.stdin is not None:
            self.end_input()
        self.process.wait()


class Visitor:
    """A peer that a test speaks for, line by line."""

    def __init__(self, port: int, name: str = "visitor") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.send(f"{name}:{name}")
        greeting = self.socket.recv(1000)
        assert b":" in greeting, greeting

    def send(self, line: str) -> None:
        self.socket.sendall(f"{line}\n".encode())

    def close(self) -> None:
        self.socket.close()


def listening_port(lines: Iterable[str]) -> int:
    """The port in ``Node alice listening on port 8001``; 0 until there is one."""
    for line in lines:
        found = re.search(r"\[SYSTEM\] Node .* listening on port (\d+)$", line)
        if found:
            return int(found[1])
    return 0


def run(
    command: Sequence[str], stdin: bytes = b"", cwd: str | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a program that ends by itself, with pipes instead of a terminal."""
    return subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        timeout=PATIENCE,
        env=environment(),
        cwd=cwd,
    )
