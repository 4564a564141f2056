"""Real programs whose clock is set, and real programs that are suspended.

Each case is a function that plays on a `Lab` and returns what it measured.
"""

from __future__ import annotations

import datetime
import os
import signal
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from unittest import mock

from lab.daemons import Daemon, free_ports, star
from lab.networks import Ear, Figures, Lab, is_mesh, went

#: A round of PING every second.
QUICK: Sequence[object] = (
    *("--maintenance-interval", 1),
    *("--peer-timeout", 4),
    *("--discovery-interval", 2),
    *("--connection-timeout", 2),
    "--debug",
)
_LIBRARY = "libfaketimeMT.so.1"
NO_LIBRARY = f"{_LIBRARY} is not installed"
_PLACES = ("/usr/lib", "/usr/local/lib", "/usr/lib64")
_MINUTE, _DAY = datetime.timedelta(minutes=1), datetime.timedelta(days=1)
_BACK, _FORWARD = datetime.timedelta(hours=-2), _DAY


def faketime() -> Path | None:
    """The library that gives a program another clock; None if it is not here."""
    for place in map(Path, _PLACES):
        for pattern in (f"faketime/{_LIBRARY}", f"*/faketime/{_LIBRARY}"):
            for found in place.glob(pattern):
                return found
    return None


class WallClock:
    """The wall clock of every program that is started with its variables.

    The clock that counts from the start of the machine goes on as it is, as it
    does when somebody sets the time.
    """

    def __init__(self, folder: Path, library: Path) -> None:
        self._file = folder / "time"
        self.shift(datetime.timedelta())
        self.variables = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def shift(self, offset: datetime.timedelta) -> None:
        """Set the clock to the true time and so much."""
        # Read at every look at the clock: there must be no moment without it.
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset.total_seconds():+.0f}")
        new.replace(self._file)


def wall_clock_set(
    lab: Lab,
    options: Sequence[object] = (*QUICK, "--peer-timeout", 6),
    seconds: float = 4,
) -> Figures:
    """Two daemons and a prompt; their clock is set back, then forward.

    ``seconds`` is how long they are watched after each.  The prompt reads from
    a pipe; it has threads, which the library makes late by fractions of a second.
    """
    library = faketime()
    if library is None:
        raise OSError(NO_LIBRARY)
    clock = WallClock(lab.folder, library)
    with mock.patch.dict(os.environ, clock.variables):
        first = lab.start("first", *options, port=free_ports(1)[0])
        joining = ["--bootstrap", f"localhost:{first.port}"]
        second = lab.start("second", *options, *joining)
        prompt = lab.prompt("prompt", *options, *joining)
    programs = [first, second, prompt]
    lab.until_full(programs)
    ears = [lab.ear(None, "127.0.0.1", program.port) for program in programs]
    lab.until(lambda: all("ear" in each.peers for each in programs), "listener")
    figures: Figures = {}
    for what, offset in (("2 h back", _BACK), ("1 day forward", _FORWARD)):
        clock.shift(offset)
        fewest, longest = watch(lab, ears, seconds)
        if fewest:
            for program in programs:
                check_clock(program, offset)
        figures |= {
            f"{what}: PINGs of each in {seconds:g} s, at least": fewest,
            f"{what}: longest pause (s)": longest,
        }
    assert all(ear.is_open for ear in ears), lab.logs()
    return {**figures, "peers lost": losses(programs)}


def watch(lab: Lab, ears: Sequence[Ear], seconds: float) -> tuple[int, float]:
    """Let time pass; returns the fewest PINGs of one, and the longest pause of all."""
    began = time.monotonic()
    before = [len(ear.pings) for ear in ears]

    def is_over() -> bool:
        for ear in ears:
            ear.listen()
        return time.monotonic() - began >= seconds

    ended = lab.until(is_over, "end")
    times = [
        [began, *ear.pings[count:], ended]
        for ear, count in zip(ears, before, strict=True)
    ]
    longest = max(
        later - earlier for each in times for earlier, later in pairwise(each)
    )
    return min(map(len, times)) - 2, longest


def suspended(
    lab: Lab,
    options: Sequence[object] = QUICK,
    seconds: float = 10,
    watched: float = 4,
) -> Figures:
    """One of three daemons is suspended for longer than the others wait."""
    daemons = lab.mesh(3, star, *options)
    lab.until_full(daemons)
    *awake, sleeper = daemons
    sleeper.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    dropped = lab.until(lambda: losses(awake) == 2, "end of the sleeper's links")
    # A suspended process has no clock that could be advanced.
    time.sleep(max(0.0, began + seconds - time.monotonic()))
    before = pings([sleeper])
    sleeper.send_signal(signal.SIGCONT)
    woken = time.monotonic()
    full = lab.until_full(daemons)
    lab.rest(max(0.0, woken + watched - time.monotonic()))
    assert is_mesh(daemons), lab.logs()
    return {
        "dropped by the others after (s)": dropped - began,
        "suspended for (s)": woken - began,
        "full mesh after that (s)": full - woken,
        "peers lost by the sleeper": losses([sleeper]),
        "by the others": losses(awake),
        f"PINGs of the sleeper in {watched:g} s": pings([sleeper]) - before,
    }


def all_suspended(
    lab: Lab,
    options: Sequence[object] = QUICK,
    seconds: float = 7,
    watched: float = 4,
) -> Figures:
    """Three daemons are suspended together, as on a machine that sleeps."""
    daemons = lab.mesh(3, star, *options)
    lab.until_full(daemons)
    began = time.monotonic()
    for daemon in daemons:
        daemon.send_signal(signal.SIGSTOP)
    # A suspended process has no clock that could be advanced.
    time.sleep(seconds)
    before = pings(daemons)
    woken = time.monotonic()
    for daemon in daemons:
        daemon.send_signal(signal.SIGCONT)
    lab.rest(watched)
    assert is_mesh(daemons), lab.logs()
    return {
        "suspended for (s)": woken - began,
        "peers lost": losses(daemons),
        f"PINGs in {watched:g} s after that, of all": pings(daemons) - before,
    }


def pings(daemons: Sequence[Daemon]) -> int:
    """How many PINGs daemons have sent, as their logs tell."""
    return sum(daemon.logged("[DEBUG] Sent PING to ") for daemon in daemons)


def losses(daemons: Sequence[Daemon]) -> int:
    """How many times a peer was lost, by all of them."""
    return sum(went(daemon).total() for daemon in daemons)


def check_clock(daemon: Daemon, offset: datetime.timedelta) -> None:
    """Fail unless the times in a log are those of a clock that was set."""
    last = daemon.raw.splitlines()[-1]
    expected = datetime.datetime.now().astimezone() + offset
    if last.startswith("["):  # [12:34:56], a prompt's
        shown = datetime.datetime.strptime(last[1:9], "%H:%M:%S").time()
        logged = datetime.datetime.combine(expected, shown, expected.tzinfo)
        about = _MINUTE, _DAY - _MINUTE
    else:
        logged = datetime.datetime.fromisoformat(last.split()[0])
        about = _MINUTE, datetime.timedelta.max
    if about[0] < abs(logged - expected) < about[1]:
        raise AssertionError(f"{daemon.name} has another clock: {last}")
