"""The least that can be done on Twisted: no node, no limits, no events.

The sender gives every transport the joined bytes of one turn.  A receiver splits
a chunk at its line ends, all at once, and hands on the pieces.
"""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.protocol import Protocol

from bench.contestants.on_twisted import Pace, dial, listen, run, without_delay
from bench.stage import Stage, Tally, Turns


def sender(stage: Stage) -> None:
    pace = Pace()
    transports = listen(stage, pace)

    def joined(text: str, times: int) -> bytes:
        return b"".join([text.encode() + b"\n"] * times)

    def say(text: str, times: int) -> None:
        data = joined(text, times)
        for transport in transports:
            transport.write(data)

    def say_directly(text: str, times: int) -> None:
        data = joined(text, times)
        for transport in transports:
            # Private parts of Twisted: nothing waits in its buffers, so what the
            # socket takes now overtakes nothing.
            if transport.dataBuffer or transport._tempDataBuffer:  # type: ignore[attr-defined]
                transport.write(data)
                continue
            taken = transport.writeSomeData(data)  # type: ignore[attr-defined]
            if taken < len(data):
                transport.write(data[taken:])

    direct = stage.options.get("direct")
    turns = Turns(
        stage, reactor.callLater, say_directly if direct else say, pace.when_taken
    )
    run(stage, turns.send)


class Counter(Protocol):
    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._rest = b""

    def connectionMade(self) -> None:
        assert self.transport is not None
        without_delay(self.transport)

    def dataReceived(self, data: bytes) -> None:
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for _ in lines:
            self._tally.one()


class Timer(Counter):
    def dataReceived(self, data: bytes) -> None:
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            self._tally.timed(line)


def receivers(stage: Stage) -> None:
    made = Timer if stage.timed else Counter
    dial(stage, [made(tally) for tally in stage.tallies])
    run(stage)
