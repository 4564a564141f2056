"""``python -m bench``: measure, and print tables in Markdown."""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

if __package__ in (None, ""):
    # Run as a file, not with -m.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from bench import contestants, daemons, fanout, formation, idle, latency, memory
from bench.driver import ROOT, Environment, Goal, Plan, Report, Setting, table

Measurement = Callable[[Plan], Iterator[Report]]

MEASUREMENTS: dict[str, Measurement] = {
    "fanout": fanout.measure,
    "latency": latency.measure,
    "formation": formation.formation,
    "memory": memory.measure,
    "idle": idle.measure,
    "scale": formation.scale,
    "daemons": daemons.measure,
}

#: The measurements without ``--quick``, and with it.
FULL = {
    "runs": 5,
    "seconds": 1.0,
    "settings": "8:one,19:one,8:each,19:each",
    "sizes": "64,1024",
    "batches": "1,4,32,128",
    "meshes": "10,20,50,100",
    "big_meshes": "100,140",
    "links": "1500,3000",
    "idle": 30.0,
}
QUICK = {
    "runs": 3,
    "seconds": 0.3,
    "settings": "8:one",
    "sizes": "64",
    "batches": "1,32",
    "meshes": "10,50",
    "big_meshes": "100",
    "links": "1500",
    "idle": 30.0,
}


def numbers(text: str) -> tuple[int, ...]:
    """Parse a list of numbers such as ``1,4,32``."""
    found = tuple(int(part) for part in text.split(",") if part)
    if any(number < 1 for number in found):
        raise ValueError(text)
    return found


def settings(text: str) -> tuple[Setting, ...]:
    """Parse a list of settings such as ``8:one,19:each``."""
    found = []
    for part in text.split(","):
        receivers, where = part.split(":")
        if where not in ("one", "each"):
            raise ValueError(text)
        found.append(Setting(int(receivers), where == "each"))
    return tuple(found)


def words(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """A parser for a list of known words."""

    def read(text: str) -> tuple[str, ...]:
        found = tuple(text.split(","))
        for word in found:
            if word not in known:
                raise argparse.ArgumentTypeError(
                    f"{word!r} is none of {', '.join(known)}"
                )
        return found

    return read


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures meshproto beside what else there is. All contestants "
        "of a measurement take turns, each run in new processes.",
        epilog="COMMAND is a program that speaks mesh/1, broadcasts the lines of its "
        "standard input and prints every message in a line: for example "
        "'p2p {port} {peer}', or 'meshproto {port} {peer} --name {name}'.",
    )
    names = [each.name for each in contestants.ALL]
    add = parser.add_argument
    add("--quick", action="store_true", help="fewer runs, and fewer of everything")
    add("--runs", type=int, help="runs of everything")
    add("--only", type=words(list(MEASUREMENTS)), help=", ".join(MEASUREMENTS))
    add("--contestants", type=words(names), help=", ".join(names))
    add("--against", action="append", default=[], metavar="COMMAND")
    add("--seconds", type=float, help="about how long a run sends")
    add("--settings", type=settings, help="receivers, as 8:one,19:each")
    add("--sizes", type=numbers, help="bytes in a message")
    add("--batches", type=numbers, help="broadcasts in a turn of the event loop")
    add("--rate", type=float, default=200.0, help="broadcasts a second, for latency")
    add("--meshes", type=numbers, help="nodes, for formation")
    add("--big-meshes", type=numbers, help="nodes, for scale")
    add("--links", type=numbers, help="links, for memory")
    add("--idle", type=float, help="seconds to be idle")
    add(
        "--environment",
        type=Path,
        default=ROOT / ".venv-bench",
        help="virtual environment for other people's packages; made when missing",
    )
    parser.set_defaults(**(QUICK if "--quick" in argv else FULL))
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Measure what the command line asks for; returns 1 if a run failed."""
    options = arguments(argv)
    raise_descriptor_limit()
    chosen = options.contestants or [each.name for each in contestants.ALL]
    taking_part = [each for each in contestants.ALL if each.name in chosen]
    taking_part += [contestants.external(command) for command in options.against]
    chosen_measurements = options.only or tuple(MEASUREMENTS)
    environment = Environment(options.environment)
    versions = environment.prepare(
        each.needs
        for each in taking_part
        if each.needs and {"fanout", "latency", "idle"} & set(chosen_measurements)
    )
    plan = Plan(
        runs=options.runs,
        seconds=options.seconds,
        contestants=tuple(
            each for each in taking_part if each.needs not in environment.missing
        ),
        environment=environment,
        settings=options.settings,
        sizes=options.sizes,
        batches=options.batches,
        rate=options.rate,
        meshes=options.meshes,
        big_meshes=options.big_meshes,
        links=options.links,
        idle=options.idle,
    )
    print_conditions(plan, versions)
    goals: list[Goal] = []
    failed = False
    for name in chosen_measurements:
        for report in MEASUREMENTS[name](plan):
            print(f"\n{report.text}", flush=True)
            for failure in report.failures:
                print(f"\nFailed: {failure}", flush=True)
            goals += report.goals
            failed = failed or bool(report.failures)
    if goals:
        heads = ("what", "against", "wanted", "seen", "")
        print("\n### What it shall show\n")
        print(table(heads, [goal.row for goal in goals]))
    print(f"\nLoad average at the end: {loads()}.")
    return int(failed)


def print_conditions(plan: Plan, versions: dict[str, str]) -> None:
    """Print the conditions under which the figures were measured."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    used = {"Twisted": version("twisted"), **versions}
    print(
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} processors, {python}, ", end=""
    )
    print(", ".join(f"{name} {number}" for name, number in used.items()), end=".\n")
    print(f"Load average at the start: {loads()}.", end=" ")
    busy = os.cpu_count() or 1
    print(f"{busy} busy processes get the time of {processors(busy):.1f} processors.")
    print(f"Medians of {plan.runs} runs, and in brackets the least and the most.")
    print("Ratios are taken in each round, of which they are the median.")
    for need, why in plan.environment.missing.items():
        print(f"\n**Missing: {need}** could not be installed ({why}).")


def loads() -> str:
    """The load averages over 1, 5 and 15 minutes."""
    return " ".join(f"{load:.2f}" for load in os.getloadavg())


def processors(busy: int, seconds: float = 0.5) -> float:
    """How many processors' worth of time ``busy`` computing processes get."""
    spin = (
        "import sys, time; end = time.monotonic() + float(sys.argv[1])\n"
        "while time.monotonic() < end: pass\n"
        "print(time.process_time())"
    )
    command = [sys.executable, "-c", spin, str(seconds)]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for _ in range(busy)
    ]
    return sum(float(each.communicate()[0]) for each in running) / seconds


def raise_descriptor_limit() -> None:
    """Allow many sockets: 140 nodes meshed in one process need 19 460."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
