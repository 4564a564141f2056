"""What the contestants on Twisted share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet import reactor
from twisted.internet.interfaces import IPushProducer, ITCPTransport, ITransport
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from zope.interface import implementer

from bench.stage import HOST, Order, Stage


def run(stage: Stage, send: Callable[[Order], None] | None = None) -> None:
    """Run the reactor, which carries out what the driver says."""
    loop: Any = reactor
    stage.serve(send, loop.callFromThread)
    loop.run()


class Pace:
    """Tells when no peer has more than its transport wants to hold."""

    def __init__(self) -> None:
        self._full: set[_Valve] = set()
        self._waiting: Callable[[], None] | None = None

    def watch(self, transport: Any) -> None:
        """Count a peer in."""
        transport.registerProducer(_Valve(self), True)

    def when_taken(self, go_on: Callable[[], None]) -> None:
        if self._full:
            self._waiting = go_on
        else:
            go_on()

    def paused(self, valve: _Valve) -> None:
        # A transport says so again with every write while it is full.
        self._full.add(valve)

    def resumed(self, valve: _Valve) -> None:
        self._full.discard(valve)
        if not self._full and self._waiting is not None:
            go_on, self._waiting = self._waiting, None
            go_on()


@implementer(IPushProducer)
class _Valve:
    """What one transport tells when it is full, and when it is empty."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace

    def pauseProducing(self) -> None:
        self._pace.paused(self)

    def resumeProducing(self) -> None:
        self._pace.resumed(self)

    def stopProducing(self) -> None:
        """The connection has ended, and so has the measurement."""


class Accepted(Protocol):
    """The sender's end of a connection; receivers say nothing."""

    def __init__(self, made: Callable[[ITransport], None]) -> None:
        self._made = made

    def connectionMade(self) -> None:
        assert self.transport is not None
        self._made(self.transport)


def listen(stage: Stage, pace: Pace) -> Sequence[ITransport]:
    """Accept the receivers; the result fills with a transport for each."""
    transports: list[ITransport] = []

    def made(transport: ITransport) -> None:
        without_delay(transport)
        pace.watch(transport)
        transports.append(transport)
        if len(transports) == stage.peers:
            stage.tell(linked=True)

    stage.tell(address=f"{HOST}:{listen_here(lambda: Accepted(made))}")
    return transports


def listen_here(build: Callable[[], Protocol], backlog: int = 50) -> int:
    """Accept connections; returns the port."""
    factory: Any = Factory.forProtocol(build)
    port: Any = reactor.listenTCP(0, factory, backlog=backlog, interface=HOST)
    return int(port.getHost().port)


def dial(stage: Stage, protocols: Sequence[Protocol]) -> None:
    """Connect each of the protocols with the sender."""
    made = 0

    def ready() -> None:
        nonlocal made
        made += 1
        if made == len(protocols):
            stage.tell(ready=True)

    for protocol in protocols:
        reactor.connectTCP(HOST, stage.port(), _Once(protocol, ready))


def without_delay(transport: ITransport) -> None:
    """Have every message sent at once, as a node does."""
    assert ITCPTransport.providedBy(transport)
    transport.setTcpNoDelay(True)


class _Once(ClientFactory):
    noisy = False

    def __init__(self, protocol: Protocol, ready: Callable[[], None]) -> None:
        self._protocol = protocol
        self._ready = ready

    def buildProtocol(self, addr: object) -> Protocol:
        reactor.callLater(0, self._ready)
        return self._protocol
