"""``python -m meshproto.testing``: many random meshes under random faults."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from types import FrameType

from meshproto.testing._many import collect_less, play_all
from meshproto.testing._shrink import shrink
from meshproto.testing._swarm import Run, Swarm

#: Seconds between two lines of progress, and where they replace each other.
_PROGRESS = 30.0
_PROGRESS_AT_A_TERMINAL = 1.0


class Interrupted(BaseException):
    """A signal has ended the command."""


@dataclass(slots=True)
class Interrupt:
    """Ends the command when a signal comes, wherever it is at that moment."""

    number: int = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """A signal has come."""
        self.number = number
        self.check()

    def check(self) -> None:
        """End now if a signal has come.

        A Deferred takes whatever is raised in its callbacks, this too.
        """
        if self.number:
            raise Interrupted


@dataclass(slots=True)
class Tally:
    """What the seeds that have been played came to."""

    count: int = 0
    failed: int = 0
    seconds: float = 0.0
    steps: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    sizes: Counter[int] = field(default_factory=Counter)
    start: float = field(default_factory=time.monotonic)

    def add(self, run: Run) -> None:
        """Count one more."""
        self.count += 1
        self.failed += run.rule is not None
        self.seconds += run.seconds
        self.steps += run.steps
        self.faults += run.faults
        self.sizes[run.nodes] += 1

    def line(self) -> str:
        """How far it is."""
        wall = max(time.monotonic() - self.start, 1e-9)
        return (
            f"{self.count} seeds, {self.failed} failed, {self.count / wall:.1f} seeds/s"
            f", {self.seconds / 3600:.1f} simulated hours, {self.steps} steps"
            f", {self.faults.total()} faults"
        )

    def details(self) -> str:
        """What was in it."""
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(self.faults.items()))
        least, most = min(self.sizes, default=0), max(self.sizes, default=0)
        big = sum(n for size, n in self.sizes.items() if size > 12)
        return f"faults: {kinds}\nnodes: {least} to {most}, more than 12 in {big} runs"


def seed_range(text: str) -> range:
    """Read ``17`` or ``0:1000``."""
    first, colon, end = text.partition(":")
    try:
        start = int(first)
        stop = int(end) if colon else start + 1
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not A or A:B") from None
    if stop <= start:
        raise argparse.ArgumentTypeError(f"{text!r} is empty")
    return range(start, stop)


def numbers(text: str) -> tuple[int, ...]:
    """Read ``3,7,12`` or ``none``."""
    if text == "none":
        return ()
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not A,B,C or none") from None


def at_least(least: int, text: str) -> int:
    """Read a number that may not be less."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if number < least:
        raise argparse.ArgumentTypeError(f"{number} is less than {least}")
    return number


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """Read the arguments; ends the program when they are bad."""
    parser = argparse.ArgumentParser(
        prog="python -m meshproto.testing",
        description="Run random meshes under random faults, one for each seed.",
    )
    parser.add_argument(
        "--seeds",
        "--seed",
        type=seed_range,
        default=range(200),
        help="A or A:B (0:200)",
    )
    parser.add_argument(
        "--jobs",
        type=lambda text: at_least(1, text),
        default=os.cpu_count() or 1,
        help="how many at a time (as many as there are processors)",
    )
    parser.add_argument(
        "--shrink",
        action="store_true",
        help="cut each failing seed down to few faults and nodes",
    )
    parser.add_argument(
        "--events", action="store_true", help="print every event of every node"
    )
    parser.add_argument(
        "--digests", action="store_true", help="print a fingerprint of each run"
    )
    parser.add_argument(
        "--nodes", type=lambda text: at_least(2, text), help="the first so many only"
    )
    parser.add_argument(
        "--only-faults", type=numbers, help="A,B,C or none: leave out the others"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Play seeds and say how it went; returns the exit status."""
    options = arguments(argv)
    interrupt = Interrupt()
    before = [
        (number, signal.signal(number, interrupt))
        for number in (signal.SIGINT, signal.SIGTERM)
    ]
    try:
        closely = options.events or options.digests or options.shrink
        if closely or options.nodes or options.only_faults is not None:
            return play_closely(options, interrupt)
        return play_many(options, interrupt)
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def play_many(options: argparse.Namespace, interrupt: Interrupt) -> int:
    """Play seeds and count what happens."""
    tally = Tally()
    status = 0
    terminal = sys.stderr.isatty()
    interval = _PROGRESS_AT_A_TERMINAL if terminal else _PROGRESS
    told = tally.start
    runs = play_all(options.seeds, options.jobs)
    try:
        for run in runs:
            interrupt.check()
            tally.add(run)
            if run.rule is not None:
                status = 1
                print(f"FAILED {run.rule}: {run.violation}", flush=True)
            if time.monotonic() > told + interval:
                told = time.monotonic()
                start, end = ("\r", "") if terminal else ("", "\n")
                print(start + tally.line(), end=end, file=sys.stderr, flush=True)
    except Interrupted:
        runs.close()
        status = 128 + interrupt.number
        print("interrupted")
    if terminal:
        print(file=sys.stderr)
    print(tally.line())
    print(tally.details(), flush=True)
    return status


def play_closely(options: argparse.Namespace, interrupt: Interrupt) -> int:
    """Play seeds one by one and show what happens in them."""
    status = 0
    try:
        for seed in options.seeds:
            status |= show(seed, options)
            interrupt.check()
    except Interrupted:
        status = 128 + interrupt.number
        print("interrupted")
    return status


def show(seed: int, options: argparse.Namespace) -> int:
    """Play one seed and show what was asked for; 1 when it fails."""
    swarm = Swarm(seed, nodes=options.nodes, faults=options.only_faults)
    run = swarm.run()
    if options.digests:
        print(f"{seed} {swarm.net.digest()}", flush=True)
    if options.events:
        for place in swarm.plan.places:
            print(place)
        print(swarm.plan.settings)
        for when, name, event in swarm.net.history():
            print(f"{when:10.4f} {name} {event}")
    if run.rule is None:
        if not options.digests:
            print(
                f"seed {seed}: {run.nodes} nodes, {len(swarm.plan.faults)} faults, ok"
            )
        return 0
    print(f"FAILED {run.rule}: {run.violation}", flush=True)
    faults = swarm.plan.faults
    if options.shrink:
        shrunk = shrink(seed, nodes=options.nodes, faults=options.only_faults)
        assert shrunk is not None, "it failed a moment ago"
        print(f"smallest of {shrunk.tried} runs: {shrunk.nodes} nodes")
        print(f"{shrunk.run.violation}")
        print(f"again: python -m meshproto.testing {shrunk.options}")
        faults = shrunk.faults
    for fault in faults:
        print(fault)
    return 1


if __name__ == "__main__":
    collect_less()
    sys.exit(main())
