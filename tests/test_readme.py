"""What ``README.md`` and the tables of the documentation show is what there is.

The ports in the README are replaced by free ones; everything else is run as it
stands.
"""

from __future__ import annotations

import ast
import dataclasses
import re
import shlex
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

import meshproto
from lab.terminals import Terminal, Visitor, environment, free_port, wait_until
from meshproto import NodeConfig
from meshproto.config import MiB
from meshproto.mesh import drain
from meshproto.mesh.stream import MAX_WAITING
from meshproto.rules.addressbook import MAX_PROVEN
from meshproto.rules.liveness import MUTE_AFTER
from meshproto.rules.pairs import REMEMBERED
from meshproto.rules.turns import LONG_TURN, SHORT_TURN
from meshproto.run.chat import COMMANDS
from meshproto.run.options import PromptOptions
from meshproto.run.quiet import (
    CHATTER,
    ERRORS,
    LOG,
    MAX_KEPT,
    MAX_SEED_PAUSE,
    SCREEN,
    SEED_PAUSE,
    WINDOW,
    Rate,
)
from meshproto.run.render import TAGS
from meshproto.run.service import MAX_LOG_LINE
from meshproto.wire.messages import MAX_HEADER_BYTES, MAX_HEADERS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")
STAMP = re.compile(r"\[\d\d:\d\d:\d\d\] ")
PATIENCE = 30


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def block_between(marker: str) -> str:
    """The one command between two markers."""
    found = re.findall(
        rf"^<!-- {marker} -->\n```sh\n(.*)\n```\n<!-- /{marker} -->$",
        README,
        re.MULTILINE,
    )
    assert len(found) == 1, f"{len(found)} blocks between {marker} markers"
    return str(found[0])


def other_ports() -> Callable[[str], str]:
    """Put free ports in the place of 8001, 8002 and so on."""
    ports: dict[str, str] = {}

    def replace(found: re.Match[str]) -> str:
        return ports.setdefault(found[0], str(free_port()))

    return lambda text: re.sub(r"\b80\d\d\b", replace, text)


def plain(lines: list[str]) -> list[str]:
    """Lines as every machine shows them: no time, one loopback address."""
    return [
        STAMP.sub("", line).replace("[::1]", "127.0.0.1")
        for line in lines
        if STAMP.match(line)
    ]


def script(name: str) -> str:
    """A command of the installation that the tests run in."""
    return str(Path(sysconfig.get_path("scripts")) / name)


class PictureTests(SynchronousTestCase):
    """Three terminals, and what they show."""

    def setUp(self) -> None:
        self.terminals: list[Terminal] = []

    def tearDown(self) -> None:
        for terminal in self.terminals:
            terminal.close()

    def wait_for(self, terminal: Terminal, text: str) -> None:
        def shown() -> bool:
            return any(text in line for line in plain(terminal.lines))

        wait_until(shown, text, self.terminals)

    def test_three_terminals(self) -> None:
        """The nodes find each other and chat as the README shows it."""
        with_ports = other_ports()
        expected = {}
        for block in blocks("console"):
            command, *lines = with_ports(block).splitlines()
            program, *arguments = shlex.split(command.removeprefix("$ "))
            self.assertEqual(program, "meshproto")
            expected[arguments[-1]] = plain(lines)
            terminal = Terminal([sys.executable, "-m", "meshproto", *arguments])
            self.terminals.append(terminal)
            seats = f"({len(expected) - 1}/20 peers)"
            for each in self.terminals:
                self.wait_for(each, "listening" if len(expected) == 1 else seats)
        self.assertEqual(list(expected), ["alice", "bob", "charlie"])
        speakers = dict(zip(expected, self.terminals, strict=True))
        for line in expected["alice"]:
            said = re.fullmatch(r"\[([a-z]+)\] (.*)", line)
            if said is not None:
                speakers[said[1]].type(f"{said[2]}\r")
                for each in self.terminals:
                    self.wait_for(each, line)
        for name, terminal in speakers.items():
            self.assertEqual(plain(terminal.lines), expected[name])


class CommandTests(SynchronousTestCase):
    """The two commands for a machine that has only Python and the checkout."""

    def test_there_are_two(self) -> None:
        """One to run a node, one to run the tests."""
        self.assertEqual(
            blocks("sh"), [f"{block_between(m)}\n" for m in ("ci:run", "ci:test")]
        )

    def test_run(self) -> None:
        """The last part of the first command is a node that listens."""
        venv, install, run = block_between("ci:run").split(" && ")
        self.assertEqual(venv, "python3 -m venv .venv")
        self.assertEqual(install, ".venv/bin/pip install -q .")
        port = str(free_port())
        program, *arguments = shlex.split(run.replace("8001", port))
        self.assertEqual(program, ".venv/bin/twistd")
        folder = self.mktemp()
        Path(folder).mkdir()
        node = subprocess.Popen(
            [script("twistd"), *arguments],
            cwd=folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.addCleanup(node.communicate)
        self.addCleanup(node.kill)
        assert node.stdout is not None
        wanted = f"[SYSTEM] Node peer-{port} listening on port {port}"
        self.assertTrue(any(wanted in line for line in node.stdout))
        # Before its reactor runs a Ctrl-C could get lost.
        Visitor(int(port)).close()
        node.send_signal(signal.SIGINT)
        node.wait(PATIENCE)
        self.assertEqual(list(Path(folder).iterdir()), [])

    def test_test(self) -> None:
        """The second command runs these very tests."""
        venv, install, run = block_between("ci:test").split(" && ")
        self.assertEqual(venv, "python3 -m venv .venv-test")
        self.assertEqual(
            shlex.split(install),
            [".venv-test/bin/pip", "install", "-q", "-e", ".[test]"],
        )
        self.assertEqual(run, ".venv-test/bin/python -m pytest -q")


class QuickStartTests(SynchronousTestCase):
    """The program in the README."""

    def test_output(self) -> None:
        """It prints what stands below it, and nothing else."""
        with_ports = other_ports()
        (program,) = map(with_ports, blocks("python"))
        (output,) = map(with_ports, blocks("text"))
        ran = subprocess.run(
            [sys.executable, "-W", "error::RuntimeWarning", "-c", program],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        self.assertEqual((ran.stdout, ran.stderr), (output, ""))
        self.assertEqual(ran.returncode, 0)

    def test_only_public_names(self) -> None:
        """Whoever copies it depends on nothing that may change."""
        (program,) = blocks("python")
        modules = {
            node.module
            for node in ast.walk(ast.parse(program))
            if isinstance(node, ast.ImportFrom)
        }
        self.assertEqual(modules, {"meshproto", "twisted.internet.task"})


class LinkTests(SynchronousTestCase):
    """Links within the checkout."""

    def test_targets(self) -> None:
        """Every link leads to a file or a folder that is there."""
        targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
        self.assertGreater(len(targets), 5)
        self.assertEqual([t for t in targets if not (ROOT / t).exists()], [])


def table_rows(page: str, heading: str = "") -> list[list[str]]:
    """The cells of every table row below a heading of a page."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    if heading:
        text = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| ") and not line.startswith("| ---")
    ]


def names(cell: str) -> list[str]:
    """What stands in code style in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def shown_number(value: float | Rate) -> str:
    """A default as the pages write it."""
    if isinstance(value, Rate):
        return f"{value.per_second:g}, {value.at_once} at once"
    mebibytes, rest = divmod(value, MiB)
    return f"{value:g}" if rest or not value else f"{mebibytes:g} MiB"


class TableTests(SynchronousTestCase):
    """Names and numbers in tables are those of the code."""

    def test_limits(self) -> None:
        """Each bound stands there with its default, and none is missing."""
        defaults: dict[str, Any] = {
            field.name: field.default for field in dataclasses.fields(NodeConfig)
        }
        shown = set()
        for row in table_rows("limits.md"):
            setting, *options = names(row[1]) or [""]
            if setting:
                self.assertEqual(row[2], shown_number(defaults[setting]), setting)
                shown.add(setting)
            for option in options:
                self.assertEqual(option, "--" + setting.replace("_", "-"))
        bounds = {name for name in defaults if isinstance(defaults[name], int | float)}
        self.assertEqual(shown, bounds - {"port"})

    def test_fixed_limits(self) -> None:
        """Bounds that are no setting stand there as they are in the code."""
        shown = [
            row[2]
            for row in table_rows("limits.md")
            if not names(row[1]) and row[2] != "Default"
        ]
        bounds: tuple[Any, ...] = (
            REMEMBERED,
            MAX_HEADERS,
            MAX_HEADER_BYTES,
            drain.PATIENCE,
            LONG_TURN,
            SHORT_TURN,
            MAX_WAITING,
            LOG.chat,
            SCREEN.chat,
            LOG.moves,
            SCREEN.moves,
            ERRORS,
            CHATTER,
            LOG.host,
            SCREEN.host,
            LOG.everything,
            SCREEN.everything,
            WINDOW,
            MAX_LOG_LINE,
            SEED_PAUSE,
            MAX_SEED_PAUSE,
            MAX_KEPT,
            MUTE_AFTER,
            MAX_PROVEN,
        )
        self.assertEqual(shown, [shown_number(bound) for bound in bounds])

    def test_limits_names(self) -> None:
        """The names by which a bound is told are public ones."""
        reasons = {f"CloseReason.{r.name}" for r in meshproto.CloseReason}
        for row in table_rows("limits.md")[1:]:
            for name in names(row[4]) if len(row) > 4 else ():
                first = name.partition(".")[0]
                known = f"CloseReason.{name}" in reasons or name in reasons
                self.assertTrue(known or first in {*meshproto.__all__, "connect"}, name)

    def test_options(self) -> None:
        """Each option of the commands stands there, and no other."""
        shown = {
            name
            for row in table_rows("running.md", "Options")
            for name in names(row[0])
        }
        there = {f"--{name.rstrip('=')}" for name in PromptOptions().longOpt}
        self.assertEqual(shown - {"-p", "-b", "-h"}, there)

    def test_commands(self) -> None:
        """Each command of the prompt stands there, and no other."""
        shown = {
            name.partition(" ")[0]
            for row in table_rows("running.md", "The prompt")
            for name in names(row[0])
        }
        self.assertEqual(shown, set(COMMANDS))

    def test_tags(self) -> None:
        """Each word that a line of ours begins with is explained."""
        shown = {
            name.strip("[]")
            for row in table_rows("running.md", "What the lines say")
            for name in names(row[0])
        }
        self.assertEqual(shown - {"bob"}, TAGS - {"STATUS"})

    def test_events(self) -> None:
        """Each event of ours stands beside the kind of the original."""
        rows = table_rows("from-go.md", "Events")[1:]
        events = {
            name
            for name in meshproto.__all__
            if isinstance(thing := getattr(meshproto, name), type)
            and issubclass(thing, meshproto.Event)
            and not thing.__subclasses__()
        }
        shown = {name for row in rows for name in names(row[2])}
        self.assertEqual(shown, events)
        for row in rows:
            for event in names(row[2]):
                fields = {f.name for f in dataclasses.fields(getattr(meshproto, event))}
                fields |= {"direction"} if event == "PeerConnected" else set()
                for name in names(row[3]):
                    first = re.sub(r"len\((\w+)\)", r"\1", name).partition(".")[0]
                    self.assertIn(first, fields, event)

    def test_errors(self) -> None:
        """Each error of ours that a caller can meet stands in the table."""
        shown = {
            name
            for row in table_rows("embedding.md", "Errors")[1:]
            for name in names(row[0])
        }
        errors = {
            name
            for name in meshproto.__all__
            if isinstance(thing := getattr(meshproto, name), type)
            and issubclass(thing, Exception)
        }
        roots = {"MeshError", "ConnectError", "RemoteProtocolError"}
        self.assertEqual(shown, (errors - roots) | {"CannotListenError"})
