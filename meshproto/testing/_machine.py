"""The machines of the simulated network: what a node runs on."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any

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

from meshproto.address import PeerAddress, Target, is_loopback, normal_host
from meshproto.config import NodeConfig
from meshproto.errors import AddressError
from meshproto.interfaces import INetwork
from meshproto.testing._clock import SimCall
from meshproto.testing._dial import Dial, Door, Endpoint, Port
from meshproto.testing._tcp import Transport

if TYPE_CHECKING:
    from meshproto.testing._network import SimNetwork

_FIRST_EPHEMERAL_PORT = 49152


class Host:
    """An IP address of the simulated network, and its ports."""

    def __init__(self, network: SimNetwork, ip: str) -> None:
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
        self.frozen = False
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
        self._listening: Port | None = None
        self._suspended: list[SimCall] = []

    # IReactorTime

    def seconds(self) -> float:
        """The machine's own time."""
        return self.offset + self.rate * self.host.network.clock.seconds()

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: Any, **kw: Any
    ) -> IDelayedCall:
        """Call back ``delay`` of the machine's own seconds from now."""
        clock = self.host.network.clock
        return clock.call_for(self, delay / self.rate, callable, args, kw)

    def getDelayedCalls(self) -> list[IDelayedCall]:
        """The calls of the whole network that have not been made."""
        return self.host.network.clock.getDelayedCalls()

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
        self.frozen = True

    def thaw(self) -> None:
        """Everything that was due runs, in its order, and then what arrived."""
        self.frozen = False
        suspended, self._suspended = self._suspended, []
        for call in suspended:
            if call.active():
                self.host.network.clock.push(call.time, call)
        self.host.network.clock.call_for(self, 0.0, self._wake)

    def _wake(self) -> None:
        backlog, self.backlog = self.backlog, []
        for accept in backlog:
            accept()
        for transport in tuple(self.transports):
            transport.back.schedule()
            transport.taken()

    def opened(self, transport: Transport) -> None:
        """A connection of the node came about."""
        self.transports[transport] = None

    def closed(self, transport: Transport) -> None:
        """A connection of the node is closed."""
        self.transports.pop(transport, None)
