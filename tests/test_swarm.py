"""Random meshes under random faults: some of them, on every run of the tests.

``python -m meshproto.testing --seeds 0:100000`` plays as many as one likes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from io import StringIO
from unittest.mock import patch

from twisted.logger import Logger, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from meshproto.events import (
    ChatReceived,
    CloseReason,
    Direction,
    Peer,
    PeerConnected,
    PeerDisconnected,
)
from meshproto.testing import __main__ as command
from meshproto.testing._swarm import Swarm

#: Played on every run of the tests.
SEEDS = range(8)


class SwarmTests(SynchronousTestCase):
    """What holds whatever happens, and what comes back when it ends."""

    def test_seeds(self) -> None:
        broken = [run.violation for run in map(command.play, SEEDS) if run.violation]
        self.assertEqual(broken, [])

    def test_every_kind_of_fault_occurs(self) -> None:
        """Else a run that finds nothing says nothing."""
        kinds: set[str] = set()
        for seed in range(100):
            kinds |= {kind.__name__ for kind in Swarm(seed).fault_kinds()}
        expected = "break clog crash cut freeze partition power_off slow_reader swizzle"
        self.assertEqual(sorted(kinds), [f"_{kind}" for kind in expected.split()])

    def test_one_seed_is_one_run_in_every_process(self) -> None:
        """Nothing depends on the order of a set, or on where an object lies."""
        digests = set()
        for hash_seed in ("0", "1", "12345"):
            script = (
                "from meshproto.testing._swarm import Swarm\n"
                "print(Swarm(3).run().digest)"
            )
            environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
            result = subprocess.run(
                [sys.executable, "-c", script],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            digests.add(result.stdout.strip())
        digests.add(Swarm(3).run().digest)
        self.assertEqual(len(digests), 1)


class RuleTests(SynchronousTestCase):
    """A run that breaks a rule is found out."""

    def setUp(self) -> None:
        self.swarm = Swarm(0)
        self.swarm._build()
        [self.speaker, *_] = self.swarm._speakers
        self.peer = Peer(
            id="stranger",
            name="stranger",
            host="10.9.9.9",
            address=None,
            direction=Direction.INCOMING,
            connected_at=0.0,
            last_heard=0.0,
        )

    def assertFound(self, rule: str) -> None:
        self.assertIn(rule, self.swarm._errors[0])

    def test_two_connects_of_one_peer(self) -> None:
        for _ in range(2):
            count = len(self.speaker.connected) + 1
            event = PeerConnected(peer=self.peer, peer_count=count, max_peers=20)
            self.swarm._check(self.speaker, event)
        self.assertFound("connected twice")

    def test_farewell_of_somebody_who_never_came(self) -> None:
        event = PeerDisconnected(peer=self.peer, reason=CloseReason.CLOSED_BY_PEER)
        self.swarm._check(self.speaker, event)
        self.assertFound("never came")

    def test_a_word_that_arrives_twice(self) -> None:
        self.speaker.connected[self.peer.host, self.peer.id] = self.peer
        for _ in range(2):
            event = ChatReceived(peer=self.peer, text="node-9 1")
            self.swarm._check(self.speaker, event)
        self.assertFound("node-9 1 after 1")

    def test_an_error_in_the_log(self) -> None:
        log = Logger(source=self)
        globalLogPublisher.addObserver(self.swarm)
        self.addCleanup(globalLogPublisher.removeObserver, self.swarm)
        log.error("something broke")
        self.assertFound("something broke")


class CommandTests(SynchronousTestCase):
    """``python -m meshproto.testing``."""

    def run_command(self, *argv: str) -> tuple[int, str]:
        with patch("sys.stdout", StringIO()) as output:
            status = command.main([*argv, "--jobs", "1"])
        return status, output.getvalue()

    def test_summary(self) -> None:
        status, output = self.run_command("--seeds", "1:3")
        self.assertEqual(status, 0)
        self.assertIn("2 seeds, 0 failed", output)
        self.assertIn("simulated hours", output)

    def test_events_of_one_seed(self) -> None:
        status, output = self.run_command("--seeds", "1", "--events")
        self.assertEqual(status, 0)
        self.assertIn("PeerConnected(", output)

    def test_a_failing_seed_is_named(self) -> None:
        """And the status says that there was one."""

        def broken(swarm: Swarm) -> float:
            raise swarm._broken("a rule")

        with patch.object(Swarm, "_settle", broken):
            status, output = self.run_command("--seeds", "7")
        self.assertEqual(status, 1)
        self.assertIn("FAILED seed 7 at", output)

    def test_bad_seeds(self) -> None:
        for text in ("x", "3:1", "1:1", "1:2:3"):
            with patch("sys.stderr", StringIO()) as errors:
                exit = self.assertRaises(SystemExit, command.main, ["--seeds", text])
            self.assertEqual(exit.code, 2)
            self.assertIn(text, errors.getvalue())
