"""`MeshNode` as an application holds it: start, connect, say, listen, stop."""

from __future__ import annotations

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError, ConnectionRefusedError
from twisted.internet.interfaces import IListeningPort, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from meshproto.config import NodeConfig
from meshproto.errors import (
    AddressError,
    DialFailed,
    HandshakeFailed,
    HandshakeRejected,
    HandshakeTimeout,
    MeshFull,
    NotRunning,
    SelfConnection,
)
from meshproto.events import (
    BootstrapFailed,
    BootstrapSucceeded,
    ChatReceived,
    ConnectionFailed,
    DialAttemptFailed,
    Event,
    NodeError,
    NodeStarted,
    Peer,
    PeerConnected,
    PeerDisconnected,
    PeerRequestSent,
)
from meshproto.interfaces import IMesh
from meshproto.mesh.node import MeshNode
from meshproto.wire.address import EndpointTarget, PeerAddress
from tests.fakes import (
    Bench,
    FakeEndpoint,
    FakeNetwork,
    FakePort,
    tcp_address,
)
from tests.nodes import BOB, NodeCase


class StartTests(NodeCase):
    def test_what_it_is(self) -> None:
        self.assertTrue(verifyObject(IMesh, self.prepared().node))

    def test_it_has_started_when_the_port_listens(self) -> None:
        bench = self.prepared()
        bench.network.listening = Deferred()
        started = bench.node.start()
        self.assertNoResult(started)
        self.assertEqual(bench.events, [])
        bench.network.listening.callback(bench.network.port)
        self.assertIsNone(self.successResultOf(started))
        self.assertEqual(
            bench.events, [NodeStarted(id="peer-8001", name="alice", port=8001)]
        )
        node = bench.node
        self.assertEqual((node.id, node.name, node.port), ("peer-8001", "alice", 8001))

    def identity(self, bench: Bench) -> tuple[str, str, int]:
        bench.start()
        return bench.node.id, bench.node.name, bench.node.port

    def test_its_id_is_made_of_the_port_that_is_really_bound(self) -> None:
        bench = Bench(NodeConfig(port=0), host=tcp_address("0.0.0.0", 40123))
        self.assertEqual(self.identity(bench), ("peer-40123", "peer-40123", 40123))
        self.clean_up(bench)

    def test_or_of_the_port_that_is_advertised(self) -> None:
        bench = self.prepared(advertise="mesh.example:9001", name=None)
        self.assertEqual(self.identity(bench), ("peer-9001", "peer-9001", 8001))

    def test_or_it_is_given(self) -> None:
        bench = self.prepared(id="node-1", name=None)
        self.assertEqual((bench.node.id, bench.node.name), ("node-1", "node-1"))
        self.assertEqual(self.identity(bench), ("node-1", "node-1", 8001))

    def test_without_a_port_it_is_drawn(self) -> None:
        bench = Bench(NodeConfig(listen="unix:/mesh"), host=UNIXAddress("/mesh"))
        bench.start()
        self.assertRegex(bench.node.id, r"\Anode-[0-9a-f]{16}\Z")
        self.assertEqual(bench.node.port, 0)
        self.clean_up(bench)

    def test_a_port_that_cannot_be_had(self) -> None:
        bench = self.prepared()
        error = CannotListenError("", 8001, OSError("in use"))
        bench.network.listening = Deferred()
        started = bench.node.start()
        bench.network.listening.errback(Failure(error))
        self.assertIs(self.failureResultOf(started).value, error)
        self.assertEqual(bench.events, [])
        self.successResultOf(bench.node.stop())

    def test_a_network_that_raises_is_a_start_that_fails(self) -> None:
        class Broken(FakeNetwork):
            def listen(self, factory: object) -> Deferred[IListeningPort]:
                raise ValueError("no such endpoint")

        bench = self.prepared()
        node = MeshNode(reactor=bench.clock, network=Broken(bench.clock))
        self.failureResultOf(node.start(), ValueError)
        self.successResultOf(node.stop())

    def test_it_is_started_once(self) -> None:
        bench = self.prepared()
        self.successResultOf(bench.node.start())
        self.failureResultOf(bench.node.start(), NotRunning)
        bench.stop()
        self.failureResultOf(bench.node.start(), NotRunning)

    def test_a_subscriber_may_use_it_as_soon_as_it_has_started(self) -> None:
        bench = self.prepared()
        connecting: list[Deferred[Peer]] = []

        def connect(event: Event) -> None:
            if isinstance(event, NodeStarted):
                connecting.append(bench.node.connect(BOB))

        bench.node.subscribe(connect)
        bench.start()
        bench.dialled(BOB).succeed().say("peer-8002:bob")
        self.assertEqual(self.successResultOf(connecting[0]).id, "peer-8002")

    def test_a_subscriber_may_stop_it_as_soon_as_it_has_started(self) -> None:
        bench = self.prepared(bootstrap=(BOB,))
        stopping: list[Deferred[None]] = []

        def stop(event: Event) -> None:
            if isinstance(event, NodeStarted):
                stopping.append(bench.node.stop())

        bench.node.subscribe(stop)
        bench.start()
        bench.settle()
        self.successResultOf(stopping[0])
        self.assertEqual(bench.network.dials, [])
        self.assertEqual(bench.clock.getDelayedCalls(), [])


class BootstrapTests(NodeCase):
    addresses = (BOB, "bob.example:8003", "[2001:db8::4]:8004")

    def test_all_are_dialled_at_once(self) -> None:
        bench = self.bench(bootstrap=self.addresses)
        dialled = [str(dial.target) for dial in bench.network.dials]
        self.assertEqual(dialled, list(self.addresses))
        self.assertEqual(bench.clock.seconds(), 0)

    def test_each_failure_is_told_with_reason_attempt_and_pause(self) -> None:
        bench = self.bench(bootstrap=(BOB,))
        bench.news()
        bench.dialled(BOB).fail(ConnectionRefusedError())
        target = PeerAddress.parse(BOB)
        self.assertEqual(
            bench.news(),
            [
                BootstrapFailed(
                    target=target, reason="connection refused", attempt=1, retry_in=0.5
                )
            ],
        )
        bench.clock.advance(0.5)
        bench.dialled(BOB).succeed().hang_up()
        self.assertEqual(
            bench.news(),
            [
                BootstrapFailed(
                    target=target,
                    reason="closed without an answer, perhaps it speaks only mesh/2",
                    attempt=2,
                    retry_in=1.0,
                )
            ],
        )

    def test_who_speaks_mesh2_knows_that_this_is_not_the_reason(self) -> None:
        bench = self.bench(bootstrap=(BOB,), protocols=("mesh/2", "mesh/1"))
        bench.dialled(BOB).succeed().hang_up()
        (told,) = bench.of(BootstrapFailed)
        self.assertEqual(told.reason, "closed without an answer")

    def test_every_kind_of_failure_has_its_reason(self) -> None:
        bench = self.bench(bootstrap=(BOB,))
        bench.news()

        def reason() -> str:
            bench.settle()
            [event] = bench.of(BootstrapFailed)
            bench.news()
            bench.clock.advance(event.retry_in)
            return event.reason

        bench.dialled(BOB).succeed().say("MAX_PEERS")
        self.assertIn("it has no seat left", reason())
        bench.dialled(BOB).succeed().say("HTTP/1.1 400 Bad Request")
        self.assertEqual(
            reason(), 'not a mesh node, it said "HTTP/1.1 400 Bad Request"'
        )
        bench.dialled(BOB).succeed()
        bench.clock.advance(10)
        self.assertEqual(reason(), "no answer to the handshake")
        bench.clock.advance(10)
        self.assertEqual(reason(), "timed out")

    def test_without_a_peer_it_is_tried_at_least_every_ten_seconds(self) -> None:
        bench = self.prepared(bootstrap=(BOB,))
        bench.dice.value = 1.0
        bench.start()
        pauses = []
        for _ in range(30):
            bench.dialled(BOB).fail()
            pauses.append(bench.of(BootstrapFailed)[-1].retry_in)
            bench.clock.advance(pauses[-1])
        self.assertEqual(pauses, [1, 2, 4, 8, *[10] * 26])
        self.assertEqual(bench.of(BootstrapFailed)[-1].attempt, 30)

    def test_with_a_peer_the_pause_goes_up_to_a_minute(self) -> None:
        bench = self.prepared(bootstrap=(BOB,))
        bench.dice.value = 1.0
        bench.start()
        peer = bench.guest("carol:carol", "192.0.2.3")
        for _ in range(8):
            bench.dialled(BOB).fail()
            for _ in range(60):
                if len(bench.of(BootstrapFailed)) < len(bench.network.dials):
                    break
                peer.say("PONG")
                bench.clock.advance(1)
        pauses = [event.retry_in for event in bench.of(BootstrapFailed)]
        self.assertEqual(pauses, [1, 2, 4, 8, 16, 32, 60, 60])

    def test_a_success_is_told_and_starts_the_count_anew(self) -> None:
        bench = self.bench(bootstrap=(BOB,))
        bench.dialled(BOB).fail()
        bench.clock.advance(0.5)
        wire = bench.dialled(BOB).succeed()
        wire.say("peer-8002:bob")
        target = PeerAddress.parse(BOB)
        self.assertEqual(
            bench.of(BootstrapSucceeded), [BootstrapSucceeded(target=target)]
        )
        wire.hang_up()
        bench.clock.advance(1)
        bench.dialled(BOB).fail()
        self.assertEqual(bench.of(BootstrapFailed)[-1].attempt, 1)

    def test_the_same_address_twice_is_one(self) -> None:
        bench = self.bench(bootstrap=(BOB, BOB))
        self.assertEqual(len(bench.network.dials), 1)

    def test_an_endpoint_string(self) -> None:
        bench = self.bench(bootstrap=("unix:/mesh",))
        wire = bench.dialled("unix:/mesh").succeed()
        wire.say("peer-8002:bob")
        [event] = bench.of(BootstrapSucceeded)
        self.assertEqual(event.target, EndpointTarget("unix:/mesh"))

    def test_an_endpoint_string_that_cannot_be_used_harms_nobody(self) -> None:
        bench = self.prepared(bootstrap=("tls:x:1", BOB))
        bench.network.unusable.add(EndpointTarget("tls:x:1"))
        bench.start()
        [event] = bench.of(BootstrapFailed)
        self.assertIn("no usable endpoint", event.reason)
        self.assertEqual(len(bench.network.dials), 1)


class DiallingTests(NodeCase):
    def test_a_told_address_is_dropped_after_ten_failures(self) -> None:
        bench = self.bench()
        wire = bench.guest("peer-8002:bob")
        wire.say("PEERS:192.0.2.2:8002,192.0.2.9:8009")
        for _ in range(10):
            bench.dialled("192.0.2.9:8009").fail()
            wire.say("PONG")
            bench.clock.advance(60)
        self.assertEqual(len(bench.network.dials), 10)
        self.assertEqual(len(bench.of(DialAttemptFailed)), 10)
        known = [str(known.target) for known in bench.node.known_addresses()]
        self.assertEqual(known, [BOB])

    def test_sixteen_dials_are_in_flight_and_not_seventeen(self) -> None:
        bench = self.bench(
            max_peers=100,
            bootstrap=tuple(f"192.0.2.{n}:8001" for n in range(10, 27)),
        )
        self.assertEqual(len(bench.network.dials), 16)
        bench.dialled("192.0.2.10:8001").fail()
        self.assertEqual(str(bench.network.dials[16].target), "192.0.2.26:8001")


class ConnectTests(NodeCase):
    """Each documented outcome."""

    def failure(self, bench: Bench, result: Deferred[Peer], kind: type) -> str:
        """The dial has failed that way, and that is told once."""
        bench.settle()
        error = self.failureResultOf(result, kind).value
        [event] = bench.of(ConnectionFailed)
        self.assertEqual((event.target, event.reason), (error.target, error.reason))
        self.assertEqual(len(bench.of(PeerConnected)), len(bench.node.peers()))
        count = len(bench.network.dials)
        bench.clock.pump([10] * 12)
        self.assertEqual(len(bench.network.dials), count)
        reason: str = error.reason
        return reason

    def test_the_peer_once_it_has_said_hello(self) -> None:
        bench = self.bench()
        result = bench.node.connect(BOB)
        wire = bench.dialled(BOB).succeed()
        self.assertNoResult(result)
        wire.say("peer-8002:bob")
        peer = self.successResultOf(result)
        self.assertEqual(bench.node.peers(), (peer,))
        self.assertEqual((peer.id, peer.name, peer.where), ("peer-8002", "bob", BOB))

    def test_an_address_value_or_an_endpoint_string(self) -> None:
        bench = self.bench()
        for target in (PeerAddress.parse(BOB), EndpointTarget("unix:/mesh"), "unix:/m"):
            bench.node.connect(target).addErrback(lambda _: None)
        self.assertEqual(
            [str(dial.target) for dial in bench.network.dials],
            [BOB, "unix:/mesh", "unix:/m"],
        )

    def test_at_once_when_it_is_linked_already(self) -> None:
        bench = self.bench()
        bench.guest("peer-8002:bob")
        peer = self.successResultOf(bench.node.connect(BOB))
        self.assertEqual(peer.id, "peer-8002")
        self.assertEqual(bench.network.dials, [])

    def test_at_once_even_when_every_seat_is_taken(self) -> None:
        bench = self.bench(max_peers=1)
        bench.guest("peer-8002:bob")
        self.successResultOf(bench.node.connect(BOB))

    def test_no_address(self) -> None:
        bench = self.bench()
        for text in ("", "bob", "bob:", ":8002", "bob:99999", "::1:8002", "a b:1"):
            self.failureResultOf(bench.node.connect(text), AddressError)
        self.assertEqual(bench.network.dials, [])

    def test_an_endpoint_string_that_cannot_be_used(self) -> None:
        bench = self.bench()
        bench.network.unusable.add(EndpointTarget("tls:x:1"))
        result = bench.node.connect("tls:x:1")
        self.failure(bench, result, DialFailed)

    def test_an_endpoint_that_raises_whatever_it_likes(self) -> None:
        class Broken(FakeEndpoint):
            def connect(self, protocolFactory: object) -> Deferred[object]:  # type: ignore[override]
                raise OSError("broken")

        class Odd(FakeNetwork):
            def endpoint(self, target: object) -> IStreamClientEndpoint:
                return Broken(self, PeerAddress.parse(BOB))

        bench = self.prepared()
        network = Odd(bench.clock)
        node = MeshNode(reactor=bench.clock, network=network)
        self.successResultOf(node.start())
        self.failureResultOf(node.connect(BOB), DialFailed)
        self.assertEqual(node.known_addresses(), ())
        self.successResultOf(node.stop())

    def test_nobody_there(self) -> None:
        bench = self.bench()
        result = bench.node.connect(BOB)
        bench.dialled(BOB).fail()
        self.assertEqual(self.failure(bench, result, DialFailed), "connection refused")

    def test_a_connection_that_does_not_come_about(self) -> None:
        bench = self.bench()
        result = bench.node.connect(BOB)
        bench.clock.advance(10)
        self.assertEqual(self.failure(bench, result, DialFailed), "timed out")
        self.assertTrue(bench.network.dials[0].cancelled)

    def test_no_answer_in_the_time_that_is_left(self) -> None:
        bench = self.bench()
        result = bench.node.connect(BOB)
        bench.clock.advance(6)
        wire = bench.dialled(BOB).succeed()
        bench.clock.advance(3.999)
        self.assertNoResult(result)
        bench.clock.advance(0.001)
        self.failure(bench, result, HandshakeTimeout)
        self.assertTrue(wire.closed)

    def test_closed_without_an_answer(self) -> None:
        bench = self.bench()
        result = bench.node.connect(BOB)
        bench.dialled(BOB).succeed().hang_up()
        self.failure(bench, result, HandshakeFailed)

    def test_broken_off(self) -> None:
        bench = self.bench()
        result = bench.node.connect(BOB)
        bench.dialled(BOB).succeed().reset()
        self.failure(bench, result, DialFailed)

    def test_another_protocol(self) -> None:
        bench = self.bench()
        result = bench.node.connect(BOB)
        bench.dialled(BOB).succeed().raw(b"SSH-2.0-OpenSSH_9.6 it is\r\n")
        self.failure(bench, result, HandshakeFailed)
        self.assertEqual(bench.of(NodeError), [])

    def test_max_peers(self) -> None:
        bench = self.bench()
        result = bench.node.connect(BOB)
        bench.dialled(BOB).succeed().say("MAX_PEERS")
        self.assertIn("no seat left", self.failure(bench, result, HandshakeRejected))

    def test_duplicate_of_a_peer_that_we_know(self) -> None:
        bench = self.bench()
        bench.guest("bob:bob")
        result = bench.node.connect(BOB)
        bench.dialled(BOB).succeed().say("DUPLICATE")
        self.assertEqual(self.successResultOf(result).id, "bob")

    def test_duplicate_of_one_that_we_do_not_know(self) -> None:
        bench = self.bench()
        result = bench.node.connect(BOB)
        bench.dialled(BOB).succeed().say("DUPLICATE")
        self.assertIn(
            "still has a link", self.failure(bench, result, HandshakeRejected)
        )

    def test_ourselves(self) -> None:
        bench = self.bench()
        for text in (
            "localhost:8001",
            "127.0.0.1:8001",
            "[::1]:8001",
            "192.0.2.1:8001",
        ):
            bench.news()
            self.failure(bench, bench.node.connect(text), SelfConnection)

    def test_no_seat_left(self) -> None:
        bench = self.bench(max_peers=1)
        bench.guest("carol:carol", "192.0.2.3")
        error = self.failureResultOf(bench.node.connect(BOB), MeshFull).value
        self.assertEqual(error.reason, "all 1 seats are taken")
        self.assertEqual(len(bench.of(ConnectionFailed)), 1)
        self.assertEqual(bench.network.dials, [])

    def test_not_running(self) -> None:
        bench = self.prepared()
        self.failureResultOf(bench.node.connect(BOB), NotRunning)
        bench.start().stop()
        self.failureResultOf(bench.node.connect(BOB), NotRunning)
        self.assertEqual(bench.network.dials, [])

    def test_stopped_meanwhile(self) -> None:
        bench = self.bench()
        connecting = bench.node.connect(BOB)
        shaking = bench.node.connect("192.0.2.3:8003")
        wire = bench.dialled("192.0.2.3:8003").succeed(there="192.0.2.3")
        bench.stop()
        self.failureResultOf(connecting, NotRunning)
        self.failureResultOf(shaking, NotRunning)
        self.assertTrue(bench.dialled(BOB).cancelled)
        self.assertTrue(wire.closed)
        self.assertEqual(bench.of(ConnectionFailed), [])

    def test_giving_up_the_wait_does_not_give_up_the_dial(self) -> None:
        bench = self.bench()
        result = bench.node.connect(BOB)
        result.cancel()
        self.failureResultOf(result, CancelledError)
        bench.dialled(BOB).succeed().say("peer-8002:bob")
        self.assertEqual(len(bench.node.peers()), 1)

    def test_two_callers_are_one_dial(self) -> None:
        bench = self.bench()
        results = [bench.node.connect(BOB), bench.node.connect(BOB)]
        self.assertEqual(len(bench.network.dials), 1)
        bench.dialled(BOB).succeed().say("peer-8002:bob")
        for result in results:
            self.successResultOf(result)


class EventsTests(NodeCase):
    def test_every_event_from_now_on_until_the_node_has_stopped(self) -> None:
        bench = self.prepared()
        stream = bench.node.events()
        taken: list[Event] = []

        async def consume() -> None:
            async for event in stream:
                taken.append(event)

        done = Deferred.fromCoroutine(consume())
        bench.start().guest("bob:bob").say("hello")
        self.assertNoResult(done)
        bench.stop()
        self.successResultOf(done)
        self.assertEqual(taken, bench.events)
        self.assertIsInstance(taken[-1], PeerDisconnected)

    def test_of_a_stopped_node_there_are_none(self) -> None:
        bench = self.bench()
        bench.stop()
        stream = bench.node.events()
        self.failureResultOf(
            Deferred.fromCoroutine(stream.__anext__()), StopAsyncIteration
        )

    def take(self, bench: Bench, stream: object, count: int) -> None:
        for _ in range(count):
            self.successResultOf(Deferred.fromCoroutine(stream.__anext__()))  # type: ignore[attr-defined]

    def test_reading_stops_when_too_many_wait_and_goes_on_at_half(self) -> None:
        bench = self.bench(max_queued_events=10)
        wire = bench.guest("bob:bob")
        stream = bench.node.events()
        wire.say(*[f"{n}" for n in range(9)])
        self.assertTrue(wire.transport.reading)
        wire.say("9", *[f"{n}" for n in range(10, 30)])
        self.assertFalse(wire.transport.reading)
        self.assertEqual(len(bench.of(ChatReceived)), 10)
        self.take(bench, stream, 4)
        self.assertFalse(wire.transport.reading)
        self.take(bench, stream, 1)
        bench.settle()
        # It has read on, and is full again.
        self.assertEqual(len(bench.of(ChatReceived)), 15)
        for _ in range(3):
            self.take(bench, stream, 5)
            bench.settle()
        self.take(bench, stream, 10)
        texts = [event.text for event in bench.of(ChatReceived)]
        self.assertEqual(texts, [f"{n}" for n in range(30)])

    def test_one_message_at_a_time(self) -> None:
        """Who pauses at each message gets each once, also if they are all alike."""
        bench = self.bench()
        wire = bench.guest("bob:bob")
        node = bench.node
        node.subscribe(
            lambda event: (
                node.pause_reading() if isinstance(event, ChatReceived) else None
            )
        )
        wire.say("a", "a", "PING", "a", "b", "a")
        for count in range(1, 6):
            self.assertEqual(len(bench.of(ChatReceived)), count)
            node.resume_reading()
            bench.settle()
        texts = [event.text for event in bench.of(ChatReceived)]
        self.assertEqual(texts, ["a", "a", "a", "b", "a"])

    def test_whoever_comes_meanwhile_is_not_read_either(self) -> None:
        bench = self.bench(max_queued_events=2)
        stream = bench.node.events()
        bench.guest("bob:bob").say("one", "two")
        late = bench.guest("carol:carol", "192.0.2.3")
        late.say("three")
        self.assertFalse(late.transport.reading)
        self.assertEqual(len(bench.of(ChatReceived)), 1)
        while len(bench.of(ChatReceived)) < 3:
            self.take(bench, stream, 1)
            bench.settle()

    def test_a_reader_that_leaves_lets_the_others_go_on(self) -> None:
        bench = self.bench(max_queued_events=2)
        stream = bench.node.events()
        wire = bench.guest("bob:bob")
        wire.say(*"abcdef")
        self.assertFalse(wire.transport.reading)
        self.successResultOf(Deferred.fromCoroutine(stream.aclose()))
        bench.settle()
        self.assertTrue(wire.transport.reading)
        self.assertEqual(len(bench.of(ChatReceived)), 6)

    def test_two_readers_wait_for_the_slower_one(self) -> None:
        bench = self.bench(max_queued_events=4)
        wire = bench.guest("bob:bob")
        slow, quick = bench.node.events(), bench.node.events()
        wire.say(*"abcdef")
        self.take(bench, quick, 4)
        self.assertFalse(wire.transport.reading)
        self.take(bench, slow, 2)
        bench.settle()
        self.assertEqual(len(bench.of(ChatReceived)), 6)

    def test_a_peer_that_is_not_read_is_not_reaped(self) -> None:
        bench = self.bench()
        wire = bench.guest("bob:bob")
        bench.node.pause_reading()
        wire.say("hello")
        bench.clock.pump([15] * 20)
        self.assertEqual(len(bench.node.peers()), 1)
        bench.node.resume_reading()
        bench.settle()
        self.assertEqual(len(bench.of(ChatReceived)), 1)


class LoopTests(NodeCase):
    def test_ping_every_fifteen_seconds_and_questions_every_thirty(self) -> None:
        bench = self.bench()
        wire = bench.guest("peer-8002:bob")
        bench.clock.advance(15)
        self.assertEqual(wire.heard(), b"PING\n")
        wire.say("PONG")
        bench.clock.advance(15)
        self.assertEqual(
            sorted(wire.heard().split(b"\n")), [b"", b"PING", b"REQUEST_PEERS"]
        )

    def test_discover_asks_now(self) -> None:
        bench = self.bench()
        self.assertEqual(bench.node.discover(), 0)
        wire = bench.guest("peer-8002:bob")
        self.assertEqual(bench.node.discover(), 1)
        self.assertEqual(wire.heard(), b"REQUEST_PEERS\n")
        self.assertEqual(len(bench.of(PeerRequestSent)), 1)


class StopTests(NodeCase):
    def test_before_the_start(self) -> None:
        bench = self.prepared()
        self.successResultOf(bench.node.stop())
        self.failureResultOf(bench.node.start(), NotRunning)
        self.assertIsNone(bench.network.factory)

    def test_during_the_start(self) -> None:
        bench = self.prepared(bootstrap=(BOB,))
        bench.network.listening = Deferred()
        started = bench.node.start()
        stopped = bench.node.stop()
        again = bench.node.stop()
        self.assertNoResult(stopped)
        bench.network.listening.callback(bench.network.port)
        self.successResultOf(started)
        self.successResultOf(stopped)
        self.successResultOf(again)
        self.assertFalse(bench.network.port.listening)
        self.assertEqual(bench.network.dials, [])
        self.assertEqual(bench.of(NodeStarted), [])
        self.assertEqual(bench.clock.getDelayedCalls(), [])

    def test_during_a_start_that_fails(self) -> None:
        bench = self.prepared()
        bench.network.listening = Deferred()
        started = bench.node.start()
        stopped = bench.node.stop()
        bench.network.listening.errback(Failure(CannotListenError("", 1, OSError())))
        self.failureResultOf(started, CannotListenError)
        self.successResultOf(stopped)

    def test_with_nobody_connected(self) -> None:
        bench = self.bench()
        self.successResultOf(bench.node.stop())
        self.assertFalse(bench.network.port.listening)
        self.assertEqual(bench.clock.getDelayedCalls(), [])

    def test_more_than_once(self) -> None:
        bench = self.bench()
        bench.guest("bob:bob")
        first, second = bench.node.stop(), bench.node.stop()
        bench.settle()
        third = bench.node.stop()
        for stopped in (first, second, third):
            self.successResultOf(stopped)
        self.assertEqual(len(bench.of(PeerDisconnected)), 1)

    def test_again_after_a_stop_that_needed_no_time(self) -> None:
        bench = self.bench()
        self.successResultOf(bench.node.stop())
        self.successResultOf(bench.node.stop())
        self.failureResultOf(bench.node.connect(BOB), NotRunning)

    def test_it_fires_when_every_link_is_closed_and_the_port_is_free(self) -> None:
        bench = self.bench()
        bench.network.port.stopping = Deferred()
        wire = bench.guest("bob:bob")
        waiting = bench.caller("192.0.2.3")
        stopped = bench.node.stop()
        self.assertFalse(bench.network.port.listening)
        self.assertNoResult(stopped)
        bench.settle()
        self.assertTrue(wire.closed and waiting.closed)
        self.assertNoResult(stopped)
        bench.network.port.stopping.callback(None)
        self.successResultOf(stopped)

    def test_what_is_queued_is_sent_first(self) -> None:
        bench = self.bench()
        wire = bench.guest("bob:bob")
        wire.transport.stuck = True
        for number in range(10):
            bench.node.broadcast(f"{number}" * 16000)
        stopped = bench.node.stop()
        bench.clock.advance(1.999)
        self.assertNoResult(stopped)
        wire.transport.stuck = False
        wire.transport.take()
        bench.settle()
        self.successResultOf(stopped)
        lines = wire.heard().split(b"\n")
        self.assertEqual(
            [line[:1] for line in lines], [*map(b"%d".__mod__, range(10)), b""]
        )
        self.assertFalse(wire.transport.aborted)

    def test_for_two_seconds_and_then_the_rest_is_cut(self) -> None:
        bench = self.bench()
        stuck, quick = bench.guest("bob:bob"), bench.guest("carol:c", "192.0.2.3")
        stuck.transport.stuck = True
        bench.node.broadcast("hello")
        stopped = bench.node.stop()
        bench.settle()
        self.assertTrue(quick.closed)
        self.assertEqual(quick.heard(), b"hello\n")
        bench.clock.advance(1.999)
        self.assertNoResult(stopped)
        bench.clock.advance(0.001)
        bench.settle()
        self.successResultOf(stopped)
        self.assertTrue(stuck.transport.aborted)

    def test_no_line_is_heard_while_it_stops(self) -> None:
        bench = self.bench()
        wire = bench.guest("bob:bob")
        wire.transport.stuck = True
        bench.node.broadcast("hello")
        bench.node.stop()
        wire.say("too late", "PING")
        wire.protocol.dataReceived(b"too late\n")
        self.assertEqual(bench.of(ChatReceived), [])

    def test_whoever_comes_while_it_stops_is_sent_away(self) -> None:
        bench = self.bench()
        wire = bench.guest("bob:bob")
        wire.transport.stuck = True
        bench.node.broadcast("hello")
        stopped = bench.node.stop()
        late = bench.caller("192.0.2.3")
        late.say("carol:carol")
        bench.settle()
        self.assertTrue(late.closed)
        self.assertEqual(late.heard(), b"")
        bench.clock.advance(2)
        bench.settle()
        self.successResultOf(stopped)

    def test_it_ends_the_loops_the_retries_and_the_probes(self) -> None:
        bench = self.bench(bootstrap=(BOB, "192.0.2.3:8003"))
        bench.dialled(BOB).fail()
        bench.guest("dave:dave", "192.0.2.4")
        bench.guest("dave:dave", "192.0.2.4", 50009)
        bench.stop()
        self.assertEqual(bench.clock.getDelayedCalls(), [])

    def test_a_link_that_drains_is_no_hindrance(self) -> None:
        bench = self.bench()
        connecting = bench.node.connect(BOB)
        ours = bench.dialled(BOB).succeed()
        theirs = bench.guest("peer-8002:bob")
        ours.say("peer-8002:bob")
        self.successResultOf(connecting)
        stopped = bench.node.stop()
        bench.settle()
        self.successResultOf(stopped)
        self.assertTrue(ours.closed and theirs.closed)

    def test_after_it_there_is_nobody(self) -> None:
        bench = self.bench()
        bench.guest("bob:bob")
        bench.stop()
        self.assertEqual(bench.node.peers(), ())

    def test_the_port_of_a_stopped_node_is_stopped_once(self) -> None:
        class Once(FakePort):
            stops = 0

            def stopListening(self) -> Deferred[None] | None:
                self.stops += 1
                return super().stopListening()

        bench = self.prepared()
        port = Once(tcp_address("0.0.0.0", 8001))
        bench.network.listening = Deferred()
        bench.network.listening.callback(port)
        bench.start()
        for _ in range(3):
            bench.stop()
        self.assertEqual(port.stops, 1)
