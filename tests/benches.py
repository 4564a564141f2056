"""One real node, and a test that plays every other one byte by byte."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshproto.config import NodeConfig
from meshproto.events import (
    ChatReceived,
    CloseReason,
    NodeError,
    PeerDisconnected,
)
from tests.fakes import Bench, Wire

BOB = "192.0.2.2:8002"


class BenchCase(SynchronousTestCase):
    """Every test ends with a stop that leaves nothing behind."""

    def bench(self, **settings: object) -> Bench:
        """A node that listens on 192.0.2.1:8001 as alice, and speaks ``mesh/1``."""
        settings.setdefault("name", "alice")
        settings.setdefault("protocols", ("mesh/1",))
        bench = Bench(NodeConfig(**settings))  # type: ignore[arg-type]
        return self.started(bench)

    def started(self, bench: Bench) -> Bench:
        bench.start()
        self.addCleanup(self.clean_up, bench)
        return bench

    def clean_up(self, bench: Bench) -> None:
        bench.stop()
        bench.clock.advance(bench.node.config.stop_timeout)
        bench.settle()
        self.assertEqual(bench.node.peers(), ())
        self.assertEqual(bench.clock.getDelayedCalls(), [])
        self.assertFalse(bench.network.port.listening)
        # Every peer that came has gone, exactly once.
        self.assertEqual(bench.came, bench.went)

    def tearDown(self) -> None:
        self.assertEqual(self.flushLoggedErrors(), [])

    def chats(self, bench: Bench) -> list[str]:
        return [event.text for event in bench.of(ChatReceived)]

    def ids(self, bench: Bench) -> list[str]:
        return [peer.id for peer in bench.node.peers()]

    def reasons(self, bench: Bench) -> list[CloseReason]:
        return [event.reason for event in bench.of(PeerDisconnected)]

    def errors(self, bench: Bench) -> list[tuple[str, str]]:
        return [(event.context, event.error) for event in bench.of(NodeError)]

    def targets(self, bench: Bench) -> list[str]:
        """Every address that was dialled so far."""
        return [str(dial.target) for dial in bench.network.dials]

    def assertPart(self, bench: Bench, wire: Wire) -> None:
        """The node has closed the connection."""
        bench.settle()
        self.assertTrue(wire.closed)
