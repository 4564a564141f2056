"""One link, byte by byte: what goes over the wire, and when it ends."""

from __future__ import annotations

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, ITCPTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from meshproto.errors import LocalProtocolError
from meshproto.events import CloseReason, Direction
from meshproto.link.interfaces import IPeerHost, LinkLimits
from meshproto.link.protocol import MeshProtocol
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.registry import (
    Duplicate,
    Full,
)
from meshproto.wire.address import EndpointTarget, PeerAddress
from meshproto.wire.messages import (
    Chat,
    Message,
    PeerList,
    Ping,
    Pong,
    Refusal,
    RequestPeers,
)
from tests.fakes import FakeHost, RecordingTransport, Wire, entry_of, tcp_address
from tests.links import BOB, TARGET, LinkCase, first_of, message_of


class InterfaceTests(LinkCase):
    def test_what_it_is(self) -> None:
        wire = self.incoming()
        self.assertTrue(verifyObject(IPeerLink, wire.protocol))
        self.assertTrue(verifyObject(IHalfCloseableProtocol, wire.protocol))

    def test_what_the_fakes_are(self) -> None:
        self.assertTrue(verifyObject(IPeerHost, self.host))
        self.assertTrue(verifyObject(ITCPTransport, self.incoming().transport))


class StringTranscriptTests(SynchronousTestCase):
    """The table of the handshake, over Twisted's own transport."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.host = FakeHost(self.clock)
        self.transport = StringTransport()

    def tearDown(self) -> None:
        self.assertEqual(self.flushLoggedErrors(), [])

    def said(self) -> bytes:
        data: bytes = self.transport.value()
        self.transport.clear()
        return data

    def listener(self) -> MeshProtocol:
        protocol = MeshProtocol(self.host)
        protocol.makeConnection(self.transport)
        return protocol

    def dialler(self) -> MeshProtocol:
        protocol = MeshProtocol(self.host, target=TARGET)
        protocol.makeConnection(self.transport)
        return protocol

    def test_the_dialler_speaks_first(self) -> None:
        self.dialler()
        self.assertEqual(self.said(), b"peer-8001:alice\n")

    def test_the_dialler_says_no_more_after_the_welcome(self) -> None:
        dialler = self.dialler()
        self.said()
        dialler.dataReceived(b"peer-8002:bob\n")
        self.assertEqual(self.said(), b"")
        self.assertEqual(self.host.told, [("opened",), ("hello", BOB), ("ready",)])

    def test_the_listener_says_nothing_until_it_is_spoken_to(self) -> None:
        self.listener()
        self.assertEqual(self.said(), b"")
        self.clock.advance(9.9)
        self.assertEqual(self.said(), b"")

    def test_the_listener_says_who_it_is(self) -> None:
        self.listener().dataReceived(b"peer-8002:bob\n")
        self.assertEqual(self.said(), b"peer-8001:alice\n")
        self.assertEqual(self.host.told, [("opened",), ("hello", BOB), ("ready",)])

    def test_the_listener_says_duplicate_and_closes(self) -> None:
        self.host.verdict = lambda link, hello: Duplicate(entry_of(link, hello))
        self.listener().dataReceived(b"peer-8002:bob\n")
        self.assertEqual(self.said(), b"DUPLICATE\n")
        self.assertTrue(self.transport.disconnecting)
        self.assertFalse(self.transport.disconnected)

    def test_the_listener_says_max_peers_and_closes(self) -> None:
        self.host.verdict = lambda link, hello: Full()
        self.listener().dataReceived(b"peer-8002:bob\n")
        self.assertEqual(self.said(), b"MAX_PEERS\n")
        self.assertTrue(self.transport.disconnecting)

    def test_the_dialler_closes_without_a_word_when_it_is_refused(self) -> None:
        dialler = self.dialler()
        self.said()
        dialler.dataReceived(b"MAX_PEERS\n")
        self.assertEqual(self.said(), b"")
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(
            self.host.told[1:],
            [
                ("turned away", Refusal.MAX_PEERS),
                ("ended", CloseReason.TURNED_AWAY, ""),
            ],
        )

    def test_ping_is_answered_and_nothing_else_is(self) -> None:
        listener = self.listener()
        listener.dataReceived(b"peer-8002:bob\n")
        self.said()
        listener.dataReceived(b"PING\n")
        self.assertEqual(self.said(), b"PONG\n")
        listener.dataReceived(b"PONG\nREQUEST_PEERS\nPEERS:192.0.2.9:8009\nhi\n\n")
        self.assertEqual(self.said(), b"")
        self.assertEqual(
            message_of(self.host.told),
            [
                Ping(),
                Pong(),
                RequestPeers(),
                PeerList((PeerAddress("192.0.2.9", 8009),)),
                Chat("hi"),
            ],
        )

    def test_what_is_sent_ends_with_a_line_feed(self) -> None:
        listener = self.listener()
        listener.dataReceived(b"peer-8002:bob\n")
        self.said()
        listener.send(RequestPeers())
        listener.send(PeerList((TARGET, PeerAddress("2001:db8::1", 8003))))
        listener.send(Ping())
        listener.send(Chat("PING"))
        listener.send_lines(b"hello\n")
        self.assertEqual(
            self.said(),
            b"REQUEST_PEERS\nPEERS:192.0.2.2:8002,[2001:db8::1]:8003\nPING\n"
            b"\xe2\x81\xa0PING\nhello\n",
        )


class OpeningTests(LinkCase):
    def test_an_incoming_link(self) -> None:
        self.clock.advance(7)
        link = self.incoming().protocol
        self.assertIs(link.direction, Direction.INCOMING)
        self.assertIsNone(link.target)
        self.assertEqual(link.remote_host, "192.0.2.2")
        self.assertEqual(link.local_host, "192.0.2.1")
        self.assertFalse(link.same_machine)
        self.assertEqual((link.opened_at, link.last_heard), (7, 7))
        self.assertTrue(link.reading)
        self.assertEqual(link.queued(), 0)

    def test_an_outgoing_link(self) -> None:
        self.clock.advance(7)
        link = self.outgoing(opened_at=4).protocol
        self.assertIs(link.direction, Direction.OUTGOING)
        self.assertEqual(link.target, TARGET)
        self.assertEqual((link.opened_at, link.last_heard), (4, 7))

    def test_an_endpoint_string_is_a_target_as_well(self) -> None:
        target = EndpointTarget("unix:/mesh")
        link = MeshProtocol(self.host, target=target)
        self.assertIs(link.direction, Direction.OUTGOING)
        self.assertEqual(link.target, target)

    def test_the_owner_hears_of_it_before_it_speaks(self) -> None:
        protocol = MeshProtocol(self.host, target=TARGET)
        Wire(self.clock, protocol)
        self.assertEqual(self.host.told, [("opened",)])

    def test_tcp_is_told_to_send_at_once_and_to_keep_watch(self) -> None:
        transport = self.incoming().transport
        self.assertTrue(transport.no_delay)
        self.assertTrue(transport.keep_alive)

    def test_ipv4_inside_ipv6_is_ipv4(self) -> None:
        wire = Wire(
            self.clock,
            MeshProtocol(self.host),
            here=tcp_address("::ffff:192.0.2.1", 8001),
            there=tcp_address("::ffff:192.0.2.2", 50000),
        )
        self.assertEqual(wire.protocol.remote_host, "192.0.2.2")
        self.assertEqual(wire.protocol.local_host, "192.0.2.1")

    def test_our_own_host_is_the_same_machine(self) -> None:
        wire = Wire(
            self.clock,
            MeshProtocol(self.host),
            here=tcp_address("127.0.0.1", 8001),
            there=tcp_address("127.0.0.1", 50000),
        )
        self.assertTrue(wire.protocol.same_machine)

    def test_a_connection_without_an_ip_address_ends_on_this_machine(self) -> None:
        wire = Wire(
            self.clock,
            MeshProtocol(self.host),
            here=UNIXAddress("/mesh"),
            there=UNIXAddress(""),
        )
        self.assertEqual(wire.protocol.remote_host, "127.0.0.1")
        self.assertTrue(wire.protocol.same_machine)
        self.assertFalse(wire.transport.no_delay)

    def test_before_it_is_connected_nothing_is_sent(self) -> None:
        protocol = MeshProtocol(self.host, target=TARGET)
        protocol.send(Ping())
        protocol.send_urgent(Ping())
        self.assertEqual(protocol.queued(), 0)

    def test_an_owner_that_turns_it_away_hears_no_hello_of_it(self) -> None:
        class Unwilling(FakeHost):
            def link_opened(self, link: IPeerLink) -> None:
                link.abort(CloseReason.HANDSHAKE_BACKLOG)

        self.host = Unwilling(self.clock)
        wire = Wire(self.clock, MeshProtocol(self.host, target=TARGET))
        self.assertEqual(wire.heard(), b"")
        self.assertOver(wire, CloseReason.HANDSHAKE_BACKLOG, aborted=True)


class RealAddressTests(LinkCase):
    def test_an_address_that_is_none_of_ours_is_not_looked_into(self) -> None:
        peer = IPv4Address("TCP", "not a host", 1)
        wire = Wire(self.clock, MeshProtocol(self.host), there=peer)
        self.assertEqual(wire.protocol.remote_host, "127.0.0.1")

    def test_the_owner_never_hears_of_the_end_twice(self) -> None:
        wire = self.ready()
        wire.protocol.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(len(self.ends()), 1)


class LivenessTests(LinkCase):
    def test_every_byte_is_a_sign_of_life(self) -> None:
        wire = self.ready()
        self.clock.advance(5)
        self.assertEqual(wire.protocol.last_heard, 0)
        wire.raw(b"x")
        self.assertEqual(wire.protocol.last_heard, 5)

    def test_what_we_send_is_none(self) -> None:
        wire = self.ready()
        self.clock.advance(5)
        wire.protocol.send(Ping())
        self.assertEqual(wire.protocol.last_heard, 0)

    def test_an_ended_link_has_no_signs_of_life(self) -> None:
        wire = self.ready()
        wire.protocol.abort(CloseReason.TIMEOUT)
        self.clock.advance(5)
        wire.protocol.dataReceived(b"x")
        self.assertEqual(wire.protocol.last_heard, 0)


class SendingTests(LinkCase):
    def test_a_message_that_has_no_form_is_the_callers_error(self) -> None:
        wire = self.ready()
        for text in ("", "a\nb", "x" * 16385):
            with self.assertRaises(LocalProtocolError):
                wire.protocol.send(Chat(text))
        self.assertEqual(wire.heard(), b"")

    def test_pong_overtakes_the_chat_that_waits(self) -> None:
        wire = self.ready()
        wire.transport.stuck = True
        for number in range(10):
            wire.protocol.send(Chat(f"{number}" * 16000))
        self.assertGreater(wire.protocol.queued(), 16000)
        wire.say("PING")
        wire.transport.stuck = False
        wire.transport.take()
        lines = wire.heard().split(b"\n")
        pong = lines.index(b"PONG")
        self.assertLess(pong, 9)
        lines.remove(b"PONG")
        self.assertEqual(
            [line[:1] for line in lines[:10]], [*map(b"%d".__mod__, range(10))]
        )

    def test_the_owner_hears_when_the_queue_has_shrunk(self) -> None:
        wire = self.ready()
        wire.transport.stuck = True
        while not wire.protocol.queued():
            wire.protocol.send(Chat("x" * 16000))
        self.assertEqual(self.host.told, [])
        wire.transport.stuck = False
        wire.transport.take()
        self.assertEqual(self.host.told, [("eased",)])
        self.assertEqual(wire.protocol.queued(), 0)


class SlowConsumerTests(LinkCase):
    limits = LinkLimits(send_queue=1000)

    def full(self) -> Wire:
        """A link whose transport is full, with nothing more waiting."""
        wire = self.ready()
        wire.transport.stuck = True
        wire.protocol.send_lines(bytes(RecordingTransport.FULL + 1))
        self.assertEqual(wire.protocol.queued(), 0)
        return wire

    def test_a_stall_of_ten_seconds_cuts_the_link(self) -> None:
        wire = self.full()
        self.clock.advance(9.999)
        self.assertEqual(self.ends(), [])
        self.clock.advance(0.001)
        self.assertOver(wire, CloseReason.SLOW_CONSUMER, aborted=True)

    def test_at_the_hard_limit_it_lives(self) -> None:
        wire = self.full()
        wire.protocol.send_lines(bytes(1000))
        self.assertEqual(wire.protocol.queued(), 1000)
        self.assertEqual(self.ends(), [])

    def test_above_the_hard_limit_it_is_cut_at_once(self) -> None:
        wire = self.full()
        wire.protocol.send_lines(bytes(1000))
        wire.protocol.send_lines(b"\n")
        self.assertEqual(self.ends(), [(CloseReason.SLOW_CONSUMER, "")])
        self.assertEqual(wire.protocol.queued(), 0)
        self.assertOver(wire, CloseReason.SLOW_CONSUMER, aborted=True)

    def test_a_link_that_ends_stops_the_clock(self) -> None:
        wire = self.full()
        wire.reset()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class EndTests(LinkCase):
    def test_closed_by_the_far_end(self) -> None:
        wire = self.ready()
        wire.say("bye")
        wire.hang_up()
        self.assertEqual(self.messages(), [Chat("bye")])
        self.assertOver(wire, CloseReason.CLOSED_BY_PEER, aborted=False)

    def test_what_waits_is_sent_to_a_far_end_that_has_finished(self) -> None:
        wire = self.ready()
        wire.transport.stuck = True
        wire.protocol.send(Chat("still here"))
        wire.hang_up()
        self.assertEqual([end[0] for end in self.ends()], [CloseReason.CLOSED_BY_PEER])
        wire.transport.stuck = False
        wire.transport.take()
        self.assertEqual(wire.heard(), b"still here\n")
        self.assertOver(wire, CloseReason.CLOSED_BY_PEER, aborted=False)

    def test_a_line_without_its_end_is_no_line(self) -> None:
        wire = self.ready()
        wire.raw(b"half a li")
        wire.hang_up()
        self.assertEqual(self.messages(), [])

    def test_lost(self) -> None:
        wire = self.ready()
        wire.reset()
        self.assertTrue(self.ends()[0][1])
        self.assertOver(wire, CloseReason.CONNECTION_LOST, aborted=False)

    def test_gone_without_a_word_before(self) -> None:
        wire = self.ready()
        wire.transport.lose(ConnectionDone())
        self.assertOver(wire, CloseReason.CLOSED_BY_PEER, aborted=False)

    def test_close_sends_what_waits_first(self) -> None:
        wire = self.ready()
        wire.transport.stuck = True
        for _ in range(10):
            wire.protocol.send(Chat("x" * 16000))
        wire.protocol.send(Chat("last words"))
        wire.protocol.close(CloseReason.STOPPED)
        self.assertEqual(self.ends(), [(CloseReason.STOPPED, "")])
        self.clock.advance(1.999)
        self.assertFalse(wire.closed)
        wire.transport.stuck = False
        wire.transport.take()
        self.assertTrue(wire.heard().endswith(b"x\nlast words\n"))
        self.assertOver(wire, CloseReason.STOPPED, aborted=False)

    def test_close_gives_up_on_a_far_end_that_takes_nothing(self) -> None:
        for waiting in (1, 20):
            wire = self.ready()
            wire.transport.stuck = True
            for _ in range(waiting):
                wire.protocol.send(Chat("x" * 16000))
            wire.protocol.close(CloseReason.STOPPED)
            self.clock.advance(1.999)
            self.assertFalse(wire.transport.aborted)
            self.clock.advance(0.001)
            self.assertOver(wire, CloseReason.STOPPED, aborted=True)

    def test_abort_drops_what_waits(self) -> None:
        wire = self.ready()
        wire.transport.stuck = True
        for _ in range(20):
            wire.protocol.send(Chat("x" * 16000))
        wire.protocol.abort(CloseReason.TIMEOUT)
        self.assertEqual(wire.protocol.queued(), 0)
        self.assertEqual(wire.heard(), b"")
        self.assertOver(wire, CloseReason.TIMEOUT, aborted=True)

    def test_the_first_reason_holds(self) -> None:
        wire = self.ready()
        wire.protocol.close(CloseReason.STOPPED)
        wire.protocol.close(CloseReason.TIMEOUT)
        wire.protocol.abort(CloseReason.TIMEOUT)
        wire.hang_up()
        self.assertOver(wire, CloseReason.STOPPED, aborted=False)

    def test_the_owner_hears_of_the_end_at_once_and_of_the_connection_later(
        self,
    ) -> None:
        wire = self.ready()
        wire.protocol.abort(CloseReason.TIMEOUT)
        self.assertEqual(self.host.told, [("ended", CloseReason.TIMEOUT, "")])
        self.clock.advance(0)
        self.assertEqual(self.host.told[1:], [("gone",)])


class AfterTheEndTests(LinkCase):
    """Real TCP goes on delivering; no line of that means anything."""

    def ended(self) -> list[Wire]:
        aborted = self.ready()
        aborted.protocol.abort(CloseReason.TIMEOUT)
        closed = self.ready()
        closed.protocol.close(CloseReason.STOPPED)
        flushing = self.ready()
        flushing.transport.stuck = True
        for _ in range(20):
            flushing.protocol.send(Chat("x" * 16000))
        flushing.protocol.close(CloseReason.STOPPED)
        lost = self.ready()
        lost.reset()
        self.host.told.clear()
        return [aborted, closed, flushing, lost]

    def test_no_line_is_heard_or_answered(self) -> None:
        for wire in self.ended():
            wire.transport.taken.clear()
            wire.protocol.dataReceived(b"hello\nPING\npeer-8003:carol\n")
            wire.protocol.lineReceived(b"hello")
            wire.protocol.lineReceived(b"PING")
            self.assertEqual(self.host.told, [])
            self.assertNotIn(b"PONG", wire.heard())

    def test_nothing_is_sent(self) -> None:
        for wire in self.ended()[:2]:
            wire.protocol.send(Chat("hello"))
            wire.protocol.send_urgent(Ping())
            wire.protocol.send_lines(b"hello\n")
            self.assertEqual(wire.heard(), b"")

    def test_nothing_else_does_anything(self) -> None:
        for wire in self.ended():
            reason = object()
            wire.protocol.pause(reason)
            wire.protocol.resume(reason)
            wire.protocol.close(CloseReason.TIMEOUT)
            wire.protocol.abort(CloseReason.TIMEOUT)
            self.assertEqual(self.host.told, [])

    def test_lines_behind_the_one_that_ended_it_are_dropped(self) -> None:
        class Angry(FakeHost):
            def message_received(
                self, link: IPeerLink, message: Message
            ) -> Message | None:
                link.abort(CloseReason.TIMEOUT)
                return first_of(message, super().message_received, link)

        self.host = Angry(self.clock)
        wire = self.ready()
        wire.raw(b"one\ntwo\nPING\n")
        self.assertEqual(self.messages(), [Chat("one")])
        self.assertEqual(wire.heard(), b"")

    def test_lines_behind_a_refusal_are_dropped(self) -> None:
        wire = self.outgoing()
        wire.raw(b"DUPLICATE\nhello\nPING\n")
        self.assertEqual(self.messages(), [])

    def test_a_paused_link_that_ends_drops_what_was_not_read(self) -> None:
        wire = self.ready()
        wire.protocol.pause(self)
        wire.protocol.dataReceived(b"hello\n")
        wire.protocol.abort(CloseReason.TIMEOUT)
        wire.protocol.resume(self)
        self.assertEqual(self.messages(), [])
        self.assertEqual(wire.protocol.clearLineBuffer(), b"")

    def test_nothing_is_kept_of_what_comes_later(self) -> None:
        paused = self.ready()
        paused.protocol.pause(self)
        for wire in (paused, self.ready(), self.incoming()):
            wire.protocol.abort(CloseReason.TIMEOUT)
            wire.protocol.dataReceived(b"late")
            self.assertEqual(wire.protocol.clearLineBuffer(), b"")
