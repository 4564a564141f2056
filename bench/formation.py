"""How long real daemons take to become a full mesh, and to be one again.

Run from the checkout, in an environment that has the tests' requirements::

    python -m bench.formation [RUNS]

Prints a table in Markdown.  Every daemon is a process of its own with the
settings that it comes with, except where the table says otherwise.  Most of the
time until all listen is Python's: it starts as many interpreters at once.
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from tests.daemons import Fleet, Shape, chain, free_ports, star

T = TypeVar("T")
Measure = Callable[[Fleet], float]


def formation(size: int, shape: Shape) -> Callable[[Fleet], tuple[float, float]]:
    """When all listen, and when they are a full mesh, from the first launch."""

    def measure(fleet: Fleet) -> tuple[float, float]:
        began = time.monotonic()
        daemons = fleet.mesh(size, shape)
        listening = fleet.until_listening(*daemons)
        return listening - began, fleet.until_full(daemons) - began

    return measure


def rejoin(lost: int) -> Measure:
    """From listening again after a kill to a full mesh."""

    def measure(fleet: Fleet) -> float:
        daemons = fleet.mesh(3, star)
        fleet.until_full(daemons)
        ports = [daemon.port for daemon in daemons]
        daemons[lost].kill()
        daemons[lost] = fleet.launch(
            f"n{lost}", port=ports[lost], bootstrap=star(ports, lost)
        )
        listening = fleet.until_listening(daemons[lost])
        return fleet.until_full(daemons) - listening

    return measure


def late_bootstrap(fleet: Fleet) -> float:
    """From listening to the link with a daemon that has waited for that."""
    early, late = free_ports(2)
    waiting = fleet.start("n0", port=early, bootstrap=[late])
    fleet.until_logged(waiting, "(attempt 3,")
    daemons = [waiting, fleet.launch("n1", port=late)]
    listening = fleet.until_listening(daemons[1])
    return fleet.until_full(daemons) - listening


def frozen(fleet: Fleet) -> tuple[float, float]:
    """From being stopped to being dropped, from going on to a full mesh."""
    options = ["--peer-timeout", 4, "--maintenance-interval", 1]
    daemons = fleet.mesh(3, star, *options)
    fleet.until_full(daemons)
    daemons[2].send_signal(signal.SIGSTOP)
    began = time.monotonic()
    for daemon in daemons[:2]:
        fleet.until_logged(daemon, "Removed stale peer n2 (timeout)")
    dropped = time.monotonic()
    daemons[2].send_signal(signal.SIGCONT)
    return dropped - began, fleet.until_full(daemons) - dropped


def reset(fleet: Fleet) -> float:
    """From a reset of the only link to the next."""
    ports = free_ports(2)
    forwarders = [fleet.forwarder(port) for port in ports]
    there, back = (f"127.0.0.1:{forwarder.port}" for forwarder in forwarders)
    alice = fleet.start("alice", "--advertise", there, port=ports[0])
    options = ["--advertise", back, "--bootstrap", there]
    bob = fleet.start("bob", *options, port=ports[1])
    fleet.until(lambda: alice.peers and bob.peers, "link")
    for forwarder in forwarders:
        forwarder.reset()
    began = time.monotonic()
    for daemon in (alice, bob):
        fleet.until_logged(daemon, "disconnected (connection lost)")
    return fleet.until(lambda: alice.peers and bob.peers, "link") - began


def results(runs: int) -> Iterator[tuple[str, list[float]]]:
    """What was measured, and every value of it in seconds."""
    for size in (3, 5, 20):
        for shape in (chain, star):
            both = [with_fleet(formation(size, shape)) for _ in range(runs)]
            what = f"{shape.__name__} of {size}, started at once"
            yield f"{what}: all listen", [listening for listening, _ in both]
            yield f"{what}: full mesh", [full for _, full in both]
            yield (
                f"{what}: the mesh alone",
                [full - listening for listening, full in both],
            )
    for lost, role in ((2, "a member"), (0, "the bootstrap node")):
        values = [with_fleet(rejoin(lost)) for _ in range(runs)]
        yield f"kill -9 and restart of {role}, from listening", values
    values = [with_fleet(late_bootstrap) for _ in range(runs)]
    yield "bootstrap node comes up late, from listening", values
    both = [with_fleet(frozen) for _ in range(runs)]
    yield "frozen peer dropped (peer timeout 4 s)", [dropped for dropped, _ in both]
    yield "frozen peer goes on: full mesh", [back for _, back in both]
    yield "link reset: next link", [with_fleet(reset) for _ in range(runs)]


def with_fleet(measure: Callable[[Fleet], T]) -> T:
    with Fleet() as fleet:
        return measure(fleet)


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(f"{runs} runs each on {os.cpu_count()} processors; seconds.\n")
    print("| What | median | least | most |")
    print("| --- | ---: | ---: | ---: |")
    for what, values in results(runs):
        figures = (statistics.median(values), min(values), max(values))
        cells = " | ".join(f"{figure:.2f}" for figure in figures)
        print(f"| {what} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
