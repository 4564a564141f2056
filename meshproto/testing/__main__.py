"""``python -m meshproto.testing``: many random meshes under random faults."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from meshproto.testing._swarm import Run, Swarm


def play(seed: int) -> Run:
    """Play one seed."""
    return Swarm(seed).run()


def play_all(seeds: range, jobs: int) -> Iterator[Run]:
    """Play every seed, several at a time."""
    if jobs == 1:
        yield from map(play, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(play, seeds, chunksize=8)


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


def main(argv: list[str] | None = None) -> int:
    """Play seeds and say how it went; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m meshproto.testing",
        description="Run random meshes under random faults, one for each seed.",
    )
    parser.add_argument(
        "--seeds", type=seed_range, default=range(200), help="A or A:B (0:200)"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--events", action="store_true", help="print every event of every node"
    )
    options = parser.parse_args(argv)
    if options.events:
        return show_events(options.seeds)
    start = time.monotonic()
    faults: Counter[str] = Counter()
    seconds = steps = failed = 0.0
    for run in play_all(options.seeds, options.jobs):
        faults += run.faults
        seconds += run.seconds
        steps += run.steps
        if run.violation is not None:
            failed += 1
            print(f"FAILED {run.violation}", flush=True)
    wall = time.monotonic() - start
    count = len(options.seeds)
    print(
        f"{count} seeds, {failed:.0f} failed, {count / wall:.1f} seeds/s, "
        f"{seconds / 3600:.1f} simulated hours, {steps:.0f} steps"
    )
    print("faults:", ", ".join(f"{n} {kind}" for kind, n in sorted(faults.items())))
    return 1 if failed else 0


def show_events(seeds: range) -> int:
    """Play seeds one by one and print what happened."""
    status = 0
    for seed in seeds:
        swarm = Swarm(seed)
        run = swarm.run()
        for when, name, event in swarm.net.history():
            print(f"{when:10.4f} {name} {event}")
        print(run)
        status = status or (1 if run.violation else 0)
    return status


if __name__ == "__main__":
    sys.exit(main())
