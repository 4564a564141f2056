"""How long real daemons take to form a full mesh, and to recover it.

Every daemon is a process of its own, with default settings unless the table says
otherwise.  Most of the time until all listen goes into starting that many Python
interpreters at once.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator

from bench.driver import Plan, Report, figure, interleaved, table
from lab.daemons import Fleet, Shape, chain, free_ports, star

Measure = Callable[[Fleet], dict[str, float]]


def formation(size: int, shape: Shape) -> Measure:
    """From the first launch until all listen, and until the mesh is full."""

    def run(fleet: Fleet) -> dict[str, float]:
        began = time.monotonic()
        daemons = fleet.mesh(size, shape)
        listening = fleet.until_listening(*daemons)
        full = fleet.until_full(daemons)
        return {
            "all listen": listening - began,
            "full mesh": full - began,
            "the mesh alone": full - listening,
        }

    return run


def rejoin(lost: int) -> Measure:
    """After a kill, from listening again to a full mesh."""

    def run(fleet: Fleet) -> dict[str, float]:
        daemons = fleet.mesh(3, star)
        fleet.until_full(daemons)
        ports = [daemon.port for daemon in daemons]
        daemons[lost].kill()
        daemons[lost] = fleet.launch(
            f"n{lost}", port=ports[lost], bootstrap=star(ports, lost)
        )
        listening = fleet.until_listening(daemons[lost])
        return {"full mesh": fleet.until_full(daemons) - listening}

    return run


def late_bootstrap(fleet: Fleet) -> dict[str, float]:
    """From listening to a link with a daemon that was waiting for it."""
    early, late = free_ports(2)
    waiting = fleet.start("n0", "--debug", port=early, bootstrap=[late])
    fleet.until_logged(waiting, "(attempt 3,")
    daemons = [waiting, fleet.launch("n1", port=late)]
    listening = fleet.until_listening(daemons[1])
    return {"full mesh": fleet.until_full(daemons) - listening}


def frozen(fleet: Fleet) -> dict[str, float]:
    """From SIGSTOP until dropped, and from resuming to a full mesh."""
    options = ["--peer-timeout", 4, "--maintenance-interval", 1]
    daemons = fleet.mesh(3, star, *options)
    fleet.until_full(daemons)
    daemons[2].send_signal(signal.SIGSTOP)
    began = time.monotonic()
    for daemon in daemons[:2]:
        fleet.until_logged(daemon, "Removed stale peer n2 (timeout)")
    dropped = time.monotonic()
    daemons[2].send_signal(signal.SIGCONT)
    full = fleet.until_full(daemons)
    return {"dropped": dropped - began, "full mesh when it goes on": full - dropped}


def reset(fleet: Fleet) -> dict[str, float]:
    """From a reset of the only link to the next link."""
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
    again = fleet.until(lambda: alice.peers and bob.peers, "link")
    return {"next link": again - began}


MEASURES: dict[str, Measure] = {
    **{
        f"{shape.__name__} of {size}, started at once": formation(size, shape)
        for size in (3, 5, 20)
        for shape in (chain, star)
    },
    "kill -9 and restart of a member, from listening": rejoin(2),
    "kill -9 and restart of the bootstrap node, from listening": rejoin(0),
    "bootstrap node comes up late, from listening": late_bootstrap,
    "frozen peer (peer timeout 4 s)": frozen,
    "link reset": reset,
}


def measure(plan: Plan, measures: dict[str, Measure] = MEASURES) -> Iterator[Report]:
    """One table."""

    def run(each: Measure) -> Callable[[], dict[str, float]]:
        def play() -> dict[str, float]:
            with Fleet() as fleet:
                return each(fleet)

        return play

    results, failures = interleaved(
        plan.runs, {what: run(each) for what, each in measures.items()}
    )
    rows = []
    for what, values in results.items():
        for part in next((each for each in values if each is not None), {}):
            seconds = figure(values, lambda each, part=part: each[part])  # type: ignore[misc]
            rows.append((f"{what}: {part}", seconds.text()))
    parts = [
        "### Daemons\n",
        table(("what", "seconds"), rows),
    ]
    yield Report("\n".join(parts), (), failures)
