"""What hostile peers do to a daemon, and what an honest peer sees meanwhile.

Run from the checkout; the terminal cases also need ``pyte``::

    python -m bench.hostile [GROUP ...]

Runs every case, or those of the named groups, and prints a Markdown table.  Each
case has its own daemon, started by ``twistd``, and an honest peer.  Every 0.1 s that
peer sends a PING and a message, which the daemon's application echoes.

* Memory is the growth of the daemon's peak resident memory.
* Cut is the time from the first offending byte to the last hostile peer's cut.
* CPU is the daemon's share of one processor during the case.
* PONG is the honest peer's longest wait for a PONG; chat is how many messages it
  sent, and how many came back.  A figure out of bounds is in bold.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from lab.attackers import MiB, Outcome, Stage
from lab.hostile_floods import (
    COMMANDS,
    LINES,
    LOGS,
    chat_flood,
    descriptors,
    flood,
    full_disk,
    stopping,
    stopping_among_visitors,
    stuck_reader,
    useless_log,
)
from lab.hostile_links import (
    crowd,
    dripping,
    endless_line,
    garbage,
    id_theft,
    silent_links,
)
from lab.hostile_talk import (
    commands_as_chat,
    gossip,
    slow_application,
    terminal_attack,
    victims_to_dial,
)

#: Seconds within which an honest peer's PING must be answered.
PONG_WITHIN = 2.0

Case = Callable[[Stage], Outcome]


def lines_and_handshakes() -> Iterator[Case]:
    for greets in (False, True):
        yield partial(endless_line, total=400 * MiB, greets=greets)
    yield partial(dripping, drippers=20, pause=0.5, timeout=10)
    for host in ("127.0.0.1", *own_address()):
        yield partial(silent_links, count=2000, host=host)
    yield partial(garbage, rounds=1000, cycles=10_000)


def seats_and_ids() -> Iterator[Case]:
    for timing in ("at once", "late", "halves", "churn", "dialled"):
        yield partial(crowd, timing=timing, dialers=60, seats=20)
    yield partial(id_theft, thieves=300)


def chat() -> Iterator[Case]:
    yield partial(commands_as_chat, count=10_000)
    for flooders in (1, 4):
        yield partial(
            slow_application, flooders=flooders, seconds_per_event=0.01, seconds=15
        )


def addresses() -> Iterator[Case]:
    yield partial(gossip, addresses=300_000)
    for hangs_up in (False, True):
        yield partial(
            victims_to_dial, count=20, seconds=30, hangs_up=hangs_up, timeout=10
        )


def floods() -> Iterator[Case]:
    for command in ("PING", "REQUEST_PEERS"):
        for flooders in (1, 17):
            yield partial(
                flood, command=command, total=2 * MiB, reads=True, flooders=flooders
            )
            yield partial(
                flood,
                command=command,
                total=1024 * MiB,
                reads=False,
                flooders=flooders,
                patience=40,
            )


def chat_floods() -> Iterator[Case]:
    for lines in ("one-letter", "two-letter", "mixed"):
        for flooders in (1, 17, 64):
            yield partial(chat_flood, flooders=flooders, lines=lines, seconds=5)


def stops() -> Iterator[Case]:
    for what in (*COMMANDS, *LINES):
        for reads in (False, True):
            yield partial(stopping, flooders=17, what=what, reads=reads)
    yield stopping_among_visitors


def slow_readers() -> Iterator[Case]:
    for speed in (None, 1024.0):
        for count, gap in ((16_000, "0.02"), (100_000, "0"), (100_000, "drain")):
            yield partial(
                stuck_reader, speed=speed, count=count, size=1024, gap=gap, runs=3
            )


def machine() -> Iterator[Case]:
    for greets in (False, True):
        yield partial(descriptors, limit=64, connections=200, seconds=5, greets=greets)
    for kind in LOGS:
        yield partial(useless_log, kind=kind, seconds=5)
    if os.geteuid() == 0:
        yield partial(full_disk, seconds=5)
    yield partial(terminal_attack, rounds=5)


GROUPS = {
    "lines": lines_and_handshakes,
    "seats": seats_and_ids,
    "chat": chat,
    "addresses": addresses,
    "floods": floods,
    "chat floods": chat_floods,
    "stops": stops,
    "readers": slow_readers,
    "machine": machine,
}


def own_address() -> tuple[str, ...]:
    """The address of this machine on its network, if it has one."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Sends nothing: this only looks up the route.
        probe.connect(("192.0.2.1", 9))
        host: str = probe.getsockname()[0]
        return (host,)
    return ()


def row(outcome: Outcome) -> str:
    honest = outcome.honest
    cells = [
        outcome.case,
        f"{outcome.memory / MiB:.2f} MiB",
        "" if outcome.cut_after is None else f"{outcome.cut_after:.3g} s",
        f"{100 * outcome.cpu_share:.0f} %",
        marked(f"{1000 * honest.slowest:.0f} ms", honest.slowest < PONG_WITHIN),
        # At a prompt it only pings; the screen is checked for what others say.
        marked(f"{honest.heard} of {honest.said}", honest.is_complete)
        if honest.said
        else "",
        "; ".join(f"{what}: {figure(value)}" for what, value in outcome.seen.items()),
    ]
    return f"| {' | '.join(cells)} |"


def figure(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "**no**"
        case float():
            return f"{value:.3g}"
        case _:
            return str(value)


def marked(text: str, as_it_should_be: bool) -> str:
    return text if as_it_should_be else f"**{text}**"


def main() -> None:
    names = sys.argv[1:] or list(GROUPS)
    for name in names:
        if name not in GROUPS:
            sys.exit(f"bench.hostile: no group {name!r}: {', '.join(GROUPS)}")
    print("| case | memory grown | time to cut | CPU | PONG | chat | what else |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | --- |")
    for name in names:
        for case in GROUPS[name]():
            with Stage() as stage:
                print(row(case(stage)), flush=True)


if __name__ == "__main__":
    main()
