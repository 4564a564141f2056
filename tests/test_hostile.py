"""Hostile peers on a real daemon, beside an honest one that must not suffer."""

from __future__ import annotations

import os

from lab.attackers import KiB, MiB, Outcome, Stage
from lab.daemons import HAS_PROC_TCP
from lab.hostile_floods import (
    LOGS,
    chat_flood,
    descriptors,
    flood,
    full_disk,
    stopping,
    stopping_among_visitors,
    stuck_reader,
    useless_log,
)
from lab.hostile_links import (
    crowd,
    dripping,
    endless_line,
    garbage,
    id_theft,
    silent_links,
)
from lab.hostile_talk import (
    commands_as_chat,
    gossip,
    slow_application,
    terminal_attack,
    victims_to_dial,
)
from tests.daemons import DaemonTestCase
from tests.slow import SLOW

#: Seconds within which an honest peer's PING is to be answered.
PONG_WITHIN = 2.0
#: Seconds within which a node is stopped: its `stop_timeout`, and one more.
STOPS_WITHIN = 3.0


class HostileTestCase(DaemonTestCase):
    """An attack on a node, and what it may cost."""

    if SLOW:
        skip = SLOW
    elif not HAS_PROC_TCP:
        skip = "what a process takes is read from /proc, which this system has not"

    def setUp(self) -> None:
        self.fleet = self.stage = Stage()
        self.addCleanup(self._end)

    def check(self, outcome: Outcome, memory: int = 8 * MiB) -> None:
        """The honest peer got all that is its due, the node kept its measure."""
        self.assertTrue(outcome.honest.is_complete, outcome)
        self.assertLess(outcome.honest.slowest, PONG_WITHIN, outcome)
        self.assertLess(outcome.memory, memory, outcome)


class LineTests(HostileTestCase):
    """What is no line, or no handshake."""

    def test_endless_line(self) -> None:
        for greets in (False, True):
            outcome = endless_line(self.stage, total=50 * MiB, greets=greets)
            self.check(outcome, memory=MiB)
            self.assertTrue(outcome.seen["told why"])
            # Each is cut long before it has said all.
            self.assertGreater(outcome.seen["connections"], 2)

    def test_dripping_handshake(self) -> None:
        """It has its time, and no more for being busy."""
        outcome = dripping(self.stage, drippers=5, pause=0.1, timeout=1.5)
        self.check(outcome)
        self.assertGreaterEqual(outcome.seen["first cut s"], 1.5)

    def test_silent_links(self) -> None:
        """Newcomers get in; the node keeps no more than it has to."""
        outcome = silent_links(self.stage, count=300)
        self.check(outcome)
        self.assertLessEqual(outcome.seen["links held at the end"], 64)
        self.assertLess(outcome.seen["joins in s"], 5)

    def test_garbage(self) -> None:
        """No descriptor is lost."""
        outcome = garbage(self.stage, rounds=200, cycles=500)
        self.check(outcome)
        self.assertLessEqual(outcome.seen["after"], outcome.seen["descriptors before"])


class SeatTests(HostileTestCase):
    """More peers than seats, and peers that are not who they say."""

    def test_crowd(self) -> None:
        """The seats are taken, by nobody more, and all others hear why not."""
        for timing in ("at once", "late", "halves"):
            outcome = crowd(self.stage, timing=timing, dialers=40, seats=5)
            self.check(outcome)
            self.assertEqual(outcome.seen["welcomed"], 4, outcome)
            self.assertEqual(outcome.seen["MAX_PEERS"], 36, outcome)
            self.assertEqual(outcome.seen["most seats taken"], 5, outcome)

    def test_crowd_that_comes_and_goes(self) -> None:
        outcome = crowd(self.stage, timing="churn", dialers=20, seats=5)
        self.check(outcome)
        self.assertEqual(outcome.seen["other"], 0, outcome)
        self.assertEqual(outcome.seen["most seats taken"], 5, outcome)

    def test_crowd_from_both_sides(self) -> None:
        """Whom the node dials, and whom it does not, share its seats."""
        outcome = crowd(self.stage, timing="dialled", dialers=20, seats=8)
        self.check(outcome)
        self.assertGreater(outcome.seen["dialled"], 0, outcome)
        self.assertEqual(outcome.seen["other"], 0, outcome)
        self.assertEqual(outcome.seen["most seats taken"], 8, outcome)

    def test_stolen_id(self) -> None:
        """The thief gets one word, the victim all of its chat."""
        outcome = id_theft(self.stage, thieves=30)
        self.check(outcome)
        self.assertEqual(outcome.seen["DUPLICATE and nothing more"], 30, outcome)
        self.assertEqual(outcome.seen["said by thieves"], 0, outcome)
        self.assertEqual(outcome.seen["secrets told the victim"], 30, outcome)
        self.assertEqual(outcome.seen["victim lost"], 0, outcome)


class ChatTests(HostileTestCase):
    """Chat that is not what it looks like, and too much of it."""

    def test_commands_as_chat(self) -> None:
        """All of it is shown as it was said, nothing is carried out."""
        outcome = commands_as_chat(self.stage, count=2000)
        self.check(outcome)
        self.assertEqual(outcome.seen["wrong"], 0, outcome)
        self.assertEqual(outcome.seen["executed"], 0, outcome)

    def test_slow_application(self) -> None:
        """It makes one who says too much wait."""
        self.check_slow_application(flooders=1)

    def test_slow_application_and_many_flooders(self) -> None:
        """It makes all of them wait, and those who say little as well."""
        self.check_slow_application(flooders=4)

    def check_slow_application(self, flooders: int) -> None:
        outcome = slow_application(
            self.stage, flooders=flooders, seconds_per_event=0.001, seconds=3
        )
        # How long a PING lies unread is for the application to say.
        self.assertTrue(outcome.honest.is_complete, outcome)
        self.assertLess(outcome.memory, 4 * MiB, outcome)


class AddressTests(HostileTestCase):
    """What is told of addresses."""

    def test_gossip(self) -> None:
        """It is bounded, and drives no good address out."""
        outcome = gossip(self.stage, addresses=40_000)
        self.check(outcome)
        self.assertLessEqual(outcome.seen["kept"], 1000, outcome)
        self.assertEqual(outcome.seen["good ones kept"], outcome.seen["good"], outcome)

    def test_victims(self) -> None:
        """Few dials at a time, a greeting each, no port of a system service."""
        outcome = victims_to_dial(
            self.stage, count=20, seconds=3, hangs_up=False, timeout=0.5
        )
        self.check(outcome)
        self.assertLessEqual(outcome.seen["dials at one time"], 16, outcome)
        self.assertEqual(outcome.seen["victims called"], 20, outcome)
        self.assertRegex(outcome.seen["sent"], r"\A'peer-[0-9]+:alice\\t\\n'\Z")
        self.assertEqual(outcome.seen["privileged ports called"], 0, outcome)
        self.assertEqual(outcome.seen["privileged ports kept"], 0, outcome)

    def test_victims_that_hang_up(self) -> None:
        """They are left alone for longer and longer."""
        outcome = victims_to_dial(
            self.stage, count=20, seconds=3, hangs_up=True, timeout=0.5
        )
        self.check(outcome)
        self.assertLessEqual(outcome.seen["most for one victim"], 10, outcome)


class FloodTests(HostileTestCase):
    """Questions by the thousand, and answers that nobody takes."""

    timeout = 120

    def test_questions(self) -> None:
        """Each is answered once, with what there is to say."""
        for command, most in (("PING", 1.0), ("REQUEST_PEERS", 30.0)):
            outcome = flood(self.stage, command=command, total=200 * KiB, reads=True)
            self.check(outcome, memory=32 * MiB)
            self.assertLessEqual(outcome.seen["bytes out per byte in"], most, outcome)
            self.assertEqual(outcome.seen["cut"], 0, outcome)

    def test_questions_without_an_ear_for_the_answers(self) -> None:
        """What waits for one who does not read is bounded; then it is cut."""
        outcome = flood(
            self.stage,
            command="PING",
            total=1024 * MiB,
            reads=False,
            stall_timeout=1.0,
            send_queue_soft=MiB,
            send_queue_hard=4 * MiB,
        )
        self.check(outcome, memory=32 * MiB)
        self.assertEqual(outcome.seen["slow consumer"], 1, outcome)

    def test_requests_without_an_ear_for_the_answers(self) -> None:
        """The same, unless so little is answered that nothing waits."""
        outcome = flood(
            self.stage,
            command="REQUEST_PEERS",
            total=8 * MiB,
            reads=False,
            patience=5,
            send_queue_soft=MiB,
            send_queue_hard=4 * MiB,
        )
        self.check(outcome, memory=32 * MiB)

    def test_chat(self) -> None:
        """Lines so short, or so mixed, that each costs more than its bytes."""
        for lines in ("one-letter", "mixed"):
            outcome = chat_flood(self.stage, flooders=17, lines=lines, seconds=2)
            self.check(outcome, memory=32 * MiB)
            self.assertGreater(outcome.seen["of an ordinary peer"], 0, outcome)
            self.assertLess(outcome.seen["stopped after s"], STOPS_WITHIN, outcome)

    def test_stopping(self) -> None:
        """It takes what it takes to say goodbye, whatever comes in meanwhile."""
        for what in ("PING", "REQUEST_PEERS", "PEERS", "two-letter"):
            for reads in (False, True):
                outcome = stopping(self.stage, flooders=17, what=what, reads=reads)
                self.assertLess(outcome.seen["stopped after s"], STOPS_WITHIN, outcome)

    def test_stopping_among_visitors(self) -> None:
        outcome = stopping_among_visitors(self.stage)
        self.assertLess(outcome.seen["stopped after s"], STOPS_WITHIN, outcome)

    def test_reader_that_stops(self) -> None:
        self.check_slow_reader(None, count=6400, gap="0.01")

    def test_reader_that_stops_while_the_others_are_waited_for(self) -> None:
        self.check_slow_reader(None, count=12_800, gap="drain")

    def test_reader_of_a_kilobyte_a_second(self) -> None:
        self.check_slow_reader(KiB, count=6400, gap="0.01")

    def check_slow_reader(self, speed: float | None, count: int, gap: str) -> None:
        """It is cut, and the others lose nothing."""
        outcome = stuck_reader(
            self.stage, speed=speed, count=count, size=KiB, gap=gap, stall_timeout=1.0
        )
        self.check(outcome, memory=32 * MiB)
        self.assertEqual(outcome.seen["others lost"], 0, outcome)
        self.assertTrue(outcome.seen["others in order"], outcome)
        self.assertEqual(outcome.seen["cut"], 1, outcome)


class MachineTests(HostileTestCase):
    """What the machine refuses to the process."""

    def test_descriptors(self) -> None:
        """A node without a free one waits quietly until there is one."""
        for greets in (False, True):
            outcome = descriptors(
                self.stage, limit=64, connections=200, seconds=1.5, greets=greets
            )
            self.check(outcome)
            self.assertLess(outcome.seen["CPU % while exhausted"], 10, outcome)

    def test_useless_logs(self) -> None:
        """The node goes on."""
        for kind in LOGS:
            outcome = useless_log(self.stage, kind=kind, seconds=0.5)
            self.check(outcome)
            self.assertTrue(outcome.seen["runs"], outcome)

    def test_full_disk(self) -> None:
        outcome = full_disk(self.stage, seconds=1)
        self.check(outcome)
        self.assertTrue(outcome.seen["runs"], outcome)
        self.assertEqual(outcome.seen["bytes free"], 0, outcome)

    if os.geteuid() != 0:
        test_full_disk.skip = "only root can make a small disk"  # type: ignore[attr-defined]


class TerminalTests(HostileTestCase):
    """What peers say, where a person reads it."""

    def test_terminal(self) -> None:
        """No cell changes but those of the peer's own lines."""
        outcome = terminal_attack(self.stage, rounds=1)
        # The first odd name loads the table of look-alikes, once.
        self.check(outcome, memory=12 * MiB)
        for wrong in (
            "rows changed",
            "rows forged",
            "honest rows lost",
            "coloured rows",
            "sequences let through",
            "bad names let in",
        ):
            self.assertEqual(outcome.seen[wrong], 0, outcome)
        self.assertTrue(outcome.seen["honest rows in order"], outcome)
        self.assertEqual(outcome.seen["title"], "")
        self.assertGreater(outcome.seen["other names let in"], 0)
