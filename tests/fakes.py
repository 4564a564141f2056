"""Stand-ins for the parts of a node, to drive one floor without the others."""

from __future__ import annotations

import random
from bisect import insort
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, TypeVar

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
)
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IHalfCloseableProtocol,
    IListeningPort,
    IProducer,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IReactorTime,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from meshproto.config import NodeConfig
from meshproto.errors import AddressError
from meshproto.events import (
    ChatReceived,
    ChatsReceived,
    CloseReason,
    DebugEvent,
    Delivery,
    Direction,
    Event,
    KnownAddress,
    Peer,
    PeerConnected,
    PeerDisconnected,
)
from meshproto.interfaces import IMesh, INetwork
from meshproto.link.interfaces import IPeerHost, LinkLimits
from meshproto.link.protocol import MeshProtocol
from meshproto.mesh.node import MeshNode
from meshproto.rules import pairs
from meshproto.rules.handshake import Handshake
from meshproto.rules.identity import PeerKey, key_of_greeting
from meshproto.rules.interfaces import IPeerLink, ISession
from meshproto.rules.registry import Admitted, PeerEntry, Verdict, host_key
from meshproto.rules.session import Session
from meshproto.rules.turns import Turns
from meshproto.wire.address import PeerAddress, Target, parse_target
from meshproto.wire.interfaces import IWire
from meshproto.wire.mesh1 import MAX_LINE, Mesh1
from meshproto.wire.mesh2 import Mesh2
from meshproto.wire.messages import (
    MAX_PAYLOAD,
    Chat,
    Chats,
    Greeting,
    Hello,
    Incarnation,
    Message,
    Refusal,
    RefusalReason,
)

E = TypeVar("E", bound=Event)


def peer(
    name: str = "bob",
    host: str = "192.168.1.100",
    port: int | None = 8002,
    *,
    id: str | None = None,
    direction: Direction = Direction.INCOMING,
    last_heard: float = 0.0,
) -> Peer:
    """A connected peer; its ID is ``peer-<port>`` unless it is given."""
    return Peer(
        id=id or f"peer-{port}",
        name=name,
        host=host,
        address=PeerAddress.of(host, port) if port else None,
        direction=direction,
        connected_at=0.0,
        last_heard=last_heard,
    )


def known(
    text: str,
    *,
    linked: bool = False,
    proven: bool = False,
    bootstrap: bool = False,
    failures: int = 0,
) -> KnownAddress:
    """An entry of the address book."""
    return KnownAddress(
        target=PeerAddress.parse(text),
        linked=linked,
        proven=proven,
        bootstrap=bootstrap,
        failures=failures,
    )


@implementer(IMesh)
@dataclass
class FakeMesh:
    """Does what the test says, and remembers what was asked of it.

    ``starting``, ``stopping`` and ``dialling`` are what the next `start`,
    `stop` and `connect` return; ``refusal`` is raised instead of sending.
    """

    config: NodeConfig = field(default_factory=NodeConfig)
    id: str = "peer-8001"
    name: str = "alice"
    port: int = 8001
    starting: Deferred[None] = field(default_factory=lambda: succeed(None))
    stopping: Deferred[None] = field(default_factory=lambda: succeed(None))
    dialling: Deferred[Peer] = field(default_factory=Deferred)
    refusal: Exception | None = None
    connected: list[Peer] = field(default_factory=list)
    book: list[KnownAddress] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    subscribers: list[Callable[[Event], object]] = field(default_factory=list)
    kinds: dict[Any, tuple[type[Event], ...]] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)

    def emit(self, *events: Event) -> None:
        """Tell the subscribers, as a node does."""
        for event in events:
            for subscriber in tuple(self.subscribers):
                subscriber(event)

    # IMesh

    def subscribe(
        self, subscriber: Callable[[Any], object], *kinds: type[Event]
    ) -> Callable[[], None]:
        def tell(event: Event) -> None:
            if isinstance(event, ChatReceived) and ChatsReceived in kinds:
                event = ChatsReceived(peer=event.peer, texts=(event.text,))
            if isinstance(event, kinds or Event):
                subscriber(event)

        self.subscribers.append(tell)
        self.kinds[subscriber] = kinds
        return lambda: self.subscribers.remove(tell)

    def events(self, *kinds: type[Event]) -> AsyncIterator[Any]:
        raise NotImplementedError

    def start(self) -> Deferred[None]:
        self.calls.append("start")
        return self.starting

    def stop(self) -> Deferred[None]:
        self.calls.append("stop")
        return self.stopping

    def connect(self, target: str | Target) -> Deferred[Peer]:
        self.calls.append(f"connect {target}")
        return self.dialling

    def broadcast(
        self, message: str | bytes, headers: Mapping[str, str] | None = None
    ) -> Delivery:
        if self.refusal is not None:
            raise self.refusal
        assert isinstance(message, str), "a prompt says lines of text"
        self.said.append(message)
        return Delivery(tuple(self.connected))

    def send(
        self,
        peer: Peer | str,
        message: str | bytes,
        headers: Mapping[str, str] | None = None,
    ) -> Delivery:
        raise NotImplementedError

    def drain(self) -> Deferred[None]:
        return succeed(None)

    def discover(self) -> int:
        if self.refusal is not None:
            raise self.refusal
        self.calls.append("discover")
        return len(self.connected)

    def pause_reading(self) -> None:
        self.calls.append("pause_reading")

    def resume_reading(self) -> None:
        self.calls.append("resume_reading")

    def peers(self) -> tuple[Peer, ...]:
        return tuple(self.connected)

    def known_addresses(self) -> tuple[KnownAddress, ...]:
        return tuple(self.book)


def peer_key(host: str = "192.0.2.2", id: str = "bob") -> PeerKey:
    """The key of a peer that speaks ``mesh/1``."""
    return key_of_greeting(Greeting(id, id), host)


def entry_of(link: IPeerLink, greeting: Greeting, now: float = 0.0) -> PeerEntry:
    """A seat that no registry has given."""
    key = key_of_greeting(greeting, host_key(link))
    return PeerEntry(key, greeting.id, greeting.name, link, now)


@implementer(IPeerLink)
class FakeLink:
    """A link without a connection, which remembers what was asked of it.

    ``sent`` holds every message in the order of its sending, ``urgent`` those
    of them that asked to go first, ``lines`` what came as an encoded line.
    ``closed`` and ``aborted`` hold the reason of the end, once there is one;
    after it nothing is remembered any more.
    """

    def __init__(
        self,
        direction: Direction = Direction.INCOMING,
        *,
        remote_host: str = "192.0.2.2",
        local_host: str = "192.0.2.1",
        same_machine: bool = False,
        target: Target | None = None,
        opened_at: float = 0.0,
    ) -> None:
        self.direction = direction
        self.remote_host = remote_host
        self.local_host = local_host
        self.same_machine = same_machine
        self.target = target
        self.opened_at = opened_at
        self.last_heard = opened_at
        self.wire = Mesh1()
        self.seat: object = None
        self.waiting = 0
        self.moved_at = 0.0
        self.turn_ends = inf
        self.waits = self.gone = False
        self.sent: list[Message] = []
        self.urgent: list[Message] = []
        self.lines: list[bytes] = []
        self.pauses: set[object] = set()
        self.closed: CloseReason | None = None
        self.aborted: CloseReason | None = None

    def __repr__(self) -> str:
        return f"<FakeLink {self.direction.value} {self.remote_host}>"

    @property
    def over(self) -> bool:
        """Whether the link has ended."""
        return self.closed is not None or self.aborted is not None

    # IPeerLink

    @property
    def reading(self) -> bool:
        return not (self.pauses or self.over)

    def send(self, *messages: Message) -> None:
        for message in messages:
            self.wire.encode(message)
        if not self.over:
            self.sent.extend(messages)

    def send_lines(self, lines: bytes, *, at_once: bool = False) -> None:
        if not self.over:
            self.lines += lines.splitlines(keepends=True)

    def send_pieces(self, pieces: Iterable[bytes]) -> None:
        self.send_lines(b"".join(pieces), at_once=True)

    def send_urgent(self, message: Message) -> None:
        if not self.over:
            self.sent.append(message)
            self.urgent.append(message)

    def queued(self) -> int:
        return self.waiting

    def pause(self, reason: object) -> None:
        if not self.over:
            self.pauses.add(reason)

    def resume(self, reason: object) -> None:
        self.pauses.discard(reason)

    def close(self, reason: CloseReason) -> None:
        if not self.over:
            self.closed = reason

    def abort(self, reason: CloseReason) -> None:
        if not self.over:
            self.aborted = reason


@implementer(IPeerHost)
class FakeHost:
    """An owner of links that writes down what it is told.

    ``told`` holds a name and the values of each call, in order.  ``verdict``
    answers every greeting that is judged, ``answer`` every other message.
    """

    def __init__(
        self,
        clock: IReactorTime,
        *,
        limits: LinkLimits | None = None,
        max_line: int = MAX_LINE,
        own_hosts: Iterable[str] = ("127.0.0.1",),
        protocols: Iterable[str] = ("mesh/1",),
        max_payload: int = MAX_PAYLOAD,
    ) -> None:
        self.clock = clock
        self.turns = Turns()
        self.limits = limits or LinkLimits()
        self.protocols = tuple(protocols)
        self._wire = Mesh1(max_line=max_line)
        self._mesh2 = Mesh2(max_payload=max_payload)
        self.own_hosts = set(own_hosts)
        self.verdict: Callable[[IPeerLink, Greeting], Verdict] = self.admit
        self.answer: Callable[[IPeerLink, Message], pairs.Verdict] = self.take
        self.told: list[tuple[object, ...]] = []

    def admit(self, link: IPeerLink, greeting: Greeting) -> Verdict:
        """The verdict on a welcome newcomer."""
        return Admitted(entry_of(link, greeting, self.clock.seconds()))

    def take(self, link: IPeerLink, said: Message) -> pairs.Verdict:
        """The verdict on each step of a welcome newcomer that speaks ``mesh/2``."""
        if not isinstance(said, Hello):
            return pairs.Established()
        if link.direction is Direction.INCOMING:
            return pairs.Welcomed()
        return pairs.SayHello(None)

    # IPeerHost

    def is_own_host(self, host: str) -> bool:
        return host in self.own_hosts

    def wire(self) -> Mesh1:
        return self._wire

    def own_greeting(self) -> Greeting:
        return Greeting("peer-8001", "alice", mesh2="mesh/2" in self.protocols)

    def own_hello(self, link: IPeerLink, ended: int | None) -> Hello:
        return Hello(
            identity="a" * 32,
            incarnation=Incarnation(1, "0" * 32),
            link=1,
            ended=ended,
            id="peer-8001",
            name="alice",
        )

    def link_opened(self, link: IPeerLink) -> None:
        self.told.append(("opened",))

    def agree(
        self, link: IPeerLink, said: Greeting | Refusal
    ) -> tuple[IWire, ISession] | None:
        if isinstance(said, Greeting):
            if said.mesh2 and "mesh/2" in self.protocols:
                return self._mesh2, Handshake(link.direction)
            if "mesh/1" not in self.protocols:
                return None
        return self._wire, Session(link.direction)

    def judge(self, link: IPeerLink, said: Message) -> object:
        self.told.append(("hello", said))
        if isinstance(said, Greeting):
            return self.verdict(link, said)
        return self.answer(link, said)

    def link_ready(self, link: IPeerLink) -> None:
        self.told.append(("ready",))

    def message_received(self, link: IPeerLink, message: Message) -> Message | None:
        # How chat is cut into runs is of no interest.
        texts = message.texts if isinstance(message, Chats) else ()
        for said in map(Chat, texts) if texts else (message,):
            self.told.append(("message", said))
        return None

    def turned_away(self, link: IPeerLink, reason: Refusal | RefusalReason) -> None:
        self.told.append(("turned away", reason))

    def link_ended(self, link: IPeerLink, reason: CloseReason, detail: str) -> None:
        self.told.append(("ended", reason, detail))

    def link_gone(self, link: IPeerLink) -> None:
        self.told.append(("gone",))

    def link_eased(self, link: IPeerLink) -> None:
        self.told.append(("eased",))


@implementer(ITCPTransport, IConsumer)
class RecordingTransport:
    """Our end of a TCP connection whose far end is a test.

    It does as a real one does, where `StringTransport` does not: a far end
    that is ``stuck`` takes nothing, so what is written waits and above 64 KiB
    pauses the producer; a connection is lost some time after it was closed,
    and not before what waits has gone; an abort does not show in
    ``disconnecting``; and nothing is delivered while reading is paused.

    ``taken`` is what the far end has got, ``half_closed`` whether it has got
    the end of that, ``aborted`` whether the connection was cut.
    """

    FULL = 64 * 1024

    def __init__(self, clock: IReactorTime, host: IAddress, peer: IAddress) -> None:
        self._clock = clock
        self._host = host
        self._peer = peer
        self.protocol: IProtocol | None = None
        self.stuck = False
        self.waiting = bytearray()
        self.taken = bytearray()
        self.reading = True
        self.connected = True
        self.disconnecting = False
        self.half_closed = False
        self.aborted = False
        self.no_delay = False
        self.keep_alive = False
        self._producer: IPushProducer | None = None
        self._producer_paused = False
        self._half_closing = False
        self._unread: deque[bytes | None] = deque()

    # The far end

    def take(self, count: int | None = None) -> None:
        """The far end takes so many bytes, or all."""
        count = len(self.waiting) if count is None else count
        self.taken += self.waiting[:count]
        del self.waiting[:count]
        if self.waiting:
            return
        if self._producer is not None and self._producer_paused:
            self._producer_paused = False
            self._producer.resumeProducing()
        if self.waiting:
            return
        if self._half_closing and not self.half_closed:
            self.half_closed = True
            halves = IHalfCloseableProtocol(self.protocol, None)
            if halves is not None:
                halves.writeConnectionLost()
        if self.disconnecting:
            self._lose(ConnectionDone())

    def deliver(self, data: bytes | None) -> None:
        """Bytes of the far end arrive, or (None) the end of them."""
        self._unread.append(data)
        self._read()

    def lose(self, reason: Exception) -> None:
        """The connection is gone."""
        if self.connected:
            self.connected = False
            if self._producer is not None:
                self._producer.stopProducing()
                self._producer = None
            assert self.protocol is not None
            self.protocol.connectionLost(Failure(reason))

    def _read(self) -> None:
        while self._unread and self.reading and self.connected:
            assert self.protocol is not None
            data = self._unread.popleft()
            if data is not None:
                self.protocol.dataReceived(data)
                continue
            halves = IHalfCloseableProtocol(self.protocol, None)
            if halves is None:
                self.lose(ConnectionDone())
            else:
                halves.readConnectionLost()

    def _lose(self, reason: Exception) -> None:
        self._clock.callLater(0, self.lose, reason)

    # ITransport, ITCPTransport

    def write(self, data: bytes) -> None:
        if not self.connected or self.aborted or self._half_closing:
            return
        self.waiting += data
        if not self.stuck:
            self.take()
        elif len(self.waiting) > self.FULL and not self._producer_paused:
            if self._producer is not None:
                self._producer_paused = True
                self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        if not self.disconnecting and not self.aborted:
            self.disconnecting = True
            self.reading = False
            if not self.waiting:
                self._lose(ConnectionDone())

    def loseWriteConnection(self) -> None:
        self._half_closing = True
        if not self.waiting:
            self.take()

    def abortConnection(self) -> None:
        if self.connected and not self.aborted:
            self.aborted = True
            self.reading = False
            self.waiting.clear()
            self._lose(ConnectionAborted())

    def getHost(self) -> Any:
        return self._host

    def getPeer(self) -> Any:
        return self._peer

    def getTcpNoDelay(self) -> bool:
        return self.no_delay

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled

    def getTcpKeepAlive(self) -> bool:
        return self.keep_alive

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.keep_alive = enabled

    # IConsumer, and the reading half of ITransport

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        if self._producer is not None:
            raise RuntimeError("there is a producer already")
        if not streaming or not IPushProducer.providedBy(producer):
            raise RuntimeError("a push producer is wanted here")
        if self.connected:
            self._producer = IPushProducer(producer)
        else:
            producer.stopProducing()

    def unregisterProducer(self) -> None:
        self._producer = None
        self._producer_paused = False

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        if self.connected and not (self.disconnecting or self.aborted):
            self.reading = True
            if self._unread:
                # A reactor reads on its next turn.
                self._clock.callLater(0, self._read)


def tcp_address(host: str, port: int) -> IPv4Address | IPv6Address:
    """The address of one end of a TCP connection."""
    kind = IPv6Address if ":" in host else IPv4Address
    return kind("TCP", host, port)


class Wire:
    """The far end of a connection of ours, played by a test.

    ``here`` is the address of our end, ``there`` of the far one.
    """

    def __init__(
        self,
        clock: Clock,
        protocol: MeshProtocol,
        *,
        here: IAddress | None = None,
        there: IAddress | None = None,
    ) -> None:
        self.protocol = protocol
        self._clock = clock
        self.transport = RecordingTransport(
            clock,
            here or tcp_address("192.0.2.1", 8001),
            there or tcp_address("192.0.2.2", 50002),
        )
        self.transport.protocol = protocol
        protocol.makeConnection(self.transport)

    def say(self, *lines: str) -> None:
        """Send lines, in one piece."""
        self.raw("".join(f"{line}\n" for line in lines).encode())

    def raw(self, data: bytes) -> None:
        """Send bytes."""
        self.transport.deliver(data)

    def hang_up(self) -> None:
        """Send no more."""
        self.transport.deliver(None)

    def reset(self) -> None:
        """Let the connection break."""
        self.transport.lose(ConnectionLost())

    def heard(self) -> bytes:
        """What has arrived here since the last call.

        That includes what leaves in the turn of the reactor that follows.
        """
        for _ in range(2):
            self._clock.advance(0)
        data = bytes(self.transport.taken)
        self.transport.taken.clear()
        return data

    @property
    def closed(self) -> bool:
        """Whether the connection is gone."""
        return not self.transport.connected


@implementer(IListeningPort)
class FakePort:
    """A port that listens as long as nobody stops it."""

    def __init__(self, address: IAddress) -> None:
        self._address = address
        self.listening = True
        self.stopping: Deferred[None] | None = None

    def startListening(self) -> None:
        self.listening = True

    def stopListening(self) -> Deferred[None] | None:
        self.listening = False
        return self.stopping

    def getHost(self) -> IAddress:
        return self._address


class Dial:
    """A connection attempt that waits for what a test makes of it."""

    def __init__(
        self, clock: IReactorTime, target: Target, factory: IProtocolFactory
    ) -> None:
        self._clock = clock
        self._factory = factory
        self.target = target
        self.cancelled = False
        self.result: Deferred[IProtocol] = Deferred(self._cancel)

    def succeed(
        self, *, here: IAddress | None = None, there: str = "192.0.2.2"
    ) -> Wire:
        """Somebody takes the connection: the far end."""
        port = self.target.port if isinstance(self.target, PeerAddress) else 1
        address = tcp_address(there, port)
        protocol = self._factory.buildProtocol(address)
        assert isinstance(protocol, MeshProtocol)
        here = here or tcp_address("192.0.2.1", 40001)
        wire = Wire(self._clock, protocol, here=here, there=address)
        self.result.callback(protocol)
        return wire

    def fail(self, error: Exception | None = None) -> None:
        """Nobody takes the connection."""
        self.result.errback(Failure(error or ConnectionRefusedError()))

    def _cancel(self, _: object) -> None:
        self.cancelled = True


@implementer(IStreamClientEndpoint)
class FakeEndpoint:
    """The way to one address of a `FakeNetwork`."""

    def __init__(self, network: FakeNetwork, target: Target) -> None:
        self._network = network
        self._target = target

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        dial = Dial(self._network.clock, self._target, protocolFactory)
        self._network.dials.append(dial)
        return dial.result


@implementer(INetwork)
class FakeNetwork:
    """A network on which a test plays everybody else.

    ``dials`` holds the attempts in their order.  ``listening`` is what
    `listen` gives back once that is known, ``unusable`` holds the targets that
    have no endpoint.
    """

    def __init__(
        self,
        clock: IReactorTime,
        *,
        host: IAddress | None = None,
        own_hosts: Iterable[str] = ("127.0.0.1", "::1", "localhost", "192.0.2.1"),
    ) -> None:
        self.clock = clock
        self.own_hosts = set(own_hosts)
        self.port = FakePort(host or tcp_address("0.0.0.0", 8001))
        self.listening: Deferred[IListeningPort] = succeed(self.port)
        self.factory: IProtocolFactory | None = None
        self.dials: list[Dial] = []
        self.unusable: set[Target] = set()

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        self.factory = factory
        return self.listening

    def endpoint(self, target: Target) -> IStreamClientEndpoint:
        if target in self.unusable:
            raise AddressError(f"{target} is no usable endpoint")
        return FakeEndpoint(self, target)

    def is_own_host(self, host: str) -> bool:
        return host in self.own_hosts

    def accept(
        self, *, here: IAddress | None = None, there: IAddress | None = None
    ) -> Wire:
        """Somebody dials the node."""
        assert self.factory is not None
        there = there or tcp_address("192.0.2.2", 50002)
        protocol = self.factory.buildProtocol(there)
        assert isinstance(protocol, MeshProtocol)
        return Wire(self.clock, protocol, here=here, there=there)


class Dice(random.Random):
    """Randomness that always throws the same."""

    value = 0.5

    def random(self) -> float:
        return self.value


class Bench:
    """One real node on a virtual clock, and everything round it.

    ``events`` is what has happened to it, in order; ``came`` and ``went`` hold
    the ID and the host of every peer that was connected, and of every peer
    that was disconnected, sorted.
    """

    def __init__(
        self,
        config: NodeConfig | None = None,
        *,
        host: IAddress | None = None,
        own_hosts: Iterable[str] = ("127.0.0.1", "::1", "localhost", "192.0.2.1"),
    ) -> None:
        self.clock = Clock()
        self.network = FakeNetwork(self.clock, host=host, own_hosts=own_hosts)
        self.dice = Dice()
        self.events: list[Event] = []
        self.node = MeshNode(
            config or NodeConfig(name="alice", protocols=("mesh/1",)),
            reactor=self.clock,
            network=self.network,
            rng=self.dice,
        )
        self.came: list[tuple[str, str]] = []
        self.went: list[tuple[str, str]] = []
        self.node.subscribe(self._note)

    def _note(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, PeerConnected):
            insort(self.came, (event.peer.id, event.peer.host))
        elif isinstance(event, PeerDisconnected):
            insort(self.went, (event.peer.id, event.peer.host))

    def start(self) -> Bench:
        """Start the node."""
        self.node.start()
        return self

    def settle(self) -> None:
        """Let everything happen that needs no time."""
        for _ in range(20):
            self.clock.advance(0)

    def of(self, kind: type[E]) -> list[E]:
        """The events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    def news(self) -> list[Event]:
        """What has happened since the last call, without wire chatter."""
        news = [e for e in self.events if not isinstance(e, DebugEvent)]
        self.events.clear()
        return news

    def caller(
        self, host: str = "192.0.2.2", port: int = 50002, *, here: str = ""
    ) -> Wire:
        """Somebody dials the node, and has not spoken yet."""
        here = here or (host if host in self.network.own_hosts else "192.0.2.1")
        return self.network.accept(
            here=tcp_address(here, 8001), there=tcp_address(host, port)
        )

    def guest(self, hello: str, host: str = "192.0.2.2", port: int = 50002) -> Wire:
        """A peer that has dialled the node; what it heard is forgotten."""
        wire = self.caller(host, port)
        wire.say(hello)
        wire.heard()
        return wire

    def dialled(self, target: str) -> Dial:
        """The latest dial of that address."""
        wanted = parse_target(target)
        return [dial for dial in self.network.dials if dial.target == wanted][-1]

    def stop(self) -> None:
        """Stop the node; whoever is connected sees it go."""
        self.node.stop()
        self.settle()
