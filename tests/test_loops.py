"""Where a node may be started: under its reactor, not under a foreign asyncio loop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.base import ReactorBase
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from lab.terminals import environment
from meshproto.config import NodeConfig
from meshproto.errors import NotRunning, WrongLoop
from meshproto.mesh.node import MeshNode
from meshproto.testing import SimNetwork
from tests.fakes import Bench, FakeNetwork

PATIENCE = 30


class StandingReactor(ReactorBase):
    """A reactor of Twisted's that does not run, unless a test says that it does."""

    def installWaker(self) -> None:
        """There is no thread that could wake it."""


class StandingAsyncioReactor(StandingReactor):
    """One that was installed on a loop, as Twisted's asyncio reactor notes it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._asyncioEventloop = loop


class LoopTests(SynchronousTestCase):
    """`MeshNode.start` in one process, with reactors that stand still."""

    def node(self, reactor: Any) -> MeshNode:
        """A node that listens as soon as it is started, if it may."""
        return MeshNode(NodeConfig(), reactor=reactor, network=FakeNetwork(Clock()))

    def under_asyncio(self, start: Callable[[], Deferred[None]]) -> Deferred[None]:
        """Start a node in a task of asyncio's."""

        async def main() -> Deferred[None]:
            return start()

        loop = asyncio.new_event_loop()
        self.addCleanup(loop.close)
        return loop.run_until_complete(main())

    def test_a_foreign_loop(self) -> None:
        """The message says what to do; the node has stopped for good."""
        node = self.node(StandingReactor())
        events = node.events()
        error = self.failureResultOf(self.under_asyncio(node.start), WrongLoop)
        for hint in ("task.react", "asyncioreactor", "docs/embedding.md"):
            self.assertIn(hint, error.getErrorMessage())
        self.failureResultOf(node.connect("localhost:8001"), NotRunning)
        self.failureResultOf(node.start(), NotRunning)
        self.successResultOf(node.stop())
        ended = ensureDeferred(events.__anext__())
        self.failureResultOf(ended, StopAsyncIteration)

    def test_the_loop_of_another_asyncio_reactor(self) -> None:
        """An asyncio reactor on a loop that does not run is no better."""
        loop = asyncio.new_event_loop()
        self.addCleanup(loop.close)
        node = self.node(StandingAsyncioReactor(loop))
        self.failureResultOf(self.under_asyncio(node.start), WrongLoop)

    def test_the_reactors_own_loop(self) -> None:
        """Whoever runs the loop of an asyncio reactor need not run the reactor."""

        def start() -> Deferred[None]:
            own = StandingAsyncioReactor(asyncio.get_running_loop())
            return self.node(own).start()

        self.successResultOf(self.under_asyncio(start))

    def test_a_reactor_that_runs(self) -> None:
        """How it is run is its own affair."""
        reactor = StandingReactor()
        reactor.running = True
        self.successResultOf(self.under_asyncio(self.node(reactor).start))

    def test_before_the_reactor_runs(self) -> None:
        """A node may be started first and the reactor be run then."""
        self.successResultOf(self.node(StandingReactor()).start())

    def test_a_clock_of_a_test(self) -> None:
        """Tests under asyncio bring a clock, which is no reactor at all."""
        self.successResultOf(self.under_asyncio(Bench().node.start))

    def test_a_simulated_network(self) -> None:
        """A simulated mesh runs anywhere."""
        net = SimNetwork(seed=1)
        self.successResultOf(self.under_asyncio(net.node("10.0.0.1").start))


class ProgramTests(SynchronousTestCase):
    """Whole programs, with the reactors that Twisted has."""

    def run_program(self, *lines: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", "\n".join(lines)],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def assert_tells(self, program: subprocess.CompletedProcess[str]) -> None:
        last = program.stderr.splitlines()[-1]
        self.assertTrue(last.startswith("meshproto.errors.WrongLoop: "), last)
        self.assertIn("docs/embedding.md", last)
        self.assertEqual((program.returncode, program.stdout), (1, ""))

    def test_made_within(self) -> None:
        """The first thing that goes wrong under plain asyncio is our error."""
        self.assert_tells(
            self.run_program(
                "import asyncio",
                "from meshproto import MeshNode, NodeConfig",
                "async def main():",
                "    node = MeshNode(NodeConfig(port=0))",
                "    events = node.events()",
                "    await node.start()",
                "    await node.connect('localhost:8001')",
                "    async for event in events: print(event)",
                "asyncio.run(main())",
            )
        )

    def test_made_outside(self) -> None:
        """It makes no difference where the node was made."""
        self.assert_tells(
            self.run_program(
                "import asyncio",
                "from meshproto import MeshNode, NodeConfig",
                "node = MeshNode(NodeConfig(port=0))",
                "async def main():",
                "    try:",
                "        await node.start()",
                "    finally:",
                "        await node.stop()",
                "asyncio.run(main())",
            )
        )

    def test_installed_on_the_running_loop(self) -> None:
        """The second way out of the message: two nodes meet under asyncio.run."""
        program = self.run_program(
            "import asyncio",
            "from twisted.internet import asyncioreactor",
            "from meshproto import MeshNode, NodeConfig",
            "async def main():",
            "    loop = asyncio.get_running_loop()",
            "    asyncioreactor.install(loop)",
            "    alice = MeshNode(NodeConfig(port=0, name='alice'))",
            "    bob = MeshNode(NodeConfig(port=0))",
            "    await alice.start().asFuture(loop)",
            "    await bob.start().asFuture(loop)",
            "    connecting = bob.connect(f'127.0.0.1:{alice.port}')",
            "    print((await connecting.asFuture(loop)).name)",
            "    await bob.stop().asFuture(loop)",
            "    await alice.stop().asFuture(loop)",
            "asyncio.run(main())",
        )
        self.assertEqual((program.stdout, program.stderr), ("alice\n", ""))
