"""Fan-out: one sender broadcasts to many receivers, as fast as they take it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from bench.contestants import (
    DIRECT,
    IN_RUNS,
    MESHPROTO,
    NAIVE,
    P2P,
    PYRE,
    ZMQ,
    Contestant,
)
from bench.driver import (
    Cast,
    Figure,
    Goal,
    Outcome,
    Plan,
    Report,
    Setting,
    figure,
    interleaved,
    losses,
    table,
    wrong,
)

#: Compare contestants without batches with ours at this batch size, if measured.
USUAL_BATCH = 32

HEADS = (
    "contestant",
    "batch",
    "deliveries/s",
    "meshproto to it",
    "the same, by CPU",
    "sender, µs/delivery",
    "receivers, µs/delivery",
    "lost",
)

#: Goals for the first setting: contestant, size, batch, rival, and least ratio.
WANTED = (
    (MESHPROTO, 64, 32, DIRECT, 0.7),
    (IN_RUNS, 64, 32, DIRECT, 0.7),
    (MESHPROTO, 64, 32, ZMQ, 1.2),
    (MESHPROTO, 64, 32, P2P, 25.0),
    (MESHPROTO, 64, 32, PYRE, 90.0),
    (MESHPROTO, 64, 32, NAIVE, 2.4),
    (MESHPROTO, 64, 1, NAIVE, 3.0),
    (MESHPROTO, 1024, 32, DIRECT, 0.6),
)


class Entry(NamedTuple):
    """A contestant, and its broadcasts per turn of its event loop, if it has one."""

    contestant: Contestant
    batch: int | None

    def __str__(self) -> str:
        return f"{self.contestant.label}, batch {self.batch or '-'}"


def measure(plan: Plan) -> Iterator[Report]:
    """One table for each setting and size."""
    for setting in plan.settings:
        for size in plan.sizes:
            yield _measure(plan, setting, size)


def _measure(plan: Plan, setting: Setting, size: int) -> Report:
    entries = [
        Entry(contestant, batch)
        for contestant in plan.contestants
        for batch in (plan.batches if contestant.batched else (None,))
    ]

    def run(entry: Entry) -> Callable[[], Outcome]:
        def play() -> Outcome:
            with Cast(entry.contestant, setting, plan.environment) as cast:
                return cast.perform_for(plan.seconds, entry.batch or 1, size)

        return play

    outcomes, failures = interleaved(
        plan.runs, {entry: run(entry) for entry in entries}
    )
    rates = {
        entry: figure(results, lambda each: each.delivered / each.seconds)
        for entry, results in outcomes.items()
    }
    # This one excludes processor time that other programs use.
    per_cpu = {
        entry: figure(
            results, lambda each: each.delivered / (each.sender_cpu + each.receiver_cpu)
        )
        for entry, results in outcomes.items()
    }
    usual = USUAL_BATCH if USUAL_BATCH in plan.batches else plan.batches[-1]

    def ratio(entry: Entry, figures: dict[Entry, Figure]) -> str:
        ours = Entry(MESHPROTO, entry.batch or usual)
        if ours == entry or ours not in figures:
            return ""
        return figures[ours].over(figures[entry]).text()

    def row(entry: Entry) -> tuple[str, ...]:
        results = outcomes[entry]
        return (
            entry.contestant.label,
            str(entry.batch or "–"),
            rates[entry].text(",.0f"),
            ratio(entry, rates),
            ratio(entry, per_cpu),
            figure(results, lambda each: each.sender_cpu / each.delivered).text(
                scale=1e6
            ),
            figure(results, lambda each: each.receiver_cpu / each.delivered).text(
                scale=1e6
            ),
            losses(results),
        )

    parts = [
        f"### Fan-out: {setting.text}, {size} bytes\n",
        "Batch: broadcasts in one turn of the sender's event loop. "
        f"Contestants without one are compared at batch {usual}. "
        "By CPU: deliveries per second of processor time, both sides together.\n",
        table(HEADS, [row(entry) for entry in entries]),
    ]
    goals = []
    if setting == Setting(8, each=False):
        for whose, wanted_size, batch, against, least in WANTED:
            entry = Entry(against, batch if against.batched else None)
            ours = Entry(whose, batch)
            if wanted_size == size and ours in rates and entry in rates:
                work = f"{whose.label}: {size} B, 8 receivers, batch {batch}"
                seen = rates[ours].over(rates[entry])
                goals.append(Goal(work, against.label, seen, least=least))
    for entry in entries:
        if entry.contestant in (MESHPROTO, IN_RUNS):
            work = f"lost by {entry}: {setting.text}, {size} B"
            goals.append(Goal(work, "", wrong(outcomes[entry]), most=0.0))
    return Report("\n".join(parts), goals, failures)
