"""The programs in ``examples/`` do what they say.

Each runs as a process of its own, on ports that the system chose, with a node
of ours as the other side.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import sysconfig
import tempfile
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from meshproto import ChatReceived, Event, MeshNode, NodeConfig, PeerConnected
from tests.slow import some

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"


def environment() -> dict[str, str]:
    """An environment in which a program finds the checkout."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


class Program(ProcessProtocol):
    """A process, and everything that it has printed."""

    def __init__(self) -> None:
        self.output = ""
        self.ended: Deferred[int] = Deferred()
        self._awaited: list[tuple[re.Pattern[str], Deferred[re.Match[str]]]] = []

    def printed(self, pattern: str) -> Deferred[re.Match[str]]:
        """Fires when something has been printed that fits the pattern."""
        awaited: Deferred[re.Match[str]] = Deferred()
        self._awaited.append((re.compile(pattern), awaited))
        self._look()
        return awaited

    def interrupt(self) -> None:
        """Ctrl-C."""
        assert self.transport is not None
        self.transport.signalProcess("INT")

    def kill(self) -> Deferred[int]:
        """End it, whatever it does."""
        assert self.transport is not None
        try:
            self.transport.signalProcess("KILL")
        except ProcessExitedAlready:
            pass
        return self.ended

    # ProcessProtocol

    def outReceived(self, data: bytes) -> None:
        self.output += data.decode()
        self._look()

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        status: Any = reason.value
        for pattern, awaited in self._awaited:
            problem = f"{pattern.pattern!r} was never printed:\n{self.output}"
            awaited.errback(AssertionError(problem))
        self._awaited = []
        self.ended.callback(status.exitCode)

    def _look(self) -> None:
        for pattern, awaited in tuple(self._awaited):
            found = pattern.search(self.output)
            if found is not None:
                self._awaited.remove((pattern, awaited))
                awaited.callback(found)


class ExampleTests(TestCase):
    """Every example, run for real."""

    timeout = 40

    def run_program(self, *command: str) -> Program:
        """Start a process that ends with the test at the latest."""
        program = Program()
        spawner: Any = reactor
        spawner.spawnProcess(
            program, command[0], command, env=environment(), path=self.folder()
        )
        self.addCleanup(program.kill)
        return program

    def example(self, name: str, *arguments: str) -> Program:
        return self.run_program(sys.executable, str(EXAMPLES / name), *arguments)

    def folder(self) -> str:
        """An empty folder."""
        path: str = os.path.abspath(self.mktemp())
        os.mkdir(path)
        return path

    async def start_node(self, name: str) -> MeshNode:
        """A node of ours that stops with the test."""
        node = MeshNode(NodeConfig(port=0, name=name), reactor=reactor)
        self.addCleanup(node.stop)
        await node.start()
        return node

    def chat(self, node: MeshNode) -> Deferred[str]:
        """The next thing that somebody says to the node, from now on."""
        heard: Deferred[str] = Deferred()

        def listen(event: Event) -> None:
            if isinstance(event, ChatReceived) and not heard.called:
                heard.callback(event.text)

        node.subscribe(listen)
        return heard

    def test_every_example_is_tested(self) -> None:
        """A new example gets its test here."""
        names = [e.name for e in EXAMPLES.iterdir() if e.suffix in (".py", ".tac")]
        self.assertEqual(
            sorted(names),
            [
                "asyncio_app.py",
                "events_async.py",
                "hello.py",
                "mesh.tac",
                "own_endpoints.py",
                "say_lines.py",
                "test_with_simnetwork.py",
                "webapp.py",
            ],
        )

    async def test_hello(self) -> None:
        """It says hello by name, and goes."""
        node = await self.start_node("alice")
        heard = self.chat(node)
        program = self.example("hello.py", f"localhost:{node.port}")
        self.assertEqual(await heard, "Hello, alice!")
        self.assertEqual((await program.ended, program.output), (0, ""))

    async def test_events_async(self) -> None:
        """It says what happens, repeats what it hears, and goes when told to."""
        node = await self.start_node("alice")
        program = self.example("events_async.py", "0")
        found = await program.printed(r"listening on port (\d+)\n")
        echo = await node.connect(f"localhost:{found[1]}")
        heard = self.chat(node)
        node.send(echo, "one")
        self.assertEqual(await heard, "you said: one")
        node.send(echo, "bye")
        self.assertEqual(await program.ended, 0)
        self.assertEqual(
            program.output,
            f"listening on port {found[1]}\n+ alice\n- alice (node stopped)\n",
        )

    async def test_asyncio_app(self) -> None:
        """It is an asyncio program, hears and says, and goes when told to."""
        node = await self.start_node("alice")
        program = self.example("asyncio_app.py", "0", f"localhost:{node.port}")
        found = await program.printed(r"listening on port (\d+)\n")
        peer = await node.connect(f"localhost:{found[1]}")
        heard = self.chat(node)
        node.send(peer, "hello")
        self.assertEqual(await heard, "alice said: hello")
        node.send(peer, "bye")
        self.assertEqual(await program.ended, 0)

    async def test_own_endpoints(self) -> None:
        """Two nodes meet over a UNIX socket."""
        path = os.path.join(tempfile.mkdtemp(), "mesh")
        self.addCleanup(shutil.rmtree, os.path.dirname(path))
        program = self.example("own_endpoints.py", path)
        self.assertEqual(await program.ended, 0)
        self.assertEqual(program.output, "bob is linked to alice\n")

    async def test_say_lines(self) -> None:
        """Every line arrives, in order, and empty ones are left out."""
        lines = [f"line {number} {'x' * 1000}" for number in range(5000)]
        file = Path(self.folder()) / "lines"
        file.write_text("\n\n".join(lines) + "\n", "utf-8")
        node = await self.start_node("alice")
        heard: list[str] = []
        last: Deferred[None] = Deferred()

        def listen(event: Event) -> None:
            if isinstance(event, ChatReceived):
                heard.append(event.text)
                if len(heard) == len(lines):
                    last.callback(None)

        node.subscribe(listen)
        program = self.example("say_lines.py", f"localhost:{node.port}", str(file))
        await last
        self.assertEqual(heard, lines)
        self.assertEqual((await program.ended, program.output), (0, ""))

    async def test_tac(self) -> None:
        """It runs under twistd, and answers."""
        source = (EXAMPLES / "mesh.tac").read_text("utf-8")
        copy = Path(self.folder()) / "mesh.tac"
        copy.write_text(source.replace("port=8001", "port=0"), "utf-8")
        twistd = str(Path(sysconfig.get_path("scripts")) / "twistd")
        program = self.run_program(twistd, "-n", "--pidfile=", "-y", str(copy))
        found = await program.printed(
            r"\[SYSTEM\] Node alice listening on port (\d+)\n"
        )
        node = await self.start_node("bob")
        alice = await node.connect(f"localhost:{found[1]}")
        heard = self.chat(node)
        node.send(alice, "who is there?")
        self.assertEqual(await heard, "bob")
        program.interrupt()
        await program.printed("Server Shut Down")

    async def test_webapp(self) -> None:
        """Its own page is as it was, and the mesh has its pages beside it."""
        node = await self.start_node("alice")
        joined: Deferred[None] = Deferred()

        def seen(event: Event) -> None:
            if isinstance(event, PeerConnected):
                joined.callback(None)

        node.subscribe(seen)
        program = self.example("webapp.py", "0", "0", f"localhost:{node.port}")
        found = await program.printed(r"http port (\d+) mesh port \d+\n")
        await joined
        port = found[1]
        self.assertEqual(await self.request(port, "GET", "/"), (200, b"Welcome.\n"))
        status, body = await self.request(port, "GET", "/peers")
        while not json.loads(body):
            # The listener of a link has it before the dialler.
            status, body = await self.request(port, "GET", "/peers")
        where = f"localhost:{node.port}"
        self.assertEqual(json.loads(body), [{"name": "alice", "where": where}])
        heard = self.chat(node)
        status, body = await self.request(port, "POST", "/say", b"text=Hello+network!")
        self.assertEqual((status, json.loads(body)), (200, {"handed_to": ["alice"]}))
        self.assertEqual(await heard, "Hello network!")
        status, body = await self.request(port, "POST", "/say", b"text=")
        self.assertEqual(status, 400)
        self.assertIn("empty", json.loads(body)["error"])
        program.interrupt()
        self.assertEqual(await program.ended, 0)

    def request(
        self, port: str, method: str, path: str, body: bytes | None = None
    ) -> Deferred[tuple[int, bytes]]:
        """The status and the body of an answer of the web application."""

        def ask() -> tuple[int, bytes]:
            connection = HTTPConnection("127.0.0.1", int(port), timeout=self.timeout)
            with closing(connection):
                kind = {"Content-Type": "application/x-www-form-urlencoded"}
                connection.request(method, path, body, kind)
                answer = connection.getresponse()
                return answer.status, answer.read()

        return deferToThread(ask)

    async def test_test_with_simnetwork(self) -> None:
        """It passes, under both runners."""
        path = str(EXAMPLES / "test_with_simnetwork.py")
        commands = (
            ["-m", "twisted.trial", path],
            ["-m", "pytest", "-q", "-p", "no:cacheprovider", path],
        )
        for command in some(commands, 1):
            program = self.run_program(sys.executable, *command)
            status = await program.ended
            self.assertEqual(status, 0, program.output)
            self.assertRegex(program.output, "successes=2|2 passed")
