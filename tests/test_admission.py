"""Who is let in, who is turned away, and why."""

from __future__ import annotations

from twisted.internet.interfaces import IListeningPort, IStreamClientEndpoint
from zope.interface.verify import verifyObject

from meshproto.errors import (
    HandshakeRejected,
    MeshFull,
    SelfConnection,
)
from meshproto.events import (
    BootstrapFailed,
    BootstrapSucceeded,
    CloseReason,
    Direction,
    PeerConnected,
    PeerRefused,
    PingReceived,
    PongReceived,
)
from meshproto.interfaces import INetwork
from meshproto.link.interfaces import IPeerHost
from meshproto.rules.interfaces import IPeerLink
from meshproto.wire.address import PeerAddress
from tests.benches import BOB, BenchCase
from tests.fakes import Bench, FakeLink, Wire, tcp_address


class InterfaceTests(BenchCase):
    def test_what_it_is(self) -> None:
        bench = self.bench()
        self.assertTrue(verifyObject(IPeerHost, bench.node.host))
        self.assertTrue(verifyObject(INetwork, bench.network))
        self.assertTrue(verifyObject(IListeningPort, bench.network.port))
        endpoint = bench.network.endpoint(PeerAddress.parse(BOB))
        self.assertTrue(verifyObject(IStreamClientEndpoint, endpoint))
        self.assertTrue(verifyObject(IPeerLink, FakeLink()))

    def test_before_it_listens_it_has_no_name_to_give(self) -> None:
        with self.assertRaises(RuntimeError):
            Bench().node.host.own_greeting()


class TranscriptTests(BenchCase):
    """Section 1 of the design, as bytes."""

    def test_we_dial(self) -> None:
        bench = self.bench(bootstrap=(BOB,))
        wire = bench.dialled(BOB).succeed()
        self.assertEqual(wire.heard(), b"peer-8001:alice\n")
        wire.say("peer-8002:bob")
        self.assertEqual(wire.heard(), b"REQUEST_PEERS\nPEERS:192.0.2.1:8001\n")
        self.assertEqual(bench.clock.seconds(), 0)
        [event] = bench.of(PeerConnected)
        self.assertIs(event.direction, Direction.OUTGOING)
        self.assertEqual((event.peer_count, event.max_peers), (1, 20))
        self.assertEqual((event.peer.id, event.peer.name), ("peer-8002", "bob"))
        self.assertEqual(str(event.peer.address), BOB)

    def test_we_are_dialled(self) -> None:
        bench = self.bench()
        wire = bench.caller()
        self.assertEqual(wire.heard(), b"")
        wire.say("peer-8002:bob")
        self.assertEqual(wire.heard(), b"peer-8001:alice\n")
        wire.say("REQUEST_PEERS", "PEERS:192.0.2.2:8002")
        self.assertEqual(wire.heard(), b"PEERS:192.0.2.1:8001\n")
        [event] = bench.of(PeerConnected)
        self.assertIs(event.direction, Direction.INCOMING)
        self.assertEqual(str(event.peer.address), BOB)

    def test_a_mark_is_ignored_where_only_mesh1_is_spoken(self) -> None:
        bench = self.bench()
        wire = bench.caller()
        wire.say("bob:Bob\t")
        self.assertEqual(wire.heard(), b"peer-8001:alice\n")
        wire.say("hello")
        self.assertEqual(self.chats(bench), ["hello"])

    def test_every_request_is_answered(self) -> None:
        bench = self.bench()
        wire = bench.guest("peer-8002:bob")
        for _ in range(3):
            wire.say("REQUEST_PEERS")
            self.assertEqual(wire.heard(), b"PEERS:192.0.2.1:8001\n")

    def test_ping_and_chat(self) -> None:
        bench = self.bench()
        wire = bench.guest("peer-8002:bob")
        wire.say("PING", "PONG", " hello ", "\u2060PING", "BYTES:5")
        wire.raw(b"caf\xe9\r\n\n")
        self.assertEqual(wire.heard(), b"PONG\n")
        self.assertEqual(
            self.chats(bench),
            [" hello ", "PING", "BYTES:5", "caf\N{REPLACEMENT CHARACTER}"],
        )
        self.assertEqual(len(bench.of(PingReceived)), 1)
        self.assertEqual(len(bench.of(PongReceived)), 1)

    def test_a_name_is_the_id_when_there_is_none(self) -> None:
        bench = self.bench()
        bench.guest("bob")
        bench.guest("carol:")
        self.assertEqual([p.name for p in bench.node.peers()], ["bob", "carol"])

    def test_bad_handshakes_are_closed_without_an_answer_and_told(self) -> None:
        bench = self.bench()
        for data, reason in (
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "not a mesh node, it said"),
            (b"\xff\xfe\n", "not a mesh node, it said"),
            (b":\n", "bad handshake: "),
            (b"PING\n", "bad handshake: "),
            (b"x" * 600, "more than 512 bytes"),
        ):
            bench.news()
            wire = bench.caller()
            wire.raw(data)
            self.assertEqual(wire.heard(), b"")
            self.assertPart(bench, wire)
            [(context, error)] = self.errors(bench)
            self.assertEqual(context, "Handshake with 192.0.2.2")
            self.assertTrue(error.startswith(reason), error)
            self.assertEqual(len(bench.events), 1)

    def test_a_handshake_that_takes_too_long_is_told(self) -> None:
        bench = self.bench()
        wire = bench.caller()
        bench.clock.advance(10)
        self.assertPart(bench, wire)
        self.assertEqual(
            self.errors(bench), [("Handshake with 192.0.2.2", "handshake timeout")]
        )

    def test_somebody_who_only_looks_in_is_not_worth_a_word(self) -> None:
        bench = self.bench()
        bench.news()
        bench.caller().hang_up()
        bench.caller().reset()
        self.assertEqual(bench.events, [])

    def test_a_peer_with_too_long_a_line_is_gone_for_that_reason(self) -> None:
        bench = self.bench()
        wire = bench.guest("peer-8002:bob")
        wire.raw(b"x" * 17000)
        self.assertEqual(self.reasons(bench), [CloseReason.LINE_TOO_LONG])
        self.assertPart(bench, wire)


class DuplicateTests(BenchCase):
    def test_the_newcomer_is_refused_and_the_old_link_is_probed(self) -> None:
        bench = self.bench()
        old = bench.guest("peer-8002:bob")
        new = bench.caller()
        new.say("peer-8002:bob again")
        self.assertEqual(new.heard(), b"DUPLICATE\n")
        self.assertEqual(old.heard(), b"PING\n")
        self.assertPart(bench, new)
        [refused] = bench.of(PeerRefused)
        self.assertEqual(
            (refused.id, refused.name, refused.host, refused.reason),
            (
                "peer-8002",
                "bob again",
                "192.0.2.2",
                "it has a link to this node already",
            ),
        )
        self.assertEqual(len(bench.of(PeerConnected)), 1)

    def test_an_old_link_that_answers_lives(self) -> None:
        bench = self.bench()
        old = bench.guest("peer-8002:bob")
        bench.clock.advance(5)
        bench.caller().say("peer-8002:bob")
        bench.clock.advance(2.999)
        old.say("PONG")
        bench.clock.advance(10)
        self.assertEqual(self.reasons(bench), [])
        self.assertEqual(self.ids(bench), ["peer-8002"])

    def test_an_old_link_that_is_silent_is_dropped_after_three_seconds(self) -> None:
        bench = self.bench()
        old = bench.guest("peer-8002:bob")
        bench.clock.advance(5)
        bench.caller().say("peer-8002:bob")
        bench.clock.advance(2.999)
        self.assertEqual(self.reasons(bench), [])
        bench.clock.advance(0.001)
        self.assertEqual(self.reasons(bench), [CloseReason.PROBE_UNANSWERED])
        self.assertPart(bench, old)
        self.assertTrue(old.transport.aborted)
        new = bench.caller()
        new.say("peer-8002:bob")
        self.assertEqual(new.heard(), b"peer-8001:alice\n")

    def test_many_newcomers_are_one_probe(self) -> None:
        bench = self.bench()
        old = bench.guest("peer-8002:bob")
        bench.clock.advance(5)
        for _ in range(3):
            bench.caller().say("peer-8002:bob")
            bench.clock.advance(1)
        self.assertEqual(old.heard(), b"PING\n")
        self.assertEqual(self.reasons(bench), [CloseReason.PROBE_UNANSWERED])

    def test_two_hosts_with_one_id_are_two_peers(self) -> None:
        bench = self.bench()
        bench.guest("peer-8002:bob", "192.0.2.2")
        bench.guest("peer-8002:bob", "192.0.2.3")
        self.assertEqual(self.ids(bench), ["peer-8002", "peer-8002"])

    def test_all_addresses_of_this_machine_are_one_host(self) -> None:
        bench = self.bench()
        bench.guest("peer-8002:bob", "127.0.0.1")
        for host in ("192.0.2.1", "::1", "::ffff:127.0.0.1"):
            wire = bench.caller(host)
            wire.say("peer-8002:bob")
            self.assertEqual(wire.heard(), b"DUPLICATE\n", host)

    def test_a_probe_ends_with_the_link_that_it_is_for(self) -> None:
        bench = self.bench()
        old = bench.guest("peer-8002:bob")
        bench.caller().say("peer-8002:bob")

        def due() -> list[float]:
            return [call.getTime() for call in bench.clock.getDelayedCalls()]

        self.assertIn(3.0, due())
        old.reset()
        self.assertNotIn(3.0, due())

    def test_a_dial_answered_duplicate_marks_the_address(self) -> None:
        bench = self.bench()
        bench.guest("bob:bob")
        connecting = bench.node.connect("192.0.2.2:9000")
        wire = bench.dialled("192.0.2.2:9000").succeed()
        wire.say("DUPLICATE")
        peer = self.successResultOf(connecting)
        self.assertEqual((peer.id, str(peer.address)), ("bob", "192.0.2.2:9000"))
        self.assertPart(bench, wire)
        [known] = bench.node.known_addresses()
        self.assertTrue(known.linked and known.proven)
        bench.clock.pump([30] * 1)
        self.assertEqual(self.targets(bench), ["192.0.2.2:9000"])

    def test_a_bootstrap_address_answered_duplicate_has_succeeded(self) -> None:
        bench = self.bench(bootstrap=("bob.example:8002",))
        bench.guest("peer-8002:bob")
        bench.dialled("bob.example:8002").succeed().say("DUPLICATE")
        self.assertEqual(len(bench.of(BootstrapSucceeded)), 1)
        self.assertEqual(len(bench.node.peers()), 1)

    def test_another_address_of_a_peer_whose_own_is_proven(self) -> None:
        """The far end's link to us may be a stale one, but not for long."""
        forward = "192.0.2.2:9000"
        bench = self.bench(bootstrap=(BOB, forward))
        link = bench.dialled(BOB).succeed()
        link.say("peer-8002:bob")
        for attempt in range(1, 5):
            bench.dialled(forward).succeed().say("DUPLICATE")
            self.assertEqual(bench.of(BootstrapFailed)[-1].attempt, attempt)
            link.say("PING")
            bench.clock.advance(10)
        bench.dialled(forward).succeed().say("DUPLICATE")
        self.assertEqual(len(bench.of(BootstrapFailed)), 4)
        self.assertEqual(len(bench.of(BootstrapSucceeded)), 2)
        dials = len(self.targets(bench))
        for _ in range(20):
            link.say("PING")
            bench.clock.advance(10)
        self.assertEqual(len(self.targets(bench)), dials)
        self.assertEqual(len(bench.node.peers()), 1)

    def test_duplicate_from_a_host_of_nobody_is_a_failure(self) -> None:
        bench = self.bench()
        connecting = bench.node.connect(BOB)
        bench.dialled(BOB).succeed().say("DUPLICATE")
        error = self.failureResultOf(connecting, HandshakeRejected).value
        self.assertIn("it still has a link to this node", error.reason)

    def test_duplicate_again_and_again_tells_of_the_id(self) -> None:
        """The far end has probed a stale link by then, and it was none."""
        bench = self.bench(bootstrap=(BOB,))
        reasons = []
        for _ in range(6):
            bench.dialled(BOB).succeed().say("DUPLICATE")
            bench.settle()
            failed = bench.of(BootstrapFailed)[-1]
            reasons.append(failed.reason)
            bench.clock.advance(failed.retry_in)
        stale = "refused, it still has a link to this node"
        taken = (
            "refused, another node seems to use the ID peer-8001: "
            "give this one another ID"
        )
        self.assertEqual(reasons, [stale] * 4 + [taken] * 2)

    def test_the_id_of_a_peer_that_we_have_takes_the_place_of_its_link(self) -> None:
        bench = self.bench()
        first = bench.node.connect(BOB)
        old = bench.dialled(BOB).succeed()
        old.say("peer-8002:bob")
        self.successResultOf(first)
        second = bench.node.connect("192.0.2.2:9999")
        new = bench.dialled("192.0.2.2:9999").succeed()
        new.say("peer-8002:bob")
        self.successResultOf(second)
        self.assertEqual(self.reasons(bench), [CloseReason.REPLACED])
        self.assertEqual(len(bench.of(PeerConnected)), 2)
        self.assertPart(bench, old)
        self.assertFalse(new.closed)
        self.assertEqual(self.ids(bench), ["peer-8002"])


class SeatTests(BenchCase):
    def fill(self, bench: Bench, count: int) -> list[Wire]:
        return [
            bench.guest(f"guest-{number}:g", f"192.0.2.{number + 10}")
            for number in range(count)
        ]

    def test_the_twentieth_gets_a_seat_and_the_next_does_not(self) -> None:
        bench = self.bench()
        wires = self.fill(bench, 19)
        wire = bench.caller()
        wire.say("peer-8002:bob")
        self.assertEqual(wire.heard(), b"peer-8001:alice\n")
        self.assertEqual(bench.of(PeerConnected)[-1].peer_count, 20)
        late = bench.caller("192.0.2.3")
        late.say("peer-8003:carol")
        self.assertEqual(late.heard(), b"MAX_PEERS\n")
        self.assertPart(bench, late)
        self.assertEqual(len(bench.node.peers()), 20)
        self.assertEqual(
            bench.of(PeerRefused)[-1].reason, "no seat is left for another peer"
        )
        wires[0].hang_up()
        again = bench.caller("192.0.2.3")
        again.say("peer-8003:carol")
        self.assertEqual(again.heard(), b"peer-8001:alice\n")

    def test_a_peer_that_we_have_is_a_duplicate_even_when_all_is_full(self) -> None:
        bench = self.bench(max_peers=1)
        bench.guest("peer-8002:bob")
        again = bench.caller()
        again.say("peer-8002:bob")
        self.assertEqual(again.heard(), b"DUPLICATE\n")

    def test_many_at_once_never_take_more_seats_than_there_are(self) -> None:
        bench = self.bench(max_peers=3)
        wires = [bench.caller(f"192.0.2.{n + 10}") for n in range(6)]
        for number, wire in enumerate(wires):
            wire.say(f"guest-{number}:g")
        answers = [wire.heard() for wire in wires]
        self.assertEqual(answers, [b"peer-8001:alice\n"] * 3 + [b"MAX_PEERS\n"] * 3)

    def test_a_seat_is_kept_for_every_dial(self) -> None:
        bench = self.bench()
        wires = self.fill(bench, 18)
        wires[0].say("PEERS:192.0.2.101:8001,192.0.2.102:8001,192.0.2.103:8001")
        self.assertEqual(self.targets(bench), ["192.0.2.101:8001", "192.0.2.102:8001"])
        bench.dialled("192.0.2.101:8001").fail()
        self.assertEqual(self.targets(bench)[2:], ["192.0.2.103:8001"])

    def test_a_welcome_that_comes_when_all_seats_are_taken(self) -> None:
        bench = self.bench(max_peers=2)
        connecting = bench.node.connect(BOB)
        dialled = bench.dialled(BOB).succeed()
        dialled.heard()
        self.fill(bench, 2)
        dialled.say("peer-8002:bob")
        self.assertEqual(dialled.heard(), b"")
        self.failureResultOf(connecting, MeshFull)
        self.assertPart(bench, dialled)
        self.assertEqual(len(bench.node.peers()), 2)
        self.assertLessEqual(max(e.peer_count for e in bench.of(PeerConnected)), 2)

    def test_dials_and_guests_together_never_exceed_the_seats(self) -> None:
        bench = self.bench(
            max_peers=3, bootstrap=tuple(f"192.0.2.{n}:8001" for n in (101, 102, 103))
        )
        dialled = [
            dial.succeed(there=str(dial.target.host))
            for dial in list(bench.network.dials)
            if isinstance(dial.target, PeerAddress)
        ]
        self.assertEqual(len(dialled), 3)
        self.fill(bench, 2)
        for number, wire in enumerate(dialled):
            wire.say(f"dialled-{number}:d")
            self.assertLessEqual(len(bench.node.peers()), 3)
        self.assertEqual(len(bench.node.peers()), 3)

    def test_nothing_is_dialled_when_all_is_full(self) -> None:
        bench = self.bench(max_peers=1)
        wire = bench.guest("peer-8002:bob")
        wire.say("PEERS:192.0.2.2:8002,192.0.2.3:8003")
        bench.clock.pump([1] * 40)
        self.assertEqual(self.targets(bench), [])
        wire.hang_up()
        bench.clock.advance(1)
        self.assertEqual(sorted(self.targets(bench)), ["192.0.2.3:8003"])


class PendingTests(BenchCase):
    def test_the_sixty_fifth_costs_the_oldest_its_place(self) -> None:
        bench = self.bench()
        wires = [bench.caller(f"192.0.2.{n + 10}") for n in range(64)]
        bench.settle()
        self.assertFalse(any(wire.closed for wire in wires))
        late = bench.caller("192.0.2.200")
        bench.settle()
        self.assertEqual([n for n, wire in enumerate(wires) if wire.closed], [0])
        self.assertTrue(wires[0].transport.aborted)
        late.say("peer-8002:bob")
        self.assertEqual(late.heard(), b"peer-8001:alice\n")

    def test_a_finished_handshake_makes_room(self) -> None:
        bench = self.bench(max_peers=100)
        first = bench.caller("192.0.2.10")
        for n in range(63):
            bench.caller(f"192.0.2.{n + 20}")
        first.say("peer-8002:bob")
        bench.caller("192.0.2.200")
        bench.settle()
        self.assertEqual(len(bench.node._links), 65)

    def test_the_ninth_of_one_host_is_turned_away(self) -> None:
        bench = self.bench()
        wires = [bench.caller(port=50000 + n) for n in range(8)]
        late = bench.caller(port=51000)
        bench.settle()
        self.assertFalse(any(wire.closed for wire in wires))
        self.assertTrue(late.closed)
        self.assertEqual(late.heard(), b"")
        other = bench.caller("192.0.2.3")
        bench.settle()
        self.assertFalse(other.closed)
        wires[0].reset()
        again = bench.caller(port=51001)
        bench.settle()
        self.assertFalse(again.closed)

    def test_this_machine_may_have_more(self) -> None:
        bench = self.bench()
        wires = [bench.caller("127.0.0.1", 50000 + n) for n in range(64)]
        bench.settle()
        self.assertFalse(any(wire.closed for wire in wires))


class OurselvesTests(BenchCase):
    def test_a_dial_of_our_own_address_is_not_made(self) -> None:
        bench = self.bench(bootstrap=("localhost:8001", "192.0.2.1:8001"))
        self.assertEqual(self.targets(bench), [])
        self.assertEqual(
            self.errors(bench),
            [
                ("Bootstrap address localhost:8001", "that is this node itself"),
                ("Bootstrap address 192.0.2.1:8001", "that is this node itself"),
            ],
        )

    def test_a_dial_that_ends_on_this_machine_with_our_id(self) -> None:
        bench = self.bench()
        connecting = bench.node.connect("alias.example:9001")
        dialled = bench.dialled("alias.example:9001").succeed(
            there="192.0.2.1", here=tcp_address("192.0.2.1", 40001)
        )
        accepted = bench.caller("192.0.2.1", 40001)
        accepted.raw(dialled.heard())
        dialled.raw(accepted.heard())
        self.failureResultOf(connecting, SelfConnection)
        self.assertPart(bench, dialled)
        self.assertPart(bench, accepted)
        self.assertEqual(bench.node.peers(), ())

    def ferry(self, bench: Bench, one: Wire, other: Wire) -> None:
        """Carry what each says to the other, and each one's end."""
        for _ in range(20):
            for here, there in ((one, other), (other, one)):
                data = here.heard()
                if data and not there.closed:
                    there.raw(data)
            bench.settle()
            for here, there in ((one, other), (other, one)):
                if here.closed and not there.closed:
                    there.raw(here.heard())
                    there.hang_up()
            bench.settle()

    def test_through_a_port_forward_it_is_somebody_else(self) -> None:
        """No ID tells a node that a far end on another host is itself."""
        bench = self.bench()
        connecting = bench.node.connect("203.0.113.1:9001")
        dialled = bench.dialled("203.0.113.1:9001").succeed(there="203.0.113.1")
        accepted = bench.caller("203.0.113.1", 40001)
        self.ferry(bench, dialled, accepted)
        self.assertEqual(self.successResultOf(connecting).id, "peer-8001")
        self.assertEqual(self.ids(bench), ["peer-8001"])
        self.assertEqual(len(bench.of(PeerConnected)), 1)
        bench.node.broadcast("hello")
        bench.settle()
        self.ferry(bench, dialled, accepted)
        self.assertEqual(self.chats(bench), ["hello"])

    def test_through_a_port_forward_that_keeps_our_address(self) -> None:
        """The end that is dialled knows, and closes."""
        bench = self.bench()
        bench.node.connect("203.0.113.1:9001")
        dialled = bench.dialled("203.0.113.1:9001").succeed(there="203.0.113.1")
        accepted = bench.caller("192.0.2.1", 40001)
        self.ferry(bench, dialled, accepted)
        self.assertTrue(dialled.closed and accepted.closed)
        self.assertEqual(bench.node.peers(), ())
        self.assertEqual(self.reasons(bench), [CloseReason.CLOSED_BY_PEER])

    def test_our_advertised_address_is_ours(self) -> None:
        bench = self.bench(advertise="203.0.113.1:9001")
        self.failureResultOf(bench.node.connect("203.0.113.1:9001"), SelfConnection)
        self.assertEqual(self.targets(bench), [])


class SameIdTests(BenchCase):
    """Two hosts that run ``peer-8001`` are two peers."""

    def test_dialled_by_it(self) -> None:
        bench = self.bench()
        wire = bench.caller()
        wire.say("peer-8001:dora")
        self.assertEqual(wire.heard(), b"peer-8001:alice\n")
        [event] = bench.of(PeerConnected)
        self.assertEqual((event.peer.id, event.peer.name), ("peer-8001", "dora"))
        self.assertEqual(event.peer.where, "192.0.2.2:8001")
        bench.node.broadcast("hello")
        wire.say("hi")
        self.assertEqual(wire.heard(), b"hello\n")
        self.assertEqual(self.chats(bench), ["hi"])

    def test_dialling_it(self) -> None:
        bench = self.bench()
        connecting = bench.node.connect("192.0.2.2:8001")
        wire = bench.dialled("192.0.2.2:8001").succeed()
        wire.heard()
        wire.say("peer-8001:dora")
        self.assertEqual(self.successResultOf(connecting).name, "dora")
        self.assertEqual(wire.heard(), b"REQUEST_PEERS\nPEERS:192.0.2.1:8001\n")
        wire.say("PEERS:192.0.2.2:8001,192.0.2.3:8003")
        self.assertEqual(len(bench.of(PeerConnected)), 1)
        self.assertIn("192.0.2.3:8003", self.targets(bench))

    def test_it_takes_a_seat_like_anybody_else(self) -> None:
        bench = self.bench(max_peers=1)
        bench.guest("peer-8001:dora")
        late = bench.caller("192.0.2.3")
        late.say("peer-8001:erin")
        self.assertEqual(late.heard(), b"MAX_PEERS\n")
        self.assertEqual(self.ids(bench), ["peer-8001"])

    def test_one_that_is_connected_is_a_duplicate_and_its_link_is_probed(self) -> None:
        bench = self.bench()
        first = bench.guest("peer-8001:dora")
        again = bench.caller(port=50003)
        again.say("peer-8001:dora")
        self.assertEqual(again.heard(), b"DUPLICATE\n")
        self.assertEqual(first.heard(), b"PING\n")
        self.assertEqual(len(bench.node.peers()), 1)
