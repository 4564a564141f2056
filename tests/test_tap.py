"""``twistd meshnode``: the plugin, its options, and how it fails to start."""

from __future__ import annotations

import atexit
import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs, formatEvent
from twisted.python.usage import Options as ParentOptions
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from lab.terminals import PATIENCE, ROOT, environment, free_port, run, wait_until
from meshproto.config import NodeConfig
from meshproto.run.process import (
    EXIT_FAILED,
    listening_problem,
    set_clock,
    start_problem,
)
from meshproto.run.tap import DaemonService, Options, StartFailed, makeService
from tests.fakes import FakeMesh
from tests.slow import slow, some

UNITS = ROOT / "contrib" / "systemd"
IN_USE = CannotListenError("", 8001, OSError(98, "Address already in use"))
LINE = "meshnode: cannot listen on port 8001: Address already in use\n"


class Parent(ParentOptions):
    """The options of ``twistd`` itself, as far as they matter here."""

    def __init__(self, nodaemon: bool) -> None:
        super().__init__()
        self["nodaemon"] = nodaemon


class ReactorStub:
    """What `set_clock` looks at."""

    running = False

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.seconds = time.time

    def getDelayedCalls(self) -> list[object]:
        return self.calls


class ClockTests(SynchronousTestCase):
    """The process's own clock."""

    def test_fresh_reactor(self) -> None:
        """Before anything is scheduled the clock can be chosen."""
        reactor = ReactorStub()
        self.assertTrue(set_clock(reactor, time.monotonic))
        self.assertIs(reactor.seconds, time.monotonic)

    def test_reactor_in_use(self) -> None:
        """Timers that wait by the old clock would be lost: it stays."""
        waiting, running = ReactorStub(), ReactorStub()
        waiting.calls.append("a call")
        running.running = True
        for reactor in (waiting, running):
            self.assertFalse(set_clock(reactor, time.monotonic))
            self.assertIs(reactor.seconds, time.time)


class ProbeTests(SynchronousTestCase):
    """Whether one could listen, found out beforehand."""

    def setUp(self) -> None:
        self.taken = socket.socket()
        self.addCleanup(self.taken.close)
        self.taken.bind(("127.0.0.1", 0))
        self.taken.listen()
        self.port: int = self.taken.getsockname()[1]

    def test_free_port(self) -> None:
        """Nothing is in the way, and nothing stays in the way."""
        port = free_port()
        for config in (
            NodeConfig(port=0),
            NodeConfig(port=port),
            NodeConfig(port=port, interface="127.0.0.1"),
            NodeConfig(port=port, interface="localhost"),
            NodeConfig(listen=f"tcp:{port}"),
            NodeConfig(listen="unix:/nowhere/at/all"),
        ):
            self.assertIsNone(listening_problem(config))

    def test_port_in_use(self) -> None:
        """On every way of saying where."""
        for config, where in (
            (NodeConfig(port=self.port), f"on port {self.port}"),
            (
                NodeConfig(port=self.port, interface="127.0.0.1"),
                f"on port {self.port} of 127.0.0.1",
            ),
            (NodeConfig(listen=f"tcp:{self.port}"), f"at 'tcp:{self.port}'"),
            (
                NodeConfig(listen=f"tcp:{self.port}:interface=127.0.0.1"),
                f"at 'tcp:{self.port}:interface=127.0.0.1'",
            ),
        ):
            self.assertEqual(
                listening_problem(config),
                f"cannot listen {where}: Address already in use",
            )

    def test_not_our_address(self) -> None:
        """An address of another machine, of either family."""
        for interface in ("192.0.2.1", "2001:db8::1"):
            problem = listening_problem(NodeConfig(port=0, interface=interface))
            assert problem is not None
            self.assertTrue(
                problem.startswith(f"cannot listen on port 0 of {interface}: ")
            )

    def test_port_that_cannot_be(self) -> None:
        """Endpoint strings take any number."""
        problem = listening_problem(NodeConfig(listen="tcp:99999"))
        self.assertIn("cannot listen at 'tcp:99999': ", problem or "")


class ProblemTests(SynchronousTestCase):
    """Reasons in words."""

    def test_reasons(self) -> None:
        """Whatever goes wrong is told in one line."""
        config = NodeConfig(port=8001)
        for error, reason in (
            (IN_USE, "Address already in use"),
            (PermissionError(13, "Permission denied"), "Permission denied"),
            (CannotListenError("", 1, "odd"), "odd"),
            (ValueError("two\nlines"), "two lines"),
            (ValueError(), "ValueError"),
        ):
            self.assertEqual(
                start_problem(config, error), f"cannot listen on port 8001: {reason}"
            )


class SignalledReactor(MemoryReactorClock):
    """A reactor of memory that can be told to stop by a signal."""

    def __init__(self) -> None:
        super().__init__()
        self.received: list[int] = []

    def sigInt(self, number: int, frame: object = None) -> None:
        self.received.append(number)

    sigTerm = sigInt

    def callFromThread(self, call: Any, *arguments: Any) -> None:
        self.callLater(0, call, *arguments)


class DaemonServiceTests(SynchronousTestCase):
    """A daemon that cannot listen does not live on."""

    def setUp(self) -> None:
        self.mesh = FakeMesh()
        self.reactor = SignalledReactor()
        self.handlers: dict[int, Any] = {
            signal.SIGINT: signal.default_int_handler,
            signal.SIGTERM: signal.SIG_DFL,
            signal.SIGHUP: signal.SIG_DFL,
        }
        self.patch(signal, "getsignal", self.handlers.get)
        self.patch(signal, "signal", self.handlers.__setitem__)
        self.patch(sys, "stderr", stderr := io.StringIO())
        self.stderr = stderr

    def make(self, *, daemonizes: bool = False) -> DaemonService:
        mesh: Any = self.mesh
        return DaemonService(mesh, self.reactor, debug=False, daemonizes=daemonizes)

    def test_start(self) -> None:
        """Nothing special when all is well."""
        service = self.make()
        service.startService()
        self.successResultOf(service.when_started())
        self.assertEqual(self.stderr.getvalue(), "")

    def test_failure_in_the_foreground(self) -> None:
        """One line, status 1."""
        self.mesh.starting = fail(IN_USE)
        with capturedLogs(), self.assertRaises(SystemExit) as caught:
            self.make().startService()
        self.assertEqual(caught.exception.code, 1)
        self.assertEqual(self.stderr.getvalue(), LINE)

    def test_failure_beyond_the_fork(self) -> None:
        """The process that has the terminal is told, by an exception."""
        self.mesh.starting = fail(IN_USE)
        with capturedLogs(), self.assertRaises(StartFailed) as caught:
            self.make(daemonizes=True).startService()
        self.assertEqual(f"meshnode: {caught.exception}\n", LINE)

    def test_failure_later(self) -> None:
        """The reactor is stopped, and what runs last gives status 1."""
        registered: list[Any] = []
        ended: list[int] = []
        self.patch(atexit, "register", registered.append)
        self.patch(os, "_exit", ended.append)
        self.mesh.starting = Deferred()
        self.reactor.hasStopped = False
        service = self.make()
        service.startService()
        self.assertFalse(self.reactor.hasStopped)
        with capturedLogs():
            self.mesh.starting.errback(IN_USE)
        self.assertTrue(self.reactor.hasStopped)
        self.assertEqual(self.stderr.getvalue(), LINE)
        (last,) = registered
        last()
        self.assertEqual(ended, [1])

    def test_signals(self) -> None:
        """They are handled when the node starts, before the reactor runs."""
        service = self.make()
        self.mesh.starting = Deferred()
        service.startService()
        for number in (signal.SIGINT, signal.SIGTERM):
            self.handlers[number](number, None)
        # What the reactor does then, it does when no line is being written.
        self.assertEqual(self.reactor.received, [])
        self.reactor.advance(0)
        self.assertEqual(self.reactor.received, [signal.SIGINT, signal.SIGTERM])

    def test_signals_that_are_ignored(self) -> None:
        """They stay so, and so does what somebody else has put there."""
        for handler in (signal.SIG_IGN, lambda number, frame: None):
            for number in self.handlers:
                self.handlers[number] = handler
            self.make().startService()
            self.assertEqual(set(self.handlers.values()), {handler})

    def test_hangup(self) -> None:
        """A line in the log, a clean end, and the status of the signal."""
        registered: list[Any] = []
        killed: list[Any] = []
        self.patch(
            atexit, "register", lambda call, *args: registered.append((call, args))
        )
        self.patch(os, "kill", lambda pid, number: killed.append((pid, number)))
        self.reactor.hasStopped = False
        self.make().startService()
        hang_up = self.handlers[signal.SIGHUP]
        hang_up(signal.SIGHUP, None)
        hang_up(signal.SIGHUP, None)
        self.assertFalse(self.reactor.hasStopped)
        with capturedLogs() as events:
            self.reactor.advance(0)
        self.assertEqual(
            [formatEvent(event) for event in events],
            ["Received SIGHUP, shutting down."],
        )
        self.assertTrue(self.reactor.hasStopped)
        ((last, arguments),) = registered
        last(*arguments)
        self.assertIs(self.handlers[signal.SIGHUP], signal.SIG_DFL)
        self.assertEqual(killed, [(os.getpid(), signal.SIGHUP)])

    def test_hangup_while_it_ends(self) -> None:
        """A reactor that has been stopped is not stopped again."""

        def refuse() -> None:
            raise ReactorNotRunning

        self.patch(atexit, "register", lambda *_: None)
        self.reactor.stop = refuse  # type: ignore[method-assign]
        self.make().startService()
        self.handlers[signal.SIGHUP](signal.SIGHUP, None)
        self.reactor.advance(0)


class MakeServiceTests(SynchronousTestCase):
    """From arguments to a service."""

    def make(self, *arguments: str, nodaemon: bool | None = None) -> Any:
        options = Options()
        if nodaemon is not None:
            options.parent = Parent(nodaemon)
        options.parseOptions(arguments)
        return makeService(options)

    def test_service(self) -> None:
        """The node has the settings of the command line."""
        service = self.make("--port", "0", "--name", "alice", "--max-peers", "3")
        verifyObject(IService, service)
        self.assertEqual(
            service.node.config, NodeConfig(port=0, name="alice", max_peers=3)
        )

    def test_daemonizes(self) -> None:
        """``twistd`` says whether it forks, ``twist`` never does."""
        for nodaemon, daemonizes in ((None, False), (True, False), (False, True)):
            service = self.make("--port", "0", nodaemon=nodaemon)
            self.assertEqual(service._daemonizes, daemonizes)

    def test_port_in_use(self) -> None:
        """Told before the process leaves its terminal."""
        self.patch(sys, "stderr", stderr := io.StringIO())
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with self.assertRaises(SystemExit) as caught:
                self.make("--port", str(port))
        self.assertEqual(caught.exception.code, EXIT_FAILED)
        self.assertEqual(
            stderr.getvalue(),
            f"meshnode: cannot listen on port {port}: Address already in use\n",
        )

    def test_bad_endpoint(self) -> None:
        """An endpoint string is read before the process leaves its terminal."""
        self.patch(sys, "stderr", stderr := io.StringIO())
        with self.assertRaises(SystemExit) as caught:
            self.make("--listen", "bogus:1")
        self.assertEqual(caught.exception.code, 2)
        self.assertIn("--listen: 'bogus:1'", stderr.getvalue())


TWIST = (sys.executable, "-m", "twisted")


def twistd(*arguments: str, options: tuple[str, ...] = ("-n",)) -> list[str]:
    program = "from twisted.scripts.twistd import run; run()"
    return [
        *(sys.executable, "-c", program, *options, "--pidfile=", "meshnode"),
        *arguments,
    ]


class CommandTests(SynchronousTestCase):
    """The real programs, on the checkout."""

    def setUp(self) -> None:
        self.folder = self.mktemp()
        Path(self.folder).mkdir()
        taken = socket.socket()
        self.addCleanup(taken.close)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        self.taken = str(taken.getsockname()[1])

    def check(self, command: list[str], status: int, line: str) -> None:
        ended = run(command, cwd=self.folder)
        self.assertEqual(ended.returncode, status, ended)
        self.assertEqual(ended.stderr.decode(), line)
        self.assertNotIn(b"Traceback", ended.stdout)

    @slow
    def test_bad_arguments(self) -> None:
        """One line on standard error from either runner, status 2."""
        for arguments, problem in (
            (["--port", "abc"], "--port: 'abc' is not a whole number"),
            (
                ["8001"],
                "'8001' is not an option: a port goes after --port, "
                "an address after --bootstrap",
            ),
            (
                ["--bootstrap", "localhost:80:90"],
                "--bootstrap: 'localhost:80:90' cannot be used: "
                "Unknown endpoint type: 'localhost'",
            ),
        ):
            for command in (
                twistd(*arguments),
                [*TWIST, "meshnode", *arguments],
            ):
                self.check(command, 2, f"meshnode: {problem}\n")

    @slow
    def test_port_in_use(self) -> None:
        """One line on standard error from either runner, status 1."""
        line = f"meshnode: cannot listen on port {self.taken}: Address already in use\n"
        for command in (
            twistd("--port", self.taken),
            twistd("--port", self.taken, options=()),
            twistd("--port", self.taken, options=("-n", "--reactor", "asyncio")),
            [*TWIST, "meshnode", "--port", self.taken],
        ):
            self.check(command, 1, line)
        self.assertEqual(os.listdir(self.folder), [])

    @slow
    def test_failure_that_shows_at_the_start_only(self) -> None:
        """An endpoint that cannot be tried before."""
        line = (
            "meshnode: cannot listen at 'unix:nowhere/x': No such file or directory\n"
        )
        for command in (
            twistd("--listen", "unix:nowhere/x"),
            [*TWIST, "meshnode", "--listen", "unix:nowhere/x"],
        ):
            self.check(command, 1, line)
        ended = run(twistd("--listen", "unix:nowhere/x", options=()), cwd=self.folder)
        self.assertEqual(ended.returncode, 1)
        self.assertIn(b"cannot listen at 'unix:nowhere/x'", ended.stderr)
        self.assertNotIn(b"Traceback", ended.stderr)

    def test_help(self) -> None:
        """The options can be asked for."""
        ended = run(twistd("--help"), cwd=self.folder)
        self.assertEqual(ended.returncode, 0)
        self.assertIn(b"--maintenance-interval", ended.stdout)
        self.assertEqual(ended.stderr, b"")

    def test_daemon(self) -> None:
        """It runs on beyond its terminal, logs, and ends when it is told to."""
        self.check_daemon(signal.SIGTERM)

    def test_hangup_of_a_daemon(self) -> None:
        """The same signal as for a program at a terminal."""
        self.check_daemon(signal.SIGHUP)

    def check_daemon(self, number: signal.Signals) -> None:
        port = free_port()
        folder = Path(self.folder)
        command = twistd("--port", str(port), options=())
        command[command.index("--pidfile=")] = "--pidfile=mesh.pid"
        ended = run(command, cwd=self.folder)
        self.assertEqual((ended.returncode, ended.stderr), (0, b""))
        pid = int((folder / "mesh.pid").read_text())
        try:
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
                client.sendall(b"visitor:visitor\n")
                greeting = client.recv(100)
                self.assertTrue(greeting.startswith(f"peer-{port}".encode()))
                client.sendall(b"hello daemon\n")
                log = folder / "twistd.log"
                wait_until(
                    lambda: "[visitor] hello daemon" in log.read_text(),
                    "message in the log",
                )
                os.kill(pid, number)
                wait_until(
                    lambda: not (folder / "mesh.pid").exists(), "end of the daemon"
                )
        finally:
            if (folder / "mesh.pid").exists():
                os.kill(pid, signal.SIGKILL)
        text = log.read_text()
        self.assertIn(f"[SYSTEM] Node peer-{port} listening on port {port}", text)
        self.assertIn(f"[SYSTEM] Node peer-{port} is leaving the mesh", text)
        self.assertIn(f"Received {number.name}, shutting down.", text)

    def signalled(self, number: int, *options: str) -> int:
        """Send a daemon a signal as soon as it says that it listens."""
        command = twistd("--port", "0", options=("-n", *options))
        command[command.index("--pidfile=")] = "--pidfile=mesh.pid"
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            env=environment(),
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.shown = ""
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self.shown += line
                if "[SYSTEM] Node " in line and "listening" in line:
                    process.send_signal(number)
        return process.wait(PATIENCE)

    def test_signals(self) -> None:
        """However early one comes: a clean end, then the status of the signal."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            for options in some((*[()] * 4, ("--reactor", "asyncio")), 1):
                self.assertEqual(self.signalled(number, *options), -number, self.shown)
                name = signal.Signals(number).name
                self.assertIn(f"Received {name}, shutting down.", self.shown)
                self.assertIn("Server Shut Down.", self.shown)
                self.assertNotIn("Traceback", self.shown)
                self.assertEqual(os.listdir(self.folder), [])

    @slow
    def test_hangup_that_is_ignored(self) -> None:
        """As under nohup: it is no reason to end."""
        process = subprocess.Popen(
            ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *twistd("--port", "0")],
            stdout=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=environment(),
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        assert process.stdout is not None
        with process.stdout:
            shown = iter(process.stdout.readline, "")
            self.assertTrue(any("listening" in line for line in shown))
            process.send_signal(signal.SIGHUP)
            process.send_signal(signal.SIGTERM)
            rest = process.stdout.read()
        self.assertEqual(process.wait(PATIENCE), -signal.SIGTERM)
        self.assertNotIn("SIGHUP", rest)

    def test_systemd(self) -> None:
        """The unit's command takes the socket that systemd holds open."""
        unit = (UNITS / "meshnode.service").read_text()
        start = re.search(r"^ExecStart=twistd (.*) \$MESHNODE_OPTIONS$", unit, re.M)
        assert start is not None
        names = re.search(
            r"^FileDescriptorName=(.*)$",
            (UNITS / "meshnode.socket").read_text(),
            re.M,
        )
        assert names is not None
        held = socket.create_server(
            ("::", 0), family=socket.AF_INET6, dualstack_ipv6=True
        )
        self.addCleanup(held.close)
        port = held.getsockname()[1]
        program = (
            "import os, sys\n"
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1',\n"
            f"                  LISTEN_FDNAMES={names[1]!r})\n"
            f"os.dup2({held.fileno()}, 3)\n"
            "from twisted.scripts.twistd import run\n"
            f"sys.argv[1:] = {start[1].split()!r}\n"
            "run()\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            pass_fds=[held.fileno()],
            stdout=subprocess.PIPE,
            cwd=self.folder,
            env=environment(),
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        assert process.stdout is not None
        self.addCleanup(process.stdout.close)
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
            client.sendall(b"visitor:visitor\n")
            self.assertTrue(client.recv(100).startswith(f"peer-{port}".encode()))

    @slow
    def test_any_reactor(self) -> None:
        """Loading the plugin leaves the choice to who runs it."""
        program = (
            "import sys, meshproto.run.tap; "
            "sys.exit('twisted.internet.reactor' in sys.modules)"
        )
        ended = run([sys.executable, "-c", program])
        self.assertEqual((ended.returncode, ended.stderr), (0, b""))
        self.assertIn("PYTHONPATH", environment())

    @slow
    def test_monotonic(self) -> None:
        """The reactor of the process does not read the wall clock."""
        program = (
            "import time\n"
            "from meshproto.run.tap import Options, makeService\n"
            "options = Options()\n"
            "options.parseOptions(['--port', '0'])\n"
            "makeService(options)\n"
            "from twisted.internet import reactor\n"
            "assert reactor.seconds is time.monotonic\n"
        )
        ended = run([sys.executable, "-c", program])
        self.assertEqual((ended.returncode, ended.stderr), (0, b""))
