"""What tests with real daemons have in common; the daemons are those of `lab`."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from lab.daemons import Fleet
from lab.networks import Lab, missing
from tests.slow import SLOW


class DaemonTestCase(SynchronousTestCase):
    """A test with a fleet, in which no daemon may complain."""

    def setUp(self) -> None:
        self.fleet = Fleet()
        self.addCleanup(self._end)

    def _end(self) -> None:
        self.fleet.close()
        for daemon in self.fleet.daemons:
            self.assertEqual(daemon.complaints, [], daemon.raw)


class LabTestCase(SynchronousTestCase):
    """A test with a lab, in which no daemon may complain.

    ``needs`` are the features of the machine without which it is skipped.
    """

    needs: Sequence[str] = ("a cable", "a switch")
    timeout = 120
    if SLOW:
        skip = SLOW

    def setUp(self) -> None:
        for feature in self.needs:
            problem = missing(feature)
            if problem is not None:
                raise SkipTest(problem)
        self.lab = Lab()
        self.addCleanup(self._end)

    def _end(self) -> None:
        self.lab.close()
        for daemon in self.lab.daemons:
            self.assertEqual(daemon.complaints, [], daemon.raw)
