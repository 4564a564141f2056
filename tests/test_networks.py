"""Real daemons on real networks, played with intervals of seconds.

The cases are those of `lab.network_cases`, and the bounds allow for a slow machine.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from lab.network_cases import (
    forgetful_nat,
    homes_behind_nat,
    ipv6_only,
    kept_nat,
    line_of,
    lossy,
    moved,
    namesakes,
    narrow,
    one_way,
    partition,
    router_restart,
    same_port,
    short_cut,
)
from lab.networks import (
    Lab,
    Link,
    missing,
)
from tests.daemons import LabTestCase
from tests.slow import slow


class CableTests(LabTestCase):
    """Networks of cables and switches."""

    def test_partition(self) -> None:
        seen = partition(self.lab)
        self.assertLess(seen["the other side dropped after (s)"], 20)
        # Two pauses, each of which ends in a dial that may time out.
        self.assertLess(seen["full mesh after the heal (s)"], 20)
        self.assertEqual(seen["peers lost by each"], 2)
        self.assertEqual(seen["messages wrong"], 0)
        self.assertLess(seen["dials meanwhile, by the busiest"], 20)

    def test_short_cut(self) -> None:
        seen = short_cut(self.lab)
        self.assertEqual(seen["listeners that missed any"], 0)
        self.assertEqual(seen["peers lost"], 0)

    def test_ipv6_only(self) -> None:
        seen = ipv6_only(self.lab)
        self.assertEqual(seen["messages wrong"], 0)
        self.assertEqual(seen["peers lost"], 0)

    def test_member_moves(self) -> None:
        self.check_moved(mover=2)

    def test_first_node_moves(self) -> None:
        """The others were told of it by an address that is no more."""
        self.check_moved(mover=0)

    def check_moved(self, mover: int) -> None:
        seen = moved(self.lab, mover=mover)
        self.assertLess(seen["full mesh with the new address after (s)"], 25)
        self.assertEqual(seen["peers lost by the one"], 2)
        self.assertEqual(seen["by the two others"], 2)
        self.assertEqual(seen["messages wrong"], 0)
        self.assertLess(seen["dials in 2 s after that, by the busiest"], 10)

    def test_same_port(self) -> None:
        seen = same_port(self.lab)
        self.assertEqual(seen["peers lost"], 0)


class OneWayTests(LabTestCase):
    """A network on which one host does not reach another that reaches it."""

    needs = (*LabTestCase.needs, "a firewall")

    def test_one_way(self) -> None:
        seen = one_way(self.lab)
        self.assertLess(seen["dropped by both after (s)"], 20)
        self.assertLess(seen["full mesh after the heal (s)"], 20)
        self.assertEqual(seen["peers lost by the two"], 2)
        self.assertEqual(seen["by the third"], 0)
        self.assertEqual(seen["messages wrong"], 0)


class NatTests(LabTestCase):
    """Networks behind routers that hide them."""

    needs = (*LabTestCase.needs, "NAT")

    def test_homes(self) -> None:
        """Nobody gets through a NAT from outside, and nobody goes wild about it."""
        seen = homes_behind_nat(self.lab)
        self.assertEqual(seen["links across the NATs"], 0)
        self.assertEqual(seen["messages wrong"], 0)
        self.assertEqual(seen["peers lost"], 0)
        self.assertLess(seen["dials until joined"], 100)
        self.assertLess(seen["by the busiest"], 200)

    def test_namesakes(self) -> None:
        """The one that is there first is not disturbed."""
        seen = namesakes(self.lab)
        self.assertGreater(seen["the second one refused as DUPLICATE, times"], 0)
        self.assertLess(seen["its dials in 5 s"], 30)
        self.assertEqual(seen["peers lost"], 0)
        self.assertEqual(seen["messages of the first one wrong"], 0)

    def test_forgetful(self) -> None:
        seen = forgetful_nat(self.lab)
        self.assertLess(seen["dropped by both after (s)"], 25)
        self.assertLess(seen["linked again after (s)"], 20)
        self.assertEqual(seen["peers lost by each"], 1)

    def test_kept(self) -> None:
        seen = kept_nat(self.lab)
        self.assertEqual(seen["peers lost"], 0)
        self.assertEqual(seen["connections begun from inside"], 1)

    def test_restart(self) -> None:
        seen = router_restart(self.lab)
        self.assertLess(seen["dropped by both after (s)"], 20)
        self.assertLess(seen["linked again after (s)"], 20)
        self.assertEqual(seen["peers lost by each"], 1)
        self.assertEqual(seen["messages wrong"], 0)


class LossTests(LabTestCase):
    """A network that takes its time and loses frames."""

    needs = ("a TAP device",)

    def test_lossy(self) -> None:
        seen = lossy(self.lab)
        self.assertEqual(seen["messages wrong"], 0)
        self.assertEqual(seen["peers lost"], 0)
        self.assertGreater(seen["of them lost"], 0)


class NarrowTests(LabTestCase):
    """A network that carries less than is said."""

    needs = (*LabTestCase.needs, "a slow device")

    def test_narrow(self) -> None:
        seen = narrow(self.lab, count=700)
        self.assertEqual(seen["listeners that missed any"], 0)
        self.assertEqual(seen["peers lost"], 0)
        # They did not wait behind all that was said before.
        took = seen["700 messages of 1000 bytes with both after (s)"]
        self.assertGreater(seen["PONGs of the speaker meanwhile"], 5)
        self.assertLess(seen["the slowest took (s)"], 0.7 * took)


class CleanTests(SynchronousTestCase):
    """A lab leaves nothing behind, however it ends."""

    @slow
    def test_nothing_left(self) -> None:
        for feature in ("a cable", "a switch", "a TAP device"):
            problem = missing(feature)
            if problem is not None:
                raise SkipTest(problem)
        before = namespaces()
        with self.assertRaises(ZeroDivisionError), Lab() as lab:
            hosts = lab.hosts_on(lab.switch("switch"), *line_of(2))
            lab.slow_switch(Link(delay=0.01), hosts)
            daemon = lab.node(hosts[0])
            lab.until_listening(daemon)
            self.assertEqual(len(namespaces() - before), 3)
            raise ZeroDivisionError
        self.assertEqual(namespaces(), before)
        self.assertFalse(Path(f"/proc/{daemon.pid}").exists())


def namespaces() -> set[str]:
    """Every network namespace in which a process of this machine lives."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found.add(os.readlink(process / "ns" / "net"))
    return found
