"""A wait that one link is given."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshproto.link.deadline import Deadline


class DeadlineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.passed: list[float] = []
        self.deadline = Deadline(self.clock, self.note)

    def note(self) -> None:
        self.passed.append(self.clock.seconds())

    def test_it_passes_once(self) -> None:
        self.deadline.set(2)
        self.clock.pump([1, 1, 1, 1])
        self.assertEqual(self.passed, [2])
        self.deadline.clear()

    def test_only_the_last_counts(self) -> None:
        self.deadline.set(2)
        self.deadline.set(3)
        self.clock.pump([1] * 5)
        self.assertEqual(self.passed, [3])

    def test_cleared_it_leaves_no_timer(self) -> None:
        self.deadline.set(2)
        self.deadline.clear()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_that_is_over_already(self) -> None:
        self.deadline.set(-5)
        self.clock.advance(0)
        self.assertEqual(self.passed, [0])

    def test_set_anew_when_it_passes(self) -> None:
        self.deadline = Deadline(self.clock, lambda: self.deadline.set(1))
        self.deadline.set(1)
        self.clock.pump([1, 1])
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
