"""The greeting of one link: what is taken and refused, and how long it may take."""

from __future__ import annotations

from collections.abc import Callable

from meshproto.events import CloseReason, Direction
from meshproto.link.interfaces import LinkLimits
from meshproto.link.protocol import MeshProtocol
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.registry import (
    Crossed,
    Full,
    Itself,
    Replaced,
    Verdict,
)
from meshproto.wire.messages import (
    Chat,
    Greeting,
    Ping,
    Refusal,
    RequestPeers,
)
from tests.fakes import FakeHost, Wire, entry_of
from tests.links import BOB, LinkCase


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
            [("hello", BOB), ("ready",), ("message", Chat("hello"))],
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
            return Replaced(entry_of(link, hello), entry_of(link, hello))

        self.host.verdict = replaced
        wire = self.outgoing()
        wire.say("peer-8002:bob")
        self.assertEqual(self.host.told[-1], ("ready",))

    def test_crossed_links_are_ready_both(self) -> None:
        def crossed(link: IPeerLink, hello: Greeting) -> Verdict:
            return Crossed(entry_of(link, hello))

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
        """One byte more is awaited, since it may be the CR of a CRLF."""
        for pieces in ([513, 1], [512, 2], [514], [1] * 514):
            wire = self.incoming()
            for size in pieces[:-1]:
                wire.raw(b"x" * size)
            self.assertFalse(wire.transport.aborted)
            wire.raw(b"x" * pieces[-1])
            self.assertEqual(
                self.ends(), [(CloseReason.LINE_TOO_LONG, "more than 512 bytes")]
            )
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
