"""The lines that a user has typed at a prompt, kept in a file.

The file has one line of text for each, the newest last.  Any number of prompts
may share it: each line is appended in one write, and a file that is cut is
replaced as a whole.  A file that cannot be read or written costs the history
and nothing else.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

#: Lines that are kept.  A file may hold twice as many before it is cut.
MAX_LINES = 1000
#: Longer lines are not kept.
MAX_LENGTH = 2000

_LINE_END = re.compile("\r\n|\r|\n")
# Neither the reader nor the writer of a named pipe shall wait for the other.
_PROMPTLY = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def history_path(environ: Mapping[str, str], home: str) -> Path | None:
    """Where the history of this user is; None when there is no place for it.

    That is ``$XDG_STATE_HOME/meshproto/history``, where the variable is by
    default ``~/.local/state``.  ``home`` is the user's folder.
    """
    state = environ.get("XDG_STATE_HOME", "")
    # The specification has relative paths ignored.
    folder = Path(state) if os.path.isabs(state) else Path(home, ".local", "state")
    return folder / "meshproto" / "history" if folder.is_absolute() else None


class HistoryFile:
    """A file of lines, of which the last `MAX_LINES` count.

    Its folders are made with mode 0700, the file with 0600.
    """

    def __init__(self, path: Path) -> None:
        # What a symbolic link leads to is replaced, not the link.
        self._path = Path(os.path.realpath(path))
        self._count = 0

    def read(self) -> list[str]:
        """The lines, oldest first; none when they cannot be read."""
        try:
            lines = self._lines()
        except OSError:
            return []
        self._count = len(lines)
        if self._count > 2 * MAX_LINES:
            with suppress(OSError):
                self._replace(lines[-MAX_LINES:])
        return lines[-MAX_LINES:]

    def append(self, text: str) -> None:
        """Keep the lines of a text, if that can be done."""
        lines = [
            line
            for line in _LINE_END.split(text)
            if line.strip() and len(line) <= MAX_LENGTH
        ][-MAX_LINES:]
        data = "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")
        if not data:
            return
        with suppress(OSError):
            self._write(data)
            self._count += len(lines)
            if self._count > 2 * MAX_LINES:
                self.read()

    def _lines(self) -> list[str]:
        with open(self._open(os.O_RDONLY), "rb") as file:
            text = file.read().decode("utf-8", "replace")
        return [line for line in text.split("\n") if line]

    def _write(self, data: bytes) -> None:
        try:
            descriptor = self._open(os.O_WRONLY | os.O_APPEND)
        except FileNotFoundError:
            _make_folder(self._path.parent)
            descriptor = self._open(os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.fchmod(descriptor, 0o600)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)

    def _open(self, flags: int) -> int:
        descriptor = os.open(self._path, flags | _PROMPTLY, 0o600)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError("not a regular file")
        return descriptor

    def _replace(self, lines: list[str]) -> None:
        # Such a file has mode 0600 from the start.
        descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=".history-")
        try:
            with open(descriptor, "wb") as file:
                file.writelines(
                    f"{line}\n".encode("utf-8", "replace") for line in lines
                )
            os.replace(name, self._path)
        except OSError:
            os.unlink(name)
            raise
        self._count = len(lines)


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, private whatever the umask is."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(0o700)
    folder.chmod(0o700)
