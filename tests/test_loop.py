"""A timer that outlives the errors of its body."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshproto.mesh.loop import Loop


class LoopTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.rounds: list[float] = []
        self.loop = Loop(self.clock, 30.0, self.body)
        self.addCleanup(self.clean_up)

    def clean_up(self) -> None:
        self.loop.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def body(self) -> None:
        self.rounds.append(self.clock.seconds())

    def test_first_after_one_interval_and_then_after_each(self) -> None:
        self.loop.start()
        self.assertEqual(self.rounds, [])
        self.clock.advance(29.999)
        self.assertEqual(self.rounds, [])
        self.clock.advance(0.001)
        self.clock.pump([30, 30])
        self.assertEqual([round(at, 3) for at in self.rounds], [30, 60, 90])

    def test_a_clock_that_jumps_makes_one_round_and_not_many(self) -> None:
        self.loop.start()
        self.clock.advance(1000)
        self.assertEqual(len(self.rounds), 1)

    def test_started_twice_it_runs_once(self) -> None:
        self.loop.start()
        self.clock.advance(10)
        self.loop.start()
        self.clock.advance(20)
        self.assertEqual(self.rounds, [30])

    def test_stopped_it_is_silent_and_may_start_again(self) -> None:
        self.loop.stop()
        self.loop.start()
        self.loop.stop()
        self.loop.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(100)
        self.assertEqual(self.rounds, [])
        self.loop.start()
        self.clock.advance(30)
        self.assertEqual(self.rounds, [130])

    def test_a_body_that_stops_it(self) -> None:
        loop = Loop(self.clock, 30.0, lambda: loop.stop())
        loop.start()
        self.clock.advance(30)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class BrokenLoopTests(SynchronousTestCase):
    def test_a_body_that_raises_is_logged_and_called_again(self) -> None:
        clock = Clock()
        rounds: list[float] = []

        def body() -> None:
            rounds.append(clock.seconds())
            raise ValueError("broken")

        loop = Loop(clock, 30.0, body)
        loop.start()
        clock.pump([30, 30, 30])
        self.assertEqual(rounds, [30, 60, 90])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 3)
        loop.stop()
        self.assertEqual(clock.getDelayedCalls(), [])
