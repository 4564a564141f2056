"""One process of a measurement, and the protocol it speaks with the driver.

A contestant is a module in `bench.contestants` with two functions, ``sender`` and
``receivers``, which take a `Stage`.  The driver starts one process for the sender
and one or more for the receivers, and exchanges lines of JSON with each on standard
input and output:

=========  ==================  =================================================
who says   line                meaning
=========  ==================  =================================================
sender     ``address``         dial me there
receivers  ``ready``           all nodes of this process are linked
sender     ``linked``          as many peers are linked as there are receivers
driver     ``expect``          to receivers: each count from 0 to this number
receivers  ``expecting``       they are ready to count
driver     ``send``            to the sender: an `Order`
sender     ``sent``            the order is done; when it began
receivers  ``got``             every node has counted all; when the last did
driver     ``report``          to both: report
both       ``cpu``             seconds of processor time since the last order
=========  ==================  =================================================

A process ends when its input ends.  This module uses only the standard library,
because each contestant runs in an environment with its own requirements.
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
#: The first word of every message, so that it stands out in any output.
MARK = "bench"

#: Nanoseconds of a clock that all processes on the machine share.
now = time.perf_counter_ns


def message(size: int, stamp: int = 0) -> str:
    """A text of ``size`` bytes that contains the time stamp."""
    return f"{MARK} {stamp} ".ljust(size, "x")


@dataclass(frozen=True, slots=True)
class Order:
    """What a sender is to broadcast.

    It sends ``batch`` messages in each turn of its event loop, as fast as they are
    taken.  If ``rate`` is not 0, it makes that many turns per second, and the
    messages contain the time.
    """

    count: int
    batch: int
    size: int
    rate: float = 0.0

    def text(self) -> str:
        """The message to send now."""
        return message(self.size, now() if self.rate else 0)


class Tally:
    """Counts the messages that one receiver's application gets."""

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
        """``number`` messages came."""
        before = self.count
        self.count += number
        if before < self.expected <= self.count:
            self.finished()

    def timed(self, text: str | bytes) -> None:
        """A message came that contains the time it was sent."""
        self.delays.append(now() - int(text.split(None, 2)[1]))
        self.one()


class Stage:
    """A contestant's view of the measurement, and its link to the driver.

    ``nodes`` is the number of receivers in this process, ``peers`` the number in
    all, ``address`` the sender's address.  ``timed``: messages contain the time they
    were sent.  ``options`` are the contestant's own.
    """

    def __init__(self, part: dict[str, Any], commands: TextIO, answers: TextIO):
        self.nodes: int = part["nodes"]
        self.peers: int = part["peers"]
        self.address: str = part["address"]
        self.timed: bool = part["timed"]
        self.options: dict[str, Any] = part["options"]
        self.tallies = [Tally(self._finished) for _ in range(self.nodes)]
        #: Reads the processor time; replaced if another process is measured.
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
        """Send the driver a line."""
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
        """Read the driver's commands in a thread, and run them through ``call``."""
        threading.Thread(target=self._serve, args=(send, call), daemon=True).start()

    def serve_here(self, send: Callable[[Order], None] | None = None) -> None:
        """Read and run the driver's commands in this thread."""
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

    ``later`` calls back after some seconds, 0 meaning the next turn of the loop.
    ``say`` broadcasts a text a number of times.  ``when_taken`` calls back when the
    peers are ready for more.
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
        """Start an order."""
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
    """A sender without an event loop, and so without batches."""

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
    """The resident memory of this process, in bytes."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Run the part that the command line names."""
    module, role, part = sys.argv[1:]
    # Some contestants print, so keep the driver's channel apart from stdout.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    stage = Stage(json.loads(part), sys.stdin, answers)
    getattr(import_module(f"bench.contestants.{module}"), role)(stage)


if __name__ == "__main__":
    main()
