"""Arguments: what they come to, and what each bad one is answered with."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

from twisted.internet.testing import MemoryReactorClock
from twisted.logger import Logger, LoggingFile
from twisted.trial.unittest import SynchronousTestCase

from meshproto.config import DEFAULT_PORT, NodeConfig
from meshproto.run.options import MeshOptions, PromptOptions, complain, program_version
from meshproto.run.tap import Options

#: For both programs: the arguments, and words of the answer.
BAD: tuple[tuple[Sequence[str], Sequence[str]], ...] = (
    (["--port", "abc"], ["--port", "'abc'", "whole number"]),
    (["--port", "80.5"], ["--port", "'80.5'"]),
    (["--port", "8_001"], ["--port", "'8_001'"]),
    (["--port", "\u0661"], ["--port", "whole number"]),
    (["--port", ""], ["--port", "''"]),
    (["--port", "99999"], ["--port", "99999", "65535"]),
    (["--port", "-1"], ["--port", "-1"]),
    (["-p", "abc"], ["--port", "'abc'"]),
    (["--port"], ["--port", "argument"]),
    (["--max-peers", "0"], ["--max-peers", "0"]),
    (["--max-peers", "many"], ["--max-peers", "'many'"]),
    (["--max-peers", "9" * 5000], ["--max-peers", "whole number"]),
    (["--discovery-interval", "0"], ["--discovery-interval", "0"]),
    (["--discovery-interval", "-3"], ["--discovery-interval", "-3"]),
    (["--discovery-interval", "nan"], ["--discovery-interval", "'nan'"]),
    (["--discovery-interval", "inf"], ["--discovery-interval", "'inf'"]),
    (["--discovery-interval", "30s"], ["--discovery-interval", "'30s'"]),
    (["--maintenance-interval", "1,5"], ["--maintenance-interval", "'1,5'"]),
    (["--connection-timeout", "soon"], ["--connection-timeout", "'soon'"]),
    (["--connection-timeout", "1e999"], ["--connection-timeout"]),
    (["--peer-timeout", "x"], ["--peer-timeout", "'x'"]),
    (
        ["--peer-timeout", "15"],
        ["--peer-timeout", "15", "--maintenance-interval (15)"],
    ),
    (["--name", ""], ["--name", "''"]),
    (["--name", "x" * 65], ["--name", "64"]),
    (["--name", "two\nlines"], ["--name", "two\\nlines"]),
    (["--name", "\udcff"], ["--name"]),
    (["--name", "\x1b[2J"], ["--name", "\\x1b"]),
    (["--id", "a b"], ["--id", "'a b'"]),
    (["--id", "a:b"], ["--id", "'a:b'"]),
    (["--id", "PING"], ["--id", "PING"]),
    (["--interface", "not an address"], ["--interface", "'not an address'"]),
    (["--interface", "1.2.3"], ["--interface", "'1.2.3'"]),
    (["--advertise", "a:b"], ["--advertise", "'a:b'"]),
    (["--advertise", "http://x/"], ["--advertise", "'http://x/'"]),
    (["--protocol", "x"], ["--protocol: 'x' is not mesh/2 or mesh/1"]),
    (["--protocol", ""], ["--protocol: '' is not mesh/2 or mesh/1"]),
    (["--protocol", "mesh/2,mesh/1"], ["--protocol: 'mesh/2,mesh/1'"]),
    (["--protocol", "mesh/1", "--mesh", "lab"], ["--mesh", "on mesh/2 only"]),
    (["--protocol"], ["--protocol", "argument"]),
    (["--mesh", " lab"], ["--mesh: ' lab'"]),
    (["--mesh", "x" * 65], ["--mesh", "64"]),
    (["--mesh", "two\nlines"], ["--mesh", "two\\nlines"]),
    (["--bootstrap", "localhost"], ["--bootstrap", "'localhost'", "port"]),
    (["--bootstrap", "localhost:0"], ["--bootstrap", "'localhost:0'"]),
    (["--bootstrap", "localhost:99999"], ["--bootstrap", "99999"]),
    (["--bootstrap", "::1:8001"], ["--bootstrap", "'::1:8001'", "brackets"]),
    (["--bootstrap", "[::1"], ["--bootstrap", "'[::1'"]),
    (["--bootstrap", ":8001"], ["--bootstrap", "':8001'", "host"]),
    (["--bootstrap", ""], ["--bootstrap", "''"]),
    (["-b", "x:y"], ["--bootstrap", "'x:y'"]),
    (["--bootstrap", "localhost:80:90"], ["--bootstrap", "'localhost:80:90'"]),
    (["--bootstrap", "tcp:a:b:c"], ["--bootstrap", "'tcp:a:b:c'"]),
    (["--bootstrap", "tcp:localhost:x"], ["--bootstrap", "'tcp:localhost:x'"]),
    (["--bogus"], ["--bogus"]),
    (["--max", "3", "--m", "4"], ["--m", "unique"]),
    (["-x"], ["-x"]),
    (["--debug=yes"], ["--debug"]),
)

BAD_LISTEN: tuple[tuple[Sequence[str], Sequence[str]], ...] = (
    (["--listen", "bogus:80"], ["--listen", "'bogus:80'"]),
    (["--listen", "tcp"], ["--listen", "'tcp'"]),
    (["--listen", "tcp:x"], ["--listen", "'tcp:x'"]),
    (["--listen", "tcp:80:wat=1"], ["--listen", "'tcp:80:wat=1'"]),
    (["--listen", ""], ["--listen", "''"]),
    (["--listen", "systemd:domain=INET:name=no-such"], ["--listen", "no-such"]),
    (["--listen", "tcp:80", "--port", "80"], ["--listen", "--port"]),
    (["--listen", "tcp:80", "--interface", "::1"], ["--listen", "--interface"]),
)

BAD_FOR_DAEMON: tuple[tuple[Sequence[str], Sequence[str]], ...] = (
    (["8001"], ["'8001'", "--port"]),
    (["--name", "x", "localhost:8001"], ["'localhost:8001'", "--bootstrap"]),
    (["--", "--name"], ["'--name'"]),
)

BAD_FOR_PROMPT: tuple[tuple[Sequence[str], Sequence[str]], ...] = (
    ([], ["PORT"]),
    (["abc"], ["PORT", "'abc'"]),
    ([""], ["PORT", "''"]),
    (["99999"], ["PORT", "99999"]),
    (["localhost:8000"], ["PORT", "'localhost:8000'"]),
    (["8001", "8002"], ["HOST:PORT", "'8002'"]),
    (["8001", "localhost"], ["HOST:PORT", "'localhost'"]),
    (["8001", "localhost:80:90"], ["HOST:PORT", "'localhost:80:90'"]),
    (["8001", "localhost:8000", "[::1]"], ["HOST:PORT", "'[::1]'"]),
    (["8001", "--port", "8002"], ["PORT", "'8001'", "--port"]),
    (["8001", "--listen", "tcp:8002"], ["PORT", "'8001'", "--listen"]),
    (["--", "8001", "--name"], ["HOST:PORT", "'--name'"]),
)


class BadArgumentTests(SynchronousTestCase):
    """One line, which names the argument, and status 2."""

    def answer(self, options: MeshOptions, arguments: Sequence[str]) -> str:
        self.patch(sys, "stderr", stderr := io.StringIO())
        self.patch(sys, "stdout", stdout := io.StringIO())
        with self.assertRaises(SystemExit, msg=str(arguments)) as caught:
            options.parseOptions(arguments)
            options.check_endpoints(MemoryReactorClock())
        self.assertEqual(caught.exception.code, 2)
        self.assertEqual(stdout.getvalue(), "")
        return stderr.getvalue()

    def check(
        self,
        kind: type[MeshOptions],
        cases: Sequence[tuple[Sequence[str], Sequence[str]]],
        before: Sequence[str] = (),
    ) -> None:
        for arguments, words in cases:
            line = self.answer(kind(), [*before, *arguments])
            self.assertTrue(line.startswith(f"{kind.command}: "), line)
            self.assertEqual(line.count("\n"), 1, line)
            self.assertTrue(line.endswith("\n"), line)
            self.assertTrue(line[:-1].isprintable(), line)
            self.assertNotIn("Traceback", line)
            for word in words:
                self.assertIn(word, line, f"{arguments}")

    def test_daemon(self) -> None:
        """``twistd meshnode`` with each bad option."""
        self.check(MeshOptions, BAD + BAD_LISTEN + BAD_FOR_DAEMON)

    def test_prompt(self) -> None:
        """``meshproto`` with each bad option, before and after the rest."""
        options = [case for case in BAD if not case[0][0].startswith(("--port", "-p"))]
        self.check(PromptOptions, options, before=["8001", "localhost:8000"])
        self.check(PromptOptions, BAD_FOR_PROMPT)
        self.check(PromptOptions, BAD[:9])
        self.check(PromptOptions, BAD_LISTEN)

    def test_port_and_the_option_for_it(self) -> None:
        """The answer speaks of what the user wrote."""
        self.assertIn("PORT:", self.answer(PromptOptions(), ["99999"]))
        self.assertIn("--port:", self.answer(PromptOptions(), ["--port", "99999"]))


class GoodArgumentTests(SynchronousTestCase):
    """What the arguments come to."""

    ALL = (
        *("--name", "alice", "--id", "a1", "--interface", "127.0.0.1"),
        *("--advertise", "example.org:9001", "--max-peers", "7"),
        *("--protocol", "mesh/2", "--mesh", "lab 3"),
        *("--discovery-interval", "1.5", "--maintenance-interval", "2"),
        *("--connection-timeout", ".5", "--peer-timeout", "1e1"),
        *("--bootstrap", "localhost:8000", "-b", "[::1]:8000"),
    )

    def parse(self, options: MeshOptions, *arguments: str) -> NodeConfig:
        options.parseOptions(arguments)
        options.check_endpoints(MemoryReactorClock())
        return options.config

    def expected(self, **more: object) -> NodeConfig:
        settings: dict[str, object] = {
            "port": 8001,
            "name": "alice",
            "id": "a1",
            "interface": "127.0.0.1",
            "advertise": "example.org:9001",
            "protocols": ("mesh/2",),
            "mesh": "lab 3",
            "max_peers": 7,
            "discovery_interval": 1.5,
            "maintenance_interval": 2.0,
            "connection_timeout": 0.5,
            "peer_timeout": 10.0,
            "bootstrap": ("localhost:8000", "[::1]:8000"),
        }
        return NodeConfig(**(settings | more))  # type: ignore[arg-type]

    def test_defaults(self) -> None:
        """Without any option a daemon has the defaults of the library."""
        self.assertEqual(self.parse(MeshOptions()), NodeConfig())
        self.assertEqual(self.parse(PromptOptions(), "8001"), NodeConfig(port=8001))
        self.assertEqual(DEFAULT_PORT, 8001)

    def test_every_option(self) -> None:
        """Each option is one setting."""
        config = self.parse(MeshOptions(), "-p", "8001", *self.ALL)
        self.assertEqual(config, self.expected())

    def test_protocol(self) -> None:
        """A node is held to one; without the option it speaks all."""
        for protocol in ("mesh/1", "mesh/2"):
            config = self.parse(MeshOptions(), "--protocol", protocol)
            self.assertEqual(config.protocols, (protocol,))
        self.assertEqual(self.parse(MeshOptions()).protocols, ("mesh/2", "mesh/1"))

    def test_any_order(self) -> None:
        """Options before, between and after the positional arguments."""
        bootstrap = ("localhost:8000", "[::1]:8000", "10.0.0.1:1", "10.0.0.2:2")
        for order in (
            ("8001", "10.0.0.1:1", "10.0.0.2:2", *self.ALL),
            (*self.ALL, "8001", "10.0.0.1:1", "10.0.0.2:2"),
            ("8001", *self.ALL[:6], "10.0.0.1:1", *self.ALL[6:], "10.0.0.2:2"),
            (*self.ALL, "--", "8001", "10.0.0.1:1", "10.0.0.2:2"),
        ):
            config = self.parse(PromptOptions(), *order)
            self.assertEqual(config, self.expected(bootstrap=bootstrap))

    def test_port_as_an_option(self) -> None:
        """The prompt takes ``--port`` too; then all else is to be joined."""
        config = self.parse(PromptOptions(), "localhost:8000", "--port", "0")
        self.assertEqual(config, NodeConfig(port=0, bootstrap=("localhost:8000",)))

    def test_listen(self) -> None:
        """An endpoint string stands for the port."""
        for arguments in (["--listen", "unix:/x"], ["--listen=unix:/x"]):
            config = self.parse(PromptOptions(), *arguments, "localhost:8000")
            self.assertEqual(config.listen, "unix:/x")
            self.assertEqual(config.bootstrap, ("localhost:8000",))

    def test_endpoint_strings_to_join(self) -> None:
        """What can be dialled can be given."""
        config = self.parse(PromptOptions(), "0", "unix:/x", "-b", "tcp:localhost:80")
        self.assertEqual(config.bootstrap, ("tcp:localhost:80", "unix:/x"))

    def test_debug(self) -> None:
        """A flag of the program, not of the node."""
        for arguments, debug in (([], False), (["--debug"], True)):
            options = MeshOptions()
            self.parse(options, *arguments)
            self.assertEqual(bool(options["debug"]), debug)

    def test_stay(self) -> None:
        """A flag of the prompt only."""
        for arguments, stay in ((["1"], False), (["1", "--stay"], True)):
            options = PromptOptions()
            self.parse(options, *arguments)
            self.assertEqual(bool(options["stay"]), stay)
        self.assertNotIn("stay", MeshOptions())

    def test_place(self) -> None:
        """Where the node listens, as both programs take it."""
        for arguments, place in (
            (["8005"], "--port 8005"),
            (["--listen", "unix:/x"], "--listen unix:/x"),
        ):
            options = PromptOptions()
            self.parse(options, *arguments)
            self.assertEqual(options.place, place)

    def test_values_that_look_like_options(self) -> None:
        """What follows an option is its value, whatever it looks like."""
        self.assertEqual(self.parse(MeshOptions(), "--name", "--").name, "--")
        self.assertEqual(self.parse(MeshOptions(), "--name=-x").name, "-x")
        self.assertEqual(self.parse(PromptOptions(), "1", "--name", "-b").name, "-b")

    def test_the_last_one_counts(self) -> None:
        """As everywhere, an option that is given twice."""
        config = self.parse(MeshOptions(), "--port", "1", "-p2", "--name=a", "--na=b")
        self.assertEqual((config.port, config.name), (2, "b"))

    def test_arguments_of_the_process(self) -> None:
        """By default those that the user typed."""
        self.patch(sys, "argv", ["meshproto", "8005"])
        options = PromptOptions()
        options.parseOptions()
        self.assertEqual(options.config.port, 8005)


class TextTests(SynchronousTestCase):
    """What is shown when asked for."""

    def shown(self, options: MeshOptions, *arguments: str) -> str:
        self.patch(sys, "stdout", stdout := io.StringIO())
        with self.assertRaises(SystemExit) as caught:
            options.parseOptions(arguments)
        self.assertEqual(caught.exception.code, 0)
        return stdout.getvalue()

    def test_version(self) -> None:
        """One line, with the name of the program."""
        for arguments in (["--version"], ["8001", "--version"]):
            shown = self.shown(PromptOptions(), *arguments)
            self.assertEqual(shown, f"{program_version()}\n")
        self.assertTrue(program_version().startswith("meshproto"))

    def test_help(self) -> None:
        """Every option with its default, and examples."""
        shown = self.shown(PromptOptions(), "--help")
        self.assertTrue(shown.startswith("Usage: meshproto PORT [HOST:PORT ...]"))
        for option in MeshOptions().longOpt:
            self.assertIn(f"--{option}", shown)
        self.assertIn("(default 20)", shown)
        self.assertIn("\nExamples:\n  meshproto 8001 --name alice\n", shown)
        self.assertIn("\nExit status:\n  0  ", shown)
        self.assertEqual(self.shown(PromptOptions(), "-h"), shown)
        self.assertEqual(self.shown(PromptOptions(), "8001", "-hp", "1"), shown)
        self.assertIn("\n  -h, --help ", shown)

    def test_help_of_the_daemon(self) -> None:
        """The same, without what is for people."""
        shown = self.shown(Options(), "--help")
        self.assertEqual(self.shown(Options(), "-h"), shown)
        self.assertIn("\nExit status:\n  1  ", shown)
        self.assertNotIn("--stay", shown)

    def test_examples_are_right(self) -> None:
        """What the help shows can be typed."""
        for example in PromptOptions.examples:
            command = example.rpartition("meshproto ")[2].partition(" <")[0]
            PromptOptions().parseOptions(command.split())

    def test_complaint_when_logging_has_taken_stderr(self) -> None:
        """The line goes to the terminal, not into the log."""
        self.patch(sys, "__stderr__", stderr := io.StringIO())
        self.patch(sys, "stderr", LoggingFile(Logger()))
        complain("meshproto", "bad\nthing")
        self.assertEqual(stderr.getvalue(), "meshproto: bad\\x0athing\n")

    def test_complaint_without_stderr(self) -> None:
        """Nobody to complain to is no further trouble."""
        self.patch(sys, "stderr", None)
        complain("meshproto", "bad thing")
