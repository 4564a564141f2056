"""What was typed, kept in a file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from meshproto.run import history
from meshproto.run.history import MAX_LENGTH, MAX_LINES, HistoryFile, history_path


class PathTests(SynchronousTestCase):
    """Where the file is."""

    def test_path(self) -> None:
        """In the folder for states, wherever that is."""
        for state, home, path in (
            (None, "/home/bob", "/home/bob/.local/state/meshproto/history"),
            ("", "/home/bob", "/home/bob/.local/state/meshproto/history"),
            ("relative", "/home/bob", "/home/bob/.local/state/meshproto/history"),
            ("/state", "/home/bob", "/state/meshproto/history"),
            ("/state", "~", "/state/meshproto/history"),
        ):
            environ = {} if state is None else {"XDG_STATE_HOME": state}
            self.assertEqual(history_path(environ, home), Path(path))

    def test_no_home(self) -> None:
        """A user without a folder has no history."""
        self.assertIsNone(history_path({}, "~"))


class FileTests(SynchronousTestCase):
    """What is written and read."""

    def setUp(self) -> None:
        self.folder = Path(os.path.realpath(self.mktemp()))
        self.path = self.folder / "a" / "meshproto" / "history"
        self.file = HistoryFile(self.path)

    def written(self) -> list[str]:
        return self.path.read_text("utf-8").split("\n")[:-1]

    def test_lines(self) -> None:
        """What one prompt wrote the next one reads."""
        self.assertEqual(self.file.read(), [])
        for text in ("hello", "/peers", "  Gr\u00fc\u00dfe\t\u2028x "):
            self.file.append(text)
        self.assertEqual(
            HistoryFile(self.path).read(),
            ["hello", "/peers", "  Gr\u00fc\u00dfe\t\u2028x "],
        )

    def test_several_lines(self) -> None:
        """What was pasted is a line each; blank ones are none."""
        self.file.append("one\rtwo\nthree\r\n\n \nfour")
        self.assertEqual(self.file.read(), ["one", "two", "three", "four"])
        self.file.append("\n")
        self.assertEqual(len(self.file.read()), 4)

    def test_not_utf8(self) -> None:
        """Neither a file nor a line that cannot be encoded is trouble."""
        self.file.append("a\udc80b")
        with self.path.open("ab") as file:
            file.write(b"\xff\x00\n")
        self.assertEqual(self.file.read(), ["a?b", "\ufffd\x00"])

    def test_modes(self) -> None:
        """For the user only, whatever the umask is."""
        for number, umask in enumerate((0o000, 0o022, 0o077, 0o277, 0o777)):
            path = self.folder / str(number) / "b" / "meshproto" / "history"
            self.folder.mkdir(exist_ok=True)
            before = os.umask(umask)
            try:
                HistoryFile(path).append("hello")
            finally:
                os.umask(before)
            for each, mode in (
                (path, 0o600),
                (path.parent, 0o700),
                (path.parent.parent, 0o700),
            ):
                self.assertEqual(stat.S_IMODE(each.stat().st_mode), mode, each)

    def test_modes_that_the_user_chose(self) -> None:
        """What is there already is left as it is."""
        self.path.parent.mkdir(parents=True)
        self.path.touch()
        self.path.parent.chmod(0o750)
        self.path.chmod(0o640)
        self.file.append("hello")
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o640)
        self.assertEqual(stat.S_IMODE(self.path.parent.stat().st_mode), 0o750)

    def test_long_lines(self) -> None:
        """Up to a length they are kept."""
        self.file.append("x" * MAX_LENGTH)
        self.file.append("y" * (MAX_LENGTH + 1))
        self.assertEqual(self.file.read(), ["x" * MAX_LENGTH])

    def test_bound(self) -> None:
        """The last thousand are read; twice as many are in the file at most."""
        for number in range(MAX_LINES):
            self.file.append(f"line {number}")
        self.assertEqual(len(self.file.read()), MAX_LINES)
        for number in range(MAX_LINES, 2 * MAX_LINES):
            self.file.append(f"line {number}")
        self.assertEqual(len(self.written()), 2 * MAX_LINES)
        last = [f"line {number}" for number in range(MAX_LINES, 2 * MAX_LINES)]
        self.assertEqual(HistoryFile(self.path).read(), last)
        self.assertEqual(len(self.written()), 2 * MAX_LINES)
        self.file.append("one more")
        self.assertEqual(self.written(), [*last[1:], "one more"])
        self.assertEqual(os.listdir(self.path.parent), ["history"])
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.file.append("and another")
        self.assertEqual(len(self.written()), MAX_LINES + 1)

    def test_file_that_is_too_long(self) -> None:
        """It is cut when it is read."""
        self.path.parent.mkdir(parents=True)
        self.path.write_text("x\n" * (2 * MAX_LINES + 1))
        self.assertEqual(len(self.file.read()), MAX_LINES)
        self.assertEqual(len(self.written()), MAX_LINES)

    def test_large_paste(self) -> None:
        """More than there is room for: the last of it."""
        self.file.append("\n".join(map(str, range(5 * MAX_LINES))))
        self.assertEqual(self.written()[-1], str(5 * MAX_LINES - 1))
        self.assertEqual(len(self.written()), MAX_LINES)

    def test_two_prompts(self) -> None:
        """They take turns, while the file is cut again and again."""
        self.patch(history, "MAX_LINES", 10)
        other = HistoryFile(self.path)
        for number in range(500):
            (self.file, other)[number % 2].append(f"line {number}")
            lines = self.written()
            self.assertLessEqual(len(lines), 40)
            self.assertEqual(
                lines, [f"line {n}" for n in range(number + 1 - len(lines), number + 1)]
            )

    def test_each_append_is_one_write(self) -> None:
        """So that no other prompt gets into the middle of a line."""
        self.file.append("first")
        writes: list[bytes] = []
        self.patch(os, "write", lambda _, data: writes.append(data))
        self.file.append("one\ntwo")
        self.assertEqual(writes, [b"one\ntwo\n"])

    def test_symbolic_link(self) -> None:
        """It stays one when the file is cut."""
        self.folder.mkdir()
        link = self.folder / "link"
        link.symlink_to(self.path)
        file = HistoryFile(link)
        file.append("\n".join("x" * MAX_LINES))
        file.append("\n".join("x" * MAX_LINES))
        file.append("one more")
        self.assertTrue(link.is_symlink())
        self.assertEqual(len(self.written()), MAX_LINES)


class TroubleTests(SynchronousTestCase):
    """What cannot be kept is no trouble."""

    def setUp(self) -> None:
        self.folder = Path(os.path.realpath(self.mktemp()))
        self.folder.mkdir()

    def check(self, path: Path) -> None:
        file = HistoryFile(path)
        self.assertEqual(file.read(), [])
        file.append("hello")
        self.assertEqual(file.read(), [])

    def test_places(self) -> None:
        """Below a file, on a folder, a device, a pipe, a link to itself."""
        self.check(Path(os.devnull, "meshproto", "history"))
        self.check(Path(os.devnull))
        self.check(self.folder)
        os.mkfifo(self.folder / "pipe")
        self.check(self.folder / "pipe")
        (self.folder / "link").symlink_to(self.folder / "link")
        self.check(self.folder / "link")

    def test_folder_that_cannot_be_made(self) -> None:
        """As in a home that is read only."""

        def refuse(*arguments: object, **options: object) -> None:
            raise PermissionError(13, "Permission denied")

        self.patch(os, "mkdir", refuse)
        self.check(self.folder / "a" / "history")

    def test_file_that_cannot_be_replaced(self) -> None:
        """It is read all the same."""

        def refuse(*arguments: object) -> None:
            raise PermissionError(13, "Permission denied")

        path = self.folder / "history"
        path.write_text("x\n" * 5000)
        self.patch(os, "replace", refuse)
        file = HistoryFile(path)
        self.assertEqual(len(file.read()), MAX_LINES)
        file.append("hello")
        self.assertEqual(file.read()[-1], "hello")
        self.assertEqual(os.listdir(self.folder), ["history"])
