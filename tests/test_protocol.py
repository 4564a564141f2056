"""One link, byte by byte: what goes over the wire, and when it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, ITCPTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport, StringTransportWithDisconnection
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from meshproto.errors import LocalProtocolError
from meshproto.events import CloseReason, Direction
from meshproto.link.interfaces import IPeerHost, LinkLimits
from meshproto.link.protocol import MeshProtocol
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.registry import (
    Crossed,
    Duplicate,
    Full,
    Itself,
    PeerEntry,
    PeerKey,
    Replaced,
    Twin,
    Verdict,
)
from meshproto.rules.turns import LONG_TURN, SHORT_TURN
from meshproto.wire.address import EndpointTarget, PeerAddress
from meshproto.wire.mesh1 import MAX_LINE
from meshproto.wire.messages import (
    Chat,
    Chats,
    Greeting,
    Message,
    PeerList,
    Ping,
    Pong,
    Refusal,
    RequestPeers,
)
from tests.fakes import FakeHost, RecordingTransport, Wire, tcp_address

TARGET = PeerAddress("192.0.2.2", 8002)
BOB = Greeting("peer-8002", "bob")


def entry(link: IPeerLink, hello: Greeting) -> PeerEntry:
    return PeerEntry(PeerKey(link.remote_host, hello.id), hello.name, link, 0.0)


@dataclass
class Always:
    """Judges everybody alike."""

    verdict: Verdict

    def __call__(self, link: IPeerLink, hello: Greeting) -> Verdict:
        return self.verdict


def first_of(
    message: Message, hear: Callable[[IPeerLink, Message], object], link: IPeerLink
) -> Message | None:
    """Hear one message only, and give back what chat follows it."""
    if not isinstance(message, Chats):
        hear(link, message)
        return None
    hear(link, Chats(message.texts[:1]))
    return Chats(message.texts[1:]) if message.texts[1:] else None


class Slow(FakeHost):
    """Needs a tenth of a long turn for each message, and for each text."""

    needs = LONG_TURN / 10

    def message_received(self, link: IPeerLink, message: Message) -> Message | None:
        if not isinstance(message, Chats):
            self.work()
            return super().message_received(link, message)
        texts = message.texts
        while texts and self.clock.seconds() < link.turn_ends:
            self.work()
            super().message_received(link, Chats(texts[:1]))
            texts = texts[1:]
        return Chats(texts) if texts else None

    def work(self) -> None:
        # No call is made, as none is while a real application works.
        cast(Clock, self.clock).rightNow += self.needs


def message_of(told: list[tuple[object, ...]]) -> list[object]:
    return [values[1] for values in told if values[0] == "message"]


class LinkCase(SynchronousTestCase):
    limits = LinkLimits()
    max_line = MAX_LINE

    def setUp(self) -> None:
        self.clock = Clock()
        self.host = FakeHost(self.clock, limits=self.limits, max_line=self.max_line)

    def tearDown(self) -> None:
        self.assertEqual(self.flushLoggedErrors(), [])

    def incoming(self) -> Wire:
        """Somebody has dialled us."""
        wire = Wire(self.clock, MeshProtocol(self.host))
        self.host.told.clear()
        return wire

    def outgoing(self, opened_at: float | None = None) -> Wire:
        """We have dialled somebody."""
        protocol = MeshProtocol(self.host, target=TARGET, opened_at=opened_at)
        wire = Wire(self.clock, protocol)
        self.host.told.clear()
        return wire

    def ready(self, direction: Direction = Direction.INCOMING) -> Wire:
        """A link whose handshake is complete and forgotten."""
        if direction is Direction.INCOMING:
            wire = self.incoming()
        else:
            wire = self.outgoing()
        wire.say("peer-8002:bob")
        wire.heard()
        self.host.told.clear()
        return wire

    def messages(self) -> list[object]:
        """The messages that the owner was told of."""
        return message_of(self.host.told)

    def ends(self) -> list[tuple[object, ...]]:
        """How often, and why, the owner was told that it was over."""
        return [values[1:] for values in self.host.told if values[0] == "ended"]

    def assertOver(self, wire: Wire, reason: CloseReason, *, aborted: bool) -> None:
        """It has ended for that reason, once, and leaves no timer behind."""
        self.clock.advance(0)
        self.assertTrue(wire.closed)
        self.assertEqual([end[0] for end in self.ends()], [reason])
        self.assertEqual(self.host.told.count(("gone",)), 1)
        self.assertEqual(self.host.told[-1], ("gone",))
        self.assertEqual(wire.transport.aborted, aborted)
        self.assertEqual(self.clock.getDelayedCalls(), [])


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
        self.assertEqual(
            self.host.told, [("opened",), ("hello", BOB, False), ("ready",)]
        )

    def test_the_listener_says_nothing_until_it_is_spoken_to(self) -> None:
        self.listener()
        self.assertEqual(self.said(), b"")
        self.clock.advance(9.9)
        self.assertEqual(self.said(), b"")

    def test_the_listener_says_who_it_is(self) -> None:
        self.listener().dataReceived(b"peer-8002:bob\n")
        self.assertEqual(self.said(), b"peer-8001:alice\n")
        self.assertEqual(
            self.host.told, [("opened",), ("hello", BOB, False), ("ready",)]
        )

    def test_the_listener_says_duplicate_and_closes(self) -> None:
        self.host.verdict = lambda link, hello: Duplicate(entry(link, hello))
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

    def test_a_draining_link_ends_whatever_the_transport_can(self) -> None:
        transport = StringTransportWithDisconnection()
        protocol = MeshProtocol(self.host)
        transport.protocol = protocol
        protocol.makeConnection(transport)
        protocol.dataReceived(b"peer-8002:bob\n")
        protocol.drain()
        self.assertEqual(self.host.told[-1], ("gone",))
        self.assertEqual(self.clock.getDelayedCalls(), [])


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
        protocol.drain()
        self.assertEqual(protocol.queued(), 0)

    def test_an_owner_that_turns_it_away_hears_no_hello_of_it(self) -> None:
        class Unwilling(FakeHost):
            def link_opened(self, link: IPeerLink) -> None:
                link.abort(CloseReason.HANDSHAKE_BACKLOG)

        self.host = Unwilling(self.clock)
        wire = Wire(self.clock, MeshProtocol(self.host, target=TARGET))
        self.assertEqual(wire.heard(), b"")
        self.assertOver(wire, CloseReason.HANDSHAKE_BACKLOG, aborted=True)


class HandshakeTests(LinkCase):
    def test_a_welcome_comes_before_what_the_owner_says_when_ready(self) -> None:
        class Eager(FakeHost):
            def link_ready(self, link: IPeerLink) -> None:
                link.send(RequestPeers())

        self.host = Eager(self.clock)
        wire = Wire(self.clock, MeshProtocol(self.host))
        wire.say("peer-8002:bob")
        self.assertEqual(wire.heard(), b"peer-8001:alice\nREQUEST_PEERS\n")

    def test_the_handshake_and_more_in_one_piece(self) -> None:
        wire = self.incoming()
        wire.raw(b"peer-8002:bob\nREQUEST_PEERS\nPING\nhello\n")
        self.assertEqual(wire.heard(), b"peer-8001:alice\nPONG\n")
        self.assertEqual(self.messages(), [RequestPeers(), Ping(), Chat("hello")])

    def test_the_handshake_in_pieces_of_one_byte(self) -> None:
        wire = self.incoming()
        for byte in b"peer-8002:bob\nhello\n":
            wire.raw(bytes([byte]))
        self.assertEqual(
            self.host.told,
            [("hello", BOB, False), ("ready",), ("message", Chat("hello"))],
        )

    def test_crlf_is_taken_in_the_handshake_and_after_it(self) -> None:
        wire = self.incoming()
        wire.raw(b"peer-8002:bob\r\nPING\r\nhello\r\n")
        self.assertEqual(wire.heard(), b"peer-8001:alice\nPONG\n")
        self.assertEqual(self.messages(), [Ping(), Chat("hello")])

    def test_one_carriage_return_at_the_end_is_the_line_end_no_more(self) -> None:
        wire = self.ready()
        wire.raw(b"a\rb\r\r\n")
        self.assertEqual(self.messages(), [Chat("a\rb\r")])

    def test_an_answer_in_crlf_is_taken_by_the_dialler(self) -> None:
        wire = self.outgoing()
        wire.raw(b"DUPLICATE\r\n")
        self.assertEqual(self.host.told[0], ("turned away", Refusal.DUPLICATE))
        self.assertOver(wire, CloseReason.TURNED_AWAY, aborted=False)

    def test_a_greeting_that_is_a_refusal_is_no_greeting(self) -> None:
        wire = self.incoming()
        wire.say("DUPLICATE")
        self.assertEqual(wire.heard(), b"")
        self.assertOver(wire, CloseReason.PROTOCOL_ERROR, aborted=False)

    def test_refused_after_a_welcome_there_is_no_refusal_on_the_wire(self) -> None:
        self.host.verdict = lambda link, hello: Full()
        wire = self.outgoing()
        wire.heard()
        wire.say("peer-8002:bob")
        self.assertEqual(wire.heard(), b"")
        self.assertOver(wire, CloseReason.REFUSED, aborted=False)

    def test_ourselves_are_closed_quietly(self) -> None:
        self.host.verdict = lambda link, hello: Itself()
        wire = self.outgoing()
        wire.heard()
        wire.say("peer-8001:alice")
        self.assertEqual(wire.heard(), b"")
        self.assertOver(wire, CloseReason.OURSELVES, aborted=False)

    def test_ourselves_get_the_answer_by_which_the_dialling_side_knows(self) -> None:
        self.host.verdict = lambda link, hello: Itself()
        wire = self.incoming()
        wire.say("peer-8001:alice")
        self.assertEqual(wire.heard(), b"peer-8001:alice\n")
        self.assertOver(wire, CloseReason.OURSELVES, aborted=False)

    def test_the_seat_of_an_old_link_is_as_good_as_any(self) -> None:
        def replaced(link: IPeerLink, hello: Greeting) -> Verdict:
            return Replaced(entry(link, hello), entry(link, hello))

        self.host.verdict = replaced
        wire = self.outgoing()
        wire.say("peer-8002:bob")
        self.assertEqual(self.host.told[-1], ("ready",))

    def test_crossed_links_are_ready_both(self) -> None:
        def crossed(link: IPeerLink, hello: Greeting) -> Verdict:
            return Crossed(entry(link, hello))

        self.host.verdict = crossed
        wire = self.outgoing()
        wire.say("peer-8002:bob")
        self.assertEqual(self.host.told[-1], ("ready",))


class BadHandshakeTests(LinkCase):
    """Closed without an answer, with a reason, never with a traceback."""

    cases = {
        "nothing": b"\n",
        "no ID": b":bob\n",
        "only a colon": b":\n",
        "a space in the ID": b"peer 8002:bob\n",
        "an ID that is a command": b"PING:bob\n",
        "an ID that is a refusal": b"MAX_PEERS:bob\n",
        "an ID that is too long": b"x" * 65 + b":bob\n",
        "a name that is too long": b"peer-8002:" + b"x" * 65 + b"\n",
        "a control character": b"peer-8002:b\x1b[2Jb\n",
        "not ASCII": "pëer:bob\n".encode(),
        "not UTF-8": b"\xff\xfe:bob\n",
        "an HTTP request": b"GET / HTTP/1.1\r\nHost: 192.0.2.1:8001\r\n\r\n",
        "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x0a\n\x99",
    }

    def bad(self, start: Callable[[], Wire], silence: bytes) -> None:
        for what, data in self.cases.items():
            wire = start()
            self.assertEqual(wire.heard(), silence, what)
            wire.raw(data)
            wire.say("peer-8002:bob", "hello")
            self.assertEqual(wire.heard(), b"", what)
            self.assertOver(wire, CloseReason.PROTOCOL_ERROR, aborted=False)
            [(_, detail)] = self.ends()
            self.assertTrue(detail, what)
            self.assertEqual(len(self.host.told), 2, what)

    def test_from_a_dialler(self) -> None:
        self.bad(self.incoming, b"")

    def test_from_a_listener(self) -> None:
        self.bad(self.outgoing, b"peer-8001:alice\n")

    def test_the_reason_says_what_was_wrong(self) -> None:
        wire = self.incoming()
        wire.raw(b"GET /\x07 HTTP/1.1\r\nHost: x\r\n")
        reason = 'not a mesh node, it said "GET /\\x07 HTTP/1.1"'
        self.assertEqual(self.ends(), [(CloseReason.PROTOCOL_ERROR, reason)])

    def test_a_far_end_that_goes_in_the_midst_of_its_first_line(self) -> None:
        """As TLS does, which answers what it does not know with an alert."""
        wire = self.outgoing()
        wire.raw(b"\x15\x03\x01\x00\x02\x02\x46")
        wire.hang_up()
        reason = 'not a mesh node, it said "\\x15\\x03\\x01\\x00\\x02\\x02F"'
        self.assertEqual(self.ends(), [(CloseReason.CLOSED_BY_PEER, reason)])


class LineLengthTests(LinkCase):
    def greeting(self, length: int) -> bytes:
        name = "x" * 60
        line = f"peer-8002:{name}"
        return (line + " " * (length - len(line))).encode()

    def test_a_handshake_line_of_512_bytes(self) -> None:
        wire = self.incoming()
        wire.raw(self.greeting(512) + b"\n")
        self.assertEqual(self.host.told[-1], ("ready",))

    def test_a_handshake_line_of_512_bytes_and_crlf(self) -> None:
        wire = self.incoming()
        wire.raw(self.greeting(512))
        wire.raw(b"\r")
        wire.raw(b"\n")
        self.assertEqual(self.host.told[-1], ("ready",))

    def test_a_handshake_line_of_513_bytes(self) -> None:
        for end in (b"\n", b"\r\n"):
            wire = self.incoming()
            wire.raw(self.greeting(513) + end)
            self.assertEqual(wire.heard(), b"")
            self.assertEqual(
                self.ends(), [(CloseReason.LINE_TOO_LONG, "more than 512 bytes")]
            )
            self.assertOver(wire, CloseReason.LINE_TOO_LONG, aborted=True)

    def test_a_welcome_of_513_bytes(self) -> None:
        wire = self.outgoing()
        wire.raw(self.greeting(513) + b"\n")
        self.assertOver(wire, CloseReason.LINE_TOO_LONG, aborted=True)

    def test_a_line_of_16384_bytes(self) -> None:
        for end in (b"\n", b"\r\n"):
            wire = self.ready()
            wire.raw(b"x" * 16384 + end)
            self.assertEqual(self.messages(), [Chat("x" * 16384)])

    def test_a_line_of_16385_bytes(self) -> None:
        for end in (b"\n", b"\r\n"):
            wire = self.ready()
            wire.raw(b"x" * 16385 + end + b"hello\n")
            self.assertEqual(self.messages(), [])
            self.assertEqual(
                self.ends(), [(CloseReason.LINE_TOO_LONG, "more than 16384 bytes")]
            )
            self.assertOver(wire, CloseReason.LINE_TOO_LONG, aborted=True)

    def test_bytes_count_and_not_characters(self) -> None:
        wire = self.ready()
        wire.raw(("é" * 8192).encode() + b"\n")
        self.assertEqual(self.messages(), [Chat("é" * 8192)])
        wire.raw(("é" * 8192).encode() + b"x\n")
        self.assertOver(wire, CloseReason.LINE_TOO_LONG, aborted=True)

    def test_a_long_line_may_follow_the_handshake_in_one_piece(self) -> None:
        wire = self.incoming()
        wire.raw(b"peer-8002:bob\n" + b"x" * 16384 + b"\n")
        self.assertEqual(self.messages(), [Chat("x" * 16384)])

    def test_a_line_without_end_is_cut_where_it_is_too_long(self) -> None:
        wire = self.ready()
        sent = 0
        while not wire.transport.aborted:
            wire.raw(b"x" * 100)
            sent += 100
            self.assertLess(sent, 16384 + 200)
        self.assertGreater(sent, 16384)
        self.assertOver(wire, CloseReason.LINE_TOO_LONG, aborted=True)

    def test_a_handshake_without_end_is_cut_where_it_is_too_long(self) -> None:
        wire = self.incoming()
        wire.raw(b"x" * 512)
        self.assertFalse(wire.transport.aborted)
        wire.raw(b"xx")
        self.assertOver(wire, CloseReason.LINE_TOO_LONG, aborted=True)

    def test_nothing_of_a_cut_line_is_kept(self) -> None:
        wire = self.incoming()
        wire.raw(b"x" * 1_000_000)
        self.assertEqual(wire.protocol.clearLineBuffer(), b"")


class ShortLineTests(LinkCase):
    limits = LinkLimits(max_handshake_line=400)
    max_line = 1000

    def test_the_limits_are_the_owners(self) -> None:
        wire = self.incoming()
        wire.raw(b"peer-8002:bob" + b" " * 387 + b"\n")
        wire.raw(b"x" * 1000 + b"\n")
        self.assertEqual(self.messages(), [Chat("x" * 1000)])
        wire.raw(b"x" * 1001 + b"\n")
        self.assertEqual(
            self.ends(), [(CloseReason.LINE_TOO_LONG, "more than 1000 bytes")]
        )

    def test_the_handshake_limit_is_the_owners(self) -> None:
        wire = self.incoming()
        wire.raw(b"peer-8002:bob" + b" " * 388 + b"\n")
        self.assertEqual(
            self.ends(), [(CloseReason.LINE_TOO_LONG, "more than 400 bytes")]
        )


class HandshakeDeadlineTests(LinkCase):
    def test_a_dialler_that_says_nothing(self) -> None:
        wire = self.incoming()
        self.clock.advance(9.999)
        self.assertEqual(self.ends(), [])
        self.clock.advance(0.001)
        self.assertEqual(wire.heard(), b"")
        self.assertOver(wire, CloseReason.HANDSHAKE_TIMEOUT, aborted=True)

    def test_a_listener_that_says_nothing(self) -> None:
        wire = self.outgoing()
        self.clock.advance(9.999)
        self.assertEqual(self.ends(), [])
        self.clock.advance(0.001)
        self.assertOver(wire, CloseReason.HANDSHAKE_TIMEOUT, aborted=True)

    def test_dripping_bytes_do_not_extend_it(self) -> None:
        wire = self.incoming()
        for byte in b"peer-8002":
            self.clock.advance(1)
            wire.raw(bytes([byte]))
        self.assertEqual(self.ends(), [])
        self.clock.advance(1)
        self.assertOver(wire, CloseReason.HANDSHAKE_TIMEOUT, aborted=True)

    def test_it_counts_from_the_start_of_the_dial(self) -> None:
        self.clock.advance(8)
        wire = self.outgoing(opened_at=2)
        self.clock.advance(3.999)
        self.assertEqual(self.ends(), [])
        self.clock.advance(0.001)
        self.assertOver(wire, CloseReason.HANDSHAKE_TIMEOUT, aborted=True)

    def test_a_dial_that_has_used_it_up_ends_at_once(self) -> None:
        self.clock.advance(30)
        wire = self.outgoing(opened_at=2)
        self.clock.advance(0)
        self.assertOver(wire, CloseReason.HANDSHAKE_TIMEOUT, aborted=True)

    def test_it_is_over_with_the_handshake(self) -> None:
        for direction in Direction:
            self.ready(direction)
            self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(1000)
        self.assertEqual(self.ends(), [])

    def test_a_connection_that_ends_first_stops_it(self) -> None:
        wire = self.incoming()
        wire.hang_up()
        self.assertOver(wire, CloseReason.CLOSED_BY_PEER, aborted=False)

    def test_a_twin_at_the_deadline_is_another_node(self) -> None:
        self.host.verdict = lambda link, hello: Twin()
        wire = self.incoming()
        wire.say("peer-8001:alice")
        self.assertEqual(wire.heard(), b"peer-8001:alice\n")
        self.host.verdict = self.host.admit
        self.host.told.clear()
        self.clock.advance(9.999)
        self.assertEqual(self.host.told, [])
        self.clock.advance(0.001)
        self.assertEqual(
            self.host.told,
            [("hello", Greeting("peer-8001", "alice"), True), ("ready",)],
        )
        self.assertEqual(wire.heard(), b"")
        self.assertEqual(self.clock.getDelayedCalls(), [])


class TwinTests(LinkCase):
    """The far end has our ID: another node, or ourselves?"""

    def twin(self, direction: Direction) -> Wire:
        self.host.verdict = lambda link, hello: Twin()
        incoming = direction is Direction.INCOMING
        wire = self.incoming() if incoming else self.outgoing()
        wire.say("peer-8001:alice")
        wire.heard()
        self.host.told.clear()
        return wire

    def test_it_is_answered_but_what_it_asks_is_for_the_owner(self) -> None:
        wire = self.twin(Direction.INCOMING)
        wire.say("PING", "REQUEST_PEERS", "PEERS:192.0.2.2:8001", "PONG")
        self.assertEqual(wire.heard(), b"PONG\n")
        self.assertEqual(
            self.messages(),
            [Ping(), RequestPeers(), PeerList((PeerAddress("192.0.2.2", 8001),))],
        )

    def test_confirmed_it_is_judged_again_and_welcomed_once(self) -> None:
        for direction in Direction:
            wire = self.twin(direction)
            self.host.verdict = self.host.admit
            wire.protocol.confirm()
            self.assertEqual(wire.heard(), b"")
            self.assertEqual(
                self.host.told,
                [("hello", Greeting("peer-8001", "alice"), True), ("ready",)],
            )
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_chat_confirms_it_and_is_heard_after_that(self) -> None:
        wire = self.twin(Direction.INCOMING)
        self.host.verdict = self.host.admit
        wire.say("hello")
        self.assertEqual(
            self.host.told,
            [
                ("hello", Greeting("peer-8001", "alice"), True),
                ("ready",),
                ("message", Chat("hello")),
            ],
        )

    def test_confirmed_and_refused_it_is_closed_without_a_refusal(self) -> None:
        for verdict in (Full(), Itself()):
            wire = self.twin(Direction.INCOMING)
            self.host.verdict = Always(verdict)
            wire.say("hello")
            self.assertEqual(wire.heard(), b"")
            self.assertEqual(self.messages(), [])
            self.clock.advance(0)
            self.assertTrue(wire.closed)

    def test_only_a_twin_is_confirmed(self) -> None:
        wire = self.ready()
        wire.protocol.confirm()
        self.incoming().protocol.confirm()
        self.assertEqual(self.host.told, [])


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

    def test_half_closed_by_the_far_end_and_kept_by_the_owner(self) -> None:
        self.host.keeps_half_closed = True
        wire = self.ready()
        wire.hang_up()
        self.assertEqual(self.host.told, [("finished",)])
        wire.protocol.send(Chat("still here"))
        self.assertEqual(wire.heard(), b"still here\n")
        wire.protocol.close(CloseReason.CLOSED_BY_PEER)
        self.assertOver(wire, CloseReason.CLOSED_BY_PEER, aborted=False)

    def test_half_closed_by_the_far_end_and_drained_it_is_merged(self) -> None:
        self.host.keeps_half_closed = True
        wire = self.ready()
        wire.hang_up()
        wire.protocol.drain()
        self.assertOver(wire, CloseReason.MERGED, aborted=False)

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
            wire.protocol.hold(reason)
            wire.protocol.pause(reason)
            wire.protocol.resume(reason)
            wire.protocol.drain()
            wire.protocol.confirm()
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


class TurnTests(LinkCase):
    """A flood leaves the others their turn, whatever it is made of."""

    host: Slow

    def setUp(self) -> None:
        super().setUp()
        self.host = Slow(self.clock)

    def answered(self, wire: Wire) -> int:
        return bytes(wire.transport.taken).count(b"PONG\n")

    def turn(self) -> None:
        """One turn of the reactor, and no more."""
        for call in tuple(self.clock.calls):
            if call.getTime() <= self.clock.seconds():
                function, args, kw = call.func, call.args, call.kw
                call.cancel()
                function(*args, **kw)

    def flooded(self, data: bytes) -> Wire:
        wire = self.ready()
        wire.transport.taken.clear()
        # In the kernel's buffer: no time passes before it is read.
        wire.protocol.dataReceived(data)
        return wire

    def test_as_many_messages_as_fit_into_a_turn(self) -> None:
        wire = self.flooded(b"PING\n" * 10)
        self.assertEqual(self.answered(wire), 10)
        self.assertTrue(wire.transport.reading)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_more(self) -> None:
        wire = self.flooded(b"PING\n" * 11)
        self.assertEqual(self.answered(wire), 10)
        self.assertFalse(wire.transport.reading)
        self.turn()
        self.assertEqual(self.answered(wire), 11)
        self.assertTrue(wire.transport.reading)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_turn_after_the_other(self) -> None:
        wire = self.flooded(b"PING\n" * 25)
        for answered in (10, 20, 25, 25):
            self.assertEqual(self.answered(wire), answered)
            self.turn()

    def test_chat_that_came_together(self) -> None:
        """A run is told in parts, in its order."""
        texts = [f"{number}" for number in range(600)]
        self.flooded("".join(f"{text}\n" for text in texts).encode())
        self.assertEqual(len(self.messages()), 10)
        for _ in range(60):
            self.turn()
        self.assertEqual(self.messages(), [Chat(text) for text in texts])

    def test_chat_among_commands(self) -> None:
        self.flooded(b"x\ny\nPING\n" * 8)
        self.assertEqual(len(self.messages()), 10)
        self.turn()
        self.assertEqual(len(self.messages()), 20)
        self.turn()
        self.assertEqual(self.messages(), [Chat("x"), Chat("y"), Ping()] * 8)

    def test_another_link_has_its_turn_between(self) -> None:
        other = self.ready()
        flooder = self.flooded(b"PING\n" * 25)
        other.protocol.dataReceived(b"PING\n")
        self.assertEqual(self.answered(other), 1)
        self.assertEqual(self.answered(flooder), 10)

    def test_turns_are_short_while_another_link_waits(self) -> None:
        short, long = SHORT_TURN / self.host.needs, LONG_TURN / self.host.needs
        first, second = self.ready(), self.ready()
        for wire in (first, second):
            wire.transport.taken.clear()
            wire.protocol.dataReceived(b"PING\n" * 40)

        def turn() -> tuple[int, int]:
            before = self.answered(first), self.answered(second)
            self.turn()
            return self.answered(first) - before[0], self.answered(second) - before[1]

        self.assertApproximates(self.answered(first), long, 1)
        self.assertApproximates(self.answered(second), short, 1)
        for many in turn():
            self.assertApproximates(many, short, 1)
        first.protocol.abort(CloseReason.TIMEOUT)
        self.assertApproximates(turn()[1], long, 1)

    def test_a_pause_meanwhile(self) -> None:
        wire = self.flooded(b"PING\n" * 15)
        wire.protocol.pause("busy")
        self.turn()
        self.assertEqual(self.answered(wire), 10)
        wire.protocol.resume("busy")
        self.turn()
        self.assertEqual(self.answered(wire), 15)

    def test_a_pause_that_is_over_before_the_turn(self) -> None:
        wire = self.flooded(b"PING\n" * 15)
        wire.protocol.pause("busy")
        wire.protocol.resume("busy")
        self.assertEqual(self.answered(wire), 10)
        self.turn()
        self.assertEqual(self.answered(wire), 15)

    def test_an_end_meanwhile(self) -> None:
        wire = self.flooded(b"PING\n" * 15)
        wire.protocol.abort(CloseReason.TIMEOUT)
        self.assertOver(wire, CloseReason.TIMEOUT, aborted=True)
        self.assertEqual(self.answered(wire), 10)

    def test_a_clock_that_is_set_back(self) -> None:
        """Costs no more than the turn that it befalls."""
        wire = self.flooded(b"PING\n" * 15)
        self.clock.rightNow -= 3600
        for call in self.clock.getDelayedCalls():
            call.reset(0)
        self.turn()
        self.assertEqual(self.answered(wire), 15)

    # A connection that is gone before all is told

    def lost(self, wire: Wire) -> None:
        wire.protocol.connectionLost(Failure(ConnectionLost()))

    def test_what_arrived_is_told_before_the_link_ends(self) -> None:
        wire = self.flooded(b"x\n" * 15)
        self.lost(wire)
        self.assertEqual(self.ends(), [])
        self.assertEqual(len(self.messages()), 10)
        self.turn()
        self.assertEqual(len(self.messages()), 15)
        self.assertEqual([end[0] for end in self.ends()], [CloseReason.CONNECTION_LOST])
        self.assertEqual(self.host.told[-1], ("gone",))
        self.assertEqual(self.host.told.count(("gone",)), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nothing_is_sent_meanwhile(self) -> None:
        wire = self.flooded(b"PING\n" * 15)
        self.lost(wire)
        self.turn()
        self.assertEqual(self.answered(wire), 10)
        self.assertEqual(self.messages(), [Ping()] * 15)

    def test_nor_is_a_line_awaited_that_has_no_end(self) -> None:
        wire = self.ready()
        wire.protocol.dataReceived(b"x\nhalf")
        self.lost(wire)
        self.assertEqual(self.host.told[-1], ("gone",))

    def test_a_paused_link_does_not_wait_to_be_resumed(self) -> None:
        """Its peer may come back before, and finds its seat free."""
        wire = self.ready()
        wire.protocol.pause("busy")
        wire.protocol.dataReceived(b"bye\n")
        self.lost(wire)
        self.assertEqual(self.messages(), [])
        self.assertEqual(self.host.told[-1], ("gone",))

    def test_nor_does_one_that_is_paused_before_its_turn(self) -> None:
        wire = self.flooded(b"x\n" * 15)
        self.lost(wire)
        self.assertTrue(wire.protocol.gone)
        wire.protocol.pause("busy")
        self.assertEqual(self.ends(), [])
        self.turn()
        self.assertEqual(len(self.messages()), 10)
        self.assertEqual(self.host.told[-1], ("gone",))
        self.assertEqual(self.host.told.count(("gone",)), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_link_that_is_closed_meanwhile(self) -> None:
        """Our own end of it drops what is not told, as ever."""
        for end in ("close", "abort"):
            self.host.told.clear()
            wire = self.flooded(b"x\n" * 15)
            self.lost(wire)
            getattr(wire.protocol, end)(CloseReason.STOPPED)
            self.turn()
            self.assertEqual(len(self.messages()), 10)
            self.assertEqual([each[0] for each in self.ends()], [CloseReason.STOPPED])
            self.assertEqual(self.host.told[-1], ("gone",))
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_far_ends_fin_waits_for_its_words(self) -> None:
        wire = self.flooded(b"x\n" * 15)
        wire.protocol.readConnectionLost()
        self.assertEqual(self.ends(), [])
        self.turn()
        self.assertEqual(len(self.messages()), 15)
        self.assertEqual([end[0] for end in self.ends()], [CloseReason.CLOSED_BY_PEER])


class PauseTests(LinkCase):
    def test_nothing_is_read_until_every_reason_is_gone(self) -> None:
        wire = self.ready()
        wire.protocol.pause("one")
        wire.protocol.pause("two")
        self.assertFalse(wire.protocol.reading)
        self.assertFalse(wire.transport.reading)
        wire.say("hello")
        wire.protocol.resume("one")
        wire.protocol.resume("one")
        self.assertFalse(wire.transport.reading)
        wire.protocol.resume("two")
        self.clock.advance(0)
        self.assertTrue(wire.protocol.reading)
        self.assertEqual(self.messages(), [Chat("hello")])

    def test_time_in_which_nothing_is_read_is_no_silence(self) -> None:
        """The far end counts as heard when it is read again, and not before."""
        wire = self.ready()
        began = self.clock.seconds()
        wire.protocol.pause("one")
        wire.protocol.pause("two")
        self.clock.advance(100)
        wire.protocol.resume("one")
        self.assertEqual(wire.protocol.last_heard, began)
        wire.protocol.resume("two")
        self.assertEqual(wire.protocol.last_heard, began + 100)

    def test_a_pause_in_the_midst_of_a_piece_keeps_the_rest_in_order(self) -> None:
        class Busy(FakeHost):
            def message_received(
                self, link: IPeerLink, message: Message
            ) -> Message | None:
                link.pause(self)
                return first_of(message, super().message_received, link)

        self.host = Busy(self.clock)
        wire = self.ready()
        wire.raw(b"one\ntwo\nthr")
        wire.raw(b"ee\n")
        self.assertEqual(self.messages(), [Chat("one")])
        wire.protocol.resume(self.host)
        self.clock.advance(0)
        self.assertEqual(self.messages(), [Chat("one"), Chat("two")])
        wire.protocol.resume(self.host)
        self.clock.advance(0)
        self.assertEqual(self.messages(), [Chat("one"), Chat("two"), Chat("three")])

    def test_sending_goes_on(self) -> None:
        wire = self.ready()
        wire.protocol.pause("one")
        wire.protocol.send(Chat("hello"))
        self.assertEqual(wire.heard(), b"hello\n")

    def test_a_far_end_is_not_silent_while_it_is_not_read(self) -> None:
        wire = self.ready()
        wire.protocol.pause("one")
        self.clock.advance(100)
        wire.protocol.resume("one")
        self.assertEqual(wire.protocol.last_heard, 100)

    def test_a_resume_for_another_reason_changes_nothing(self) -> None:
        wire = self.ready()
        self.clock.advance(100)
        wire.protocol.resume("one")
        self.assertEqual(wire.protocol.last_heard, 0)
        self.assertTrue(wire.protocol.reading)

    def test_the_far_ends_last_lines_are_read_before_its_end(self) -> None:
        wire = self.ready()
        wire.protocol.pause("one")
        wire.say("bye")
        wire.hang_up()
        self.assertEqual(self.host.told, [])
        wire.protocol.resume("one")
        self.clock.advance(0)
        self.assertEqual(self.messages(), [Chat("bye")])
        self.assertOver(wire, CloseReason.CLOSED_BY_PEER, aborted=False)


class HoldTests(LinkCase):
    def test_nothing_is_read_or_sent(self) -> None:
        wire = self.ready()
        wire.protocol.hold("loser")
        self.assertFalse(wire.protocol.reading)
        wire.say("PING", "hello")
        wire.protocol.send(Chat("one"))
        wire.protocol.send(Chat("two"))
        self.assertEqual(wire.heard(), b"")
        self.assertEqual(self.messages(), [])
        wire.protocol.resume("loser")
        self.clock.advance(0)
        self.assertEqual(wire.heard(), b"one\ntwo\nPONG\n")
        self.assertEqual(self.messages(), [Ping(), Chat("hello")])

    def test_a_hold_and_a_pause_are_two_things(self) -> None:
        wire = self.ready()
        wire.protocol.pause("slow")
        wire.protocol.hold("loser")
        wire.say("hello")
        wire.protocol.send(Chat("one"))
        wire.protocol.resume("loser")
        self.assertEqual(wire.heard(), b"one\n")
        self.assertEqual(self.messages(), [])
        wire.protocol.resume("slow")
        self.clock.advance(0)
        self.assertEqual(self.messages(), [Chat("hello")])

    def test_a_held_link_that_closes_says_what_it_had_to_say(self) -> None:
        wire = self.ready()
        wire.protocol.hold("loser")
        wire.protocol.send(Chat("bye"))
        wire.protocol.close(CloseReason.STOPPED)
        self.assertEqual(wire.heard(), b"bye\n")
        self.assertOver(wire, CloseReason.STOPPED, aborted=False)


class DrainTests(LinkCase):
    """The losing link of a pair."""

    def test_it_is_half_closed_and_read_to_its_end(self) -> None:
        wire = self.ready()
        wire.protocol.drain()
        self.assertTrue(wire.transport.half_closed)
        self.assertFalse(wire.closed)
        wire.say("one", "PEERS:192.0.2.9:8009", "PONG", "two")
        self.assertEqual(
            self.messages(),
            [
                Chat("one"),
                PeerList((PeerAddress("192.0.2.9", 8009),)),
                Pong(),
                Chat("two"),
            ],
        )
        wire.hang_up()
        self.assertOver(wire, CloseReason.MERGED, aborted=False)

    def test_what_waits_is_sent_before_the_half_close(self) -> None:
        wire = self.ready()
        wire.transport.stuck = True
        for _ in range(10):
            wire.protocol.send(Chat("x" * 16000))
        wire.protocol.send(Chat("last words"))
        wire.protocol.drain()
        self.assertFalse(wire.transport.half_closed)
        wire.transport.stuck = False
        wire.transport.take()
        self.assertTrue(wire.heard().endswith(b"\nlast words\n"))
        self.assertTrue(wire.transport.half_closed)

    def test_nothing_more_is_sent(self) -> None:
        wire = self.ready()
        wire.protocol.drain()
        wire.protocol.send(Chat("hello"))
        wire.protocol.send_urgent(Ping())
        wire.say("PING", "REQUEST_PEERS")
        self.assertEqual(wire.heard(), b"")
        self.assertEqual(self.messages(), [])

    def test_a_far_end_that_does_not_end_is_cut_in_time(self) -> None:
        wire = self.ready()
        wire.protocol.drain()
        self.clock.advance(2)
        wire.say("one")
        self.clock.advance(0.999)
        self.assertEqual(self.ends(), [])
        self.clock.advance(0.001)
        self.assertOver(wire, CloseReason.TIMEOUT, aborted=True)

    def test_a_far_end_that_takes_nothing_is_cut_in_time(self) -> None:
        wire = self.ready()
        wire.transport.stuck = True
        for _ in range(10):
            wire.protocol.send(Chat("x" * 16000))
        wire.protocol.drain()
        self.clock.advance(3)
        self.assertOver(wire, CloseReason.TIMEOUT, aborted=True)

    def test_while_we_do_not_read_the_far_end_need_not_end(self) -> None:
        wire = self.ready()
        wire.protocol.pause("slow")
        wire.say("one")
        wire.hang_up()
        wire.protocol.drain()
        self.clock.advance(100)
        self.assertEqual(self.ends(), [])
        wire.protocol.resume("slow")
        self.clock.advance(0)
        self.assertEqual(self.messages(), [Chat("one")])
        self.assertOver(wire, CloseReason.MERGED, aborted=False)

    def test_lost_while_it_drains(self) -> None:
        wire = self.ready()
        wire.protocol.drain()
        wire.reset()
        self.assertOver(wire, CloseReason.CONNECTION_LOST, aborted=False)

    def test_twice_is_once(self) -> None:
        wire = self.ready()
        wire.protocol.drain()
        self.clock.advance(2)
        wire.protocol.drain()
        wire.hang_up()
        self.assertOver(wire, CloseReason.MERGED, aborted=False)

    def test_only_a_ready_link_drains(self) -> None:
        wire = self.incoming()
        wire.protocol.drain()
        self.assertFalse(wire.transport.half_closed)
        wire.say("peer-8002:bob")
        self.assertEqual(wire.heard(), b"peer-8001:alice\n")

    def test_a_last_batch_that_fills_the_transport_is_followed_by_the_end(self) -> None:
        wire = self.ready()
        wire.transport.stuck = True
        for _ in range(8):
            wire.protocol.send(Chat("x" * 16000))
        wire.protocol.drain()
        for _ in range(3):
            wire.transport.take()
        self.assertTrue(wire.transport.half_closed)


class RealAddressTests(LinkCase):
    def test_an_address_that_is_none_of_ours_is_not_looked_into(self) -> None:
        peer = IPv4Address("TCP", "not a host", 1)
        wire = Wire(self.clock, MeshProtocol(self.host), there=peer)
        self.assertEqual(wire.protocol.remote_host, "127.0.0.1")

    def test_the_owner_never_hears_of_the_end_twice(self) -> None:
        wire = self.ready()
        wire.protocol.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(len(self.ends()), 1)
