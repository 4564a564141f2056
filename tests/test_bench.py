from __future__ import annotations

import itertools
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench import daemons
from bench.__main__ import MEASUREMENTS, arguments
from bench.contestants import (
    ALL,
    BARE,
    DIRECT,
    IN_RUNS,
    MESHPROTO,
    NAIVE,
    Contestant,
    external,
)
from bench.driver import (
    Cast,
    Environment,
    Failed,
    Figure,
    Goal,
    Outcome,
    Plan,
    Player,
    Setting,
    figure,
    interleaved,
    losses,
)
from bench.latency import percentile
from bench.stage import Order, Tally, message
from lab.daemons import HAS_PROC_TCP, NO_PROC_TCP, star
from lab.terminals import ROOT, environment, meshproto
from tests.slow import SLOW

NOWHERE = Environment(Path("/nonexistent"))
ONE_PROCESS, A_PROCESS_EACH = Setting(3, each=False), Setting(3, each=True)
OUR_PROMPT = f"{shlex.join(meshproto())} {{port}} {{peer}} --name {{name}}"


def bench(
    *options: str, command: Sequence[str] = ("-m", "bench"), **variables: str
) -> str:
    """What the suite prints; fails when it fails."""
    done = subprocess.run(
        [sys.executable, *command, *options],
        cwd=ROOT,
        env={**environment(), **variables},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise AssertionError(f"{done.stdout}\n{done.stderr}")
    return done.stdout


#: Imports the modules that it is given, where nothing is that only the tests need.
IMPORT = """
import importlib, sys
for name in ("hypothesis", "pyte", "pytest", "pytest_twisted", "tests"):
    sys.modules[name] = None
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


class RequirementTests(SynchronousTestCase):
    """What the benchmarks need is installed with the package."""

    def test_no_module_needs_the_tests(self) -> None:
        modules = {
            ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for folder in ("bench", "lab")
            for path in (ROOT / folder).rglob("*.py")
        }
        theirs = {f"bench.contestants.{each.module}" for each in ALL if each.needs}
        self.assertLess(theirs, modules)
        bench(*sorted(modules - theirs), command=("-c", IMPORT))


class ContestantTests(SynchronousTestCase):
    if SLOW:
        skip = SLOW
    timeout = 180

    def performs(self, contestant: Contestant, setting: Setting) -> None:
        with Cast(contestant, setting, NOWHERE) as cast:
            # The last one makes every transport full in each turn.
            for order in (Order(7, 1, 64), Order(90, 4, 1024), Order(1024, 256, 1024)):
                outcome = cast.perform(order)
                self.assertEqual(outcome.delivered, 3 * order.count)
                self.assertEqual((outcome.lost, outcome.doubled), (0, 0))
                self.assertGreater(outcome.seconds, 0)
                self.assertGreaterEqual(outcome.sender_cpu, 0)

    def test_meshproto(self) -> None:
        self.performs(MESHPROTO, ONE_PROCESS)

    def test_meshproto_in_a_process_each(self) -> None:
        self.performs(MESHPROTO, A_PROCESS_EACH)

    def test_meshproto_in_runs(self) -> None:
        self.performs(IN_RUNS, ONE_PROCESS)

    def test_bare(self) -> None:
        self.performs(BARE, ONE_PROCESS)

    def test_bare_in_a_process_each(self) -> None:
        self.performs(BARE, A_PROCESS_EACH)

    def test_direct(self) -> None:
        self.performs(DIRECT, ONE_PROCESS)

    def test_naive(self) -> None:
        self.performs(NAIVE, ONE_PROCESS)

    def test_a_program_that_speaks_mesh1(self) -> None:
        self.performs(external(OUR_PROMPT), Setting(3, each=False))

    def test_every_delivery_is_timed(self) -> None:
        for contestant in (MESHPROTO, BARE, NAIVE):
            with Cast(contestant, ONE_PROCESS, NOWHERE, timed=True) as cast:
                outcome = cast.perform(Order(20, 1, 64, rate=200.0))
            self.assertEqual(len(outcome.delays), 60)
            self.assertGreater(min(outcome.delays), 0)

    def test_a_run_lasts_about_as_long_as_it_shall(self) -> None:
        with Cast(BARE, ONE_PROCESS, NOWHERE) as cast:
            outcome = cast.perform_for(0.05, batch=4, size=64)
        self.assertEqual(outcome.lost, 0)
        self.assertEqual(outcome.delivered % 12, 0)

    def test_a_contestant_that_does_not_begin_is_a_failure(self) -> None:
        broken = Contestant("broken", "broken", "no_such_module")
        with self.assertRaisesRegex(Failed, "no_such_module"):
            Cast(broken, ONE_PROCESS, NOWHERE)


class SuiteTests(SynchronousTestCase):
    if SLOW:
        skip = SLOW
    timeout = 300

    tiny = (
        "--quick",
        "--runs=2",
        "--seconds=0.02",
        "--settings=2:one",
        "--batches=1,3",
        "--sizes=64",
        "--meshes=4",
        "--big-meshes=5",
        "--links=60",
        "--idle=0.1",
    )

    def test_every_measurement_prints_its_table(self) -> None:
        printed = bench(
            *self.tiny,
            "--contestants=meshproto,direct,naive",
            "--only=fanout,latency,formation,memory,idle,scale",
        )
        self.assertNotIn("failed", printed)
        for row in (
            "| meshproto | 1 | ",
            "| meshproto | 3 | ",
            "| bare Twisted, direct | 3 | ",
            "| naive Twisted node | ",
            "| 4 | star | ",
            "| 4 | chain | ",
            "| 5 | 10 | ",
            "| meshproto, plain link | 60 | ",
            "| lost by meshproto, batch 3: 2 receivers, all in one process, 64 B |  "
            "| ≤ 0 | 0.00 (0.00–0.00) | holds |",
            "| full mesh of 5, links lost |  | ≤ 0 | 0.00 (0.00–0.00) | holds |",
        ):
            self.assertIn(f"\n{row}", printed)

    def test_it_starts_as_a_file_as_well(self) -> None:
        printed = bench(
            *self.tiny,
            "--contestants=bare",
            "--only=fanout",
            command=[str(ROOT / "bench" / "__main__.py")],
        )
        self.assertIn("\n| bare Twisted, write | 3 | ", printed)

    def test_what_cannot_be_installed_is_named(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            printed = bench(
                *self.tiny,
                f"--environment={folder}/venv",
                "--contestants=bare,pyzmq,p2pnetwork",
                "--only=fanout",
                PIP_NO_INDEX="1",
            )
        self.assertIn("**Missing: pyzmq** could not be installed", printed)
        self.assertIn("**Missing: p2pnetwork==1.2** could not be installed", printed)
        self.assertIn("\n| bare Twisted, write | 3 | ", printed)
        self.assertNotIn("\n| pyzmq", printed)

    def test_daemons(self) -> None:
        if not HAS_PROC_TCP:
            self.skipTest(NO_PROC_TCP)
        plan = Plan(
            runs=1,
            seconds=0.1,
            contestants=(),
            environment=NOWHERE,
            settings=(),
            sizes=(),
            batches=(),
            rate=1.0,
            meshes=(),
            big_meshes=(),
            links=(),
            idle=0.1,
        )
        measures = {"star of 3": daemons.formation(3, star), "reset": daemons.reset}
        (report,) = daemons.measure(plan, measures)
        self.assertEqual(list(report.failures), [])
        self.assertIn("| star of 3: full mesh | ", report.text)
        self.assertIn("| reset: next link | ", report.text)


class OptionTests(SynchronousTestCase):
    def test_quick_is_a_part_of_the_whole(self) -> None:
        quick, full = arguments(["--quick"]), arguments([])
        for name in ("settings", "sizes", "batches", "meshes", "big_meshes", "links"):
            self.assertLessEqual(set(getattr(quick, name)), set(getattr(full, name)))
        for name in ("runs", "seconds"):
            self.assertLess(getattr(quick, name), getattr(full, name))

    def test_what_is_said_wins_over_quick(self) -> None:
        options = arguments(["--quick", "--runs=9", "--settings=2:one,3:each"])
        self.assertEqual(options.runs, 9)
        self.assertEqual(options.settings, (Setting(2, False), Setting(3, True)))
        self.assertEqual(options.batches, (1, 32))

    def test_nonsense_is_refused(self) -> None:
        for option in (
            "--only=nothing",
            "--contestants=nobody",
            "--settings=8",
            "--settings=8:some",
            "--sizes=0",
            "--batches=x",
        ):
            with self.assertRaises(SystemExit) as caught, open(os.devnull, "w") as sink:
                self.patch(sys, "stderr", sink)
                arguments([option])
            self.assertEqual(caught.exception.code, 2)

    def test_every_measurement_is_an_option(self) -> None:
        options = arguments([f"--only={','.join(MEASUREMENTS)}"])
        self.assertEqual(list(options.only), list(MEASUREMENTS))

    def test_names_are_told_apart(self) -> None:
        self.assertEqual(len({each.name for each in ALL}), len(ALL))


class FigureTests(SynchronousTestCase):
    def test_median_and_spread(self) -> None:
        self.assertEqual(Figure((3.0, 1.0, 2.0)).text(), "2.00 (1.00–3.00)")
        self.assertEqual(Figure((3.0,)).text(".0f", 10), "30")

    def test_failed_runs_are_left_out(self) -> None:
        self.assertEqual(Figure((3.0, None, 1.0)).text(), "2.00 (1.00–3.00)")
        self.assertEqual(Figure((None,)).text(), "failed")

    def test_a_run_in_which_nothing_arrived_has_no_figure(self) -> None:
        nothing = Outcome(1.0, 0, 5, 0, 1.0, 1.0, ())
        for value in (
            lambda each: each.sender_cpu / each.delivered,
            lambda each: percentile(each.delays, 0.5),
        ):
            self.assertEqual(figure([nothing], value).values, (None,))

    def test_percentiles(self) -> None:
        delays = tuple(range(1, 101))
        for share, expected in ((0.5, 51e-9), (0.99, 100e-9)):
            self.assertEqual(percentile(delays, share), expected)

    def test_a_ratio_is_taken_round_by_round(self) -> None:
        ratio = Figure((2.0, 40.0, None)).over(Figure((1.0, 10.0, 5.0)))
        self.assertEqual(ratio.values, (2.0, 4.0, None))

    def test_a_goal_is_judged_by_the_median(self) -> None:
        seen = Figure((1.0, 2.0, 9.0))
        for least, most, verdict in (
            (2.0, None, "holds"),
            (2.1, None, "**falls short**"),
            (None, 2.0, "holds"),
            (None, 1.9, "**falls short**"),
        ):
            goal = Goal("work", "them", seen, least=least, most=most)
            self.assertEqual(goal.row[-1], verdict)

    def test_a_goal_without_a_figure_does_not_hold(self) -> None:
        goal = Goal("work", "them", Figure((None, None)), most=0.0)
        self.assertEqual(goal.row[-2:], ("failed", ""))

    def test_losses_are_told(self) -> None:
        def outcome(lost: int, doubled: int) -> Outcome:
            return Outcome(1.0, 100 - lost + doubled, lost, doubled, 1.0, 1.0, ())

        self.assertEqual(losses([outcome(0, 0), None]), "0")
        self.assertEqual(losses([outcome(3, 0), outcome(4, 0)]), "7 of 200")
        self.assertEqual(losses([outcome(1, 5)]), "1 of 100, 5 doubled")


class RoundTests(SynchronousTestCase):
    def test_contestants_take_turns(self) -> None:
        turns = itertools.count()
        results, failures = interleaved(
            2, {name: lambda: next(turns) for name in "ABC"}
        )
        self.assertEqual(results, {"A": [0, 3], "B": [1, 4], "C": [2, 5]})
        self.assertEqual(failures, [])

    def test_one_that_fails_stops_no_other(self) -> None:
        def fail() -> int:
            raise Failed("no")

        results, failures = interleaved(1, {"A": fail, "B": lambda: 2})
        self.assertEqual(results, {"A": [None], "B": [2]})
        self.assertEqual(failures, ["A, run 1: no"])

    def test_the_last_words_of_a_process_are_told(self) -> None:
        player = Player([sys.executable, "-c", "raise SystemExit('dear me')"])
        self.addCleanup(player.close)
        with self.assertRaisesRegex(Failed, "has ended: dear me"):
            player.hear("anything")


class TallyTests(SynchronousTestCase):
    def test_it_tells_once_when_all_are_there(self) -> None:
        finished: list[bool] = []
        tally = Tally(lambda: finished.append(True))
        tally.expected = 3
        tally.many(2)
        self.assertEqual(finished, [])
        tally.one()
        tally.many(4)
        tally.one()
        self.assertEqual((len(finished), tally.count), (1, 8))

    def test_a_message_has_its_size_and_its_time(self) -> None:
        for size in (64, 1024):
            text = message(size, 123456789012345)
            self.assertEqual(len(text.encode()), size)
            tally = Tally(lambda: None)
            tally.timed(text)
            tally.timed(text.encode())
            self.assertEqual(len(tally.delays), 2)
