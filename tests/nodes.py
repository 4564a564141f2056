"""A node on a network that a test plays."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshproto.config import NodeConfig
from tests.fakes import Bench

BOB = "192.0.2.2:8002"


class NodeCase(SynchronousTestCase):
    def bench(self, **settings: object) -> Bench:
        """A node that runs: alice, at 192.0.2.1:8001."""
        return self.prepared(**settings).start()

    def prepared(self, **settings: object) -> Bench:
        """A node that has not been started."""
        settings.setdefault("name", "alice")
        settings.setdefault("protocols", ("mesh/1",))
        bench = Bench(NodeConfig(**settings))  # type: ignore[arg-type]
        self.addCleanup(self.clean_up, bench)
        return bench

    def clean_up(self, bench: Bench) -> None:
        stopped = bench.node.stop()
        bench.settle()
        bench.clock.advance(bench.node.config.stop_timeout)
        bench.settle()
        self.successResultOf(stopped)
        self.assertEqual(bench.clock.getDelayedCalls(), [])
        # Every peer that came has gone, exactly once.
        self.assertEqual(bench.came, bench.went)
        self.assertEqual(self.flushLoggedErrors(), [])
