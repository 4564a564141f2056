"""Runs the contestants against each other, and evaluates the figures."""

from __future__ import annotations

import json
import os
import queue
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from bench.contestants import Contestant
from bench.stage import Order

K = TypeVar("K")
R = TypeVar("R")

ROOT = Path(__file__).resolve().parent.parent
#: Seconds to wait for a process to answer.
PATIENCE = 30.0
#: Seconds to wait for duplicates after the last expected message.
_AFTERMATH = 0.05


class Failed(Exception):
    """A process did not do what it was told."""


class Environment:
    """A virtual environment with the packages that the contestants need.

    It is created on first use, and kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = str(folder / "bin" / "python")
        #: Packages that could not be installed, and why.
        self.missing: dict[str, str] = {}

    def prepare(self, needs: Iterable[str]) -> dict[str, str]:
        """Install what is missing; returns the version of each installed package."""
        wanted = tuple(needs)
        if not wanted:
            return {}
        if not Path(self.python).exists():
            subprocess.run([sys.executable, "-m", "venv", self.folder], check=True)
        versions = {}
        for need in wanted:
            name = need.partition("==")[0]
            if self._version(name) is None:
                # One by one, so that one failure does not affect the others.
                installed = subprocess.run(
                    [self.python, "-m", "pip", "install", "--quiet", need],
                    capture_output=True,
                    text=True,
                )
                if installed.returncode:
                    said = installed.stderr.strip().splitlines() or ["no reason given"]
                    self.missing[need] = said[-1]
                    continue
            versions[name] = self._version(name) or "?"
        return versions

    def _version(self, name: str) -> str | None:
        asked = "import sys, importlib.metadata as m; print(m.version(sys.argv[1]))"
        found = subprocess.run(
            [self.python, "-c", asked, name], capture_output=True, text=True
        )
        return None if found.returncode else found.stdout.strip()


class Player:
    """A process that answers in lines of JSON."""

    def __init__(self, command: Sequence[str]) -> None:
        self._complaints = tempfile.TemporaryFile()
        self._command = command
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._commands = self._process.stdin
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @classmethod
    def of_module(cls, module: str, **arguments: Any) -> Self:
        """A player that runs a module with these arguments."""
        return cls([sys.executable, "-m", module, json.dumps(arguments)])

    def say(self, **command: Any) -> None:
        """Send it a command."""
        try:
            print(json.dumps(command), file=self._commands, flush=True)
        except OSError:
            raise Failed(self._story("has ended")) from None

    def hear(self, word: str, patience: float = PATIENCE) -> dict[str, Any]:
        """Its next answer, which must have that word; else raises `Failed`."""
        answer = self.hear_if(word, patience)
        if answer is None:
            raise Failed(self._story(f"did not say {word!r}"))
        return answer

    def hear_if(self, word: str, patience: float) -> dict[str, Any] | None:
        """Its next answer; None if it does not come in time."""
        while True:
            try:
                line = self._answers.get(timeout=patience)
            except queue.Empty:
                return None
            if not line:
                raise Failed(self._story("has ended"))
            answer: dict[str, Any] = json.loads(line)
            if word in answer:
                return answer
            if "got" not in answer:
                raise Failed(self._story(f"said {line.strip()} instead of {word!r}"))
            # A late report that it has counted all; nothing waits for it now.

    def close(self) -> None:
        """End the process."""
        try:
            self._commands.close()
            self._process.wait(5)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._listener.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._complaints.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def _story(self, what: str) -> str:
        self._complaints.seek(0)
        said = self._complaints.read().decode(errors="replace").strip()
        last = " / ".join(said.splitlines()[-3:])
        return f"`{shlex.join(self._command[1:])}` {what}: {last or 'no word of it'}"


def run_alone(module: str, **arguments: Any) -> dict[str, Any]:
    """The answer of a measurement that runs in one process of its own."""
    player = Player.of_module(module, **arguments)
    try:
        result: dict[str, Any] = player.hear("result", 10 * PATIENCE)["result"]
        return result
    finally:
        player.close()


@dataclass(frozen=True, slots=True)
class Setting:
    """The receivers: how many, and whether in one process or one each."""

    receivers: int
    each: bool

    @property
    def text(self) -> str:
        where = "a process each" if self.each else "all in one process"
        return f"{self.receivers} receivers, {where}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of an order.

    ``lost`` counts messages that never came, ``doubled`` those that came again.
    """

    seconds: float
    delivered: int
    lost: int
    doubled: int
    sender_cpu: float
    receiver_cpu: float
    delays: tuple[int, ...]


class Cast:
    """A sender and its receivers, linked."""

    def __init__(
        self,
        contestant: Contestant,
        setting: Setting,
        environment: Environment,
        *,
        timed: bool = False,
    ) -> None:
        self._setting = setting
        self._python = environment.python if contestant.needs else sys.executable
        self._contestant = contestant
        self._timed = timed
        self._closing = ExitStack()
        try:
            self._sender = self._start("sender", 0, "")
            address = self._sender.hear("address")["address"]
            nodes = [1] * setting.receivers if setting.each else [setting.receivers]
            self._receivers = [
                self._start("receivers", number, address) for number in nodes
            ]
            for receiver in self._receivers:
                receiver.hear("ready")
            self._sender.hear("linked")
            if contestant.probed:
                self._probe()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def close(self) -> None:
        self._closing.close()

    def perform(self, order: Order, patience: float = PATIENCE) -> Outcome:
        """Have an order carried out, and count the messages."""
        self._expect(order.count)
        self._sender.say(send=asdict(order))
        began = self._sender.hear("sent")["sent"]
        ends = [receiver.hear_if("got", patience) for receiver in self._receivers]
        sender = self._report(self._sender)
        # Duplicates come after the last expected message.
        time.sleep(_AFTERMATH)
        receivers = [self._report(receiver) for receiver in self._receivers]
        counts = [count for each in receivers for count in each["counts"]]
        finished = [end["got"] for end in ends if end is not None]
        complete = len(finished) == len(ends)
        return Outcome(
            seconds=(max(finished) - began) / 1e9 if complete else patience,
            delivered=sum(counts),
            lost=sum(max(0, order.count - count) for count in counts),
            doubled=sum(max(0, count - order.count) for count in counts),
            sender_cpu=sender["cpu"],
            receiver_cpu=sum(each["cpu"] for each in receivers),
            delays=tuple(delay for each in receivers for delay in each["delays"]),
        )

    def perform_for(self, seconds: float, batch: int, size: int) -> Outcome:
        """Warm up to find how many messages take about that long, then send them."""
        count = 4 * batch
        while True:
            outcome = self.perform(Order(count, batch, size))
            if outcome.lost:
                return outcome
            if outcome.seconds > seconds / 4:
                break
            count = min(8 * count, _whole(count * seconds / 2 / outcome.seconds, batch))
        count = _whole(count * seconds / outcome.seconds, batch)
        return self.perform(Order(count, batch, size))

    def idle(self, seconds: float) -> float:
        """The share of a processor that the sender uses while idle."""
        self._sender.say(expect=0)
        self._sender.hear("expecting")
        time.sleep(seconds)
        used: float = self._report(self._sender)["cpu"]
        return used / seconds

    def _start(self, role: str, nodes: int, address: str) -> Player:
        part = {
            "nodes": nodes,
            "peers": self._setting.receivers,
            "address": address,
            "timed": self._timed,
            "options": dict(self._contestant.options),
        }
        module = self._contestant.module
        player = Player(
            [self._python, "-m", "bench.stage", module, role, json.dumps(part)]
        )
        self._closing.callback(player.close)
        return player

    def _expect(self, count: int) -> None:
        for receiver in self._receivers:
            receiver.say(expect=count)
        for receiver in self._receivers:
            receiver.hear("expecting")

    def _report(self, player: Player) -> dict[str, Any]:
        player.say(report=True)
        return player.hear("cpu")

    def _probe(self) -> None:
        """Send messages until every receiver has had one."""
        until = time.monotonic() + PATIENCE
        while self.perform(Order(1, 1, 64), patience=0.5).lost:
            if time.monotonic() > until:
                raise Failed(f"{self._contestant.label}: not linked")
        # Nothing reports when the last of the repeated messages has arrived.
        time.sleep(1)


def _whole(count: float, batch: int) -> int:
    return max(1, round(count / batch)) * batch


def interleaved(
    runs: int, entries: Mapping[K, Callable[[], R]]
) -> tuple[dict[K, list[R | None]], list[str]]:
    """Run every entry once, then every entry again, and so on.

    Returns the results, None for a failed run, and the reasons of the failures.
    """
    results: dict[K, list[R | None]] = {key: [] for key in entries}
    failures = []
    for number in range(runs):
        for key, run in entries.items():
            progress(f"run {number + 1} of {runs}: {key}")
            try:
                results[key].append(run())
            except Failed as failure:
                results[key].append(None)
                failures.append(f"{key}, run {number + 1}: {failure}")
    progress("")
    return results, failures


def progress(text: str) -> None:
    """Show progress on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text[:79]}", end="", file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Figure:
    """A value of each run; None for a run that failed."""

    values: tuple[float | None, ...]

    @property
    def known(self) -> list[float]:
        """The values of the runs that did not fail."""
        return [value for value in self.values if value is not None]

    @property
    def median(self) -> float:
        return statistics.median(self.known)

    def over(self, other: Figure) -> Figure:
        """The ratio in each round, which cancels what slows a whole round."""
        return Figure(
            tuple(
                a / b if a is not None and b else None
                for a, b in zip(self.values, other.values, strict=True)
            )
        )

    def text(self, form: str = ".2f", scale: float = 1.0) -> str:
        """The median, with the minimum and maximum."""
        if not self.known:
            return "failed"
        low, high = min(self.known) * scale, max(self.known) * scale
        middle = f"{self.median * scale:{form}}"
        if len(self.known) > 1:
            middle += f" ({low:{form}}–{high:{form}})"
        return middle


def figure(results: Iterable[R | None], value: Callable[[R], float]) -> Figure:
    """One value from each result; None if nothing arrived."""

    def read(result: R | None) -> float | None:
        try:
            return None if result is None else value(result)
        except (IndexError, ZeroDivisionError):
            return None

    return Figure(tuple(map(read, results)))


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with right-aligned figures."""
    lines = [
        "| " + " | ".join(heads) + " |",
        "| --- |" + " ---: |" * (len(heads) - 1),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
    return "\n".join(lines)


def losses(results: Iterable[Outcome | None]) -> str:
    """A text on the lost and doubled messages of all runs."""
    outcomes = [each for each in results if each is not None]
    lost = sum(each.lost for each in outcomes)
    doubled = sum(each.doubled for each in outcomes)
    sent = lost + sum(each.delivered for each in outcomes) - doubled
    text = f"{lost} of {sent:,}" if lost else "0"
    return f"{text}, {doubled} doubled" if doubled else text


def wrong(results: Iterable[Outcome | None]) -> Figure:
    """How many messages were lost or doubled."""
    return figure(results, lambda each: float(each.lost + each.doubled))


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure should be, at least or at most, and what it was."""

    work: str
    against: str
    seen: Figure
    least: float | None = None
    most: float | None = None

    @property
    def row(self) -> tuple[str, ...]:
        wanted = f"≥ {self.least:g}" if self.least is not None else f"≤ {self.most:g}"
        if not self.seen.known:
            return (self.work, self.against, wanted, "failed", "")
        holds = (self.least is None or self.seen.median >= self.least) and (
            self.most is None or self.seen.median <= self.most
        )
        verdict = "holds" if holds else "**falls short**"
        return (self.work, self.against, wanted, self.seen.text(), verdict)


@dataclass(frozen=True, slots=True)
class Report:
    """The findings of a measurement.

    ``text`` is Markdown; ``failures`` describes the runs that failed.
    """

    text: str
    goals: Sequence[Goal] = ()
    failures: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure, how often, and for which contestants."""

    runs: int
    seconds: float
    contestants: tuple[Contestant, ...]
    environment: Environment
    settings: tuple[Setting, ...]
    sizes: tuple[int, ...]
    batches: tuple[int, ...]
    rate: float
    meshes: tuple[int, ...]
    big_meshes: tuple[int, ...]
    links: tuple[int, ...]
    idle: float
