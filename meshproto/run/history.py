"""The lines that a user has typed at the prompt, kept in a file.

The file has one entry per line, newest last.  Any number of prompts may share it:
each entry is appended in one write, and trimming replaces the whole file.  If the
file cannot be read or written, only the history is lost.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

#: Lines to keep.  The file may grow to twice as many before it is trimmed.
MAX_LINES = 1000
#: Longer lines are not kept.
MAX_LENGTH = 2000

_LINE_END = re.compile("\r\n|\r|\n")
# If the file is a named pipe, opening it must not block.
_PROMPTLY = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def history_path(environ: Mapping[str, str], home: str) -> Path | None:
    """The path of the user's history; None if there is no place for it.

    That is ``$XDG_STATE_HOME/meshproto/history``; the variable defaults to
    ``~/.local/state``.  ``home`` is the user's home folder.
    """
    state = environ.get("XDG_STATE_HOME", "")
    # The XDG specification says to ignore relative paths.
    folder = Path(state) if os.path.isabs(state) else Path(home, ".local", "state")
    return folder / "meshproto" / "history" if folder.is_absolute() else None


class HistoryFile:
    """A file of lines, of which the last `MAX_LINES` are kept.

    Folders are created with mode 0700, the file with 0600.
    """

    def __init__(self, path: Path) -> None:
        # Trimming must replace a symbolic link's target, not the link.
        self._path = Path(os.path.realpath(path))
        self._count = 0

    def read(self) -> list[str]:
        """The lines, oldest first; none if the file cannot be read."""
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
        """Add the lines of a text; does nothing if the file cannot be written."""
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
        # mkstemp creates the file with mode 0600.
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
    """Make a folder and its missing parents, private whatever the umask."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(0o700)
    folder.chmod(0o700)
