"""A network in memory, to test programs that use a mesh.

`SimNetwork` runs any number of real `MeshNode`s in one thread on one virtual
clock.  Nothing sleeps and no socket is opened: an hour of mesh time takes
moments, and the same seed gives the same run.

::

    net = SimNetwork(seed=1)
    alice = net.node("10.0.0.1", name="alice")
    bob = net.node("10.0.0.2", name="bob", bootstrap=("10.0.0.1:8001",))
    net.start(alice, bob)
    net.run_until(lambda: alice.peers() and bob.peers())
    alice.broadcast("hello")
    net.run(1.0)
    assert net.chats(bob) == ["hello"]

What is simulated is TCP as programs see it: segments arrive in order after a
latency, a reader that stops makes the writer's buffer fill, each half closes by
itself, an abort loses what was not read, a port where nobody listens refuses,
and what is cut off waits (TCP sends it again) until the cut heals.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Iterable
from itertools import combinations, count
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import (
    CannotListenError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
)
from twisted.internet.interfaces import (
    IConsumer,
    IDelayedCall,
    IHalfCloseableProtocol,
    IListeningPort,
    IProducer,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from meshproto.address import PeerAddress, Target, is_loopback, normal_host
from meshproto.config import NodeConfig
from meshproto.errors import AddressError
from meshproto.events import ChatReceived, Event
from meshproto.interfaces import INetwork
from meshproto.node import MeshNode

#: Bytes that a connection holds between a writer and a reader that has stopped
#: before the writer's producer is paused.
WINDOW = 64 * 1024

_FIRST_EPHEMERAL_PORT = 49152


class SimTimeout(AssertionError):
    """What a `SimNetwork.run_until` waited for did not come about in time."""


@implementer(IReactorTime)
class SimClock:
    """A virtual clock that goes from event to event.

    It has the interface of `twisted.internet.task.Clock`, but keeps its calls
    in a heap, and while a call runs `seconds` is the very time at which it was
    due.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._heap: list[tuple[float, int, DelayedCall]] = []
        self._order = count()

    def seconds(self) -> float:
        """The virtual time, in seconds."""
        return self._now

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: Any, **kw: Any
    ) -> IDelayedCall:
        """Call back ``delay`` virtual seconds from now."""
        if delay < 0:
            raise ValueError(f"{delay} is in the past")
        call = DelayedCall(
            self._now + delay,
            callable,
            args,
            kw,
            lambda _: None,
            self._push,
            self.seconds,
        )
        self._push(call)
        return call

    def getDelayedCalls(self) -> list[IDelayedCall]:
        """The calls that have not been made, the next one first."""
        return [call for _, _, call in sorted(self._heap) if call.active()]

    def step(self, until: float | None = None) -> bool:
        """Make the next call, unless it is due after ``until``.

        Returns whether there was one.
        """
        while self._heap:
            due, _, call = self._heap[0]
            if not call.active() or call.time != due:
                heapq.heappop(self._heap)
            elif call.delayed_time > 0:
                heapq.heappop(self._heap)
                call.activate_delay()
                self._push(call)
            elif until is not None and due > until:
                return False
            else:
                heapq.heappop(self._heap)
                self._now = max(self._now, due)
                call.called = 1
                call.func(*call.args, **call.kw)
                return True
        return False

    def advance(self, seconds: float) -> None:
        """Make every call of the next ``seconds``, then stand at their end."""
        end = self._now + seconds
        while self.step(until=end):
            pass
        self._now = end

    def _push(self, call: DelayedCall) -> None:
        heapq.heappush(self._heap, (call.time, next(self._order), call))


class SimNetwork:
    """A network of simulated hosts, with real nodes on them.

    ``latency`` is the range, in seconds, from which the way of each segment is
    drawn; ``seed`` decides everything that is drawn.
    """

    def __init__(
        self, *, seed: int = 0, latency: tuple[float, float] = (0.001, 0.005)
    ) -> None:
        self.seed = seed
        self.latency = latency
        self.clock = SimClock()
        self._rng = random.Random(f"network/{seed}")
        self._hosts: dict[str, _Host] = {}
        self._latencies: dict[tuple[str, str], tuple[float, float]] = {}
        self._cuts: set[tuple[str, str]] = set()
        self._pipes: dict[_Pipe, None] = {}
        self._machines: dict[MeshNode, _Machine] = {}
        self._events: dict[MeshNode, list[Event]] = {}

    # Nodes

    def node(self, host: str, **settings: Any) -> MeshNode:
        """A new node on a host (made when it is new); `start` starts it.

        ``host`` is an IP address; ``settings`` are those of `NodeConfig`.
        Several nodes on one host need different ports.
        """
        place = self._hosts.setdefault(normal_host(host), _Host(self, host))
        config = NodeConfig(**settings)
        machine = _Machine(place, config)
        node = MeshNode(
            config,
            reactor=machine,
            network=machine,
            rng=random.Random(f"node/{self.seed}/{host}/{len(self._machines)}"),
        )
        self._machines[node] = machine
        self._events[node] = []
        node.subscribe(self._events[node].append)
        return node

    def start(self, *nodes: MeshNode) -> None:
        """Start nodes, all at the same instant; raises what stops one."""
        for node in nodes:
            failures: list[Failure] = []
            node.start().addErrback(failures.append)
            if failures:
                failures[0].raiseException()

    def crash(self, node: MeshNode) -> None:
        """End a node as kill -9 does: its links close, nothing is flushed.

        Start a new `node` on the same host and port to bring it back.
        """
        self._machines[node].crash()

    # Time

    def run(self, seconds: float) -> None:
        """Let that much virtual time pass."""
        self.clock.advance(seconds)

    def run_until(
        self, condition: Callable[[], object], timeout: float = 60.0
    ) -> float:
        """Let time pass until the condition holds; returns how much did.

        Raises `SimTimeout` when it does not hold within ``timeout`` virtual
        seconds.
        """
        start = self.clock.seconds()
        while not condition():
            if not self.clock.step(until=start + timeout):
                raise SimTimeout(
                    f"not within {timeout:g} virtual seconds (seed {self.seed})"
                )
        return self.clock.seconds() - start

    # The network

    def set_latency(
        self, one: MeshNode, other: MeshNode, latency: tuple[float, float]
    ) -> None:
        """Give the way between two nodes' hosts a latency of its own."""
        a, b = self.host_of(one), self.host_of(other)
        self._latencies[a, b] = self._latencies[b, a] = latency

    def cut(self, one: MeshNode, other: MeshNode) -> None:
        """Let nothing pass between two nodes' hosts until `heal`."""
        a, b = self.host_of(one), self.host_of(other)
        self._cuts |= {(a, b), (b, a)}

    def heal(self, one: MeshNode, other: MeshNode) -> None:
        """Take back a `cut`: what waited is on its way again."""
        a, b = self.host_of(one), self.host_of(other)
        self._cuts -= {(a, b), (b, a)}
        self._wake()

    def partition(self, *groups: Iterable[MeshNode]) -> None:
        """Cut every node of each group off from those of all other groups."""
        for group, others in combinations([tuple(group) for group in groups], 2):
            for one in group:
                for other in others:
                    self.cut(one, other)

    def heal_all(self) -> None:
        """Take back every cut."""
        self._cuts.clear()
        self._wake()

    def break_links(self, one: MeshNode, other: MeshNode) -> int:
        """Reset every connection between two nodes' hosts; returns how many."""
        pair = {self.host_of(one), self.host_of(other)}
        broken = [
            pipe for pipe in tuple(self._pipes) if {pipe.source, pipe.sink} == pair
        ]
        for pipe in broken:
            pipe.writer.lose(Failure(ConnectionLost()))
        return len(broken) // 2

    # What happened

    def events(self, node: MeshNode) -> list[Event]:
        """Every event of a node so far, in order."""
        return list(self._events[node])

    def chats(self, node: MeshNode) -> list[str]:
        """The texts that a node has received so far, in order."""
        return [e.text for e in self._events[node] if isinstance(e, ChatReceived)]

    def host_of(self, node: MeshNode) -> str:
        """The IP address of the host that a node is on."""
        return self._machines[node].host.ip

    def connections(self) -> int:
        """How many TCP connections are open, both ends counted as one."""
        return sum(not pipe.writer.lost for pipe in self._pipes) // 2

    def is_full_mesh(self, *nodes: MeshNode) -> bool:
        """Whether each of the nodes is linked to each other one, once."""
        ids = {(self.host_of(node), node.port) for node in nodes}
        return all(len(node.peers()) == len(ids) - 1 for node in nodes)

    def _wake(self) -> None:
        for pipe in tuple(self._pipes):
            pipe.schedule()
        for host in self._hosts.values():
            host.retry_dials()

    def _delay(self, source: str, sink: str) -> float:
        low, high = self._latencies.get((source, sink), self.latency)
        return self._rng.uniform(low, high)


class _Host:
    """A machine of the simulated network: an IP address and its ports."""

    def __init__(self, network: SimNetwork, ip: str) -> None:
        self.network = network
        self.ip = normal_host(ip)
        self.ports: dict[int, _Port] = {}
        self.waiting_dials: dict[_Dial, None] = {}
        self._ephemeral = count(_FIRST_EPHEMERAL_PORT)

    def next_port(self) -> int:
        return next(self._ephemeral)

    def retry_dials(self) -> None:
        for dial in tuple(self.waiting_dials):
            dial.knock()


@implementer(IReactorTime, INetwork)
class _Machine:
    """What one node runs on: its clock and its network, until it crashes."""

    def __init__(self, host: _Host, config: NodeConfig) -> None:
        self.host = host
        self.alive = True
        self._config = config
        self._transports: dict[_Transport, None] = {}
        self._port: _Port | None = None

    def seconds(self) -> float:
        return self.host.network.clock.seconds()

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: Any, **kw: Any
    ) -> IDelayedCall:
        clock = self.host.network.clock
        return clock.callLater(delay, self._call, callable, args, kw)

    def getDelayedCalls(self) -> list[IDelayedCall]:
        return self.host.network.clock.getDelayedCalls()

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        number = self._config.port or self.host.next_port()
        if number in self.host.ports:
            return fail(CannotListenError(self.host.ip, number, OSError("in use")))
        self._port = _Port(self, number, factory)
        self.host.ports[number] = self._port
        return succeed(self._port)

    def endpoint(self, target: Target) -> IStreamClientEndpoint:
        if not isinstance(target, PeerAddress):
            raise AddressError(f"{target} is no address of the simulated network")
        return _Endpoint(self, target)

    def is_own_host(self, host: str) -> bool:
        return is_loopback(host) or host == self.host.ip

    def crash(self) -> None:
        self.alive = False
        if self._port is not None:
            self._port.close()
        for transport in tuple(self._transports):
            transport.vanish()

    def opened(self, transport: _Transport) -> None:
        self._transports[transport] = None

    def closed(self, transport: _Transport) -> None:
        self._transports.pop(transport, None)

    def _call(
        self, callable: Callable[..., Any], args: tuple[Any, ...], kw: dict[str, Any]
    ) -> None:
        if self.alive:
            callable(*args, **kw)


@implementer(IListeningPort)
class _Port:
    def __init__(
        self, machine: _Machine, number: int, factory: IProtocolFactory
    ) -> None:
        self.machine = machine
        self.factory = factory
        self._number = number

    def startListening(self) -> None:
        """It listens from the start."""

    def stopListening(self) -> Deferred[None]:
        self.close()
        return succeed(None)

    def getHost(self) -> IPv4Address | IPv6Address:
        wildcard = "::" if ":" in self.machine.host.ip else "0.0.0.0"
        return _address(wildcard, self._number)

    def close(self) -> None:
        ports = self.machine.host.ports
        if ports.get(self._number) is self:
            del ports[self._number]


@implementer(IStreamClientEndpoint)
class _Endpoint:
    def __init__(self, machine: _Machine, target: PeerAddress) -> None:
        self._machine = machine
        self._target = target

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return _Dial(self._machine, self._target, protocolFactory).connected


class _Dial:
    """A connection attempt: knocks until somebody answers or it is given up."""

    def __init__(
        self, machine: _Machine, target: PeerAddress, factory: IProtocolFactory
    ) -> None:
        self._machine = machine
        self._factory = factory
        self._port = target.port
        self._network = machine.host.network
        loop = is_loopback(target.host)
        self._local_ip = target.host if loop else machine.host.ip
        self._remote_ip = machine.host.ip if loop else target.host
        self._seen_ip = target.host
        if self._seen_ip == "localhost":
            self._local_ip = self._seen_ip = "127.0.0.1"
        self._over = False
        self.connected: Deferred[IProtocol] = Deferred(self._cancelled)
        self.knock()

    def knock(self) -> None:
        way = self._machine.host.ip, self._remote_ip
        self._machine.host.waiting_dials.pop(self, None)
        if self._over or not self._machine.alive:
            return
        host = self._network._hosts.get(self._remote_ip)
        if host is None or way in self._network._cuts:
            # Nothing comes back, not even a refusal.
            self._machine.host.waiting_dials[self] = None
            return
        self._network.clock.callLater(self._network._delay(*way), self._arrive, host)

    def _arrive(self, host: _Host) -> None:
        if self._over or not self._machine.alive:
            return
        port = host.ports.get(self._port)
        if port is None:
            back = self._network._delay(host.ip, self._machine.host.ip)
            self._network.clock.callLater(back, self._refused)
            return
        source = _address(self._local_ip, self._machine.host.next_port())
        server = port.factory.buildProtocol(source)
        if server is None:
            return
        here = _address(self._seen_ip, self._port)
        far = _Transport(port.machine, server, here, source)
        near = _Transport(self._machine, None, source, here)
        _join(self._network, near, far)
        far.pipe.established(self._establish, near)
        server.makeConnection(far)

    def _establish(self, transport: _Transport) -> None:
        if self._over or not self._machine.alive:
            transport.vanish()
            return
        self._over = True
        protocol = self._factory.buildProtocol(transport.getPeer())
        if protocol is None:
            transport.vanish()
            return
        transport.protocol = protocol
        protocol.makeConnection(transport)
        self.connected.callback(protocol)

    def _refused(self) -> None:
        if not self._over and self._machine.alive:
            self._over = True
            self.connected.errback(ConnectionRefusedError())

    def _cancelled(self, _: Deferred[IProtocol]) -> None:
        self._over = True
        self._machine.host.waiting_dials.pop(self, None)


_FIN = object()
_RESET = object()


class _Pipe:
    """One direction of a connection: what was written and has not been read."""

    def __init__(
        self, network: SimNetwork, writer: _Transport, reader: _Transport
    ) -> None:
        self.writer = writer
        self.reader = reader
        self.source = writer.machine.host.ip
        self.sink = reader.machine.host.ip
        self.unread = 0
        self._network = network
        self._segments: deque[tuple[float, Any]] = deque()
        self._last_arrival = 0.0
        self._next: IDelayedCall | None = None

    def write(self, segment: Any) -> None:
        now = self._network.clock.seconds()
        delay = self._network._delay(self.source, self.sink)
        self._last_arrival = max(self._last_arrival, now + delay)
        self._segments.append((self._last_arrival, segment))
        if isinstance(segment, bytes):
            self.unread += len(segment)
        self.schedule()

    def established(
        self, callback: Callable[[_Transport], None], near: _Transport
    ) -> None:
        self.write((callback, near))

    def schedule(self) -> None:
        """Time the arrival of the next segment, if it can arrive at all."""
        if self._next is not None or not self._segments:
            return
        if (self.source, self.sink) in self._network._cuts:
            return
        if not self.reader.reading and isinstance(self._segments[0][1], bytes):
            return
        now = self._network.clock.seconds()
        due = max(self._segments[0][0], now)
        self._next = self._network.clock.callLater(due - now, self._arrive)

    def _arrive(self) -> None:
        self._next = None
        if (self.source, self.sink) in self._network._cuts or not self._segments:
            return
        now = self._network.clock.seconds()
        data = []
        while self._segments and self._segments[0][0] <= now:
            segment = self._segments[0][1]
            if not isinstance(segment, bytes) or not self.reader.reading:
                break
            data.append(segment)
            self._segments.popleft()
        if data:
            chunk = b"".join(data)
            self.unread -= len(chunk)
            self.reader.arrived(chunk)
            self.writer.taken()
        elif self._segments and not isinstance(self._segments[0][1], bytes):
            _, segment = self._segments.popleft()
            if segment is _FIN:
                self.reader.far_end_closed()
            elif segment is _RESET:
                self.reader.lose(Failure(ConnectionLost()))
            else:
                callback, transport = segment
                callback(transport)
        self.schedule()


@implementer(ITCPTransport, IConsumer)
class _Transport:
    """One end of a simulated TCP connection."""

    disconnecting = False

    def __init__(
        self,
        machine: _Machine,
        protocol: IProtocol | None,
        host: IPv4Address | IPv6Address,
        peer: IPv4Address | IPv6Address,
    ) -> None:
        self.machine = machine
        self.protocol = protocol
        self.lost = False
        self.reading = True
        self.pipe: _Pipe
        self.back: _Pipe
        self._host = host
        self._peer = peer
        self._producer: IProducer | None = None
        self._producer_paused = False
        self._fin_sent = False
        self._fin_received = False

    # ITCPTransport

    def write(self, data: bytes) -> None:
        if not data or self.lost or self._fin_sent:
            return
        self.pipe.write(bytes(data))
        if self._producer is not None and self.pipe.unread > WINDOW:
            self._producer_paused = True
            self._producer.pauseProducing()  # type: ignore[attr-defined]

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        if self.lost or self.disconnecting:
            return
        self.disconnecting = True
        self._close_when_flushed()

    def loseWriteConnection(self) -> None:
        if not (self.lost or self._fin_sent):
            self._fin_sent = True
            self.pipe.write(_FIN)

    def abortConnection(self) -> None:
        if not self.lost and self.protocol is not None:
            self.pipe.write(_RESET)
            self.reading = False
            self.machine.callLater(0, self.lose, Failure(ConnectionAborted()))

    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def getTcpKeepAlive(self) -> bool:
        return True

    def setTcpKeepAlive(self, enabled: bool) -> None:
        pass

    def getHost(self) -> IPv4Address | IPv6Address:
        return self._host

    def getPeer(self) -> IPv4Address | IPv6Address:
        return self._peer

    # IPushProducer: the protocol pauses its reading.

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        if not (self.lost or self.disconnecting):
            self.reading = True
            self.back.schedule()

    def stopProducing(self) -> None:
        self.loseConnection()

    # IConsumer: the protocol's producer is paused when too much waits.

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None
        self._producer_paused = False

    # What the pipes tell.

    def arrived(self, data: bytes) -> None:
        if not self.lost and self.machine.alive and self.protocol is not None:
            self.protocol.dataReceived(data)
        elif self.lost:
            # The socket is closed: the far end is told so.
            self.pipe.write(_RESET)

    def far_end_closed(self) -> None:
        if self.lost or not self.machine.alive or self.protocol is None:
            return
        self._fin_received = True
        half = IHalfCloseableProtocol(self.protocol, None)
        if half is None:
            self.lose(Failure(ConnectionDone()))
        else:
            half.readConnectionLost()

    def taken(self) -> None:
        """The far end has read something."""
        if self.lost or not self.machine.alive:
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
        self.reading = False
        self.machine.closed(self)
        self._forget_if_over()
        producer, self._producer = self._producer, None
        if self.protocol is not None and self.machine.alive:
            if producer is not None:
                producer.stopProducing()
            self.protocol.connectionLost(reason)

    def vanish(self) -> None:
        """The process is gone; its kernel resets the connection."""
        if not self.lost:
            self.pipe.write(_RESET)
            self.lost = True
            self._forget_if_over()

    def _close_when_flushed(self) -> None:
        if self.pipe.unread <= WINDOW:
            if not self._fin_sent:
                self._fin_sent = True
                self.pipe.write(_FIN)
            self.machine.callLater(0, self.lose, Failure(ConnectionDone()))

    def _forget_if_over(self) -> None:
        network = self.machine.host.network
        if self.pipe.reader.lost:
            network._pipes.pop(self.pipe, None)
            network._pipes.pop(self.back, None)


def _join(network: SimNetwork, near: _Transport, far: _Transport) -> None:
    near.pipe = far.back = _Pipe(network, near, far)
    far.pipe = near.back = _Pipe(network, far, near)
    for transport in (near, far):
        network._pipes[transport.pipe] = None
        transport.machine.opened(transport)


def _address(host: str, port: int) -> IPv4Address | IPv6Address:
    kind = IPv6Address if ":" in host else IPv4Address
    return kind("TCP", host, port)
