"""How a connection comes about: ports, and those who knock at them.

A dial knocks until it is answered, refused or given up, in growing pauses, as
TCP does with its SYN.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from zope.interface import implementer

from meshproto.testing._clock import NOWHERE
from meshproto.testing._tcp import (
    Address,
    Program,
    Transport,
    Way,
    Weather,
    address,
    join,
)
from meshproto.wire.address import PeerAddress, is_loopback

#: After so many seconds a dial that gets no answer knocks again; the pause
#: doubles each time.
_FIRST_SYN_PAUSE = 1.0


class Door(Enum):
    """What becomes of a dial that reaches a port."""

    OPEN = auto()
    REFUSING = auto()
    SILENT = auto()


class Site(Protocol):
    """An address of the network, and its ports."""

    ip: str
    ports: dict[int, Port]
    doors: dict[int, Door]

    @property
    def network(self) -> Map:
        """The network that it is in."""

    def next_port(self) -> int:
        """A source port that nobody has used."""

    def is_up(self) -> bool:
        """Whether a kernel runs there."""


class Map(Weather, Protocol):
    """What leads where."""

    def way(self, source: str, target: str) -> Way:
        """What goes from one address to another takes this way."""

    def host(self, ip: str) -> Site | None:
        """Who has the address, if anybody."""


class Dialler(Program, Protocol):
    """What dials and is dialled."""

    dials: dict[Dial, None]
    backlog: list[Callable[[], None]]

    @property
    def host(self) -> Site:
        """Where it runs."""


@implementer(IListeningPort)
class Port:
    """A port that a node listens on."""

    def __init__(
        self, machine: Dialler, number: int, factory: IProtocolFactory
    ) -> None:
        self.machine = machine
        self.factory = factory
        self.number = number

    def startListening(self) -> None:
        """It listens from the start."""

    def stopListening(self) -> Deferred[None]:
        """Take no more connections."""
        self.close()
        return succeed(None)

    def getHost(self) -> Address:
        """Every address of the host, and the port."""
        wildcard = "::" if ":" in self.machine.host.ip else "0.0.0.0"
        return address(wildcard, self.number)

    def close(self) -> None:
        """Take no more connections."""
        ports = self.machine.host.ports
        if ports.get(self.number) is self:
            del ports[self.number]


@implementer(IStreamClientEndpoint)
class Endpoint:
    """The way from a machine to an address."""

    def __init__(self, machine: Dialler, target: PeerAddress) -> None:
        self._machine = machine
        self._target = target

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Dial; without an answer that lasts until it is cancelled."""
        return Dial(self._machine, self._target, protocolFactory).connected


class Dial:
    """A connection attempt: knocks until somebody answers or it is given up."""

    def __init__(
        self, machine: Dialler, target: PeerAddress, factory: IProtocolFactory
    ) -> None:
        self.place = NOWHERE
        self._machine = machine
        self._factory = factory
        self._port = target.port
        self._network = network = machine.host.network
        self._clock = network.clock
        loop = is_loopback(target.host)
        self._local_ip = target.host if loop else machine.host.ip
        self._remote_ip = machine.host.ip if loop else target.host
        self._seen_ip = target.host
        if self._seen_ip == "localhost":
            self._local_ip = self._seen_ip = "127.0.0.1"
        self._there = network.way(machine.host.ip, self._remote_ip)
        self._back = network.way(self._remote_ip, machine.host.ip)
        self._over = False
        self._pause = _FIRST_SYN_PAUSE
        self._next = self.knock
        self.connected: Deferred[IProtocol] = Deferred(self._cancelled)
        machine.dials[self] = None
        self.knock()

    def fire(self) -> bool:
        """What was waited for has come."""
        self._next()
        return True

    def knock(self) -> None:
        """Send a SYN, if there is a way for it."""
        self._there.dials.pop(self, None)
        self._back.dials.pop(self, None)
        if self._over or not self._machine.alive:
            return
        if self._there.cuts:
            # Nothing comes back, not even a refusal.
            self._wait()
        else:
            self._in(self._there.delay(), self._arrive)

    def _in(self, seconds: float, callback: Callable[[], None]) -> None:
        self._next = callback
        self._clock.push(self._clock.now + seconds, self)

    def _wait(self) -> None:
        """No answer comes: knock again, as TCP does, after growing pauses."""
        self._there.dials[self] = self._back.dials[self] = None
        self._in(self._pause, self.knock)
        self._pause *= 2

    def _arrive(self) -> None:
        if self._over or not self._machine.alive:
            return
        host = self._network.host(self._remote_ip)
        if host is None or not host.is_up() or self._back.cuts:
            self._wait()
            return
        door = host.doors.get(self._port, Door.OPEN)
        port = host.ports.get(self._port)
        if door is Door.SILENT:
            self._wait()
        elif door is Door.REFUSING or port is None:
            self._in(self._back.delay(), self._refused)
        else:
            self._accept(port)

    def _accept(self, port: Port) -> None:
        """The kernel takes the connection; the program hears of it if it runs."""
        source = address(self._local_ip, self._machine.host.next_port())
        here = address(self._seen_ip, self._port)
        far = Transport(port.machine, None, here, source)
        near = Transport(self._machine, None, source, here)
        join(near, far, self._there, self._back, self._network)
        far.pipe.write(lambda: self._establish(near))

        def accept() -> None:
            if far.lost:
                return
            server = port.factory.buildProtocol(source)
            if server is None:
                far.vanish()
                return
            far.protocol = server
            server.makeConnection(far)

        if port.machine.frozen:
            port.machine.backlog.append(accept)
        else:
            accept()

    def _establish(self, transport: Transport) -> None:
        if self._over or not self._machine.alive:
            transport.vanish()
            return
        self._end()
        if transport.lost:
            self.connected.errback(ConnectionLost())
            return
        protocol = self._factory.buildProtocol(transport.getPeer())
        if protocol is None:
            transport.vanish()
            return
        transport.protocol = protocol
        protocol.makeConnection(transport)
        self.connected.callback(protocol)

    def _refused(self) -> None:
        if not self._over and self._machine.alive:
            self._end()
            self.connected.errback(ConnectionRefusedError())

    def _cancelled(self, _: Deferred[IProtocol]) -> None:
        self._end()

    def _end(self) -> None:
        self._over = True
        self.place = NOWHERE
        self._machine.dials.pop(self, None)
        self._there.dials.pop(self, None)
        self._back.dials.pop(self, None)
