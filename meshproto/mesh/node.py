"""`MeshNode`: the one object that an application holds."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any, overload

from twisted.internet.defer import Deferred, DeferredList, fail, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from meshproto.config import NodeConfig
from meshproto.errors import (
    AddressError,
    NotRunning,
)
from meshproto.events import (
    CloseReason,
    Delivery,
    Event,
    KnownAddress,
    NodeError,
    NodeStarted,
    Peer,
)
from meshproto.interfaces import IMesh, INetwork
from meshproto.link.factory import MeshServerFactory
from meshproto.link.interfaces import IPeerHost
from meshproto.link.network import TcpNetwork
from meshproto.mesh.parts import compose
from meshproto.mesh.running import require_loop_of
from meshproto.mesh.stream import E, EventStream
from meshproto.wire.address import Target, ip_of, parse_target
from meshproto.wire.messages import Greeting, payload_of


class _Phase(Enum):
    NEW = auto()
    STARTING = auto()
    RUNNING = auto()
    STOPPING = auto()
    STOPPED = auto()


@implementer(IMesh)
class MeshNode:
    """A node of the mesh, inside your own program.

    ::

        node = MeshNode(NodeConfig(port=8001, name="alice"))
        node.subscribe(print)
        await node.start()
        await node.connect("localhost:8000")
        node.broadcast("Hello network!")
        await node.stop()

    Everything it needs from outside is a parameter: ``reactor`` (its clock and,
    unless ``network`` is given, its TCP; the global reactor by default), ``network``
    (how it reaches other machines) and ``rng`` (for the jitter of its backoff and its
    random IDs).  A node runs once: it cannot be restarted.
    """

    def __init__(
        self,
        config: NodeConfig | None = None,
        *,
        reactor: Any = None,
        network: INetwork | None = None,
        rng: random.Random | None = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self.config = config = config or NodeConfig()
        self.clock: IReactorTime = reactor
        self._rng = rng or random.Random()
        self._network = network or TcpNetwork(
            reactor,
            port=config.port,
            interface=config.interface,
            listen=config.listen,
            timeout=config.connection_timeout,
        )
        # A node that speaks only mesh/1 cannot send payloads.
        mesh2 = "mesh/2" in config.protocols
        self._longest_chat = config.max_line if mesh2 else sys.maxsize
        parts = compose(config, reactor, self._network, self._rng)
        self._announcer, self._registry = parts.announcer, parts.registry
        self._book, self._links, self._host = parts.book, parts.links, parts.host
        self._fanout, self._drains = parts.fanout, parts.drains
        self._discovery, self._dials = parts.discovery, parts.dials
        self._features, self._admission = parts.features, parts.admission
        self._phase = _Phase.NEW
        self._listening: IListeningPort | None = None
        self._when_stopped: list[Deferred[None]] = []
        self._streams: dict[EventStream[Any], Callable[[], None]] = {}
        self.id = config.id or ""
        self.name = config.name or self.id
        self.port = 0

    @property
    def host(self) -> IPeerHost:
        """What to build a `MeshServerFactory` or `MeshClientFactory` with."""
        return self._host

    # A zope interface cannot declare overloads.
    @overload
    def subscribe(  # type: ignore[override]
        self, subscriber: Callable[[Event], object]
    ) -> Callable[[], None]: ...

    @overload
    def subscribe(
        self, subscriber: Callable[[E], object], kind: type[E], /
    ) -> Callable[[], None]: ...

    @overload
    def subscribe(
        self,
        subscriber: Callable[[Any], object],
        kind: type[Event],
        another: type[Event],
        /,
        *kinds: type[Event],
    ) -> Callable[[], None]: ...

    def subscribe(
        self, subscriber: Callable[[Any], object], *kinds: type[Event]
    ) -> Callable[[], None]:
        """Call ``subscriber`` with each event, as it happens.

        If ``kinds`` are given, only with those: ``subscribe(say, ChatReceived)``.
        Returns a function that ends the subscription.  An error in a subscriber is
        logged and does not affect the others.  Raises `TypeError` for a kind that is
        not an `Event` class.
        """
        return self._announcer.subscribe(subscriber, kinds or (Event,))

    @overload
    def events(self) -> EventStream[Event]: ...  # type: ignore[override]

    @overload
    def events(self, kind: type[E], /, *kinds: type[E]) -> EventStream[E]: ...

    def events(self, *kinds: type[Event]) -> EventStream[Any]:
        """Each event from now on, for ``async for``.

        If ``kinds`` are given, only those.  Nothing is dropped: when
        `NodeConfig.max_queued_events` are waiting, or 8 MiB of payloads, the node
        stops reading from its peers until half have been taken.  The iteration ends
        after the node has stopped.  Raises `TypeError` for a kind that is not an
        `Event` class.
        """
        stream: EventStream[Any] = EventStream(
            self.config.max_queued_events,
            on_full=self._links.pause,
            on_caught_up=self._links.resume,
            on_closed=self._close_stream,
        )
        self._streams[stream] = self.subscribe(stream.put, *kinds)
        if self._phase is _Phase.STOPPED:
            self._close_stream(stream)
        return stream

    def start(self) -> Deferred[None]:
        """Listen, then join the mesh through the bootstrap addresses.

        Fires when the node is listening; joining goes on after that, and events
        report it.  Fails with `twisted.internet.error.CannotListenError` when the
        node cannot listen on its port, with `NotRunning` on a second call, and with
        `WrongLoop` inside an asyncio loop that does not run the reactor.
        """
        if self._phase is not _Phase.NEW:
            return fail(NotRunning("a node is started once"))
        self._phase = _Phase.STARTING
        try:
            require_loop_of(self.clock)
            listening = self._network.listen(MeshServerFactory(self._host))
        except Exception:
            listening = fail()
        return listening.addCallbacks(self._started, self._not_started)

    def stop(self) -> Deferred[None]:
        """Leave the mesh.

        Fires when every link is closed and the port is free.  What is queued is sent
        first, for at most `NodeConfig.stop_timeout` seconds.  May be called at any
        time, and more than once.
        """
        done: Deferred[None] = Deferred()
        match self._phase:
            case _Phase.STOPPED:
                done.callback(None)
                return done
            case _Phase.NEW:
                self._when_stopped.append(done)
                self._stopped(None)
                return done
        self._when_stopped.append(done)
        if self._phase is _Phase.RUNNING:
            self._stop()
        else:
            self._phase = _Phase.STOPPING
        return done

    def connect(self, target: str | Target) -> Deferred[Peer]:
        """Dial a peer: ``host:port``, or a Twisted client endpoint string.

        Fires with the peer once the handshake is done, or at once if the peer at that
        address is already connected.  Fails with

        * `AddressError`: the text is not an address;
        * `DialFailed`: no connection could be made;
        * `HandshakeTimeout`: the far side did not answer in time;
        * `HandshakeFailed`: the far side closed, or does not speak our wire;
        * `HandshakeRejected`: the far side refused us: it has no seat left, still has
          a link to an earlier run of this node, or belongs to another mesh, say;
        * `SelfConnection`: the address leads back to this node;
        * `MeshFull`: this node has no seat left;
        * `NotRunning`: the node is not running, or stops before the dial ends.

        A failed dial is also reported as `ConnectionFailed`, and is not retried.
        Cancelling the Deferred gives up the wait, not the dial.
        """
        if self._phase is not _Phase.RUNNING:
            return fail(NotRunning("the node is not running"))
        if isinstance(target, str):
            try:
                target = parse_target(target)
            except AddressError:
                return fail()
        return self._dials.dial(target)

    def broadcast(
        self, message: str | bytes, headers: Mapping[str, str] | None = None
    ) -> Delivery:
        """Send a message to every peer.

        One line of text goes as chat, which every peer takes.  Bytes, a text with
        line breaks or longer than `NodeConfig.max_line` bytes, and any message with
        ``headers`` go as a payload of up to `NodeConfig.max_payload` bytes, which
        peers get as `DataReceived`.  A peer that speaks only ``mesh/1`` takes no
        payloads and is listed in `Delivery.missed`.

        Returns the peers that the message was queued for; the result is false if
        there are none.  Raises `LocalProtocolError`, and sends nothing, when the
        message is empty text, too large, or has invalid headers; `TypeError` when it
        is neither text nor bytes, or ``headers`` is not a mapping of texts;
        `NotRunning` when the node is not running.
        """
        self._require_running()
        data = payload_of(message, headers, longest=self._longest_chat)
        if data is None:
            assert isinstance(message, str)
            return self._fanout.broadcast(message)
        return self._fanout.payload(data, self._registry.entries())

    def send(
        self,
        peer: Peer | str,
        message: str | bytes,
        headers: Mapping[str, str] | None = None,
    ) -> Delivery:
        """Send a message to one peer, given by its snapshot or its ID.

        Returns what `broadcast` returns.  Raises `UnknownPeer` when the peer is not
        connected, `AmbiguousPeer` when several peers have that ID, and what
        `broadcast` raises.
        """
        self._require_running()
        entry = self._registry.find(peer)
        data = payload_of(message, headers, longest=self._longest_chat)
        if data is None:
            assert isinstance(message, str)
            return self._fanout.send(entry, message)
        return self._fanout.payload(data, (entry,))

    def drain(self) -> Deferred[None]:
        """Wait until no peer has more than `NodeConfig.send_queue_soft` bytes queued.

        Fires at once if that is already so.  While other peers keep up, it does not
        wait for one that has accepted nothing for a quarter of a second.  A peer that
        goes on accepting nothing is cut, so this always fires.
        """
        return self._drains.wait()

    def discover(self) -> int:
        """Ask every peer for addresses now; returns how many were asked.

        Raises `NotRunning` when the node is not running.
        """
        self._require_running()
        asked = self._discovery.ask_all()
        self._dials.pump()
        return asked

    def pause_reading(self) -> None:
        """Stop reading from all peers until `resume_reading`.

        For subscribers that cannot keep up.  TCP makes the peers wait; nothing is
        lost.
        """
        self._links.pause(self)

    def resume_reading(self) -> None:
        """Undo `pause_reading`."""
        self._links.resume(self)

    def peers(self) -> tuple[Peer, ...]:
        """The connected peers, oldest link first."""
        return self._registry.snapshots()

    def known_addresses(self) -> tuple[KnownAddress, ...]:
        """A snapshot of the address book."""
        return self._book.known()

    def _started(self, listening: IListeningPort) -> None:
        self._listening = listening
        address = listening.getHost()
        self.port = getattr(address, "port", 0)
        self.id = self.config.id or self._default_id()
        self.name = self.config.name or self.id
        bound = ip_of(getattr(address, "host", ""))
        self._host.open(Greeting(self.id, self.name))
        self._discovery.listening(self.port, bound)
        if self._phase is _Phase.STOPPING:
            self._stop()
            return
        self._phase = _Phase.RUNNING
        self._announcer.emit(NodeStarted(id=self.id, name=self.name, port=self.port))
        for target in self.config.bootstrap_targets():
            if self._book.is_own(target):
                self._announcer.emit(
                    NodeError(
                        context=f"Bootstrap address {target}",
                        error="that is this node itself",
                    )
                )
            else:
                self._book.give(target)
        if self._phase is not _Phase.RUNNING:
            # A subscriber has stopped the node already.
            return
        self._features.start()
        self._dials.start()

    def _not_started(self, failure: Failure) -> Failure:
        self._stopped(None)
        return failure

    def _default_id(self) -> str:
        advertised = self.config.advertised()
        port = (advertised and advertised[1]) or self.port
        return f"peer-{port}" if port else f"node-{self._rng.getrandbits(64):016x}"

    def _stop(self) -> None:
        self._phase = _Phase.STOPPING
        self._features.stop()
        self._dials.stop()
        self._fanout.stop()
        waits: list[Deferred[Any]] = [self._links.close(CloseReason.STOPPED)]
        if self._listening is not None:
            waits.append(maybeDeferred(self._listening.stopListening))
        DeferredList(waits, consumeErrors=True).addCallback(self._stopped)

    def _stopped(self, _: object) -> None:
        self._phase = _Phase.STOPPED
        for stream in tuple(self._streams):
            self._close_stream(stream)
        waiting, self._when_stopped = self._when_stopped, []
        for done in waiting:
            done.callback(None)

    def _close_stream(self, stream: EventStream[Any]) -> None:
        unsubscribe = self._streams.pop(stream, None)
        if unsubscribe is not None:
            unsubscribe()
            stream.end()

    def _require_running(self) -> None:
        if self._phase is not _Phase.RUNNING:
            raise NotRunning("the node is not running")
