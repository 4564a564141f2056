"""Latency: how long one message takes at a low rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bench.contestants import BARE, MESHPROTO, Contestant
from bench.driver import (
    Cast,
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
from bench.stage import Order

SIZE = 64
HEADS = ("contestant", "p50, µs", "p99, µs", "p50, it to meshproto's", "lost")


def percentile(delays: tuple[int, ...], share: float) -> float:
    """The given percentile of the delays, in seconds."""
    ordered = sorted(delays)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] / 1e9


def measure(plan: Plan) -> Iterator[Report]:
    """One table for each of the settings with the fewest receivers."""
    fewest = min(setting.receivers for setting in plan.settings)
    for setting in plan.settings:
        if setting.receivers == fewest:
            yield _measure(plan, setting)


def _measure(plan: Plan, setting: Setting) -> Report:
    count = max(20, round(3 * plan.rate * plan.seconds))

    def run(contestant: Contestant) -> Callable[[], Outcome]:
        def play() -> Outcome:
            with Cast(contestant, setting, plan.environment, timed=True) as cast:
                cast.perform(Order(max(10, count // 10), 1, SIZE, plan.rate))
                return cast.perform(Order(count, 1, SIZE, plan.rate))

        return play

    labels = {each.label: each for each in plan.contestants}
    outcomes, failures = interleaved(
        plan.runs, {label: run(each) for label, each in labels.items()}
    )
    medians = {
        label: figure(results, lambda each: percentile(each.delays, 0.5))
        for label, results in outcomes.items()
    }
    rows = []
    for label, results in outcomes.items():
        ours = medians.get(MESHPROTO.label)
        compared = ours is not None and label != MESHPROTO.label
        rows.append(
            (
                label,
                medians[label].text(".0f", 1e6),
                figure(results, lambda each: percentile(each.delays, 0.99)).text(
                    ".0f", 1e6
                ),
                medians[label].over(ours).text() if compared and ours else "",
                losses(results),
            )
        )
    parts = [
        f"### Latency: {plan.rate:g} broadcasts/s (batch 1), {setting.text}, "
        f"{SIZE} bytes\n",
        f"One way, sender's application to receiver's, {count} broadcasts a run.\n",
        table(HEADS, rows),
    ]
    goals = []
    if {MESHPROTO.label, BARE.label} <= set(medians):
        seen = medians[MESHPROTO.label].over(medians[BARE.label])
        work = f"p50 latency at {plan.rate:g}/s, {setting.text}"
        goals.append(Goal(work, BARE.label, seen, most=1.0))
    if MESHPROTO.label in outcomes:
        seen = wrong(outcomes[MESHPROTO.label])
        goals.append(Goal(f"lost: latency, {setting.text}", "", seen, most=0.0))
    return Report("\n".join(parts), goals, failures)
