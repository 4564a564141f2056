"""Real programs whose clock is set, and real programs that are suspended.

The cases are those of `lab.clock_cases`, and the bounds allow for a slow machine.
"""

from __future__ import annotations

from twisted.trial.unittest import SkipTest

from lab.clock_cases import (
    NO_LIBRARY,
    all_suspended,
    faketime,
    suspended,
    wall_clock_set,
)
from lab.daemons import HAS_PROC_TCP, NO_PROC_TCP
from tests.daemons import LabTestCase
from tests.slow import SLOW


class ClockTestCase(LabTestCase):
    """Programs of this machine that have to keep time."""

    needs = ()
    if not (SLOW or HAS_PROC_TCP):
        skip = NO_PROC_TCP


class WallClockTests(ClockTestCase):
    """Somebody sets the time of the machine."""

    def test_wall_clock_set(self) -> None:
        """PINGs go on at their interval, and nobody is dropped."""
        if faketime() is None:
            raise SkipTest(NO_LIBRARY)
        seen = wall_clock_set(self.lab)
        for what in ("2 h back", "1 day forward"):
            self.assertGreater(seen[f"{what}: PINGs of each in 4 s, at least"], 1)
            self.assertLess(seen[f"{what}: longest pause (s)"], 4)
        self.assertEqual(seen["peers lost"], 0)


class SuspendedTests(ClockTestCase):
    """Somebody suspends a process and lets it go on."""

    def test_one(self) -> None:
        """It is back with one word about each peer, and asks nobody twice."""
        seen = suspended(self.lab)
        self.assertLess(seen["full mesh after that (s)"], 20)
        self.assertEqual(seen["peers lost by the sleeper"], 2)
        self.assertEqual(seen["by the others"], 2)
        # A round a second of two PINGs each; those that it missed would be 20 more.
        self.assertLess(seen["PINGs of the sleeper in 4 s"], 20)

    def test_all(self) -> None:
        """The time of the sleep is not held against anybody."""
        seen = all_suspended(self.lab)
        self.assertEqual(seen["peers lost"], 0)
        self.assertLess(seen["PINGs in 4 s after that, of all"], 50)
