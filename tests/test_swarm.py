"""Random meshes under random faults: some of them, on every run of the tests.

``python -m meshproto.testing --seeds 0:100000`` plays as many as one likes.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from io import StringIO
from math import inf
from pathlib import Path
from typing import Any
from unittest import SkipTest
from unittest.mock import patch

from twisted.internet.protocol import Protocol
from twisted.logger import Logger, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

import meshproto
from meshproto.events import (
    ChatReceived,
    ChatsReceived,
    CloseReason,
    DataReceived,
    Delivery,
    Direction,
    Event,
    Peer,
    PeerConnected,
    PeerDisconnected,
    PingReceived,
)
from meshproto.link.outbox import Outbox
from meshproto.link.protocol import MeshProtocol
from meshproto.mesh.announcer import Announcer
from meshproto.mesh.data import Payloads
from meshproto.mesh.dialer import Dialer
from meshproto.mesh.fanout import Fanout
from meshproto.mesh.introductions import Introductions
from meshproto.mesh.loop import Loop
from meshproto.mesh.node import MeshNode
from meshproto.mesh.peers import Peers
from meshproto.rules.addressbook import AddressBook, Forgotten
from meshproto.rules.identity import PeerKey
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.pairs import Decision, Established, Pairs
from meshproto.rules.pending import Pending, PendingLinks
from meshproto.rules.registry import PeerEntry, Registry
from meshproto.rules.turns import Turns
from meshproto.testing import __main__ as command
from meshproto.testing import _network
from meshproto.testing._handshake import STEPS, TROUBLES
from meshproto.testing._many import play, play_all
from meshproto.testing._plan import (
    BOTH,
    KINDS,
    NEW,
    NEW_HOST,
    NEW_PORT,
    OLD,
    SAME,
    Draw,
    Plan,
)
from meshproto.testing._rules import Violation, pairs_agree, unheard
from meshproto.testing._shrink import shrink
from meshproto.testing._speaker import Calm, payload_of
from meshproto.testing._swarm import Swarm
from meshproto.testing._tcp import Transport, address, join
from meshproto.wire.messages import Data
from tests.slow import slow, some

PairRules = Pairs[Any]

#: Every kind of fault is among them; without the last three, few would have no ring.
SEEDS = sorted({*some(range(40), 8), 59, 63, 73})

#: What is drawn is looked at in so many plans; a plan costs next to nothing.
PLANS = range(3000)


class SwarmTests(SynchronousTestCase):
    """What holds whatever happens, and what comes back when it ends."""

    # A machine may be slow, and busy.
    timeout = 600

    def test_seeds(self) -> None:
        runs = [play(seed) for seed in SEEDS]
        self.assertEqual([run.violation for run in runs if run.rule], [])
        # Else a run that finds nothing says nothing.
        befallen = sum((run.faults for run in runs), Counter[str]())
        self.assertEqual(sorted(befallen), sorted(KINDS))
        self.assertTrue(all(run.seconds > 15 for run in runs))

    @slow
    def test_a_mesh_of_thirty(self) -> None:
        seed = next(seed for seed in PLANS if len(Draw(seed).plan().places) == 30)
        run = play(seed)
        self.assertEqual((run.nodes, run.violation), (30, None))

    @slow
    def test_several_at_a_time_are_the_same_runs(self) -> None:
        seeds = range(12)
        self.assertEqual(list(play_all(seeds, 2)), list(play_all(seeds, 1)))


class DigestTests(SynchronousTestCase):
    """One seed is one run, everywhere."""

    timeout = 600

    #: A big mesh with fragments would take longer without showing more.
    first, count = 3, len(some(range(6), 2))
    seeds = f"{first}:{first + count}"

    def digests(self, python: str, **environment: str) -> str:
        """What the seeds come to in a process of its own."""
        packages = [path for path in sys.path if path.endswith("site-packages")]
        paths = [str(Path(meshproto.__file__).parent.parent), *packages]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        result = subprocess.run(
            [python, "-m", "meshproto.testing", "--digests", "--seeds", self.seeds],
            env=os.environ | environment,
            cwd=tempfile.gettempdir(),
            capture_output=True,
            text=True,
            check=True,
        )
        return result.stdout

    def expected(self) -> str:
        with patch("sys.stdout", StringIO()) as output:
            command.main(["--digests", "--seeds", self.seeds])
        return output.getvalue()

    @slow
    def test_in_every_process(self) -> None:
        """Nothing depends on the order of a set, or on where an object lies."""
        digests = {
            self.digests(sys.executable, PYTHONHASHSEED=hash_seed)
            for hash_seed in ("0", "1", "12345")
        }
        self.assertEqual(digests, {self.expected()})

    def test_on_other_versions_of_python(self) -> None:
        """Those on the path, and those in ``MESHPROTO_PYTHONS``.

        They use the packages of this one, all of which run anywhere.
        """
        named = os.environ.get("MESHPROTO_PYTHONS", "").split(os.pathsep)
        on_path = [
            path
            for minor in range(11, 20)
            if minor != sys.version_info.minor
            if (path := shutil.which(f"python3.{minor}")) and self.runs(path)
        ]
        pythons = [*filter(None, named), *on_path]
        if not pythons:
            raise SkipTest("no other Python is here; MESHPROTO_PYTHONS names some")
        expected = self.expected()
        self.assertEqual(
            {python: self.digests(python) for python in pythons},
            dict.fromkeys(pythons, expected),
        )

    def runs(self, python: str) -> bool:
        """A version manager's wrapper may stand for nothing."""
        return subprocess.run([python, "-c", ""], capture_output=True).returncode == 0

    def test_seeds_differ(self) -> None:
        lines = self.expected().split("\n")
        self.assertEqual(
            len({line.partition(" ")[2] for line in lines if line}), self.count
        )


class DrawTests(SynchronousTestCase):
    """What the seeds have in them."""

    plans: list[Plan] = []

    def setUp(self) -> None:
        if not self.plans:
            self.plans.extend(Draw(seed).plan() for seed in PLANS)

    def test_meshes_of_every_size(self) -> None:
        self.assertEqual({len(plan.places) for plan in self.plans}, set(range(2, 31)))

    def test_most_meshes_are_small_and_have_faults(self) -> None:
        """Small meshes are cheap, and most races need only two or three."""
        small = [plan for plan in self.plans if len(plan.places) <= 6]
        self.assertGreater(len(small), len(self.plans) * 0.7)
        faults = sum(len(plan.faults) for plan in small)
        self.assertGreater(faults / len(small), 5)

    def test_every_kind_of_fault(self) -> None:
        kinds = {fault.kind for plan in self.plans for fault in plan.faults}
        self.assertEqual(kinds, set(KINDS))

    def test_nodes_come_back_where_they_were_and_elsewhere(self) -> None:
        for kind in ("crash", "power off", "leave"):
            ways = {
                fault.value
                for plan in self.plans
                for fault in plan.faults
                if fault.kind == kind
            }
            self.assertEqual(ways, {SAME, NEW_PORT, NEW_HOST})

    def test_every_trouble_at_every_step_of_a_handshake(self) -> None:
        faults = [fault for plan in self.plans for fault in plan.faults if fault.step]
        self.assertEqual(
            {(fault.kind, fault.step) for fault in faults},
            set(itertools.product(TROUBLES, STEPS)),
        )
        self.assertTrue(all(fault.pairs for fault in faults))
        self.assertEqual({fault.kind for fault in faults if fault.value}, {"dawdle"})

    def test_most_plans_have_pairs_that_speak_mesh2_and_some_have_none(self) -> None:
        kinds = Counter(
            frozenset(
                "mesh/2" in one.protocols and "mesh/2" in other.protocols
                for one, other in itertools.combinations(plan.places, 2)
            )
            for plan in self.plans
        )
        with_mesh2 = kinds[frozenset((True,))] + kinds[frozenset((True, False))]
        self.assertGreater(with_mesh2, len(self.plans) * 0.7)
        self.assertGreater(kinds[frozenset((True, False))], len(self.plans) * 0.25)
        pure = [p for p in self.plans if {x.protocols for x in p.places} == {OLD}]
        self.assertGreater(len(pure), len(self.plans) * 0.1)

    def test_nodes_that_share_no_protocol_are_not_in_one_plan(self) -> None:
        """Not even after one has come back with another."""
        seen = set()
        for plan in self.plans:
            speak = {place.protocols for place in plan.places}
            speak |= {fault.protocols for fault in plan.faults if fault.protocols}
            self.assertFalse(speak >= {OLD, NEW})
            seen |= speak
        self.assertEqual(seen, {BOTH, OLD, NEW})

    def test_nodes_come_back_with_other_protocols(self) -> None:
        changes = {
            (plan.places[fault.nodes[0]].protocols, fault.protocols)
            for plan in self.plans
            for fault in plan.faults
            if fault.protocols
        }
        ways = {(BOTH, OLD), (OLD, BOTH), (BOTH, NEW), (NEW, BOTH)}
        self.assertTrue(changes >= ways)
        seed, number = next(
            (plan.seed, fault.nodes[0])
            for plan in self.plans
            for fault in plan.faults
            if len(plan.places) == 2 and fault.protocols == OLD
            if plan.places[fault.nodes[0]].protocols == BOTH
        )
        swarm = Swarm(seed)
        self.assertIsNone(swarm.run().rule)
        lives = [who for who in swarm._cast.values() if who.number == number]
        self.assertEqual({who.place.protocols for who in lives}, {BOTH, OLD})

    def test_cuts_of_one_direction_and_of_both(self) -> None:
        for kind in ("cut", "clog", "partition", "bridge", "ring", "lag"):
            ways = {
                fault.one_way
                for plan in self.plans
                for fault in plan.faults
                if fault.kind == kind
            }
            self.assertEqual(ways, {False, True})

    @slow
    def test_a_bridge_leaves_one_node_that_sees_all(self) -> None:
        """So that sight is not transitive."""
        bridges = [
            (plan, fault)
            for plan in self.plans
            for fault in plan.faults
            if fault.kind == "bridge"
        ]
        for plan, fault in bridges:
            cut_off = {number for pair in fault.pairs for number in pair}
            self.assertEqual(len(cut_off), len(plan.places) - 1)

    def test_in_a_ring_everybody_sees_two(self) -> None:
        rings = [
            (plan, fault)
            for plan in self.plans
            for fault in plan.faults
            if fault.kind == "ring"
        ]
        for plan, fault in rings:
            unseen = Counter(number for pair in fault.pairs for number in pair)
            size = len(plan.places)
            self.assertEqual(set(unseen.values()), {size - 3})
            self.assertEqual(len(unseen), size)

    def test_clocks_that_start_and_go_differently(self) -> None:
        clocks = [place.clock for plan in self.plans for place in plan.places]
        odd = [clock for clock in clocks if clock != (0.0, 1.0)]
        self.assertGreater(len(odd), len(clocks) / 5)
        self.assertLess(min(rate for _, rate in odd), 0.82)
        self.assertGreater(max(rate for _, rate in odd), 1.22)

    def test_meshes_with_too_few_seats(self) -> None:
        crowded = [plan for plan in self.plans if plan.crowded]
        self.assertTrue(
            any(p.settings["max_peers"] < len(p.places) - 1 for p in crowded)
        )

    def test_the_rest_stays_when_something_is_left_out(self) -> None:
        plan = next(
            plan
            for plan in self.plans
            if len(plan.faults) > 8 and len(plan.places) > 4
            if not plan.places[0].known
        )
        cut_down = plan.cut_down(nodes=3, faults=range(1, 6))
        self.assertEqual(cut_down.places[0], plan.places[0])
        self.assertEqual(len(cut_down.places), 3)
        whole = {fault.number: fault for fault in plan.faults}
        for fault in cut_down.faults:
            self.assertIn(fault.number, range(1, 6))
            self.assertEqual(fault.at, whole[fault.number].at)
            self.assertTrue(all(max(pair) < 3 for pair in fault.pairs))
            self.assertTrue(all(number < 3 for number in fault.nodes))
        for number, place in enumerate(cut_down.places):
            self.assertTrue(all(other < 3 for other in place.known))
            self.assertTrue(place.known or number == 0)

    def test_a_moved_node_keeps_its_clock(self) -> None:
        seed = next(
            plan.seed
            for plan in self.plans
            if plan.places[1].clock != (0.0, 1.0) and len(plan.places) == 2
            if any(f.kind == "crash" and f.nodes == (1,) for f in plan.faults)
        )
        swarm = Swarm(seed)
        self.assertIsNone(swarm.run().rule)
        lives = [who for who in swarm._cast.values() if who.number == 1]
        self.assertGreater(len(lives), 1)
        rates = {who.machine.rate for who in lives}
        self.assertEqual(rates, {swarm.plan.places[1].clock[1]})


def peer(name: str = "node-2") -> Peer:
    return Peer(
        id=name,
        name=name,
        host="10.0.0.2",
        address=None,
        direction=Direction.INCOMING,
        connected_at=0.0,
        last_heard=0.0,
    )


class RuleTests(SynchronousTestCase):
    """A node that breaks a rule is found out, by the name of the rule."""

    def setUp(self) -> None:
        self.swarm = Swarm(0, nodes=2, faults=())
        self.swarm._begin()
        self.swarm._pass(5.0)
        self.one, self.other = self.swarm.speakers.values()
        [self.peer] = self.one.node.peers()
        self.said = self.other.said
        self.way = frozenset((self.one.place.host, self.other.place.host))

    def see(self, event: Event) -> None:
        self.one.see(event)
        if isinstance(event, ChatReceived):
            self.one.see_run(ChatsReceived(peer=event.peer, texts=(event.text,)))

    def assertFound(self, rule: str, see: Iterable[Event] = ()) -> None:
        for event in see:
            self.see(event)
        self.assertEqual([violation.rule for violation in self.swarm._broken], [rule])
        self.assertRaises(Violation, self.swarm._check)

    def says(self, words: int) -> None:
        """The other one says words that its listener does not get."""
        self.other.said_at += [self.swarm.net.clock.now] * words

    def hear(self, *numbers: int) -> list[Event]:
        texts = [f"{self.other.name} {number} " for number in numbers]
        return [ChatReceived(peer=self.peer, text=text) for text in texts]

    def test_nothing_is_found_where_nothing_is_broken(self) -> None:
        self.says(2)
        for event in self.hear(self.said + 1, self.said + 2):
            self.see(event)
        self.swarm._check()

    def test_two_connects_of_one_peer(self) -> None:
        event = PeerConnected(peer=self.peer, peer_count=1, max_peers=20)
        self.assertFound("connected twice", [event])

    def test_a_wrong_count_of_peers(self) -> None:
        event = PeerConnected(peer=peer("stranger"), peer_count=1, max_peers=20)
        self.assertFound("peer count", [event])

    def test_farewell_of_somebody_who_never_came(self) -> None:
        why = CloseReason.CLOSED_BY_PEER
        event = PeerDisconnected(peer=peer("stranger"), reason=why)
        self.assertFound("stranger", [event])

    def test_any_event_of_a_stranger(self) -> None:
        self.assertFound("stranger", [PingReceived(peer=peer("stranger"))])

    def test_an_event_of_a_node_that_is_over(self) -> None:
        self.one.over = True
        self.assertFound("afterlife", [PingReceived(peer=self.peer)])

    def test_a_word_that_arrives_twice(self) -> None:
        self.assertFound("order", self.hear(self.said))

    def test_a_word_of_somebody_else(self) -> None:
        event = ChatReceived(peer=self.peer, text=f"{self.one.name} 1")
        self.assertFound("author", [event])

    def test_a_word_that_nobody_has_said(self) -> None:
        self.assertFound("unsaid", self.hear(self.said + 1))

    def test_a_word_that_is_missing(self) -> None:
        self.swarm.net.run(60.0)
        self.says(3)
        event, gap = self.hear(self.said + 1, self.said + 3)
        self.see(event)
        self.swarm.net.run(0.1)
        self.assertFound("lost", [gap])

    def test_a_word_that_comes_late(self) -> None:
        self.swarm.net.run(60.0)
        self.says(2)
        first, event = self.hear(self.said + 1, self.said + 2)
        self.see(first)
        self.swarm.net.run(self.one.patience + 0.01)
        self.assertFound("late", [event])

    def test_a_word_that_comes_just_in_time(self) -> None:
        self.swarm.net.run(60.0)
        self.says(2)
        first, event = self.hear(self.said + 1, self.said + 2)
        self.see(first)
        self.swarm.net.run(self.one.patience - 0.01)
        self.see(event)
        self.swarm._check()

    def test_a_word_that_comes_late_because_the_way_was_cut(self) -> None:
        self.swarm.net.run(60.0)
        self.swarm.calm.disturb(self.way)
        self.says(2)
        first, event = self.hear(self.said + 1, self.said + 2)
        self.see(first)
        self.swarm.net.run(self.one.patience + 0.01)
        self.see(event)
        self.swarm._check()

    def test_a_word_that_is_missing_because_the_way_was_cut(self) -> None:
        """A link that is given up may lose what a cut holds up."""
        self.swarm.calm.disturb(self.way)
        self.says(3)
        for event in self.hear(self.said + 1, self.said + 3):
            self.see(event)
        self.swarm._check()

    def test_a_run_of_other_words(self) -> None:
        self.says(1)
        [event] = self.hear(self.said + 1)
        self.one.see(event)
        self.one.see_run(ChatsReceived(peer=self.peer, texts=("another",)))
        self.assertFound("runs")

    def test_a_run_that_comes_after_something_else(self) -> None:
        self.says(1)
        [event] = self.hear(self.said + 1)
        self.one.see(event)
        self.assertFound("runs", [PingReceived(peer=self.peer)])

    def take(self, number: int, payload: bytes | None = None) -> Event:
        return DataReceived(
            peer=self.peer,
            payload=payload or payload_of(self.other.name, number),
            headers={"word": str(number)},
        )

    def test_a_payload_is_a_word_like_any_other(self) -> None:
        self.says(2)
        [event] = self.hear(self.said + 1)
        for each in (event, self.take(self.said + 2)):
            self.see(each)
        self.swarm._check()

    def test_a_payload_that_arrives_twice(self) -> None:
        self.says(1)
        self.assertFound("order", [self.take(self.said + 1)] * 2)

    def test_a_payload_that_is_missing(self) -> None:
        self.swarm.net.run(60.0)
        self.says(3)
        self.other.payloads.add(self.said + 2)
        event, gap = self.hear(self.said + 1, self.said + 3)
        self.see(event)
        self.assertFound("lost", [gap])

    def test_those_that_speak_only_mesh1_miss_payloads_and_nothing_else(self) -> None:
        self.swarm.net.run(60.0)
        self.one.machine.mesh2 = False
        self.says(4)
        self.other.payloads |= {self.said + 2}
        first, event, gap = self.hear(*(self.said + n for n in (1, 3, 5)))
        self.see(first)
        self.see(event)
        self.swarm._check()
        self.says(1)
        self.assertFound("lost", [gap])

    def test_a_payload_of_other_bytes(self) -> None:
        self.says(1)
        payload = payload_of(self.other.name, self.said + 1)
        self.assertFound("changed", [self.take(self.said + 1, payload + b" ")])

    def test_a_payload_of_somebody_else(self) -> None:
        payload = payload_of(self.one.name, 1)
        self.assertFound("author", [self.take(1, payload)])

    def test_a_first_word_that_is_missing(self) -> None:
        """The link is new, and nothing was in the way."""
        self.one.fresh.clear()
        self.other.joined[self.one.name] = [self.said]
        self.says(2)
        self.assertFound("lost", self.hear(self.said + 2))

    def test_a_peer_by_the_wrong_protocol(self) -> None:
        self.one.connected.clear()
        self.one.machine.mesh2 = False
        event = PeerConnected(peer=self.peer, peer_count=1, max_peers=20)
        self.assertFound("protocol", [event])

    def test_a_link_that_ends_though_nothing_has_touched_it(self) -> None:
        event = PeerDisconnected(peer=self.peer, reason=CloseReason.CLOSED_BY_PEER)
        self.assertFound("parted", [event])

    def test_a_link_that_ends_after_a_fault(self) -> None:
        self.swarm.calm.disturb(self.other.number)
        self.swarm.calm.relieve(self.other.number)
        event = PeerDisconnected(peer=self.peer, reason=CloseReason.CLOSED_BY_PEER)
        self.see(event)
        self.swarm._check()

    def test_a_payload_that_misses_a_peer(self) -> None:
        with patch.object(MeshNode, "broadcast", lambda *_: Delivery(())):
            self.one.send()
        self.assertFound("missed")

    def test_a_payload_for_one_that_speaks_only_mesh1(self) -> None:
        self.other.machine.mesh2 = False
        self.one.send()
        self.assertFound("missed")

    def second_link(self) -> None:
        """The two shake hands once more."""
        net, ends = self.swarm.net, (self.one, self.other)
        near, far = (
            Transport(who.machine, Protocol(), *[address(who.place.host, 1)] * 2)
            for who in ends
        )
        there, back = (who.place.host for who in ends)
        join(near, far, net.way(there, back), net.way(back, there), net)
        for step in (b"one:one\t\n", b"HELLO +0\n", b"READY\n"):
            near.write(step)

    def test_a_second_link_of_a_pair(self) -> None:
        """It is found in the moment in which READY is said there."""
        self.second_link()
        self.assertFound("two links")
        self.assertIn("node-1 has 2 links with node-2", str(self.swarm._broken[0]))

    def test_a_second_link_that_follows_the_first(self) -> None:
        """One that its node has given up may still send what is queued."""
        [first] = self.one.machine.transports
        first.protocol._over = True  # type: ignore[union-attr]
        self.second_link()
        self.swarm._check()

    def test_how_many_links_a_pair_may_have(self) -> None:
        """One of mesh/2, two of mesh/1, and both nodes know the same ones."""
        mesh = [self.one, self.other]
        self.assertTrue(pairs_agree(mesh, 1))
        self.assertFalse(pairs_agree(mesh, 2))
        entries = [who.node._registry.entries()[0] for who in mesh]
        entries[0].second = entries[0].link
        self.assertFalse(pairs_agree(mesh, 2))
        entries[1].second = entries[1].link
        self.assertFalse(pairs_agree(mesh, 2))
        self.one.machine.mesh2 = False
        self.assertTrue(pairs_agree(mesh, 2))
        self.assertFalse(pairs_agree(mesh, 1))

    def test_who_has_not_heard_the_last_word(self) -> None:
        """To those that speak only mesh/1 that is the last line of chat."""
        mesh = [self.one, self.other]
        self.swarm.net.run(1.0)
        self.assertEqual(unheard(mesh), [])
        self.says(1)
        self.assertEqual(unheard(mesh), ["node-1 has not heard node-2"])
        self.other.payloads.add(self.other.said)
        self.assertEqual(unheard(mesh), ["node-1 has not heard node-2"])
        self.one.machine.mesh2 = False
        self.assertEqual(unheard(mesh), [])

    def test_an_error_in_the_log(self) -> None:
        log = Logger(source=self)
        globalLogPublisher.addObserver(self.swarm)
        self.addCleanup(globalLogPublisher.removeObserver, self.swarm)
        log.error("something broke")
        self.assertFound("logged")
        self.assertIn("something broke", str(self.swarm._broken[0]))

    def test_whatever_is_raised_is_part_of_the_result(self) -> None:
        with patch.object(MeshNode, "start", side_effect=KeyError("x")):
            run = play(1)
        self.assertEqual(run.rule, "raised")
        self.assertIn("KeyError", run.violation or "")

    @slow
    def test_going_round_in_circles(self) -> None:
        swarm = Swarm(1)

        def again() -> None:
            swarm.net.clock.callLater(0, again)

        again()
        self.assertEqual(swarm.run().rule, "endless")


class CalmTests(SynchronousTestCase):
    """Between whom nothing has gone wrong, and for how long."""

    def setUp(self) -> None:
        self.now = 0.0
        self.calm = Calm(lambda: self.now)

    def test_from_the_start(self) -> None:
        self.assertEqual(self.calm.since("one", "other"), 0.0)

    def test_not_while_a_fault_lasts(self) -> None:
        self.calm.disturb("one")
        self.assertEqual(self.calm.since("one", "other"), float("inf"))
        self.assertEqual(self.calm.since("other"), 0.0)

    def test_since_the_last_of_several_has_ended(self) -> None:
        self.calm.disturb("one")
        self.calm.disturb("one")
        self.now = 1.0
        self.calm.relieve("one")
        self.assertEqual(self.calm.since("one"), float("inf"))
        self.now = 2.0
        self.calm.relieve("one")
        self.now = 3.0
        self.assertEqual(self.calm.since("one", "other"), 2.0)


class BrokenNodeTests(SynchronousTestCase):
    """Nodes with a fault of their own: whole runs find each of them."""

    timeout = 600

    def assertFound(
        self, rule: str, target: Any, name: str, broken: Any, *, first: int = 0
    ) -> None:
        with patch.object(target, name, broken):
            rules = (play(seed).rule for seed in range(first, first + 200))
            found = next((found for found in rules if found), None)
        self.assertEqual(found, rule)

    @slow
    def test_a_limit_of_seats_that_is_not_kept(self) -> None:
        self.assertFound("seats", Registry, "_is_full", lambda registry: False)

    @slow
    def test_a_limit_of_dials_that_is_not_kept(self) -> None:
        def has_room(dialer: Dialer, *, wanted: bool = False) -> bool:
            return dialer._running

        self.assertFound("bound", Dialer, "_has_room", has_room)

    @slow
    def test_a_limit_of_handshakes_that_is_not_kept(self) -> None:
        def add(pending: PendingLinks, link: Any) -> Pending:
            pending._links[link] = "somewhere"
            pending._hosts["somewhere"] += 1
            return Pending()

        self.assertFound("bound", PendingLinks, "add", add)

    @slow
    def test_a_queue_without_end(self) -> None:
        original = Outbox.__init__

        def endless(outbox: Outbox, *args: Any, **options: Any) -> None:
            original(outbox, *args, **options | {"limit": 1 << 40})

        # Of the seeds before that none fills a queue.
        self.assertFound("bound", Outbox, "__init__", endless, first=140)

    def test_links_that_keep_the_reactor(self) -> None:
        original = Turns.__init__

        def endless(turns: Turns) -> None:
            original(turns)
            turns.seconds = inf

        self.assertFound("late", Turns, "__init__", endless, first=576)

    def test_a_second_link_that_is_lost_sight_of(self) -> None:
        """Of a pair that speaks mesh/1."""
        original = Peers.established

        def forget(peers: Peers, entry: PeerEntry, link: IPeerLink) -> None:
            original(peers, entry, link)
            entry.second = None

        self.assertFound("pairs", Peers, "established", forget, first=25)

    def welcome_both(self) -> None:
        """Nodes that dial each other at once welcome both dials."""

        def ready(pairs: PairRules, link: IPeerLink, *, seats: int) -> Decision[Any]:
            return pairs._establish(pairs._keys[link], link)

        for name, broken in (("_wins", lambda *_: False), ("welcome", ready)):
            patched = patch.object(Pairs, name, broken)
            patched.start()
            self.addCleanup(patched.stop)

    def test_two_links_of_a_pair_that_close_each_other(self) -> None:
        self.welcome_both()
        ready = Pairs.welcome
        self.assertFound("parted", Pairs, "welcome", ready, first=5)

    def test_two_links_of_a_pair_that_both_live(self) -> None:
        """And nothing is told of the second, so that only the wire shows it."""
        self.welcome_both()
        seat, established = Introductions._seat, Peers.established

        def keep(pairs: PairRules, key: PeerKey, link: IPeerLink) -> Decision[Any]:
            pair = pairs._pairs[key]
            leg = pair.leg_of(link)
            pairs._pairs[key] = replace(pair.without(link), established=leg)
            return Decision(key, Established())

        def share(
            introductions: Introductions, link: IPeerLink, key: PeerKey
        ) -> PeerEntry:
            entry = introductions._registry.of_key(key)
            if entry is None:
                return seat(introductions, link, key)
            link.seat = entry
            return entry

        def keep_quiet(peers: Peers, entry: PeerEntry, link: IPeerLink) -> None:
            if entry.link is link:
                established(peers, entry, link)

        with (
            patch.object(Introductions, "_seat", share),
            patch.object(Peers, "established", keep_quiet),
        ):
            self.assertFound("two links", Pairs, "_establish", keep)

    @slow
    def test_a_handshake_that_may_take_for_ever(self) -> None:
        """One that is silent at some step is never given up."""
        self.assertFound(
            "whole", MeshProtocol, "_deadline_passed", lambda link: None, first=6
        )

    def test_a_payload_that_is_lost(self) -> None:
        original = Payloads._received
        received: Counter[Payloads] = Counter()

        def lose(
            payloads: Payloads, link: IPeerLink, entry: PeerEntry, data: Data
        ) -> Data | None:
            received[payloads] += 1
            if received[payloads] % 5 == 0:
                return None
            return original(payloads, link, entry, data)

        self.assertFound("lost", Payloads, "_received", lose, first=1)

    def test_a_payload_that_is_told_twice(self) -> None:
        original = Payloads._received

        def stutter(
            payloads: Payloads, link: IPeerLink, entry: PeerEntry, data: Data
        ) -> Data | None:
            original(payloads, link, entry, data)
            return original(payloads, link, entry, data)

        self.assertFound("order", Payloads, "_received", stutter)

    def test_a_payload_that_overtakes_chat(self) -> None:
        original = Fanout.payload

        def hasten(
            fanout: Fanout, data: Data, entries: tuple[PeerEntry, ...]
        ) -> Delivery:
            gathered, fanout._gathered = fanout._gathered, defaultdict(list)
            delivery = original(fanout, data, entries)
            fanout._gathered = gathered
            fanout.flush()
            return delivery

        self.assertFound("order", Fanout, "payload", hasten)

    def test_a_payload_that_loses_its_end(self) -> None:
        original = Payloads._received

        def cut(
            payloads: Payloads, link: IPeerLink, entry: PeerEntry, data: Data
        ) -> Data | None:
            shorter = replace(data, payload=data.payload[:-1])
            return original(payloads, link, entry, shorter)

        self.assertFound("changed", Payloads, "_received", cut)

    def test_missed_peers_that_are_not_told(self) -> None:
        original = Fanout.payload

        def hide(
            fanout: Fanout, data: Data, entries: tuple[PeerEntry, ...]
        ) -> Delivery:
            return Delivery(original(fanout, data, entries).peers)

        self.assertFound("missed", Fanout, "payload", hide, first=2)

    def test_a_timer_that_is_never_stopped(self) -> None:
        self.assertFound("stop", Loop, "stop", lambda loop: None)

    @slow
    def test_addresses_that_are_forgotten(self) -> None:
        def forget(book: AddressBook, target: Any, *_: Any, **__: Any) -> Forgotten:
            record = book._record(target)
            record.dialling = False
            book._forget(record)
            return Forgotten()

        self.assertFound("whole", AddressBook, "dial_failed", forget)

    def test_a_word_said_twice(self) -> None:
        original = MeshNode.broadcast

        def stutter(node: MeshNode, *said: Any) -> Delivery:
            original(node, *said)
            return original(node, *said)

        self.assertFound("order", MeshNode, "broadcast", stutter)

    def test_a_word_left_out(self) -> None:
        original = MeshNode.broadcast
        spoken: Counter[MeshNode] = Counter()

        def mumble(node: MeshNode, *said: Any) -> Delivery:
            if len(said) == 1:
                spoken[node] += 1
                if spoken[node] % 5 == 0:
                    return Delivery(())
            return original(node, *said)

        self.assertFound("lost", MeshNode, "broadcast", mumble)

    def test_a_run_that_lacks_a_word(self) -> None:
        original = Announcer._tell_run

        def careless(
            self: Announcer,
            peer: Peer,
            texts: tuple[str, ...],
            begin: int,
            end: int,
        ) -> int:
            return original(self, peer, texts, min(begin + 1, len(texts)), end)

        self.assertFound("runs", Announcer, "_tell_run", careless)


class TwoFarewells(MeshNode):
    """A node that tells of a peer's end twice when the connection was reset."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.subscribe(self._again)
        self._told = False

    def _again(self, event: Event) -> None:
        if isinstance(event, PeerDisconnected) and not self._told:
            if event.reason is CloseReason.CONNECTION_LOST:
                self._told = True
                self._announcer.emit(event)


class ShrinkTests(SynchronousTestCase):
    """A failing run is cut down to what it takes to fail."""

    timeout = 600

    def setUp(self) -> None:
        patched = patch.object(_network, "MeshNode", TwoFarewells)
        patched.start()
        self.addCleanup(patched.stop)
        self.seed = next(filter(self.is_rich, PLANS))

    @staticmethod
    @cache
    def is_rich(seed: int) -> bool:
        """Whether the seed has much that can be left out, and fails."""
        plan = Draw(seed).plan()
        kinds = Counter(fault.kind for fault in plan.faults)
        rich = len(plan.places) >= 4 and len(plan.faults) >= 8 and kinds["break"] >= 2
        return rich and play(seed).rule == "stranger"

    @slow
    def test_one_fault_and_its_nodes_are_left(self) -> None:
        shrunk = shrink(self.seed)
        assert shrunk is not None
        self.assertEqual(shrunk.run.rule, "stranger")
        [fault] = shrunk.faults
        # Nodes are left out from the end: these are the first that it takes.
        befallen = [*fault.nodes, *(number for pair in fault.pairs for number in pair)]
        self.assertEqual(shrunk.nodes, max(2, max(befallen) + 1))
        self.assertLess(shrunk.nodes, len(Draw(self.seed).plan().places))

    @slow
    def test_what_is_left_fails_again(self) -> None:
        shrunk = shrink(self.seed)
        assert shrunk is not None
        numbers = [fault.number for fault in shrunk.faults]
        run = Swarm(self.seed, nodes=shrunk.nodes, faults=numbers).run()
        self.assertEqual(run, shrunk.run)
        without = Swarm(self.seed, nodes=shrunk.nodes, faults=()).run()
        self.assertIsNone(without.rule)

    @slow
    def test_the_command_prints_how_to_play_it(self) -> None:
        with patch("sys.stdout", StringIO()) as output:
            status = command.main(["--seed", str(self.seed), "--shrink"])
        self.assertEqual(status, 1)
        lines = output.getvalue().splitlines()
        [again] = [line for line in lines if line.startswith("again: ")]
        *_, options = again.partition("meshproto.testing ")
        with patch("sys.stdout", StringIO()) as output:
            self.assertEqual(command.main(options.split()), 1)
        self.assertIn("FAILED stranger: ", output.getvalue())

    @slow
    def test_a_seed_that_does_not_fail(self) -> None:
        self.assertIsNone(shrink(self.seed, nodes=2, faults=()))


class CommandTests(SynchronousTestCase):
    """``python -m meshproto.testing``."""

    timeout = 600

    def run_command(self, *argv: str) -> tuple[int, str]:
        with patch("sys.stdout", StringIO()) as output:
            status = command.main([*argv, "--jobs", "1"])
        return status, output.getvalue()

    def test_summary(self) -> None:
        status, output = self.run_command("--seeds", "1:3")
        self.assertEqual(status, 0)
        self.assertIn("2 seeds, 0 failed", output)
        self.assertIn("simulated hours", output)
        self.assertIn("nodes: 2 to ", output)

    @slow
    def test_several_jobs(self) -> None:
        count = len(some(range(20), 5))
        with patch("sys.stdout", StringIO()) as output:
            status = command.main(["--seeds", f"0:{count}", "--jobs", "2"])
        self.assertEqual(status, 0)
        self.assertIn(f"{count} seeds, 0 failed", output.getvalue())

    def test_events_of_one_seed(self) -> None:
        status, output = self.run_command("--seeds", "1", "--events")
        self.assertEqual(status, 0)
        self.assertIn("PeerConnected(", output)

    def test_fewer_nodes_and_faults(self) -> None:
        status, output = self.run_command(
            "--seeds", "1", "--nodes", "2", "--only-faults", "none"
        )
        self.assertEqual(status, 0)
        self.assertIn("seed 1: 2 nodes, 0 faults, ok", output)

    def test_a_failing_seed_is_named(self) -> None:
        """And the status says that there was one."""

        def broken(swarm: Swarm) -> float:
            swarm._fail("a rule", "is broken")

        with patch.object(Swarm, "_settle", broken):
            status, output = self.run_command("--seeds", "7")
        self.assertEqual(status, 1)
        self.assertIn("FAILED a rule: seed 7 at", output)
        self.assertIn("1 seeds, 1 failed", output)

    @slow
    def test_progress(self) -> None:
        with patch.object(command, "_PROGRESS", 0.0):
            with patch("sys.stderr", StringIO()) as errors:
                self.run_command("--seeds", "1:4")
        lines = errors.getvalue().splitlines()
        self.assertEqual(len(lines), 3)
        self.assertRegex(lines[-1], r"3 seeds, 0 failed, .* seeds/s, .* faults")

    def test_bad_arguments(self) -> None:
        for option, text in (
            *(("--seeds", text) for text in ("x", "3:1", "1:1", "1:2:3")),
            *(("--jobs", text) for text in ("0", "x")),
            *(("--nodes", text) for text in ("1", "x")),
            *(("--only-faults", text) for text in ("x", "1,x")),
        ):
            with patch("sys.stderr", StringIO()) as errors:
                exit = self.assertRaises(SystemExit, command.main, [option, text])
            self.assertEqual(exit.code, 2)
            self.assertIn(text, errors.getvalue())

    @slow
    def test_an_interrupt_ends_it_with_the_summary_so_far(self) -> None:
        ways = tuple(itertools.product((signal.SIGINT, signal.SIGTERM), "12"))
        for number, jobs in some(ways, 1):
            status, output = self.interrupt(number, jobs)
            self.assertEqual(status, 128 + number)
            self.assertIn("interrupted", output)
            self.assertRegex(output, r"\d+ seeds, 0 failed")

    def interrupt(self, number: signal.Signals, jobs: str) -> tuple[int, str]:
        arguments = ["--seeds", "0:1000000", "--jobs", jobs]
        script = (
            "import sys\n"
            "from meshproto.testing import __main__ as command\n"
            "command._PROGRESS = 0.0\n"
            "if __name__ == '__main__':\n"
            f"    sys.exit(command.main({arguments!r}))\n"
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "endless.py")
            path.write_text(script, "utf-8")
            root = str(Path(meshproto.__file__).parent.parent)
            with subprocess.Popen(
                [sys.executable, str(path)],
                env=os.environ | {"PYTHONPATH": root},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ) as process:
                self.addCleanup(process.kill)
                assert process.stderr is not None
                # The first line of progress: it has begun.
                self.assertIn("seeds/s", process.stderr.readline())
                process.send_signal(number)
                output, _ = process.communicate(timeout=60)
                return process.returncode, output
