"""One process of a measurement: what every contestant is told, and tells.

A contestant is a module in `bench.contestants` with two functions, ``sender`` and
``receivers``, which are given a `Stage`.  The driver starts a process for the
sender and one or more for the receivers, and talks with each in lines of JSON on
standard input and output:

=========  ==================  =================================================
who says   line                meaning
=========  ==================  =================================================
sender     ``address``         dial me there
receivers  ``ready``           all nodes of this process are linked
sender     ``linked``          as many peers are linked as there are receivers
driver     ``expect``          to receivers: count from 0 to so many, each
receivers  ``expecting``       they do
driver     ``send``            to the sender: an `Order`
sender     ``sent``            it is handed over, which began at that time
receivers  ``got``             every node has counted all, the last at that time
driver     ``report``          to both
both       ``cpu``             seconds of processor time since the last order
=========  ==================  =================================================

A process ends when its input ends.  This module needs the standard library only:
contestants run in the environment that has their own requirements.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TextIO

HOST = "127.0.0.1"
#: The first word of every message, so that it can be found in any output.
MARK = "bench"

#: Nanoseconds of the one clock that all processes of the machine share.
now = time.perf_counter_ns


def message(size: int, stamp: int = 0) -> str:
    """A text of that many bytes, with the time in it."""
    return f"{MARK} {stamp} ".ljust(size, "x")


@dataclass(frozen=True, slots=True)
class Order:
    """What a sender shall broadcast.

    ``batch`` messages in each turn of its event loop, as fast as they are taken;
    or, when ``rate`` is not 0, so many turns a second, with the time in them.
    """

    count: int
    batch: int
    size: int
    rate: float = 0.0

    def text(self) -> str:
        """The message, for the moment in which it is sent."""
        return message(self.size, now() if self.rate else 0)


class Tally:
    """Counts what one receiver's application has been given."""

    __slots__ = ("count", "delays", "expected", "finished")

    def __init__(self, finished: Callable[[], None]) -> None:
        self.count = 0
        self.expected = -1
        self.delays: list[int] = []
        self.finished = finished

    def one(self) -> None:
        """A message came."""
        self.count += 1
        if self.count == self.expected:
            self.finished()

    def many(self, number: int) -> None:
        """So many messages came."""
        before = self.count
        self.count += number
        if before < self.expected <= self.count:
            self.finished()

    def timed(self, text: str | bytes) -> None:
        """A message came that says when it was sent."""
        self.delays.append(now() - int(text.split(None, 2)[1]))
        self.one()


class Stage:
    """What a contestant knows of the measurement, and whom it tells.

    ``nodes`` is how many receivers this process plays, ``peers`` how many there
    are in all, ``address`` the sender's.  ``timed``: messages tell when they were
    sent.  ``options`` are the contestant's own.
    """

    def __init__(self, part: dict[str, Any], commands: TextIO, answers: TextIO):
        self.nodes: int = part["nodes"]
        self.peers: int = part["peers"]
        self.address: str = part["address"]
        self.timed: bool = part["timed"]
        self.options: dict[str, Any] = part["options"]
        self.tallies = [Tally(self._finished) for _ in range(self.nodes)]
        #: Processor time of what is measured, where that is not this process.
        self.cpu: Callable[[], float] = time.process_time
        #: Called before the process ends.
        self.at_end: Callable[[], None] = lambda: None
        self._commands = commands
        self._answers = answers
        self._lock = threading.Lock()
        self._unfinished = 0
        self._cpu_before = 0.0
        self._cpu_used: float | None = None

    def tell(self, **what: Any) -> None:
        """Tell the driver."""
        with self._lock:
            print(json.dumps(what), file=self._answers, flush=True)

    def port(self) -> int:
        """The port of the sender."""
        return int(self.address.rpartition(":")[2])

    def serve(
        self,
        send: Callable[[Order], None] | None = None,
        call: Callable[[Callable[[], None]], object] = lambda job: job(),
    ) -> None:
        """Do what the driver says, from a thread, by way of ``call``."""
        threading.Thread(target=self._serve, args=(send, call), daemon=True).start()

    def serve_here(self, send: Callable[[Order], None] | None = None) -> None:
        """Do what the driver says, in this thread."""
        jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.serve(send, jobs.put)
        while True:
            jobs.get()()

    def sent(self, began: int) -> None:
        """An order has been carried out."""
        self.tell(sent=began)

    def _serve(
        self,
        send: Callable[[Order], None] | None,
        call: Callable[[Callable[[], None]], object],
    ) -> None:
        for line in self._commands:
            command = json.loads(line)
            if "expect" in command:
                call(lambda number=command["expect"]: self._expect(number))  # type: ignore[misc]
            elif "send" in command:
                call(lambda order=Order(**command["send"]): self._send(send, order))  # type: ignore[misc]
            else:
                call(self._report)
        self.at_end()
        os._exit(0)

    def _expect(self, number: int) -> None:
        self._unfinished = len(self.tallies)
        for tally in self.tallies:
            tally.count, tally.expected, tally.delays = 0, number, []
        self._cpu_used = None
        self._cpu_before = self.cpu()
        self.tell(expecting=number)

    def _send(self, send: Callable[[Order], None] | None, order: Order) -> None:
        assert send is not None
        self._cpu_before = self.cpu()
        send(order)

    def _finished(self) -> None:
        at = now()
        with self._lock:
            self._unfinished -= 1
            last = not self._unfinished
        if last:
            self._cpu_used = self.cpu() - self._cpu_before
            self.tell(got=at)

    def _report(self) -> None:
        used = self._cpu_used
        self.tell(
            cpu=self.cpu() - self._cpu_before if used is None else used,
            counts=[tally.count for tally in self.tallies],
            delays=[delay for tally in self.tallies for delay in tally.delays],
        )


class Turns:
    """Carries out an order on an event loop.

    ``later`` calls back after some seconds, 0 for the next turn of the loop;
    ``say`` broadcasts a text so many times; ``when_taken`` calls back when the
    peers have taken enough of it for more.
    """

    def __init__(
        self,
        stage: Stage,
        later: Callable[[float, Callable[[], None]], object],
        say: Callable[[str, int], None],
        when_taken: Callable[[Callable[[], None]], None],
    ) -> None:
        self._stage = stage
        self._later = later
        self._say = say
        self._when_taken = when_taken

    def send(self, order: Order) -> None:
        """Begin with an order."""
        self._order = order
        self._left = order.count
        self._text = order.text()
        self._turns = 0
        self._began = now()
        if order.rate:
            self._timed_turn()
        else:
            self._turn()

    def _turn(self) -> None:
        number = min(self._order.batch, self._left)
        self._say(self._text, number)
        self._left -= number
        if self._left:
            self._when_taken(self._next)
        else:
            self._stage.sent(self._began)

    def _next(self) -> None:
        self._later(0, self._turn)

    def _timed_turn(self) -> None:
        for _ in range(min(self._order.batch, self._left)):
            self._say(self._order.text(), 1)
            self._left -= 1
        self._turns += 1
        if self._left:
            due = self._began + 1e9 * self._turns / self._order.rate
            self._later(max(0.0, (due - now()) / 1e9), self._timed_turn)
        else:
            self._stage.sent(self._began)


def send_in_a_loop(
    stage: Stage, say: Callable[[str], object]
) -> Callable[[Order], None]:
    """What carries out an order without an event loop: it knows no batches."""

    def send(order: Order) -> None:
        text = order.text()
        began = now()
        for number in range(order.count):
            if order.rate:
                due = began + 1e9 * (number // order.batch) / order.rate
                time.sleep(max(0.0, (due - now()) / 1e9))
                text = order.text()
            say(text)
        stage.sent(began)

    return send


def memory() -> int:
    """Bytes that this process has in memory."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Play the part that the command line gives."""
    module, role, part = sys.argv[1:]
    # Some contestants print; the driver's line is not for that.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    stage = Stage(json.loads(part), sys.stdin, answers)
    getattr(import_module(f"bench.contestants.{module}"), role)(stage)


if __name__ == "__main__":
    main()
