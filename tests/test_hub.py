"""One real node, and a test that plays every other one byte by byte."""

from __future__ import annotations

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IListeningPort, IStreamClientEndpoint
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from meshproto.config import NodeConfig
from meshproto.errors import (
    HandshakeFailed,
    HandshakeRejected,
    MeshFull,
    NotRunning,
    SelfConnection,
)
from meshproto.events import (
    BootstrapFailed,
    BootstrapSucceeded,
    ChatReceived,
    CloseReason,
    Direction,
    Event,
    NodeError,
    NodeStarted,
    Peer,
    PeerConnected,
    PeerDisconnected,
    PeerReaped,
    PeerRefused,
    PeersDiscovered,
    PingReceived,
    PongReceived,
)
from meshproto.interfaces import INetwork
from meshproto.link.interfaces import IPeerHost
from meshproto.rules.interfaces import IPeerLink
from meshproto.wire.address import PeerAddress
from tests.fakes import Bench, FakeLink, Original, Wire, tcp_address

BOB = "192.0.2.2:8002"
#: How long we wait before one of two links is given up: by the ID of the peer.
GRACE = {"peer-8002": 0.25, "peer-8000": 0.75}


class BenchCase(SynchronousTestCase):
    """Every test ends with a stop that leaves nothing behind."""

    def bench(self, **settings: object) -> Bench:
        """A node that listens on 192.0.2.1:8001 as alice."""
        settings.setdefault("name", "alice")
        bench = Bench(NodeConfig(**settings))  # type: ignore[arg-type]
        return self.started(bench)

    def started(self, bench: Bench) -> Bench:
        bench.start()
        self.addCleanup(self.clean_up, bench)
        return bench

    def clean_up(self, bench: Bench) -> None:
        bench.stop()
        bench.clock.advance(bench.node.config.stop_timeout)
        bench.settle()
        self.assertEqual(bench.node.peers(), ())
        self.assertEqual(bench.clock.getDelayedCalls(), [])
        self.assertFalse(bench.network.port.listening)
        # Every peer that came has gone, exactly once.
        self.assertEqual(bench.came, bench.went)

    def tearDown(self) -> None:
        self.assertEqual(self.flushLoggedErrors(), [])

    def chats(self, bench: Bench) -> list[str]:
        return [event.text for event in bench.of(ChatReceived)]

    def ids(self, bench: Bench) -> list[str]:
        return [peer.id for peer in bench.node.peers()]

    def reasons(self, bench: Bench) -> list[CloseReason]:
        return [event.reason for event in bench.of(PeerDisconnected)]

    def errors(self, bench: Bench) -> list[tuple[str, str]]:
        return [(event.context, event.error) for event in bench.of(NodeError)]

    def targets(self, bench: Bench) -> list[str]:
        """Every address that was dialled so far."""
        return [str(dial.target) for dial in bench.network.dials]

    def assertPart(self, bench: Bench, wire: Wire) -> None:
        """The node has closed the connection."""
        bench.settle()
        self.assertTrue(wire.closed)


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
            ("peer-8002", "bob again", "192.0.2.2", "DUPLICATE"),
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
        self.assertIn("DUPLICATE", error.reason)

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
        stale = "refused, it still has a link to this node (DUPLICATE)"
        taken = (
            "refused (DUPLICATE), another node seems to use the ID peer-8001: "
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
        self.assertEqual(bench.of(PeerRefused)[-1].reason, "MAX_PEERS")
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
        self.assertEqual(len(bench.node.host._open), 65)  # type: ignore[attr-defined]

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

    def test_a_twin_that_is_not_yet_known_for_one_is_unfinished(self) -> None:
        bench = self.bench()
        wires = [bench.guest("peer-8001:twin", port=50000 + n) for n in range(9)]
        bench.settle()
        self.assertEqual([wire.closed for wire in wires], [False] * 8 + [True])


class OwnAddressTests(BenchCase):
    """The first entry of our PEERS is where we listen."""

    def told(self, bench: Bench, wire: Wire) -> list[str]:
        wire.heard()
        wire.say("REQUEST_PEERS")
        line = wire.heard().decode()
        self.assertTrue(line.startswith("PEERS:") and line.endswith("\n"), line)
        return [entry for entry in line[6:-1].split(",") if entry]

    def test_to_a_peer_on_this_machine(self) -> None:
        bench = self.bench()
        wire = bench.guest("peer-8002:bob", "127.0.0.1")
        self.assertEqual(self.told(bench, wire), ["127.0.0.1:8001"])

    def test_to_a_peer_on_the_lan(self) -> None:
        bench = self.bench()
        wire = bench.guest("peer-8002:bob")
        self.assertEqual(self.told(bench, wire), ["192.0.2.1:8001"])

    def test_over_ipv6(self) -> None:
        bench = self.started(Bench(host=tcp_address("::", 8001)))
        wire = bench.caller("2001:db8::2", here="2001:db8::1")
        wire.say("peer-8002:bob")
        self.assertEqual(self.told(bench, wire), ["[2001:db8::1]:8001"])
        wire = bench.guest("peer-8002:bob")
        self.assertEqual(self.told(bench, wire)[0], "192.0.2.1:8001")

    def test_over_ipv6_there_is_none_where_we_listen_on_ipv4_alone(self) -> None:
        bench = self.bench()
        wire = bench.caller("2001:db8::2", here="2001:db8::1")
        wire.say("peer-8002:bob")
        self.assertEqual(self.told(bench, wire), [])

    def test_advertised_as_host_and_port(self) -> None:
        bench = self.bench(advertise="mesh.example:9001")
        wire = bench.guest("peer-8002:bob")
        self.assertEqual(self.told(bench, wire), ["mesh.example:9001"])
        local = bench.guest("peer-8003:carol", "127.0.0.1")
        self.assertEqual(self.told(bench, local)[0], "mesh.example:9001")

    def test_advertised_as_a_host(self) -> None:
        bench = self.bench(advertise="203.0.113.7")
        wire = bench.guest("peer-8002:bob")
        self.assertEqual(self.told(bench, wire), ["203.0.113.7:8001"])

    def test_bound_to_one_interface(self) -> None:
        bench = self.started(
            Bench(
                host=tcp_address("192.0.2.1", 8001),
                own_hosts=("192.0.2.1", "127.0.0.1", "198.51.100.1"),
            )
        )
        wire = bench.caller(here="198.51.100.1")
        wire.say("peer-8002:bob")
        self.assertEqual(self.told(bench, wire), ["192.0.2.1:8001"])

    def test_bound_to_loopback_there_is_none_for_another_host(self) -> None:
        bench = self.started(Bench(host=tcp_address("127.0.0.1", 8001)))
        connecting = bench.node.connect(BOB)
        wire = bench.dialled(BOB).succeed()
        wire.say("peer-8002:bob")
        self.successResultOf(connecting)
        self.assertEqual(self.told(bench, wire), [])
        local = bench.guest("peer-8003:carol", "127.0.0.1")
        self.assertEqual(self.told(bench, local)[0], "127.0.0.1:8001")

    def test_on_a_unix_socket_there_is_none(self) -> None:
        bench = self.started(Bench(host=UNIXAddress("/mesh")))
        self.assertEqual(bench.node.port, 0)
        wire = bench.network.accept(here=UNIXAddress("/mesh"), there=UNIXAddress(""))
        wire.say("peer-8002:bob")
        self.assertEqual(self.told(bench, wire), [])


class GossipTests(OwnAddressTests):
    """What we tell of others."""

    def test_addresses_that_peers_listen_on(self) -> None:
        bench = self.bench()
        bench.guest("peer-8003:carol", "192.0.2.3", 50003)
        bench.node.connect("192.0.2.4:9004")
        bench.dialled("192.0.2.4:9004").succeed(there="192.0.2.4").say("dave:dave")
        wire = bench.guest("peer-8002:bob")
        self.assertEqual(
            self.told(bench, wire),
            ["192.0.2.1:8001", "192.0.2.3:8003", "192.0.2.4:9004"],
        )

    def test_an_ephemeral_port_is_never_told_stored_or_shown(self) -> None:
        bench = self.bench()
        bench.guest("carol:carol", "192.0.2.3", 50003)
        wire = bench.guest("peer-8002:bob", "192.0.2.2", 50002)
        self.assertEqual(self.told(bench, wire), ["192.0.2.1:8001"])
        everything = repr(bench.node.known_addresses()) + repr(bench.events)
        for port in ("50002", "50003"):
            self.assertNotIn(port, everything)
        self.assertEqual(bench.node.peers()[0].where, "192.0.2.3")

    def test_nobody_is_told_of_itself(self) -> None:
        bench = self.bench()
        wire = bench.guest("peer-8002:bob")
        self.assertEqual(self.told(bench, wire), ["192.0.2.1:8001"])

    def test_a_peer_on_this_machine_is_at_our_address_for_other_hosts(self) -> None:
        bench = self.bench()
        bench.guest("peer-8003:carol", "127.0.0.1")
        wire = bench.guest("peer-8002:bob")
        self.assertEqual(self.told(bench, wire), ["192.0.2.1:8001", "192.0.2.1:8003"])
        local = bench.guest("peer-8004:dave", "127.0.0.1", 50004)
        self.assertEqual(
            self.told(bench, local),
            ["127.0.0.1:8001", "127.0.0.1:8003", "192.0.2.2:8002"],
        )

    def test_a_name_is_told_as_the_address_behind_it(self) -> None:
        bench = self.bench()
        bench.node.connect("carol.example:8003")
        bench.dialled("carol.example:8003").succeed(there="192.0.2.3").say("carol")
        self.assertEqual(bench.node.peers()[0].where, "carol.example:8003")
        wire = bench.guest("peer-8002:bob")
        self.assertEqual(self.told(bench, wire), ["192.0.2.1:8001", "192.0.2.3:8003"])

    def test_what_we_only_heard_of_is_not_told(self) -> None:
        bench = self.bench()
        wire = bench.guest("peer-8002:bob")
        wire.say("PEERS:192.0.2.2:8002,192.0.2.9:8009")
        other = bench.guest("peer-8003:carol", "192.0.2.3")
        self.assertNotIn("192.0.2.9:8009", self.told(bench, other))

    def test_peers_that_have_gone_are_not_told(self) -> None:
        bench = self.bench()
        bench.guest("peer-8003:carol", "192.0.2.3").hang_up()
        wire = bench.guest("peer-8002:bob")
        self.assertEqual(self.told(bench, wire), ["192.0.2.1:8001"])


class ListeningAddressTests(BenchCase):
    """Where a peer listens, as far as it can be known."""

    def where(self, bench: Bench) -> str:
        [peer] = bench.node.peers()
        return peer.where

    def test_the_port_in_its_id(self) -> None:
        bench = self.bench()
        bench.guest("peer-8002:bob")
        self.assertEqual(self.where(bench), BOB)

    def test_a_port_that_is_none(self) -> None:
        for id in ("peer-0", "peer-65536", "peer-8002x", "xpeer-8002"):
            bench = self.bench()
            bench.guest(f"{id}:bob")
            self.assertEqual(self.where(bench), "192.0.2.2", id)

    def test_the_first_entry_when_its_host_is_the_one_that_we_see(self) -> None:
        bench = self.bench()
        wire = bench.guest("bob:bob")
        wire.say("REQUEST_PEERS", "PEERS:192.0.2.2:9002,192.0.2.3:8003")
        self.assertEqual(self.where(bench), "192.0.2.2:9002")

    def test_a_first_entry_of_another_host_is_somebody_else(self) -> None:
        bench = self.bench()
        wire = bench.guest("bob:bob")
        wire.say("REQUEST_PEERS", "PEERS:192.0.2.3:8003,192.0.2.2:9002")
        self.assertEqual(self.where(bench), "192.0.2.2")

    def test_loopback_as_a_first_entry_is_the_host_that_we_see(self) -> None:
        bench = self.bench()
        wire = bench.guest("bob:bob")
        wire.say("REQUEST_PEERS", "PEERS:localhost:9002")
        self.assertEqual(self.where(bench), "192.0.2.2:9002")
        self.assertIn("192.0.2.2:9002", self.targets(bench))

    def test_any_address_of_this_machine_will_do_for_a_peer_on_it(self) -> None:
        bench = self.bench()
        wire = bench.guest("bob:bob", "127.0.0.1")
        wire.say("REQUEST_PEERS", "PEERS:192.0.2.1:9002")
        self.assertEqual(self.where(bench), "127.0.0.1:9002")

    def test_our_own_address_is_nobody_elses(self) -> None:
        bench = self.bench()
        wire = bench.guest("bob:bob", "127.0.0.1")
        wire.say("REQUEST_PEERS", "PEERS:localhost:8001,localhost:9003")
        self.assertEqual(self.where(bench), "127.0.0.1")

    def test_the_address_of_another_peer_is_nobody_elses(self) -> None:
        bench = self.bench()
        bench.guest("peer-9002:carol", "127.0.0.1", 50003)
        wire = bench.guest("bob:bob", "127.0.0.1")
        wire.say("REQUEST_PEERS", "PEERS:192.0.2.1:9002,localhost:9003")
        self.assertEqual(bench.node.peers()[1].where, "127.0.0.1")

    def test_the_id_counts_more_than_the_first_entry(self) -> None:
        bench = self.bench()
        wire = bench.guest("peer-8002:bob")
        wire.say("REQUEST_PEERS", "PEERS:192.0.2.2:9002")
        self.assertEqual(self.where(bench), BOB)

    def test_a_claim_is_dialled_and_so_proved(self) -> None:
        bench = self.bench()
        wire = bench.guest("bob:bob")
        wire.say("REQUEST_PEERS", "PEERS:192.0.2.2:9002")
        bench.dialled("192.0.2.2:9002").succeed().say("DUPLICATE")
        [known] = bench.node.known_addresses()
        self.assertTrue(known.proven and known.linked)

    def test_a_claim_that_is_somebody_else_is_corrected(self) -> None:
        bench = self.bench()
        wire = bench.guest("bob:bob")
        wire.say("REQUEST_PEERS", "PEERS:192.0.2.2:9003")
        bench.dialled("192.0.2.2:9003").succeed().say("carol:carol")
        self.assertEqual(
            {peer.id: peer.where for peer in bench.node.peers()},
            {"bob": "192.0.2.2", "carol": "192.0.2.2:9003"},
        )

    def test_who_came_before_is_told_of_a_claim_without_a_timer(self) -> None:
        bench = self.bench()
        before = bench.guest("peer-8003:carol", "192.0.2.3")
        wire = bench.guest("bob:bob")
        wire.say("REQUEST_PEERS", "PEERS:192.0.2.2:9002")
        self.assertEqual(before.heard(), b"PEERS:192.0.2.1:8001,192.0.2.2:9002\n")

    def test_only_who_has_asked_first_tells_of_itself(self) -> None:
        """The original shares before it asks, and begins with somebody else."""
        bench = self.bench()
        wire = bench.guest("bob:bob")
        wire.say("PEERS:192.0.2.2:9003", "REQUEST_PEERS")
        self.assertEqual(self.where(bench), "192.0.2.2")
        bench.dialled("192.0.2.2:9003").fail()
        wire.heard()
        bench.clock.advance(30)
        self.assertIn(b"REQUEST_PEERS\n", wire.heard())
        wire.say("PEERS:192.0.2.2:9003")
        self.assertEqual(self.where(bench), "192.0.2.2")

    def test_a_question_of_ours_that_comes_between_does_not_matter(self) -> None:
        """We may ask while the first words of a newcomer are on their way."""
        bench = self.bench(max_peers=1)
        wire = bench.guest("bob:bob")
        self.assertEqual(bench.node.discover(), 1)
        wire.say("REQUEST_PEERS", "PEERS:192.0.2.2:9003")
        self.assertEqual(self.where(bench), "192.0.2.2:9003")

    def test_but_an_answer_that_comes_later_tells_of_others(self) -> None:
        bench = self.bench(max_peers=1)
        wire = bench.guest("bob:bob")
        bench.node.discover()
        wire.say("REQUEST_PEERS", "PING", "PEERS:192.0.2.2:9003")
        self.assertEqual(self.where(bench), "192.0.2.2")

    def test_where_we_dialled_it(self) -> None:
        bench = self.bench()
        bench.node.connect("bob.example:9002")
        wire = bench.dialled("bob.example:9002").succeed()
        wire.say("peer-8002:bob")
        self.assertEqual(self.where(bench), "bob.example:9002")


class LearningTests(BenchCase):
    def test_every_new_address_is_dialled_at_once(self) -> None:
        bench = self.bench()
        wire = bench.guest("peer-8002:bob")
        wire.say(
            "PEERS:192.0.2.2:8002,192.0.2.3:8003,[2001:db8::4]:8004,dave.example:8005"
        )
        self.assertEqual(
            self.targets(bench),
            ["192.0.2.3:8003", "[2001:db8::4]:8004", "dave.example:8005"],
        )
        [event] = bench.of(PeersDiscovered)
        self.assertEqual((event.count, event.total_known), (3, 4))

    def test_what_is_not_believed_is_not_dialled(self) -> None:
        bench = self.bench()
        wire = bench.guest("peer-8002:bob")
        wire.say(
            "PEERS:192.0.2.3:80,0.0.0.0:8001,224.0.0.1:8001,255.255.255.255:8001,"
            "nonsense,192.0.2.3:99999,192.0.2.9:8009"
        )
        self.assertEqual(self.targets(bench), ["192.0.2.9:8009"])

    def test_loopback_told_by_another_host_is_that_host(self) -> None:
        bench = self.bench()
        wire = bench.guest("peer-8002:bob")
        wire.say("PEERS:192.0.2.2:8002,localhost:8003,127.0.0.1:8004")
        self.assertEqual(self.targets(bench), ["192.0.2.2:8003", "192.0.2.2:8004"])

    def test_our_own_address_is_not_dialled_in_any_spelling(self) -> None:
        bench = self.bench()
        wire = bench.guest("peer-8002:bob", "127.0.0.1")
        wire.say(
            "PEERS:127.0.0.1:8002,localhost:8001,[::1]:8001,192.0.2.1:8001,127.0.0.1:8001"
        )
        self.assertEqual(self.targets(bench), [])

    def test_a_peer_that_we_have_is_not_dialled(self) -> None:
        bench = self.bench()
        bench.guest("peer-8003:carol", "192.0.2.3")
        bench.guest("peer-8002:bob").say("PEERS:192.0.2.2:8002,192.0.2.3:8003")
        self.assertEqual(self.targets(bench), [])

    def test_a_peer_that_has_gone_is_dialled_again(self) -> None:
        bench = self.bench()
        bench.guest("peer-8003:carol", "192.0.2.3").hang_up()
        bench.clock.advance(1)
        self.assertEqual(self.targets(bench), ["192.0.2.3:8003"])


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

    def tried_again(self, bench: Bench, target: str) -> None:
        """Nobody was announced, and the address is dialled like one that failed."""
        self.assertEqual(bench.of(PeerConnected), [])
        self.assertEqual(bench.node.peers(), ())
        [failed] = bench.of(BootstrapFailed)
        self.assertEqual((str(failed.target), failed.attempt), (target, 1))
        self.assertEqual(failed.reason, "that is this node itself")
        self.assertEqual(self.targets(bench), [target])
        bench.clock.advance(failed.retry_in)
        self.assertEqual(self.targets(bench), [target, target])
        bench.dialled(target).succeed(there="203.0.113.1").say("bob:bob")
        [peer] = bench.node.peers()
        self.assertEqual(peer.id, "bob")

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

    def test_through_a_port_forward_of_another_host(self) -> None:
        bench = self.bench(bootstrap=("203.0.113.1:9001",))
        dialled = bench.dialled("203.0.113.1:9001").succeed(there="203.0.113.1")
        accepted = bench.caller("203.0.113.1", 40001)
        self.ferry(bench, dialled, accepted)
        self.assertTrue(dialled.closed and accepted.closed)
        self.tried_again(bench, "203.0.113.1:9001")

    def test_through_a_port_forward_that_keeps_our_address(self) -> None:
        bench = self.bench(bootstrap=("203.0.113.1:9001",))
        dialled = bench.dialled("203.0.113.1:9001").succeed(there="203.0.113.1")
        accepted = bench.caller("192.0.2.1", 40001)
        self.ferry(bench, dialled, accepted)
        self.assertTrue(dialled.closed and accepted.closed)
        self.tried_again(bench, "203.0.113.1:9001")

    def test_our_advertised_address_is_ours(self) -> None:
        bench = self.bench(advertise="203.0.113.1:9001")
        self.failureResultOf(bench.node.connect("203.0.113.1:9001"), SelfConnection)
        self.assertEqual(self.targets(bench), [])


class TwinTests(BenchCase):
    """Two hosts that run ``peer-8001`` are two peers."""

    def test_dialled_by_its_twin(self) -> None:
        bench = self.bench()
        wire = bench.caller()
        wire.say("peer-8001:twin")
        self.assertEqual(wire.heard(), b"peer-8001:alice\n")
        self.assertEqual(bench.of(PeerConnected), [])
        wire.say("REQUEST_PEERS", "PEERS:192.0.2.2:8001")
        self.assertEqual(wire.heard(), b"PEERS:192.0.2.1:8001\n")
        [event] = bench.of(PeerConnected)
        self.assertEqual((event.peer.id, event.peer.name), ("peer-8001", "twin"))
        self.assertEqual(event.peer.where, "192.0.2.2:8001")
        bench.node.broadcast("hello")
        wire.say("hi")
        self.assertEqual(wire.heard(), b"hello\n")
        self.assertEqual(self.chats(bench), ["hi"])

    def test_dials_its_twin(self) -> None:
        bench = self.bench()
        connecting = bench.node.connect("192.0.2.2:8001")
        wire = bench.dialled("192.0.2.2:8001").succeed()
        wire.heard()
        wire.say("peer-8001:twin")
        self.assertTrue(
            wire.heard().startswith(b"REQUEST_PEERS\nPEERS:192.0.2.1:8001\n")
        )
        self.assertNoResult(connecting)
        wire.say("PEERS:192.0.2.2:8001,192.0.2.3:8003")
        self.assertEqual(self.successResultOf(connecting).name, "twin")
        self.assertEqual(len(bench.of(PeerConnected)), 1)
        self.assertIn("192.0.2.3:8003", self.targets(bench))

    def test_a_twin_that_is_known_is_a_peer_like_any_other(self) -> None:
        """Its end is not taken for a merge with a link whose far end is unknown."""
        bench = self.bench()
        wire = bench.caller()
        wire.say("peer-8001:twin", "hi")
        self.assertEqual(self.ids(bench), ["peer-8001"])
        wire.hang_up()
        self.assertEqual(self.reasons(bench), [CloseReason.CLOSED_BY_PEER])

    def test_a_twin_without_a_listening_address_is_known_at_the_deadline(self) -> None:
        bench = self.bench()
        bench.caller().say("peer-8001:twin")
        bench.clock.advance(9.999)
        self.assertEqual(bench.of(PeerConnected), [])
        bench.clock.advance(0.001)
        self.assertEqual(self.ids(bench), ["peer-8001"])

    def test_a_twin_takes_a_seat_like_anybody_else(self) -> None:
        bench = self.bench(max_peers=1)
        twin = bench.guest("peer-8001:twin")
        bench.guest("peer-8003:carol", "192.0.2.3")
        twin.say("PEERS:192.0.2.2:8001")
        self.assertEqual(self.ids(bench), ["peer-8003"])
        self.assertPart(bench, twin)

    def test_a_twin_that_is_connected_is_a_duplicate_or_else_it_is_probed(self) -> None:
        bench = self.bench()
        first = bench.guest("peer-8001:twin")
        first.say("PEERS:192.0.2.2:8001")
        first.heard()
        again = bench.guest("peer-8001:twin", port=50003)
        again.say("PEERS:192.0.2.2:8001")
        bench.settle()
        self.assertEqual(len(bench.node.peers()), 1)

    def test_both_dial_at_once(self) -> None:
        # The link dialled by the greater address survives: 192.0.2.2's.
        bench = self.bench()
        connecting = bench.node.connect("192.0.2.2:8001")
        ours = bench.dialled("192.0.2.2:8001").succeed()
        theirs = bench.guest("peer-8001:twin")
        ours.say("peer-8001:twin")
        theirs.say("REQUEST_PEERS", "PEERS:192.0.2.2:8001")
        ours.say("PEERS:192.0.2.2:8001")
        self.successResultOf(connecting)
        self.assertEqual(len(bench.of(PeerConnected)), 1)
        self.assertTrue(ours.transport.half_closed)
        ours.hang_up()
        self.assertPart(bench, ours)
        self.assertFalse(theirs.closed)
        theirs.heard()
        bench.node.broadcast("hello")
        self.assertEqual(theirs.heard(), b"hello\n")
        self.assertEqual(self.reasons(bench), [])


class SimultaneousDialTests(BenchCase):
    """Both dial: the link that was dialled by the greater ID survives."""

    connecting: Deferred[Peer]
    peer_id: str

    def crossing(self, id: str) -> tuple[Bench, Wire, Wire]:
        """A node that dials a peer and is dialled by it; all but one welcome."""
        bench = self.bench()
        self.connecting = bench.node.connect(BOB)
        ours = bench.dialled(BOB).succeed()
        theirs = bench.caller()
        self.assertEqual(ours.heard(), b"peer-8001:alice\n")
        theirs.say(f"{id}:bob")
        self.assertEqual(theirs.heard(), b"peer-8001:alice\n")
        self.peer_id = id
        return bench, ours, theirs

    def assertOne(self, bench: Bench, survivor: Wire, loser: Wire) -> None:
        """One peer, one link, and chat goes both ways."""
        self.assertPart(bench, loser)
        self.assertFalse(survivor.closed)
        self.assertEqual(len(bench.of(PeerConnected)), 1)
        self.assertEqual(self.reasons(bench), [])
        self.assertEqual(self.ids(bench), [self.peer_id])
        survivor.heard()
        bench.node.broadcast("to you")
        bench.settle()
        survivor.say("PING", "to me")
        bench.settle()
        self.assertEqual(survivor.heard(), b"to you\nPONG\n")
        self.assertEqual(self.chats(bench)[-1], "to me")

    def welcome(self, ours: Wire) -> None:
        """The welcome that makes two links of the pair."""
        ours.say(f"{self.peer_id}:bob")

    def merge(self, bench: Bench) -> None:
        """Let the grace pass, and no more than that."""
        bench.clock.advance(GRACE[self.peer_id])
        bench.settle()

    def test_theirs_survives_when_their_id_is_greater(self) -> None:
        bench, ours, theirs = self.crossing("peer-8002")
        self.welcome(ours)
        self.assertEqual(self.successResultOf(self.connecting).id, "peer-8002")
        self.merge(bench)
        self.assertTrue(ours.transport.half_closed)
        self.assertFalse(theirs.transport.half_closed)
        self.assertEqual(ours.heard(), b"")
        ours.hang_up()
        self.assertOne(bench, theirs, ours)

    def test_ours_survives_when_our_id_is_greater(self) -> None:
        bench, ours, theirs = self.crossing("peer-8000")
        self.welcome(ours)
        self.successResultOf(self.connecting)
        self.merge(bench)
        self.assertTrue(theirs.transport.half_closed)
        self.assertFalse(ours.transport.half_closed)
        self.assertEqual(ours.heard(), b"")
        theirs.hang_up()
        bench.settle()
        self.assertEqual(ours.heard(), b"REQUEST_PEERS\nPEERS:192.0.2.1:8001\n")
        self.assertOne(bench, ours, theirs)

    def test_before_the_grace_is_over_nothing_is_given_up(self) -> None:
        for id, grace in GRACE.items():
            bench, ours, theirs = self.crossing(id)
            loser = ours if id > "peer-8001" else theirs
            self.welcome(ours)
            bench.clock.advance(grace - 0.001)
            for wire in (ours, theirs):
                self.assertFalse(wire.transport.half_closed, id)
                self.assertEqual(wire.heard(), b"")
            # Both are read, and answered where they are asked.
            ours.say("one", "PING")
            theirs.say("two", "PING")
            self.assertEqual(self.chats(bench), ["one", "two"])
            self.assertEqual((ours.heard(), theirs.heard()), (b"PONG\n", b"PONG\n"))
            bench.clock.advance(0.001)
            self.assertTrue(loser.transport.half_closed, id)

    def test_a_half_close_by_the_far_end_begins_the_merge(self) -> None:
        bench, ours, theirs = self.crossing("peer-8000")
        self.welcome(ours)
        theirs.say("last")
        theirs.hang_up()
        bench.settle()
        self.assertEqual(self.chats(bench), ["last"])
        self.assertEqual(ours.heard(), b"REQUEST_PEERS\nPEERS:192.0.2.1:8001\n")
        self.assertOne(bench, ours, theirs)

    def chat_meanwhile(self, id: str) -> None:
        bench, ours, theirs = self.crossing(id)
        survivor, loser = (theirs, ours) if id > "peer-8001" else (ours, theirs)
        # Until we know better, the link that they dialled is the link.
        bench.node.broadcast("m1")
        self.welcome(ours)
        # They speak on the link that was complete first for them.
        loser.say("t1")
        bench.node.broadcast("m2")
        loser.say("t2")
        self.assertEqual(theirs.heard(), b"m1\nm2\n")
        self.merge(bench)
        bench.node.broadcast("m3")
        survivor.say("t4", "PING")
        bench.node.broadcast("m4")
        loser.say("t3")
        bench.settle()
        # Nothing is read from the survivor, nor sent on it, before the end.
        early = ["t1", "t2", "t3"]
        self.assertEqual(self.chats(bench), early)
        self.assertEqual(survivor.heard(), b"")
        self.assertEqual(loser.heard(), b"")
        self.assertTrue(loser.transport.half_closed)
        loser.hang_up()
        bench.settle()
        self.assertEqual(self.chats(bench), [*early, "t4"])
        heard = survivor.heard()
        self.assertEqual(
            [line for line in heard.split(b"\n") if line.startswith(b"m")],
            [b"m3", b"m4"],
        )
        self.assertEqual(heard.count(b"PONG\n"), 1)
        self.assertOne(bench, survivor, loser)

    def test_chat_meanwhile_with_a_greater_id(self) -> None:
        self.chat_meanwhile("peer-8002")

    def test_chat_meanwhile_with_a_lesser_id(self) -> None:
        self.chat_meanwhile("peer-8000")

    def test_chat_that_waits_on_the_loser_goes_before_its_end(self) -> None:
        bench, ours, theirs = self.crossing("peer-8000")
        theirs.transport.stuck = True
        for number in range(5):
            bench.node.broadcast(f"{number}" * 16000)
        self.welcome(ours)
        for number in range(5, 10):
            bench.node.broadcast(f"{number}" * 16000)
        self.merge(bench)
        bench.node.broadcast("last")
        self.assertFalse(theirs.transport.half_closed)
        theirs.transport.stuck = False
        theirs.transport.take()
        self.assertTrue(theirs.transport.half_closed)
        lines = theirs.heard().split(b"\n")
        self.assertEqual(
            [line[:1] for line in lines[:-1]], [b"%d" % n for n in range(10)]
        )
        theirs.hang_up()
        bench.settle()
        self.assertTrue(ours.heard().endswith(b"last\n"))

    def test_a_loser_that_does_not_end_in_three_seconds_takes_the_survivor_along(
        self,
    ) -> None:
        """Its last words may be read later than what would be said next."""
        for id in GRACE:
            bench, ours, theirs = self.crossing(id)
            survivor, loser = (theirs, ours) if id > "peer-8001" else (ours, theirs)
            self.welcome(ours)
            self.merge(bench)
            survivor.say("after")
            bench.clock.advance(2.999)
            self.assertEqual(self.chats(bench), [])
            self.assertEqual(self.reasons(bench), [])
            bench.clock.advance(0.001)
            bench.settle()
            self.assertTrue(loser.transport.aborted)
            self.assertTrue(survivor.transport.aborted)
            self.assertEqual(self.reasons(bench), [CloseReason.TIMEOUT])
            self.assertEqual(self.ids(bench), [])

    def test_a_loser_that_breaks_is_the_end_of_both(self) -> None:
        bench, ours, theirs = self.crossing("peer-8002")
        self.welcome(ours)
        self.merge(bench)
        theirs.say("after")
        self.assertEqual(self.chats(bench), [])
        ours.reset()
        bench.settle()
        self.assertTrue(theirs.transport.aborted)
        self.assertEqual(self.chats(bench), [])
        self.assertEqual(self.reasons(bench), [CloseReason.CONNECTION_LOST])

    def test_a_survivor_that_breaks_is_the_end_of_both(self) -> None:
        bench, ours, theirs = self.crossing("peer-8002")
        self.welcome(ours)
        self.merge(bench)
        theirs.reset()
        self.assertPart(bench, ours)
        self.assertEqual(self.reasons(bench), [CloseReason.CONNECTION_LOST])

    def test_a_link_that_breaks_during_the_grace_leaves_the_other_one(self) -> None:
        first_words = b"REQUEST_PEERS\nPEERS:192.0.2.1:8001\n"
        for id in GRACE:
            for broken in ("ours", "theirs"):
                bench, ours, theirs = self.crossing(id)
                gone, left = (ours, theirs) if broken == "ours" else (theirs, ours)
                self.welcome(ours)
                gone.reset()
                # Who has dialled it says what is said on every new link.
                self.assertEqual(
                    left.heard(), first_words if left is ours else b"", (id, broken)
                )
                bench.clock.advance(1)
                self.assertFalse(left.transport.half_closed)
                self.assertOne(bench, left, gone)

    def test_a_survivor_that_the_far_end_closes_during_the_grace(self) -> None:
        for id in GRACE:
            bench, ours, theirs = self.crossing(id)
            survivor, loser = (theirs, ours) if id > "peer-8001" else (ours, theirs)
            self.welcome(ours)
            survivor.hang_up()
            self.assertOne(bench, loser, survivor)

    def test_a_far_end_that_leaves_during_the_grace(self) -> None:
        for id in GRACE:
            bench, ours, theirs = self.crossing(id)
            self.welcome(ours)
            for wire in (ours, theirs):
                wire.say("bye")
                wire.hang_up()
            bench.settle()
            self.assertTrue(ours.closed and theirs.closed)
            self.assertEqual(self.chats(bench), ["bye", "bye"])
            self.assertEqual(self.reasons(bench), [CloseReason.CLOSED_BY_PEER])

    def test_the_far_end_has_ended_the_loser_before_we_know_of_the_pair(self) -> None:
        bench, ours, theirs = self.crossing("peer-8000")
        theirs.say("early")
        theirs.hang_up()
        bench.settle()
        self.assertEqual(self.reasons(bench), [])
        self.welcome(ours)
        ours.say("later")
        bench.settle()
        self.assertEqual(self.chats(bench), ["early", "later"])
        # There is nothing to wait for: it has begun the merge itself.
        self.assertEqual(ours.heard(), b"REQUEST_PEERS\nPEERS:192.0.2.1:8001\n")
        self.assertOne(bench, ours, theirs)

    def test_the_far_end_was_only_leaving(self) -> None:
        bench, ours, theirs = self.crossing("peer-8000")
        theirs.hang_up()
        ours.hang_up()
        bench.settle()
        self.failureResultOf(self.connecting, HandshakeFailed)
        self.assertEqual(self.reasons(bench), [CloseReason.CLOSED_BY_PEER])
        self.assertPart(bench, theirs)
        self.assertEqual(bench.node.peers(), ())

    def test_the_second_welcome_may_be_a_refusal_instead(self) -> None:
        bench, ours, theirs = self.crossing("peer-8002")
        ours.say("DUPLICATE")
        self.assertEqual(self.successResultOf(self.connecting).id, "peer-8002")
        self.assertPart(bench, ours)
        self.assertOne(bench, theirs, ours)

    def test_stopped_during_the_grace(self) -> None:
        for id in GRACE:
            bench, ours, theirs = self.crossing(id)
            self.welcome(ours)
            bench.node.broadcast("bye")
            bench.stop()
            self.assertEqual((ours.heard(), theirs.heard()), (b"", b"bye\n"))
            self.assertEqual(self.reasons(bench), [CloseReason.STOPPED])
            self.assertTrue(ours.closed and theirs.closed)
            self.assertEqual(bench.clock.getDelayedCalls(), [])

    def test_stopped_while_the_loser_is_drained(self) -> None:
        bench, ours, theirs = self.crossing("peer-8002")
        self.welcome(ours)
        self.merge(bench)
        bench.node.broadcast("bye")
        bench.stop()
        self.assertEqual(theirs.heard(), b"bye\n")
        self.assertEqual(self.reasons(bench), [CloseReason.STOPPED])
        self.assertTrue(ours.closed and theirs.closed)

    def test_a_third_link_replaces_both(self) -> None:
        for id in GRACE:
            for grace in (0, GRACE[id]):
                bench, ours, theirs = self.crossing(id)
                self.welcome(ours)
                bench.clock.advance(grace)
                bench.node.connect("192.0.2.2:9999")
                third = bench.dialled("192.0.2.2:9999").succeed()
                third.say(f"{id}:bob")
                bench.settle()
                self.assertTrue(ours.closed and theirs.closed)
                self.assertEqual(
                    [type(event) for event in bench.news()],
                    [NodeStarted, PeerConnected, PeerDisconnected, PeerConnected],
                )
                third.heard()
                bench.clock.advance(1)
                bench.node.broadcast("to you")
                third.say("to me")
                self.assertEqual(third.heard(), b"to you\n")
                self.assertEqual(self.chats(bench), ["to me"])
                self.assertEqual(self.reasons(bench), [])

    def test_a_newcomer_during_the_grace_is_a_duplicate(self) -> None:
        bench, ours, theirs = self.crossing("peer-8002")
        self.welcome(ours)
        late = bench.caller(port=50003)
        late.say("peer-8002:bob")
        self.assertEqual(late.heard(), b"DUPLICATE\n")
        self.assertEqual(theirs.heard(), b"PING\n")
        theirs.say("PONG")
        self.merge(bench)
        ours.hang_up()
        bench.clock.advance(3)
        self.assertOne(bench, theirs, ours)

    def test_a_reader_that_becomes_slow_is_not_told_what_the_loser_says(self) -> None:
        for grace in (GRACE["peer-8002"], 0):
            bench, ours, theirs = self.crossing("peer-8002")
            self.welcome(ours)
            bench.clock.advance(grace)
            bench.node.pause_reading()
            ours.say("one")
            ours.hang_up()
            theirs.say("two")
            # The grace passes meanwhile, if it has not.
            bench.clock.advance(30)
            self.assertEqual(self.chats(bench), [])
            bench.node.resume_reading()
            bench.settle()
            self.assertEqual(self.chats(bench), ["one", "two"])
            self.assertOne(bench, theirs, ours)

    def test_a_reader_that_is_slow_loses_nothing_of_the_loser(self) -> None:
        bench, ours, theirs = self.crossing("peer-8002")
        bench.node.pause_reading()
        self.welcome(ours)
        ours.say("one", "two")
        bench.settle()
        # The welcome itself was read: the pause is for peers.
        ours.hang_up()
        theirs.say("three")
        bench.clock.advance(30)
        self.assertEqual(self.chats(bench), [])
        bench.node.resume_reading()
        bench.settle()
        self.assertEqual(self.chats(bench), ["one", "two", "three"])
        self.assertOne(bench, theirs, ours)


class KeptLinksTests(BenchCase):
    """Both dial, and the other one is an original program.

    It forgets a peer with whichever of its links ends, so nothing is closed.
    """

    def found(self, when: str) -> tuple[Bench, Original, Wire, Wire]:
        """An original with two links: the one that we dialled, and its own."""
        bench = self.bench()
        bench.node.connect(BOB)
        original = Original(bench)
        theirs = original.dial()
        if when == "before":
            original.read()
        ours = original.accept(BOB)
        if when == "late":
            bench.clock.advance(0.749)
        original.read()
        return bench, original, ours, theirs

    def test_neither_link_is_closed(self) -> None:
        for id in ("0-original", "zzz-original"):
            for when in ("before", "at once", "late"):
                bench = self.bench()
                bench.node.connect(BOB)
                original = Original(bench, id)
                theirs = original.dial()
                if when == "before":
                    original.read()
                ours = original.accept(BOB)
                if when == "late":
                    # One past the grace of the one, one short of the other's.
                    late = 0.249 if id > "peer-8001" else 0.749
                    bench.clock.advance(late)
                original.read()
                for _ in range(10):
                    bench.clock.advance(1)
                    original.read()
                for wire in (ours, theirs):
                    self.assertFalse(wire.transport.half_closed, (id, when))
                    self.assertFalse(wire.closed, (id, when))
                self.assertEqual(len(bench.of(PeerConnected)), 1)
                self.assertEqual(self.ids(bench), [id])
                self.assertEqual(bench.node.peers()[0].where, BOB)

    def test_once_the_grace_is_over_it_is_too_late(self) -> None:
        """What an original loses by that is healed another day."""
        bench = self.bench()
        bench.node.connect(BOB)
        original = Original(bench, "0-original")
        theirs = original.dial()
        original.accept(BOB)
        bench.clock.advance(0.75)
        self.assertTrue(theirs.transport.half_closed)

    def test_what_is_said_on_the_link_that_we_dialled_shows_no_original(self) -> None:
        bench = self.bench()
        bench.node.connect(BOB)
        ours = bench.dialled(BOB).succeed()
        theirs = bench.guest("peer-8002:bob")
        ours.say("peer-8002:bob", "REQUEST_PEERS", "PEERS:192.0.2.2:8002", "PING", "hi")
        theirs.say("PING", "PEERS:192.0.2.2:8002", "hi")
        bench.clock.advance(0.25)
        self.assertTrue(ours.transport.half_closed)

    def test_the_newer_link_is_introduced_and_the_older_one_probed(self) -> None:
        for when in ("before", "at once"):
            bench = self.bench()
            bench.node.connect(BOB)
            theirs = bench.guest("original:gopher")
            ours = bench.dialled(BOB).succeed()
            if when == "before":
                theirs.say("REQUEST_PEERS")
            ours.heard()
            ours.say("original:gopher")
            if when == "at once":
                self.assertEqual(ours.heard() + theirs.heard(), b"")
                theirs.say("REQUEST_PEERS")
            self.assertEqual(ours.heard(), b"REQUEST_PEERS\nPEERS:192.0.2.1:8001\n")
            self.assertEqual(theirs.heard(), b"PEERS:192.0.2.1:8001\nPING\n")

    def test_chat_that_comes_late_is_the_end_of_both(self) -> None:
        """It was said before what has been heard on the newer link."""
        for when in ("before", "at once", "late"):
            bench, original, ours, theirs = self.found(when)
            theirs.say("one")
            ours.say("two", "three")
            theirs.say("late")
            bench.settle()
            self.assertEqual(self.chats(bench), ["one", "two", "three"])
            self.assertEqual(self.reasons(bench), [CloseReason.REPLACED])
            self.assertPart(bench, ours)
            self.assertPart(bench, theirs)

    def test_chat_from_either_arrives_and_ours_goes_on_the_newer(self) -> None:
        for when in ("before", "at once", "late"):
            bench, original, ours, theirs = self.found(when)
            bench.clock.advance(1)
            original.read()
            theirs.say("one", "two")
            ours.say("three")
            self.assertEqual(self.chats(bench), ["one", "two", "three"])
            bench.node.broadcast("four")
            bench.node.send(bench.node.peers()[0], "five")
            self.assertEqual(ours.heard(), b"four\nfive\n")
            self.assertEqual(theirs.heard(), b"")
            # A request of it is answered where it is asked.
            for wire in (ours, theirs):
                wire.say("REQUEST_PEERS", "PING")
                self.assertEqual(wire.heard(), b"PEERS:192.0.2.1:8001\nPONG\n")

    def test_it_goes_on_for_hours(self) -> None:
        bench, original, ours, theirs = self.found("at once")
        for _ in range(4 * 60 * 2):
            original.say_ping()
            bench.clock.advance(15)
            original.read()
        original.say("still here")
        bench.node.broadcast("so are we")
        original.read()
        self.assertEqual(self.chats(bench), ["still here"])
        self.assertEqual(original.heard, ["so are we"])
        self.assertFalse(ours.closed or theirs.closed)
        self.assertEqual(self.reasons(bench), [])

    def test_when_either_ends_the_other_is_closed_and_dialled_anew(self) -> None:
        for ended in ("ours", "theirs"):
            for end in (Wire.reset, Wire.hang_up):
                bench, original, ours, theirs = self.found("at once")
                bench.clock.advance(5)
                original.read()
                gone, other = (ours, theirs) if ended == "ours" else (theirs, ours)
                end(gone)
                bench.settle()
                self.assertTrue(ours.closed and theirs.closed)
                self.assertFalse(other.transport.aborted)
                self.assertEqual(len(self.reasons(bench)), 1, (ended, end))
                self.assertEqual(bench.node.peers(), ())
                original.read()
                self.assertIsNone(original.current)
                bench.clock.advance(60)
                self.assertEqual(self.targets(bench), [BOB, BOB])
                original.accept(BOB)
                original.read()
                bench.node.broadcast("again")
                original.read()
                original.say("indeed")
                self.assertEqual(original.heard, ["again"])
                self.assertEqual(self.chats(bench), ["indeed"])
                self.assertEqual(len(bench.of(PeerConnected)), 2)
                self.assertEqual(len(self.reasons(bench)), 1)

    def test_an_old_link_that_is_dead_goes_without_a_word(self) -> None:
        """It was a node that came back by our dial."""
        bench = self.bench()
        old = bench.guest("peer-8002:bob")
        old.say("REQUEST_PEERS")
        bench.clock.advance(5)
        bench.node.connect("192.0.2.2:9002")
        new = bench.dialled("192.0.2.2:9002").succeed()
        new.say("peer-8002:bob")
        bench.clock.advance(2.999)
        self.assertFalse(old.transport.aborted)
        new.say("one")
        bench.node.broadcast("two")
        bench.clock.advance(0.001)
        self.assertTrue(old.transport.aborted)
        self.assertPart(bench, old)
        new.say("three")
        self.assertFalse(new.closed)
        self.assertIn(b"two\n", new.heard())
        self.assertEqual(self.chats(bench), ["one", "three"])
        self.assertEqual(self.reasons(bench), [])
        self.assertEqual(len(bench.of(PeerConnected)), 1)
        # From now on it is a peer with one link, as any other.
        new.reset()
        self.assertEqual(self.reasons(bench), [CloseReason.CONNECTION_LOST])

    def test_silence_on_the_newer_link_is_the_end_of_both(self) -> None:
        bench, original, ours, theirs = self.found("at once")
        for _ in range(5):
            bench.clock.advance(15)
            theirs.say("PING", "PONG")
        bench.settle()
        self.assertTrue(ours.closed and theirs.closed)
        self.assertEqual(len(bench.of(PeerReaped)), 1)
        self.assertEqual(self.reasons(bench), [CloseReason.TIMEOUT])

    def test_a_third_link_replaces_both(self) -> None:
        bench, _, ours, theirs = self.found("at once")
        bench.node.connect("192.0.2.2:9999")
        third = bench.dialled("192.0.2.2:9999").succeed()
        third.say(Original.greeting)
        bench.settle()
        self.assertTrue(ours.closed and theirs.closed)
        self.assertFalse(third.closed)
        self.assertEqual(self.reasons(bench), [CloseReason.REPLACED])
        self.assertEqual(len(bench.of(PeerConnected)), 2)

    def test_stopped(self) -> None:
        bench, _, ours, theirs = self.found("at once")
        bench.node.broadcast("bye")
        bench.stop()
        self.assertTrue(ours.heard().endswith(b"bye\n"))
        self.assertTrue(ours.closed and theirs.closed)
        self.assertEqual(self.reasons(bench), [CloseReason.STOPPED])
        self.assertEqual(bench.clock.getDelayedCalls(), [])

    def test_a_reader_that_is_slow_reads_neither(self) -> None:
        bench, original, ours, theirs = self.found("at once")
        original.read()
        bench.node.pause_reading()
        ours.say("one")
        theirs.say("two")
        bench.clock.advance(30)
        self.assertEqual(self.chats(bench), [])
        bench.node.resume_reading()
        bench.settle()
        self.assertEqual(sorted(self.chats(bench)), ["one", "two"])
        self.assertEqual(self.reasons(bench), [])


class MutePeerTests(BenchCase):
    """A peer that answers, but has forgotten that it is one."""

    def redial(self, bench: Bench) -> Wire:
        wire = bench.caller(port=50003)
        wire.say(Original.greeting)
        self.assertEqual(wire.heard(), b"DUPLICATE\n")
        return wire

    def test_an_original_that_has_forgotten_us_is_healed(self) -> None:
        bench = self.bench()
        original = Original(bench)
        link = original.dial()
        original.read()
        original.current = None
        for _ in range(3):
            bench.clock.advance(15)
            original.read()
        # So far it is a peer like any other.
        self.assertEqual(self.reasons(bench), [])
        self.redial(bench)
        original.read()
        bench.clock.advance(2.999)
        self.assertEqual(self.reasons(bench), [])
        bench.clock.advance(0.001)
        self.assertPart(bench, link)
        self.assertFalse(link.transport.aborted)
        self.assertEqual(self.reasons(bench), [CloseReason.FORGOTTEN])
        original.read()
        original.dial()
        original.read()
        bench.node.broadcast("there you are")
        original.read()
        original.say("yes")
        self.assertEqual(original.heard, ["there you are"])
        self.assertEqual(self.chats(bench), ["yes"])

    def test_only_what_is_no_answer_shows_that_it_knows_us(self) -> None:
        for said, knows_us in (
            ("PING", True),
            ("REQUEST_PEERS", True),
            ("hello", True),
            ("PONG", False),
            ("PEERS:192.0.2.9:9009", False),
            ("", False),
        ):
            bench = self.bench()
            original = Original(bench)
            link = original.dial()
            link.heard()
            bench.clock.advance(33)
            link.say(said)
            self.redial(bench)
            bench.clock.advance(1)
            link.say("PONG")
            bench.clock.advance(2)
            expected = [] if knows_us else [CloseReason.FORGOTTEN]
            self.assertEqual(self.reasons(bench), expected, said)

    def test_at_the_bound_it_may_stay(self) -> None:
        for seconds, expected in ((35, []), (35.001, [CloseReason.FORGOTTEN])):
            bench = self.bench()
            original = Original(bench)
            link = original.dial()
            bench.clock.advance(5)
            link.say("PING")
            bench.clock.advance(seconds - 3)
            self.redial(bench)
            link.say("PONG")
            bench.clock.advance(3)
            self.assertEqual(self.reasons(bench), expected, seconds)

    def test_who_does_not_dial_us_may_be_as_quiet_as_it_likes(self) -> None:
        bench = self.bench()
        original = Original(bench)
        original.dial()
        original.read()
        for _ in range(20):
            bench.clock.advance(15)
            original.read()
        self.assertEqual(self.reasons(bench), [])


class DepartureTests(BenchCase):
    def test_every_reason(self) -> None:
        bench = self.bench()
        bench.guest("a:a").hang_up()
        bench.guest("b:b").reset()
        bench.guest("c:c").raw(b"x" * 20000)
        bench.guest("d:d")
        bench.stop()
        self.assertEqual(
            [(event.peer.id, event.reason) for event in bench.of(PeerDisconnected)],
            [
                ("a", CloseReason.CLOSED_BY_PEER),
                ("b", CloseReason.CONNECTION_LOST),
                ("c", CloseReason.LINE_TOO_LONG),
                ("d", CloseReason.STOPPED),
            ],
        )

    def test_a_silent_peer_is_reaped_and_then_gone(self) -> None:
        bench = self.bench()
        wire = bench.guest("peer-8002:bob")
        bench.news()
        bench.clock.pump([15] * 5)
        self.assertEqual(
            [type(event) for event in bench.news()], [PeerReaped, PeerDisconnected]
        )
        self.assertPart(bench, wire)

    def test_once_gone_it_is_not_a_peer_any_more_when_that_is_told(self) -> None:
        bench = self.bench()
        seen: list[int] = []
        wire = bench.guest("peer-8002:bob")

        def count(event: Event) -> None:
            if isinstance(event, PeerDisconnected):
                seen.append(len(bench.node.peers()))

        bench.node.subscribe(count)
        wire.hang_up()
        self.assertEqual(seen, [0])

    def test_a_slow_consumer_that_stalls(self) -> None:
        bench = self.bench()
        slow = bench.guest("slow:slow")
        quick = bench.guest("quick:quick")
        slow.transport.stuck = True
        for _ in range(10):
            bench.node.broadcast("x" * 16000)
        bench.clock.advance(9.999)
        self.assertEqual(self.reasons(bench), [])
        quick.heard()
        quick.say("PING")
        self.assertEqual(quick.heard(), b"PONG\n")
        bench.clock.advance(0.001)
        self.assertEqual(self.reasons(bench), [CloseReason.SLOW_CONSUMER])
        self.assertEqual(self.ids(bench), ["quick"])
        self.assertPart(bench, slow)

    def test_a_slow_consumer_at_the_hard_limit_and_past_it(self) -> None:
        bench = self.bench(send_queue_soft=500, send_queue_hard=1000)
        slow = bench.guest("slow:slow")
        slow.transport.stuck = True
        for _ in range(8):
            bench.node.broadcast("x" * 8191)
        bench.node.broadcast("x")
        bench.clock.advance(1)
        self.assertEqual(len(slow.transport.waiting), 65538)
        bench.node.broadcast("y" * 999)
        bench.settle()
        self.assertEqual(self.reasons(bench), [])
        bench.clock.advance(1)
        delivery = bench.node.broadcast("z")
        self.assertFalse(delivery)
        self.assertEqual(self.reasons(bench), [CloseReason.SLOW_CONSUMER])

    def test_a_peer_that_is_cut_as_soon_as_it_is_there(self) -> None:
        """Its dial has come to an end as well."""
        bench = self.bench(send_queue_soft=1000, send_queue_hard=70_000)

        def talk(event: PeerConnected) -> None:
            for _ in range(30):
                bench.node.broadcast("x" * 10_000)

        bench.node.subscribe(talk, PeerConnected)
        connecting = bench.node.connect(BOB)
        bob = bench.dialled(BOB).succeed()
        bob.transport.stuck = True
        bob.say("peer-8002:bob")
        bench.clock.advance(1)
        self.failureResultOf(connecting, HandshakeFailed)
        self.assertEqual(self.reasons(bench), [CloseReason.SLOW_CONSUMER])
        again = bench.node.connect(BOB)
        self.assertEqual(len(bench.network.dials), 2)
        again.addErrback(lambda why: why.trap(NotRunning))

    def test_a_peer_that_is_back_while_its_last_words_are_told(self) -> None:
        bench = self.bench()

        def work(event: ChatReceived) -> None:
            bench.clock.rightNow += 0.1

        bench.node.subscribe(work, ChatReceived)
        old = bench.guest("bob:bob")
        old.protocol.dataReceived(b"x\n" * 50)
        old.protocol.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(bench.of(PeerDisconnected), [])
        new = bench.caller()
        new.protocol.dataReceived(b"bob:bob\n")
        self.assertEqual(len(bench.of(PeerDisconnected)), 1)
        self.assertEqual(len(bench.node.peers()), 1)
        bench.clock.pump([0] * 20)
        self.assertEqual(new.heard(), b"peer-8001:alice\n")

    def test_chat_of_two_kept_links_waits_for_the_turn_of_the_first(self) -> None:
        """A peer that speaks on one link and then on the other is heard in order."""
        bench = self.bench(id="b-node")

        def work(event: ChatReceived) -> None:
            bench.clock.rightNow += 0.002

        bench.node.subscribe(work, ChatReceived)
        bench.node.connect(BOB)
        dial = bench.dialled(BOB)
        theirs = bench.caller(port=50009)
        theirs.say("a-original:bob")
        ours = dial.succeed()
        ours.say("a-original:bob")
        theirs.say("REQUEST_PEERS")
        bench.settle()
        texts = [f"{number}" for number in range(40)]
        theirs.say(*texts)
        ours.say("after")
        for _ in range(5):
            bench.settle()
        self.assertEqual(self.chats(bench), [*texts, "after"])
        self.assertEqual(len(bench.node.peers()), 1)


class SubscriberTests(BenchCase):
    def test_one_that_raises_is_logged_and_harms_nobody(self) -> None:
        bench = Bench()

        def broken(event: Event) -> None:
            raise ValueError("broken")

        bench.node.subscribe(broken)
        later: list[Event] = []
        bench.node.subscribe(later.append)
        self.started(bench)
        wire = bench.guest("peer-8002:bob")
        wire.say("hello", "PING")
        self.assertEqual(wire.heard(), b"PONG\n")
        self.assertEqual(later, bench.events)
        self.assertEqual(self.chats(bench), ["hello"])
        failures = self.flushLoggedErrors(ValueError)
        self.assertEqual(len(failures), len(bench.events))
        bench.stop()
        self.flushLoggedErrors(ValueError)

    def test_one_that_has_left_hears_nothing(self) -> None:
        bench = self.bench()
        heard: list[Event] = []
        leave = bench.node.subscribe(heard.append)
        leave()
        leave()
        bench.guest("peer-8002:bob")
        self.assertEqual(heard, [])

    def test_all_hear_the_same_in_the_same_order_whatever_one_does(self) -> None:
        bench = self.bench(send_queue_soft=1, send_queue_hard=1)

        def shout(event: Event) -> None:
            if isinstance(event, PeerConnected):
                bench.node.broadcast("x" * 16000)
                bench.node.broadcast("x" * 16000)

        bench.node.subscribe(shout)
        heard: list[Event] = []
        bench.node.subscribe(heard.append)
        wire = bench.caller()
        wire.transport.FULL = 10
        wire.transport.stuck = True
        wire.say("peer-8002:bob")
        kinds = [type(event) for event in heard]
        self.assertEqual(kinds, [PeerConnected, PeerDisconnected])
        self.assertEqual(heard, bench.events[-2:])

    def test_one_that_stops_the_node_when_a_peer_comes(self) -> None:
        bench = self.bench()

        def stop(event: Event) -> None:
            if isinstance(event, PeerConnected):
                bench.node.stop()

        bench.node.subscribe(stop)
        wire = bench.caller()
        wire.say("peer-8002:bob", "hello")
        self.assertPart(bench, wire)
        self.assertEqual(self.chats(bench), [])
        self.assertEqual(self.reasons(bench), [CloseReason.STOPPED])


class DialAgainTests(BenchCase):
    def test_a_refused_caller_may_dial_again_at_once(self) -> None:
        bench = self.bench()
        first = bench.node.connect(BOB)
        again = first.addErrback(lambda _: bench.node.connect(BOB))
        bench.dialled(BOB).succeed().say("MAX_PEERS")
        self.assertEqual(len(bench.network.dials), 2)
        self.assertNoResult(again)
        bench.network.dials[1].succeed().say("peer-8002:bob")
        self.assertEqual(self.successResultOf(again).id, "peer-8002")

    def test_so_may_one_that_was_closed_on(self) -> None:
        bench = self.bench()
        first = bench.node.connect(BOB)
        again = first.addErrback(lambda _: bench.node.connect(BOB))
        bench.dialled(BOB).succeed().hang_up()
        bench.settle()
        self.assertNoResult(again)
        bench.network.dials[1].succeed().say("peer-8002:bob")
        self.assertEqual(self.successResultOf(again).id, "peer-8002")
