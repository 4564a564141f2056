"""A node as one writes it first: everything line by line, peer by peer.

It has the commands of ``mesh/1`` and an event for each message, and nothing else
of a node.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet import reactor
from twisted.protocols.basic import LineOnlyReceiver

from bench.contestants.on_twisted import Pace, dial, listen, run, without_delay
from bench.stage import Stage, Tally, Turns


def sender(stage: Stage) -> None:
    pace = Pace()
    transports = listen(stage, pace)

    def broadcast(text: str) -> None:
        line = text.encode() + b"\n"
        for transport in transports:
            transport.write(line)

    def say(text: str, times: int) -> None:
        for _ in range(times):
            broadcast(text)

    run(stage, Turns(stage, reactor.callLater, say, pace.when_taken).send)


@dataclass(frozen=True)
class Chat:
    """Somebody said something."""

    peer: str
    text: str


class Link(LineOnlyReceiver):
    delimiter = b"\n"

    def __init__(self, subscribers: list[Callable[[Chat], None]]) -> None:
        self._peer = "sender"
        self._subscribers = subscribers
        self.last_heard = 0.0

    def connectionMade(self) -> None:
        assert self.transport is not None
        without_delay(self.transport)

    def lineReceived(self, line: bytes) -> None:
        self.last_heard = reactor.seconds()
        text = line.removesuffix(b"\r").decode("utf-8", "replace")
        if text == "PING":
            self.sendLine(b"PONG")
        elif text == "PONG":
            pass
        elif text == "REQUEST_PEERS":
            self.sendLine(b"PEERS:")
        elif text.startswith("PEERS:"):
            pass
        elif text:
            event = Chat(self._peer, text)
            for subscriber in tuple(self._subscribers):
                subscriber(event)


def receivers(stage: Stage) -> None:
    def link(tally: Tally) -> Link:
        def on_chat(event: Chat) -> None:
            tally.one()

        def on_timed_chat(event: Chat) -> None:
            tally.timed(event.text)

        return Link([on_timed_chat if stage.timed else on_chat])

    dial(stage, [link(tally) for tally in stage.tallies])
    run(stage)
