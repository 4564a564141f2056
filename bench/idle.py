"""Idle: what an idle node costs, with its default timers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bench.contestants import MESHPROTO, P2P, PYRE, Contestant
from bench.driver import Cast, Plan, Report, Setting, figure, interleaved, table

PEERS = 19
#: The contestants that do anything on their own.
WITH_TIMERS = (MESHPROTO, P2P, PYRE)


def measure(plan: Plan) -> Iterator[Report]:
    """One table."""

    def run(contestant: Contestant) -> Callable[[], float]:
        def play() -> float:
            setting = Setting(PEERS, each=False)
            with Cast(contestant, setting, plan.environment) as cast:
                return cast.idle(plan.idle)

        return play

    entries = {
        each.label: run(each) for each in plan.contestants if each in WITH_TIMERS
    }
    results, failures = interleaved(plan.runs, entries)
    rows = [
        (label, figure(values, lambda each: each).text(".3f", 100))
        for label, values in results.items()
    ]
    parts = [
        f"### Idle: one node with {PEERS} peers for {plan.idle:g} s\n",
        "The default timers of a node of ours send a PING to each peer every 15 s, "
        "and REQUEST_PEERS every 30 s.\n",
        table(("what", "% of a processor"), rows),
    ]
    yield Report("\n".join(parts), (), failures)
