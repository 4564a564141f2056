"""The machines of the simulated network: what a node runs on."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IDelayedCall,
    IListeningPort,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from zope.interface import implementer

from meshproto.config import NodeConfig
from meshproto.errors import AddressError
from meshproto.interfaces import INetwork
from meshproto.testing._clock import NOWHERE, SimCall
from meshproto.testing._dial import Dial, Door, Endpoint, Map, Port
from meshproto.testing._tcp import Transport
from meshproto.wire.address import PeerAddress, Target, is_loopback, normal_host

_FIRST_EPHEMERAL_PORT = 49152


class Host:
    """An IP address of the simulated network, and its ports."""

    def __init__(self, network: Map, ip: str) -> None:
        self.network = network
        self.ip = normal_host(ip)
        self.ports: dict[int, Port] = {}
        #: What becomes of dials of those ports that are not simply open.
        self.doors: dict[int, Door] = {}
        self.machines: list[Machine] = []
        self._ephemeral = count(_FIRST_EPHEMERAL_PORT)

    def next_port(self) -> int:
        """A source port that nobody has used."""
        return next(self._ephemeral)

    def is_up(self) -> bool:
        """Whether a kernel runs here that answers what arrives."""
        return any(machine.powered for machine in self.machines)


@implementer(IReactorTime, INetwork)
class Machine:
    """What one node runs on: its clock and its network, until it crashes.

    ``offset`` and ``rate`` are the machine's own idea of time.
    """

    def __init__(self, host: Host, config: NodeConfig) -> None:
        self.host = host
        # Who died here does not matter any more once somebody has come after.
        host.machines = [machine for machine in host.machines if machine.alive]
        host.machines.append(self)
        self.alive: bool = True
        #: Nothing of the program runs: it is suspended, or at work in the midst
        #: of the call that it makes at present.
        self.frozen = False
        self._is_suspended = False
        self._is_in_turn = False
        self._works_until = 0.0
        self.powered = True
        self.offset = 0.0
        self.rate = 1.0
        #: Bytes per second that the node reads from each connection.
        self.reading_speed: float | None = None
        #: Connection attempts that have not ended.
        self.dials: dict[Dial, None] = {}
        #: What the kernel has taken for the program while that was frozen.
        self.backlog: list[Callable[[], None]] = []
        self.transports: dict[Transport, None] = {}
        self.port = config.port
        self.mesh2 = "mesh/2" in config.protocols
        self._listening: Port | None = None
        self._suspended: list[SimCall] = []

    # IReactorTime

    def seconds(self) -> float:
        """The machine's own time, which goes on while the program works."""
        return self.offset + self.rate * self.present

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: Any, **kw: Any
    ) -> IDelayedCall:
        """Call back ``delay`` of the machine's own seconds from now."""
        clock = self.host.network.clock
        delay = self.present - clock.now + delay / self.rate
        return clock.call_for(self, delay, callable, args, kw)

    def getDelayedCalls(self) -> list[IDelayedCall]:
        """The calls of the whole network that have not been made."""
        return self.host.network.clock.getDelayedCalls()

    @property
    def present(self) -> float:
        """How far the program has come, in seconds of the network's clock."""
        return max(self.host.network.clock.now, self._works_until)

    def suspend(self, call: SimCall) -> bool:
        """Keep a call while the machine is frozen, for ever once it is dead."""
        if not self.alive:
            return True
        if self.frozen:
            self._suspended.append(call)
        return self.frozen

    # INetwork

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen on the node's port."""
        number = self.port or self.host.next_port()
        if number in self.host.ports:
            return fail(CannotListenError(self.host.ip, number, OSError("in use")))
        self.port = number
        self._listening = self.host.ports[number] = Port(self, number, factory)
        return succeed(self._listening)

    def endpoint(self, target: Target) -> IStreamClientEndpoint:
        """The way to an address; endpoint strings have none here."""
        if not isinstance(target, PeerAddress):
            raise AddressError(f"{target} is no address of the simulated network")
        return Endpoint(self, target)

    def is_own_host(self, host: str) -> bool:
        """Whether the host is this machine."""
        return is_loopback(host) or host == self.host.ip

    # Faults

    def crash(self, *, powered: bool) -> None:
        """The process is gone; with ``powered`` its kernel says so to others."""
        self.alive = False
        self.powered = powered
        if self._listening is not None:
            self._listening.close()
        self.dials.clear()
        self.backlog.clear()
        for transport in tuple(self.transports):
            transport.vanish()
        self.transports.clear()

    def freeze(self) -> None:
        """Nothing runs, but the kernel goes on taking what arrives."""
        self._is_suspended = self.frozen = True

    def thaw(self) -> None:
        """Everything that was due runs, in its order, and then what arrived."""
        self._is_suspended = False
        self._go_on()

    def work(self, seconds: float) -> None:
        """The program computes for so many seconds, in the midst of a call."""
        was_working = self._is_working
        self._works_until = self.present + seconds
        self.frozen = not self._is_in_turn
        if not was_working:
            self._rest_later()

    @property
    def _is_working(self) -> bool:
        return self._works_until > self.host.network.clock.now

    def _rest_later(self) -> None:
        clock = self.host.network.clock
        clock.call_for(None, self._works_until - clock.now, self._rest)

    def _rest(self) -> None:
        if self._is_working:
            # There was more to compute.
            self._rest_later()
        else:
            self._go_on()

    def _go_on(self) -> None:
        """A turn of the program's reactor, if it can run.

        The calls that are due come first, then what has arrived on each
        connection, whatever the one before has taken.
        """
        self.frozen = self._is_suspended or self._is_working
        if self.frozen or not self.alive:
            return
        self._is_in_turn = True
        suspended, self._suspended = self._suspended, []
        for call in suspended:
            # One that was moved meanwhile has its place in the clock's queue.
            if call.active() and call.place == NOWHERE:
                call.fire()
        backlog, self.backlog = self.backlog, []
        for accept in backlog:
            accept()
        for transport in tuple(self.transports):
            transport.back.read()
            transport.taken()
        self._is_in_turn = False
        self.frozen = self._is_working

    def opened(self, transport: Transport) -> None:
        """A connection of the node came about."""
        self.transports[transport] = None

    def closed(self, transport: Transport) -> None:
        """A connection of the node is closed."""
        self.transports.pop(transport, None)
