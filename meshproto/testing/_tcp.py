"""TCP as programs see it, in memory.

Segments of one direction arrive in order, each after a latency.  A reader that
stops makes the writer's buffer fill.  Each half of a connection closes by
itself, an abort loses what was not read, and what a cut holds up is sent again
until the cut heals.  How a connection comes about stands in `_dial`, and what goes
wrong in a handshake of two nodes in `_handshake`.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
)
from twisted.internet.interfaces import (
    IConsumer,
    IDelayedCall,
    IHalfCloseableProtocol,
    IProducer,
    IProtocol,
    ITCPTransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from meshproto.testing._clock import NOWHERE, SimClock
from meshproto.testing._handshake import Handshake, Trouble

#: Bytes that a connection holds between a writer and a reader that has stopped
#: before the writer's producer is paused.
WINDOW = 64 * 1024

Address = IPv4Address | IPv6Address


class Weather(Protocol):
    """What is true of every way of a network."""

    latency: tuple[float, float]
    fragment: float
    clock: SimClock
    rng: random.Random

    def fragments(self, data: bytes) -> Iterable[bytes]:
        """A segment in pieces, or whole."""

    def settled(self, end: Transport, /) -> None:
        """One end of a connection has the link of its pair: READY was said there."""


class Knocks(Protocol):
    """A dial that waits for its way."""

    def knock(self) -> None:
        """Try again."""


class Kernel(Protocol):
    """Whether anybody answers at an address."""

    def is_up(self) -> bool:
        """Whether a kernel runs there."""


class Program(Protocol):
    """What holds one end of a connection."""

    alive: bool
    frozen: bool
    powered: bool
    mesh2: bool
    reading_speed: float | None
    transports: dict[Transport, None]

    @property
    def host(self) -> Kernel:
        """Where it runs."""

    @property
    def present(self) -> float:
        """How far it has come, in seconds of the network's clock."""

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: Any, **kw: Any
    ) -> IDelayedCall:
        """Call back, if it still runs then."""

    def opened(self, transport: Transport) -> None:
        """A connection of it came about."""

    def closed(self, transport: Transport) -> None:
        """A connection of it is closed."""


class Way:
    """What goes from one host to another takes this way."""

    def __init__(self, network: Weather) -> None:
        #: The range that its delays are drawn from; None means the network's.
        self.latency: tuple[float, float] | None = None
        #: How many cuts there are; nothing passes until all are healed.
        self.cuts = 0
        self.pipes: dict[Pipe, None] = {}
        #: What goes wrong in handshakes that take this way.
        self.troubles: dict[Trouble, None] = {}
        #: The dials that wait for an answer.
        self.dials: dict[Knocks, None] = {}
        self._network = network
        self._random = network.rng.random

    def delay(self) -> float:
        """How long the next segment is on its way."""
        low, high = self.latency or self._network.latency
        return low + (high - low) * self._random()

    def wake(self) -> None:
        """Something gets through again."""
        for pipe in tuple(self.pipes):
            pipe.schedule()
        for dial in tuple(self.dials):
            dial.knock()


#: What travels: bytes, or something that happens when it arrives.
Segment = bytes | Callable[[], None]


class Pipe:
    """One direction of a connection: what was written and has not been read."""

    def __init__(
        self, way: Way, writer: Transport, reader: Transport, network: Weather
    ) -> None:
        self.place = NOWHERE
        self.writer = writer
        self.reader = reader
        self.unread = 0
        self._way = way
        self._network = network
        self._clock = network.clock
        self._machine = reader.machine
        self._segments: deque[tuple[float, Segment]] = deque()
        self._last_arrival = 0.0
        self._busy_until = 0.0
        way.pipes[self] = None

    def write(self, segment: Segment) -> None:
        """Send something on its way."""
        if self._network.fragment and isinstance(segment, bytes):
            for part in self._network.fragments(segment):
                self._send(part)
        else:
            self._send(segment)
        if self.place == NOWHERE:
            self.schedule()

    def hold(self, seconds: float) -> None:
        """Let what is sent from now on arrive after so many seconds at least."""
        arrival = self.writer.machine.present + seconds
        self._last_arrival = max(self._last_arrival, arrival)

    def drop(self) -> None:
        """What is on its way gets lost: nobody is there to send it again."""
        self._segments.clear()
        self.unread = 0

    def cut_short(self) -> None:
        """The writer sends nothing again: what a cut holds up gets lost."""
        if self._way.cuts:
            self._segments = deque(
                (due, segment)
                for due, segment in self._segments
                if not isinstance(segment, bytes)
            )
            self.unread = 0

    def forget(self) -> None:
        """The connection is over."""
        self._way.pipes.pop(self, None)

    def schedule(self) -> None:
        """Time the arrival of the next segment, if it can arrive at all."""
        if self._segments and self._is_open():
            self._clock.push(max(self._due(), self._clock.now), self)
        else:
            self.place = NOWHERE

    def read(self) -> None:
        """Have the reader take what has arrived by now."""
        if self._segments and self._due() <= self._clock.now:
            self.fire()
        elif self.place == NOWHERE:
            self.schedule()

    def fire(self) -> bool:
        """Something arrives."""
        if not self._segments or not self._is_open():
            return False
        if not self._machine.powered:
            self.drop()
            if self._machine.host.is_up():
                # Whoever runs there now knows of no such connection.
                self.writer.broken()
            return True
        now = self._clock.now
        if self._due() <= now:
            segment = self._segments[0][1]
            if isinstance(segment, bytes):
                self._deliver(now)
            else:
                self._segments.popleft()
                segment()
        if self.place == NOWHERE and self._segments:
            self.schedule()
        return True

    def _send(self, segment: Segment) -> None:
        arrival = self.writer.machine.present + self._way.delay()
        if arrival > self._last_arrival:
            self._last_arrival = arrival
        self._segments.append((self._last_arrival, segment))
        if isinstance(segment, bytes):
            self.unread += len(segment)

    def _due(self) -> float:
        due, segment = self._segments[0]
        if self._machine.reading_speed and isinstance(segment, bytes):
            return max(due, self._busy_until)
        return due

    def _is_open(self) -> bool:
        if self._way.cuts or self._machine.frozen:
            return False
        return self.reader.reading or not isinstance(self._segments[0][1], bytes)

    def _deliver(self, now: float) -> None:
        segments = self._segments
        chunk = segments.popleft()[1]
        assert isinstance(chunk, bytes)
        if segments and segments[0][0] <= now and not self._network.fragment:
            # What has arrived is read as one; fragments are reads of their own.
            pieces = [chunk]
            while segments and segments[0][0] <= now:
                segment = segments[0][1]
                if not isinstance(segment, bytes):
                    break
                segments.popleft()
                pieces.append(segment)
            chunk = b"".join(pieces)
        speed = self._machine.reading_speed
        if speed:
            # At most a second's worth at a time.
            worth = max(1, int(speed))
            if len(chunk) > worth:
                segments.appendleft((now, chunk[worth:]))
                chunk = chunk[:worth]
            self._busy_until = now + len(chunk) / speed
        self.unread -= len(chunk)
        self.reader.arrived(chunk)
        self.writer.taken()


@implementer(ITCPTransport, IConsumer)
class Transport:
    """One end of a simulated TCP connection."""

    disconnecting = False

    def __init__(
        self,
        machine: Program,
        protocol: IProtocol | None,
        host: Address,
        peer: Address,
    ) -> None:
        self.machine = machine
        self.protocol = protocol
        self.lost = False
        self.reading = True
        self.pipe: Pipe
        self.back: Pipe
        #: What it says first, on a connection between two that speak mesh/2.
        self.handshake: Handshake | None = None
        #: READY was said here, and the connection is not to end.
        self.settled = False
        self._host = host
        self._peer = peer
        self._producer: IProducer | None = None
        self._producer_paused = False
        self._fin_sent = False

    @property
    def is_open(self) -> bool:
        """Whether a program holds this end of the connection."""
        return self.protocol is not None and not self.lost

    # ITCPTransport

    def write(self, data: bytes) -> None:
        """Send bytes, and pause the producer when too many wait."""
        if not data or self.lost or self._fin_sent:
            return
        if self.handshake is None:
            self.pipe.write(bytes(data))
        else:
            self.handshake.write(bytes(data))
            if self.handshake.is_over:
                self.handshake = None
        if self._producer is not None and self.pipe.unread > WINDOW:
            self._producer_paused = True
            self._producer.pauseProducing()  # type: ignore[attr-defined]

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send bytes."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close when what was written has been taken."""
        if self.lost or self.disconnecting:
            return
        self.disconnecting = True
        self.settled = False
        self._close_when_flushed()

    def loseWriteConnection(self) -> None:
        """Close this half."""
        self._send_fin()

    def abortConnection(self) -> None:
        """Close at once."""
        if not self.lost and self.protocol is not None:
            self.pipe.cut_short()
            self._reset_far_end()
            self.reading = self.settled = False
            self.machine.callLater(0, self.lose, Failure(ConnectionAborted()))

    def getTcpNoDelay(self) -> bool:
        """Segments are never held back here."""
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Segments are never held back here."""

    def getTcpKeepAlive(self) -> bool:
        """Nobody probes an idle connection here."""
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Nobody probes an idle connection here."""

    def getHost(self) -> Address:
        """This end."""
        return self._host

    def getPeer(self) -> Address:
        """The far end."""
        return self._peer

    # IPushProducer: the protocol pauses its reading.

    def pauseProducing(self) -> None:
        """Read nothing more."""
        self.reading = False

    def resumeProducing(self) -> None:
        """Read on."""
        if not (self.lost or self.disconnecting):
            self.reading = True
            self.back.schedule()

    def stopProducing(self) -> None:
        """The protocol wants no more."""
        self.loseConnection()

    # IConsumer: the protocol's producer is paused when too much waits.

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Whom to pause."""
        self._producer = producer

    def unregisterProducer(self) -> None:
        """Nobody is to be paused any more."""
        self._producer = None
        self._producer_paused = False

    # What the pipes tell.

    def arrived(self, data: bytes) -> None:
        """Bytes have come in."""
        if not self.machine.alive or self.lost:
            # The socket is closed: the far end is told so.
            self._reset_far_end()
        elif self.protocol is not None:
            self.protocol.dataReceived(data)

    def far_end_closed(self) -> None:
        """The far end has closed its half."""
        if self.lost or not self.machine.alive or self.protocol is None:
            return
        half = IHalfCloseableProtocol(self.protocol, None)
        if half is None:
            self.lose(Failure(ConnectionDone()))
        else:
            half.readConnectionLost()

    def taken(self) -> None:
        """The far end has read something."""
        if self.lost or not self.machine.alive or self.machine.frozen:
            return
        if self._producer_paused and not self.pipe.unread:
            self._producer_paused = False
            if self._producer is not None:
                self._producer.resumeProducing()  # type: ignore[attr-defined]
        if self.disconnecting:
            self._close_when_flushed()

    def lose(self, reason: Failure) -> None:
        """The connection is gone."""
        if self.lost:
            return
        self.lost = True
        self.reading = self.settled = False
        self.machine.closed(self)
        self._forget_if_over()
        producer, self._producer = self._producer, None
        if self.protocol is not None and self.machine.alive:
            if producer is not None:
                producer.stopProducing()
            self.protocol.connectionLost(reason)

    def broken(self) -> None:
        """The connection was reset from elsewhere."""
        if self.machine.frozen:
            self.machine.callLater(0, self.lose, Failure(ConnectionLost()))
        else:
            self.lose(Failure(ConnectionLost()))

    def severed(self) -> None:
        """The connection is reset, behind what is on its way."""
        self._reset_far_end()
        self.machine.callLater(0, self.lose, Failure(ConnectionLost()))

    def vanish(self) -> None:
        """The process is gone, and with it what it had not sent."""
        if not self.lost:
            if self.machine.powered:
                self._reset_far_end()
            else:
                self.pipe.drop()
            self.lost = True
            self.settled = False
            self._forget_if_over()

    def _send_fin(self) -> None:
        if not (self.lost or self._fin_sent):
            self._fin_sent = True
            self.pipe.write(self.pipe.reader.far_end_closed)

    def _reset_far_end(self) -> None:
        self.pipe.write(self.pipe.reader.broken)

    def _close_when_flushed(self) -> None:
        if self.pipe.unread <= WINDOW:
            self._send_fin()
            self.machine.callLater(0, self.lose, Failure(ConnectionDone()))

    def _forget_if_over(self) -> None:
        if self.pipe.reader.lost:
            self.pipe.forget()
            self.back.forget()


def join(
    near: Transport, far: Transport, there: Way, back: Way, network: Weather
) -> None:
    """Make two transports the ends of one connection, which the first has dialled."""
    near.pipe = far.back = Pipe(there, near, far, network)
    far.pipe = near.back = Pipe(back, far, near, network)
    for transport in (near, far):
        transport.machine.opened(transport)

    def settle(transport: Transport) -> None:
        if not (transport.lost or transport.disconnecting):
            transport.settled = True
            network.settled(transport)

    if near.machine.mesh2 and far.machine.mesh2:
        for end, way in ((near, there), (far, back)):
            end.handshake = Handshake(
                end.pipe,
                way.troubles,
                network.rng,
                dials=end is near,
                ready=partial(settle, near),
                heard=partial(settle, far),
                sever=end.severed,
            )


def address(host: str, port: int) -> Address:
    """A TCP address as Twisted has it."""
    kind = IPv6Address if ":" in host else IPv4Address
    return kind("TCP", host, port)
