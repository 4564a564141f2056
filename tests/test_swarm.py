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
from collections import Counter
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import SkipTest
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

import meshproto
from meshproto.events import (
    CloseReason,
    Event,
    PeerDisconnected,
)
from meshproto.mesh.node import MeshNode
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
from meshproto.testing._shrink import shrink
from meshproto.testing._swarm import Swarm
from tests.slow import slow, some

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
