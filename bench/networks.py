"""How real networks and clocks affect real daemons, in figures.

Run from the checkout as root::

    python -m bench.networks [--defaults] [CASE ...]

Prints a Markdown table with a row for each case.  The cases are those of
`lab.network_cases` and `lab.clock_cases`.  The daemons use short intervals; with
``--defaults`` they use the default ones, and some cases take minutes.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from lab import clock_cases as clocks
from lab import network_cases as networks
from lab.networks import Figures, Lab, missing

#: Longest wait, in seconds: a few times the default peer timeout.
_PATIENCE = 300.0


class Case(NamedTuple):
    """A row of the table: what happens, with which settings, and how to run it."""

    what: str
    settings: str
    play: Callable[[Lab], Figures]


_QUICK = "PING 1 s, timeout 4 s"
_PATIENT = "PING 1 s, timeout 20 s"
_DEFAULT = "defaults (PING 15 s, timeout 60 s)"
_LOUD = ("--debug",)

QUICK = {
    "nat": Case(
        "Two homes behind NAT and a public node, watched for 60 s",
        _QUICK,
        partial(networks.homes_behind_nat, watched=60),
    ),
    "nat-hub-only": Case(
        "The same, nobody told of the neighbour at home",
        _QUICK,
        partial(networks.homes_behind_nat, watched=10, neighbours=False),
    ),
    "nat-namesakes": Case(
        "Two nodes with the default port behind one NAT",
        _QUICK,
        partial(networks.namesakes, watched=30),
    ),
    "nat-forgets": Case(
        "NAT that forgets after 2 idle seconds",
        "PING 4 s, timeout 5 s",
        networks.forgetful_nat,
    ),
    "nat-kept": Case(
        "NAT that forgets after 3 idle seconds",
        _QUICK,
        partial(networks.kept_nat, seconds=30),
    ),
    "nat-restart": Case("NAT router restarts", _QUICK, networks.router_restart),
    "partition": Case(
        "Partition of 2 and 2 nodes, healed",
        _QUICK,
        partial(networks.partition, apart=5),
    ),
    "short-cut": Case("Cable pulled during a chat", _PATIENT, networks.short_cut),
    "one-way": Case("One-way drop between 2 of 3 nodes", _QUICK, networks.one_way),
    "loss": Case(
        "3 nodes, 50 ms +- 5 ms and 3 % loss each way", _PATIENT, networks.lossy
    ),
    "narrow": Case(
        "Uplink of 1 Mbit/s, 2 peers, 4 MB of chat",
        _QUICK,
        partial(networks.narrow, count=2000),
    ),
    "ipv6": Case("3 nodes without IPv4", _QUICK, networks.ipv6_only),
    "moved": Case("A member gets another IP address", _QUICK, networks.moved),
    "moved-first": Case(
        "The node that all were told of gets another IP address",
        _QUICK,
        partial(networks.moved, mover=0),
    ),
    "same-port": Case(
        "3 hosts, all with the default port, ID and name", _QUICK, networks.same_port
    ),
    "wall-clock": Case(
        "Wall clock set, 2 daemons and a prompt",
        "PING 1 s, timeout 6 s",
        partial(clocks.wall_clock_set, seconds=10),
    ),
    "suspended": Case(
        "One of 3 daemons suspended", _QUICK, partial(clocks.suspended, seconds=15)
    ),
    "all-suspended": Case(
        "3 daemons suspended together",
        _QUICK,
        partial(clocks.all_suspended, seconds=15),
    ),
}

DEFAULTS = {
    "nat": Case(
        "Two homes behind NAT and a public node, watched for 3 min",
        _DEFAULT,
        partial(networks.homes_behind_nat, options=(), watched=180),
    ),
    "nat-forgets": Case(
        "NAT that forgets after 10 idle seconds",
        _DEFAULT,
        partial(networks.forgetful_nat, options=(), memory=10),
    ),
    "nat-kept": Case(
        "NAT that forgets after 20 idle seconds",
        _DEFAULT,
        partial(networks.kept_nat, options=(), memory=20, seconds=90),
    ),
    "nat-restart": Case(
        "NAT router restarts", _DEFAULT, partial(networks.router_restart, options=())
    ),
    "partition": Case(
        "Partition of 2 and 2 nodes, healed",
        _DEFAULT,
        partial(networks.partition, options=(), apart=60),
    ),
    "short-cut": Case(
        "Cable pulled during a chat",
        _DEFAULT,
        partial(networks.short_cut, options=(), seconds=20),
    ),
    "one-way": Case(
        "One-way drop between 2 of 3 nodes",
        _DEFAULT,
        partial(networks.one_way, options=()),
    ),
    "loss": Case(
        "3 nodes, 50 ms +- 5 ms and 3 % loss each way",
        _DEFAULT,
        partial(networks.lossy, options=(), count=20_000),
    ),
    "moved": Case(
        "A member gets another IP address",
        _DEFAULT,
        partial(networks.moved, options=()),
    ),
    "wall-clock": Case(
        "Wall clock set, 2 daemons and a prompt",
        _DEFAULT,
        partial(clocks.wall_clock_set, options=_LOUD, seconds=61),
    ),
    "suspended": Case(
        "One of 3 daemons suspended",
        _DEFAULT,
        partial(clocks.suspended, options=_LOUD, seconds=120, watched=16),
    ),
    "all-suspended": Case(
        "3 daemons suspended together",
        _DEFAULT,
        partial(clocks.all_suspended, options=_LOUD, seconds=120, watched=16),
    ),
}


def row(case: Case) -> str:
    """Run a case; returns its row of the table."""
    with Lab(_PATIENCE) as lab:
        figures = case.play(lab)
    for daemon in lab.daemons:
        if daemon.complaints:
            raise AssertionError(f"{daemon.name} complains: {daemon.complaints[0]}")
    seen = "; ".join(f"{what}: {shown(figure)}" for what, figure in figures.items())
    return f"| {case.what} | {case.settings} | {seen} |"


def shown(figure: float) -> str:
    """A count unchanged, a measurement with two decimals."""
    return f"{figure:.2f}" if isinstance(figure, float) else str(figure)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--defaults", action="store_true", help="default settings")
    parser.add_argument("case", nargs="*", help=f"of {', '.join(QUICK)}")
    asked = parser.parse_args()
    cases = DEFAULTS if asked.defaults else QUICK
    for name in asked.case:
        if name not in cases:
            parser.error(f"{name} is none of {', '.join(cases)}")
    problem = missing("a cable")
    if problem is not None:
        parser.error(problem)
    print(f"{os.cpu_count()} processors.\n")
    print("| Case | Settings | Seen |")
    print("| --- | --- | --- |", flush=True)
    failed = 0
    for name in asked.case or cases:
        try:
            print(row(cases[name]), flush=True)
        except (AssertionError, OSError) as error:
            failed += 1
            problem = str(error).partition("\n")[0]
            print(
                f"| {cases[name].what} | {cases[name].settings} | FAILED: {problem} |"
            )
            print(error, file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
