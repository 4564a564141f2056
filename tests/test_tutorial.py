"""The tutorial and the README, played by a newcomer: every command, in its order.

What a page says between its commands (who types what, where) is done here in
the same place; a page with one command more or less fails.  Ports are replaced
by free ones.  The fast tests use the installation that they run in.  The slow
ones begin with a copy of the checkout and nothing else, and install as the page
says, which needs the package index.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from lab.terminals import (
    COLUMNS,
    PATIENCE,
    ROOT,
    Terminal,
    Visitor,
    environment,
    free_port,
    wait_until,
)
from tests.slow import SLOW, slow
from tests.test_docs import FENCE, text_of
from tests.test_readme import README, block_between, blocks, plain

#: Seconds after which an installation is a failure.
PATIENCE_OF_PIP = 300
#: What is in a checkout beside the source.
LEFT_OUT = (
    ".git",
    ".venv*",
    ".tox",
    ".*_cache",
    "__pycache__",
    "_trial_temp*",
    "_build",
)
#: What differs from run to run in what is printed.
VARYING: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"\d+\.\d+ ?s\b", "N s"),
    (r"\d+(\.\d+)? s(eeds/s| ago)", r"N s\2"),
    (r"\d+ steps", "N steps"),
    # Not every fault can befall a mesh as it is then: that is the node's doing.
    (r"\d+ faults", "N faults"),
    (r"(?<=faults: ).*", lambda kinds: re.sub(r"\d+", "N", kinds[0])),
]


def steady(text: str) -> str:
    """Output as every run has it."""
    for pattern, instead in VARYING:
        text = re.sub(pattern, instead, text)
    return text.rstrip()


class Newcomer(SynchronousTestCase):
    """Somebody with the examples in a folder, and the commands installed."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        # In the order of those that they stand for: lists are sorted by them.
        ports = sorted({free_port() for _ in range(10)})
        self.ports = dict(
            zip(("8001", "8002", "8003", "8004"), map(str, ports), strict=False)
        )
        self.terminals: list[Terminal] = []
        self.addCleanup(self.close_terminals)
        self.fill_folder()

    def close_terminals(self) -> None:
        for each in self.terminals:
            each.close()

    def with_ports(self, text: str) -> str:
        """A text with free ports in it."""
        return re.sub(r"\b800[123]\b", lambda found: self.ports[found[0]], text)

    def fill_folder(self) -> None:
        shutil.copytree(ROOT / "examples", self.folder / "examples")

    def in_shell(self, command: str) -> list[str]:
        """The command line of a shell in the folder that runs a command."""
        program, _, rest = command.partition(" ")
        python = shlex.quote(sys.executable)
        ours = {"python": python, "meshproto": f"{python} -m meshproto"}
        return ["bash", "-c", f"cd {self.folder} && exec {ours[program]} {rest}"]

    def install(self, command: str) -> None:
        """What a page has to be installed; it is installed here already."""

    def variables(self) -> dict[str, str]:
        return {}

    def read(self, page: str) -> None:
        """Begin a page; its blocks are taken one after the other."""
        text = text_of(ROOT / page)
        self.blocks = [
            (block["language"], block["body"])
            for block in FENCE.finditer(text)
            if block["language"] != "python"
        ]

    def next_block(self, language: str) -> str:
        """The next block of the page, which has to be of that language."""
        there, body = self.blocks.pop(0)
        self.assertEqual(there, language, body)
        return self.with_ports(body)

    def next_commands(self) -> tuple[list[str], str]:
        """The commands of the next block, and what the last one prints."""
        lines = self.next_block("console").splitlines()
        commands = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        for command, line in zip(commands, lines, strict=False):
            self.assertEqual(line, f"$ {command}")
        return commands, "\n".join(lines[len(commands) :])

    def open(self, command: str) -> Terminal:
        """Type a command into a terminal of its own."""
        terminal = Terminal(self.in_shell(command), COLUMNS, **self.variables())
        self.terminals.append(terminal)
        return terminal

    def run_to_end(self, command: str) -> str:
        """What a command prints that ends by itself, and well."""
        done = subprocess.run(
            self.in_shell(command),
            env={**environment(), **self.variables()},
            capture_output=True,
            text=True,
            timeout=PATIENCE_OF_PIP,
        )
        self.assertEqual(done.returncode, 0, f"{done.stdout}\n{done.stderr}")
        return done.stdout

    def shows(self, terminal: Terminal, text: str, begin: int = 0) -> None:
        """From its ``begin``-th stamped line a terminal shows this and no more."""
        expected = plain(text.splitlines())

        def is_there() -> bool:
            return len(plain(terminal.lines)) >= begin + len(expected)

        wait_until(is_there, text, self.terminals)
        self.assertEqual(plain(terminal.lines)[begin:], expected)

    def until(self, terminal: Terminal, text: str) -> None:
        """Wait for a line that ends like that."""
        wait_until(
            lambda: any(line.endswith(text) for line in terminal.lines),
            text,
            self.terminals,
        )

    def ends(self, terminal: Terminal) -> None:
        wait_until(lambda: terminal.process.poll() is not None, "end", self.terminals)
        self.assertEqual(terminal.process.returncode, 0, terminal.lines)


class TutorialTests(Newcomer):
    """``docs/tutorial.md`` from its first command to its last."""

    @slow
    def test_from_beginning_to_end(self) -> None:
        self.read("docs/tutorial.md")
        self.install(self.next_block("sh"))
        self.three_nodes()
        self.a_program()
        self.a_program_that_listens()
        self.a_test()
        self.assertEqual(self.blocks, [])

    def three_nodes(self) -> None:
        people = []
        for number in range(3):
            (command,), shown = self.next_commands()
            people.append(self.open(command))
            self.shows(people[-1], shown)
            for each in people[:-1]:
                self.until(each, f"({number}/20 peers)")
        self.alice, self.bob, charlie = people
        begin = [len(plain(each.lines)) for each in people]
        chat = self.next_block("text")
        for line in plain(chat.splitlines()):
            name, _, text = line.removeprefix("[").partition("] ")
            {"bob": self.bob, "charlie": charlie}[name].type(f"{text}\r")
            for each in people:
                self.until(each, line)
        for each, so_far in zip(people, begin, strict=True):
            self.shows(each, chat, so_far)
        self.alice.type("/peers\r")
        table = self.next_block("text").splitlines()
        self.until(self.alice, table[-1])
        first = self.alice.lines.index(table[0])
        shown = "\n".join(self.alice.lines[first : first + len(table)])
        self.assertEqual(steady(shown), steady("\n".join(table)))
        begin = [len(plain(each.lines)) for each in people]
        charlie.type("/quit\r")
        self.ends(charlie)
        gone = self.next_block("text")
        self.shows(self.alice, gone, begin[0])
        self.shows(self.bob, gone, begin[1])

    def a_program(self) -> None:
        self.bob.type("/quit\r")
        self.ends(self.bob)
        self.until(self.alice, "Peer bob disconnected")
        (command,), shown = self.next_commands()
        begin = len(plain(self.alice.lines))
        self.assertEqual(self.run_to_end(command), shown)
        # The program's port is any that is free.
        expected = plain(self.next_block("text").splitlines())
        self.until(self.alice, expected[-1])
        lines = plain(self.alice.lines)[begin:]
        for some in (expected, lines):
            some[0] = re.sub(r":\d+ ", ":PORT ", some[0])
        self.assertEqual(lines, expected)

    def a_program_that_listens(self) -> None:
        (command,), _ = self.next_commands()
        begin = len(plain(self.alice.lines))
        echo = self.open(command)
        shown = self.next_block("text")
        came, *chat = plain(shown.splitlines())
        self.until(self.alice, came)
        for line in chat:
            if line.startswith("[alice] "):
                self.alice.type(line.removeprefix("[alice] ") + "\r")
            self.until(self.alice, line)
        self.shows(self.alice, shown, begin)
        self.ends(echo)
        echo.read()
        printed = "\n".join(line for line in echo.lines if line)
        self.assertEqual(printed, self.next_block("text").rstrip())
        self.alice.type("/quit\r")
        self.ends(self.alice)

    def a_test(self) -> None:
        (by_trial,), shown = self.next_commands()
        self.assertEqual(steady(self.run_to_end(by_trial)), steady(shown))
        (install, by_pytest), shown = self.next_commands()
        self.install(install)
        self.assertEqual(steady(self.run_to_end(by_pytest)), steady(shown))


class FreshCheckout(Newcomer):
    """The same newcomer with nothing but a copy of the checkout."""

    pytestmark = [pytest.mark.timeout(2 * PATIENCE_OF_PIP)]
    activate = ""

    def fill_folder(self) -> None:
        self.folder /= "checkout"
        shutil.copytree(ROOT, self.folder, ignore=shutil.ignore_patterns(*LEFT_OUT))

    def variables(self) -> dict[str, str]:
        return {"PYTHONPATH": "", "VIRTUAL_ENV": ""}

    def in_shell(self, command: str) -> list[str]:
        return ["bash", "-ec", f"cd {self.folder}; {self.activate} {command}"]


class FreshTutorialTests(FreshCheckout, TutorialTests):
    """The tutorial on a machine that has Python and the checkout."""

    if SLOW:
        skip = SLOW

    def install(self, command: str) -> None:
        self.run_to_end(command)
        # As the page says of every terminal.
        self.activate = ". .venv/bin/activate;"


class FreshReadmeTests(FreshCheckout):
    """The README on such a machine; its tests are run by ``.ci/run``."""

    if SLOW:
        skip = SLOW

    def test_from_beginning_to_end(self) -> None:
        """A daemon, a prompt that joins it, and the program."""
        command = self.with_ports(block_between("ci:run"))
        port = command.rpartition(" ")[2]
        daemon = Terminal(self.in_shell(command), 200, **self.variables())
        self.terminals.append(daemon)
        wait_until(
            lambda: any("listening on port" in line for line in daemon.lines),
            "daemon",
            self.terminals,
            PATIENCE_OF_PIP,
        )
        (prompt,) = re.findall(r"`(\.venv/bin/meshproto .*?)`", README)
        bob = self.open(self.with_ports(prompt))
        self.until(bob, f"Connected to seed node localhost:{port}")
        Visitor(int(port)).close()
        for each in (bob, daemon):
            each.type("\x03")
        for each in (bob, daemon):
            each.process.wait(PATIENCE)
        (program,), (printed,) = blocks("python"), blocks("text")
        ((name, run),) = re.findall(r"`(\w+\.py)`, and run it with `(.*?)`", README)
        (self.folder / name).write_text(self.with_ports(program), "utf-8")
        self.assertEqual(self.run_to_end(run), self.with_ports(printed))


class SimulatorTests(Newcomer):
    """The commands of ``docs/testing.md``."""

    pytestmark = [pytest.mark.timeout(PATIENCE_OF_PIP)]

    if SLOW:
        skip = SLOW

    def test_from_beginning_to_end(self) -> None:
        self.read("docs/testing.md")
        (command,), shown = self.next_commands()
        self.assertEqual(steady(self.run_to_end(command)), steady(shown))
        self.next_block("text")  # a node with a fault, which ours has not
        (command,), _ = self.next_commands()
        self.assertIn("PeerConnected", self.run_to_end(command))
        self.assertEqual(self.blocks, [])
