"""One link of mesh/2, byte by byte: its handshake, and when that ends it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from fuzz.receive import cuttings
from meshproto.errors import RemoteProtocolError
from meshproto.events import CloseReason, Direction
from meshproto.link.protocol import MeshProtocol
from meshproto.rules import pairs
from meshproto.rules.interfaces import IPeerLink
from meshproto.wire.mesh2 import Mesh2
from meshproto.wire.messages import (
    Chat,
    Data,
    Greeting,
    Hello,
    Incarnation,
    Message,
    Ping,
    Ready,
    Refusal,
    RefusalReason,
    Welcome,
)
from tests.fakes import FakeHost, Wire
from tests.links import TARGET, LinkCase, message_of
from tests.slow import examples

IN = Direction.INCOMING
OUT = Direction.OUTGOING

OWN_GREETING = b"peer-8001:alice\t\n"
OWN_HELLO = (
    b"HELLO +146\n"
    b"identity: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n"
    b"incarnation: 1 00000000000000000000000000000000\n"
    b"link: 1\n"
    b"id: peer-8001\n"
    b"name: alice\n"
    b"max_payload: 1048576\n"
)
GREETING = b"peer-8002:bob\t\n"
HELLO = (
    b"HELLO +142\n"
    b"identity: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\n"
    b"incarnation: 7 11111111111111111111111111111111\n"
    b"link: 3\n"
    b"id: peer-8002\n"
    b"name: bob\n"
    b"max_payload: 65536\n"
)
WELCOME = b"WELCOME\n"
READY = b"READY\n"

BOB = Greeting("peer-8002", "bob", mesh2=True)
BOBS_HELLO = Hello(
    identity="b" * 32,
    incarnation=Incarnation(7, "1" * 32),
    link=3,
    id="peer-8002",
    name="bob",
    max_payload=65536,
)

#: What each far end says, step by step, and what it gets for that.
STEPS: dict[Direction, tuple[tuple[bytes, bytes], ...]] = {
    IN: ((GREETING, OWN_GREETING + OWN_HELLO), (HELLO, WELCOME), (READY, b"")),
    OUT: ((GREETING, b""), (HELLO, OWN_HELLO), (WELCOME, READY)),
}
#: What the owner hears by then.
STORY: dict[Direction, list[tuple[object, ...]]] = {
    IN: [("hello", BOBS_HELLO), ("hello", Ready()), ("ready",)],
    OUT: [("hello", BOBS_HELLO), ("hello", Welcome()), ("ready",)],
}
BOTH = ("mesh/1", "mesh/2")


@dataclass
class Always:
    """Judges everything alike."""

    verdict: pairs.Verdict

    def __call__(self, link: IPeerLink, said: Message) -> pairs.Verdict:
        return self.verdict


class Mesh2Case(LinkCase):
    protocols: tuple[str, ...] = BOTH
    max_payload = 1000

    def setUp(self) -> None:
        super().setUp()
        self.host = self.owner()

    def owner(self) -> FakeHost:
        return FakeHost(
            self.clock,
            limits=self.limits,
            protocols=self.protocols,
            max_payload=self.max_payload,
        )

    def open(self, direction: Direction, steps: int = 0) -> Wire:
        """A link of which so many steps are done, and forgotten."""
        self.host.told.clear()
        wire = self.incoming() if direction is IN else self.outgoing()
        for said, _ in STEPS[direction][:steps]:
            wire.raw(said)
        wire.heard()
        self.host.told.clear()
        return wire

    def everywhere(self, last: int = 3) -> Iterator[tuple[Direction, int, Wire]]:
        """A link before each step, up to that one."""
        for direction in Direction:
            for step in range(last):
                yield direction, step, self.open(direction, step)


class TranscriptTests(SynchronousTestCase):
    """The table of the handshake, over Twisted's own transport."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.host = FakeHost(self.clock, protocols=BOTH)
        self.transport = StringTransport()

    def tearDown(self) -> None:
        self.assertEqual(self.flushLoggedErrors(), [])

    def said(self) -> bytes:
        data: bytes = self.transport.value()
        self.transport.clear()
        return data

    def link(self, direction: Direction) -> MeshProtocol:
        target = TARGET if direction is OUT else None
        link = MeshProtocol(self.host, target=target)
        link.makeConnection(self.transport)
        return link

    def test_the_dialler_speaks_first_and_marks_its_greeting(self) -> None:
        self.link(OUT)
        self.assertEqual(self.said(), OWN_GREETING)

    def test_the_listener_waits(self) -> None:
        self.link(IN)
        self.assertEqual(self.said(), b"")

    def test_step_by_step(self) -> None:
        for direction in Direction:
            self.setUp()
            link = self.link(direction)
            self.said()
            for said, answer in STEPS[direction]:
                self.assertNotIn(("ready",), self.host.told)
                link.dataReceived(said)
                self.assertEqual(self.said(), answer, said)
            self.assertEqual(self.host.told, [("opened",), *STORY[direction]])
            self.assertEqual(self.clock.getDelayedCalls(), [])
            link.dataReceived(b"CHAT +9\nhi\nthere\nPING 7\n")
            self.assertEqual(self.said(), b"PONG 7\n")
            self.assertEqual(
                self.host.told[-3:],
                [("message", Chat("hi")), ("message", Chat("there"))]
                + [("message", Ping("7"))],
            )
            link.send(Chat("hello"))
            self.assertEqual(self.said(), b"CHAT +6\nhello\n")

    def test_the_verdicts_are_words_on_the_wire(self) -> None:
        for reason in RefusalReason:
            self.setUp()
            self.host.answer = Always(pairs.Unwanted(reason))
            listener = self.link(IN)
            listener.dataReceived(GREETING)
            self.said()
            listener.dataReceived(HELLO)
            self.assertEqual(self.said(), f"REFUSED {reason.value}\n".encode())
            self.assertTrue(self.transport.disconnecting)
            self.assertNotIn(("ready",), self.host.told)

    def test_a_dialler_names_the_link_that_has_ended(self) -> None:
        self.host.answer = Always(pairs.SayHello(7))
        dialler = self.link(OUT)
        dialler.dataReceived(GREETING)
        self.said()
        dialler.dataReceived(HELLO)
        self.assertIn(b"\nended: 7\n", self.said())


class AgreementTests(Mesh2Case):
    """What is spoken after the greetings."""

    def test_a_mark_that_is_not_answered_gives_mesh1(self) -> None:
        wire = self.outgoing()
        self.assertEqual(wire.heard(), OWN_GREETING)
        wire.raw(b"peer-8002:bob\nPING\nhello\n")
        self.assertEqual(wire.heard(), b"PONG\n")
        self.assertEqual(self.messages(), [Ping(), Chat("hello")])

    def test_a_dialler_without_a_mark_gets_none(self) -> None:
        wire = self.incoming()
        wire.raw(b"peer-8002:bob\nPING\n")
        self.assertEqual(wire.heard(), b"peer-8001:alice\nPONG\n")

    def test_a_refusal_before_the_greeting_is_over(self) -> None:
        """A listener of mesh/1 refuses before it knows what the dialler speaks."""
        for self.protocols in (BOTH, ("mesh/2",)):
            self.setUp()
            wire = self.outgoing()
            wire.say("MAX_PEERS")
            self.assertEqual(self.host.told[0], ("turned away", Refusal.MAX_PEERS))
            self.assertOver(wire, CloseReason.TURNED_AWAY, aborted=False)


class OldNodeTests(Mesh2Case):
    protocols = ("mesh/1",)

    def test_the_mark_of_a_dialler_is_not_answered(self) -> None:
        wire = self.incoming()
        wire.raw(GREETING + b"PING\n")
        self.assertEqual(wire.heard(), b"peer-8001:alice\nPONG\n")
        self.assertEqual(self.host.told[0], ("hello", BOB))

    def test_its_own_greeting_has_none(self) -> None:
        self.assertEqual(self.outgoing().heard(), b"peer-8001:alice\n")


class NoCommonProtocolTests(Mesh2Case):
    protocols = ("mesh/2",)

    def test_it_is_closed_without_a_word(self) -> None:
        for direction in Direction:
            wire = self.open(direction)
            wire.raw(b"peer-8002:bob\nPING\nhello\n")
            self.assertEqual(wire.heard(), b"")
            self.assertEqual(len(self.host.told), 2)
            self.assertOver(wire, CloseReason.NO_COMMON_PROTOCOL, aborted=False)

    def test_with_the_mark_there_is_one(self) -> None:
        for direction in Direction:
            self.open(direction, 2).raw(STEPS[direction][2][0])
            self.assertEqual(self.host.told[-1], ("ready",))


class PiecesTests(Mesh2Case):
    """However the bytes arrive, they come to the same."""

    TALK = b"CHAT +3\nhi\nDATA 0 4 0 +4\nbyteDATA 1 6 0 +2\nabPING 7\nPIECE 1 +4\ncdef"
    HEARD = (Chat("hi"), Data(b"byte"), Ping("7"), Data(b"abcdef"))

    def test_all_in_one_piece(self) -> None:
        """What was read beyond the greeting, and beyond READY, is carried over."""
        for direction in Direction:
            wire = self.open(direction)
            said = b"".join(said for said, _ in STEPS[direction])
            wire.raw(said + self.TALK)
            answers = b"".join(answer for _, answer in STEPS[direction])
            self.assertEqual(wire.heard(), answers + b"PONG 7\n")
            self.assertEqual(
                self.host.told,
                [*STORY[direction], *(("message", said) for said in self.HEARD)],
            )

    def test_byte_by_byte(self) -> None:
        for direction in Direction:
            wire = self.open(direction)
            said = b"".join(said for said, _ in STEPS[direction])
            for byte in said + self.TALK:
                wire.raw(bytes([byte]))
            answers = b"".join(answer for _, answer in STEPS[direction])
            self.assertEqual(wire.heard(), answers + b"PONG 7\n")
            self.assertEqual(self.messages(), list(self.HEARD))

    def test_every_two_pieces(self) -> None:
        for direction in Direction:
            said = b"".join(said for said, _ in STEPS[direction]) + self.TALK
            for cut in range(1, len(said)):
                wire = self.open(direction)
                wire.raw(said[:cut])
                wire.raw(said[cut:])
                self.assertEqual(self.messages(), list(self.HEARD), cut)

    @given(
        st.sampled_from(Direction),
        st.lists(
            st.sampled_from(
                [GREETING, HELLO, HELLO, WELCOME, READY, READY, b"PING\n", TALK]
                + [b"CHAT +3\nhi\n", b"DATA 0 4 0 +4\nbyte", b"REFUSED full\n"]
                + [b"NEW +3\nabc", b"\n", b"half", b"x" * 1024]
            ),
            max_size=6,
        ),
        st.lists(st.integers(0, 800), max_size=6),
    )
    @settings(max_examples=examples(200), derandomize=True)
    def test_whatever_is_said(
        self, direction: Direction, said: list[bytes], points: list[int]
    ) -> None:
        stream = GREETING + b"".join(said)
        stories = []
        for pieces in ([stream], cuttings(stream, points), [*map(_byte, stream)]):
            wire = self.open(direction)
            for piece in pieces:
                wire.raw(piece)
            story = self.host.told.copy(), wire.heard()
            stories.append(story)
            if not wire.closed:
                wire.reset()
            self.clock.advance(20)
            self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(stories[0], stories[1])
        self.assertEqual(stories[0], stories[2])


def _byte(value: int) -> bytes:
    return bytes([value])


class CutTests(Mesh2Case):
    """The far end goes before the link is established."""

    def test_it_hangs_up(self) -> None:
        for _, _, wire in self.everywhere():
            wire.hang_up()
            self.assertOver(wire, CloseReason.CLOSED_BY_PEER, aborted=False)

    def test_the_connection_breaks(self) -> None:
        for _, _, wire in self.everywhere():
            wire.reset()
            self.assertOver(wire, CloseReason.CONNECTION_LOST, aborted=False)

    def test_in_the_midst_of_each_message(self) -> None:
        for direction, step, wire in self.everywhere():
            wire.raw(STEPS[direction][step][0][:-1])
            self.assertEqual((wire.heard(), self.host.told), (b"", []))
            wire.hang_up()
            self.assertOver(wire, CloseReason.CLOSED_BY_PEER, aborted=False)

    def test_right_behind_its_last_message(self) -> None:
        """It was ready by then, and what it said is heard."""
        wire = self.open(IN, 2)
        wire.raw(READY + b"CHAT +3\nhi\n")
        wire.hang_up()
        self.assertEqual(self.messages(), [Chat("hi")])
        self.assertOver(wire, CloseReason.CLOSED_BY_PEER, aborted=False)

    def test_our_side_ends_it(self) -> None:
        for direction, step, wire in self.everywhere():
            wire.protocol.close(CloseReason.STOPPED)
            wire.protocol.dataReceived(STEPS[direction][step][0])
            self.assertEqual(wire.heard(), b"")
            self.assertOver(wire, CloseReason.STOPPED, aborted=False)

    def test_the_owner_ends_it_while_it_judges(self) -> None:
        def close(link: IPeerLink, said: Message) -> pairs.Verdict:
            link.close(CloseReason.STOPPED)
            return self.host.take(link, said)

        for direction in Direction:
            for step in (1, 2):
                wire = self.open(direction, step)
                self.host.answer = close
                wire.raw(STEPS[direction][step][0] + b"PING\n")
                self.host.answer = self.host.take
                self.assertEqual(wire.heard(), b"")
                self.assertNotIn(("ready",), self.host.told)
                self.assertOver(wire, CloseReason.STOPPED, aborted=False)


class DeadlineTests(Mesh2Case):
    """One deadline for the whole of the handshake."""

    def test_the_far_end_stops_at_each_step(self) -> None:
        for direction in Direction:
            for last in range(3):
                wire = self.open(direction)
                for said, _ in STEPS[direction][:last]:
                    self.clock.advance(3)
                    wire.raw(said)
                self.clock.advance(9.999 - 3 * last)
                self.assertEqual(self.ends(), [])
                self.clock.advance(0.001)
                self.assertOver(wire, CloseReason.HANDSHAKE_TIMEOUT, aborted=True)

    def test_dripping_bytes_do_not_extend_it(self) -> None:
        for direction in Direction:
            wire = self.open(direction, 1)
            for index in range(9):
                self.clock.advance(1)
                wire.raw(HELLO[index : index + 1])
            self.assertEqual(self.ends(), [])
            self.clock.advance(1)
            self.assertOver(wire, CloseReason.HANDSHAKE_TIMEOUT, aborted=True)

    def test_a_step_that_comes_too_late(self) -> None:
        for direction, step, wire in self.everywhere():
            self.clock.advance(10)
            wire.protocol.dataReceived(STEPS[direction][step][0])
            self.assertEqual(wire.heard(), b"")
            self.assertEqual(len(self.host.told), 2)
            self.assertOver(wire, CloseReason.HANDSHAKE_TIMEOUT, aborted=True)

    def test_at_the_last_moment(self) -> None:
        for direction in Direction:
            wire = self.open(direction)
            for seconds, (said, _) in zip((3, 3, 3.999), STEPS[direction], strict=True):
                self.clock.advance(seconds)
                wire.raw(said)
            self.assertEqual(self.host.told[-1], ("ready",))
            self.clock.advance(1000)
            self.assertEqual(self.ends(), [])
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_it_counts_from_the_start_of_the_dial(self) -> None:
        self.clock.advance(8)
        wire = self.outgoing(opened_at=2)
        wire.raw(GREETING)
        wire.raw(HELLO)
        self.clock.advance(3.999)
        self.assertEqual(self.ends(), [])
        self.clock.advance(0.001)
        self.assertOver(wire, CloseReason.HANDSHAKE_TIMEOUT, aborted=True)


class OutOfOrderTests(Mesh2Case):
    """Before a link is established there is one thing that may be said."""

    FRAMES = (
        HELLO,
        WELCOME,
        READY,
        b"REFUSED full\n",
        b"PING\n",
        b"PONG\n",
        b"REQUEST_PEERS\n",
        b"PEERS +15\n192.0.2.9:8009\n",
        b"CHAT +3\nhi\n",
    )
    #: What may be said at a step; a dialler may be refused as well.
    IN_ORDER: dict[tuple[Direction, int], tuple[bytes, ...]] = {
        (IN, 1): (HELLO,),
        (IN, 2): (READY,),
        (OUT, 1): (HELLO,),
        (OUT, 2): (WELCOME, b"REFUSED full\n"),
    }

    def test_every_frame_at_every_step(self) -> None:
        for (direction, step), in_order in self.IN_ORDER.items():
            for frame in self.FRAMES:
                if frame in in_order:
                    continue
                wire = self.open(direction, step)
                wire.raw(frame + b"PING\n")
                self.assertEqual(wire.heard(), b"", (direction, step, frame))
                self.assertEqual(len(self.host.told), 2, (direction, step, frame))
                self.assertOver(wire, CloseReason.PROTOCOL_ERROR, aborted=False)

    def test_each_step_said_twice(self) -> None:
        for direction, step, wire in self.everywhere():
            said, answer = STEPS[direction][step]
            wire.raw(said + said)
            self.assertEqual(wire.heard(), answer)
            # A greeting is no frame at all.
            self.assertOver(wire, CloseReason.PROTOCOL_ERROR, aborted=step == 0)

    def test_each_step_answered_by_nonsense(self) -> None:
        for direction in Direction:
            for nonsense in (b"\n", b"hello\n", b"\x16\x03\x01\n", b"x" * 1024):
                for step in (1, 2):
                    wire = self.open(direction, step)
                    wire.raw(nonsense)
                    self.assertEqual(wire.heard(), b"")
                    self.assertTrue(self.ends()[0][1], nonsense)
                    self.assertOver(wire, CloseReason.PROTOCOL_ERROR, aborted=True)

    def test_a_header_without_end(self) -> None:
        """As many bytes as a header may have are awaited, and not one more."""
        for direction in Direction:
            for step in (1, 2):
                wire = self.open(direction, step)
                wire.raw(b"x" * 1023)
                self.assertEqual(self.ends(), [])
                wire.raw(b"x")
                self.assertOver(wire, CloseReason.PROTOCOL_ERROR, aborted=True)

    def test_a_hello_that_says_too_little(self) -> None:
        for direction in Direction:
            wire = self.open(direction, 1)
            wire.raw(b"HELLO +8\nlink: 3\n")
            self.assertEqual(wire.heard(), b"")
            self.assertOver(wire, CloseReason.PROTOCOL_ERROR, aborted=True)

    def test_what_is_unknown_is_passed_over(self) -> None:
        """So the handshake may grow as well."""
        for direction in Direction:
            wire = self.open(direction, 1)
            for said, _ in STEPS[direction][1:]:
                wire.raw(b"NEW 1 2 +3\nabc" + said)
            self.assertEqual(self.host.told, STORY[direction])

    def test_a_listener_that_speaks_before_our_hello(self) -> None:
        """Its HELLO comes first, whatever else it would like to say."""
        wire = self.open(OUT)
        wire.raw(GREETING + WELCOME)
        self.assertEqual(wire.heard(), b"")
        self.assertOver(wire, CloseReason.PROTOCOL_ERROR, aborted=False)

    def test_a_dialler_that_does_not_wait(self) -> None:
        """All that it says in order is taken, though it has heard nothing."""
        wire = self.open(IN)
        wire.raw(GREETING + HELLO + READY)
        self.assertEqual(self.host.told, STORY[IN])

    def test_a_handshake_word_on_an_established_link(self) -> None:
        for direction in Direction:
            for frame in self.FRAMES[:4]:
                wire = self.open(direction, 3)
                wire.raw(frame)
                self.assertOver(wire, CloseReason.PROTOCOL_ERROR, aborted=False)


class RefusedTests(Mesh2Case):
    def test_a_listener_says_why_and_closes(self) -> None:
        wire = self.open(IN, 1)
        self.host.answer = Always(pairs.Unwanted(RefusalReason.FULL))
        wire.raw(HELLO + READY)
        self.assertEqual(wire.heard(), b"REFUSED full\n")
        self.assertEqual(self.host.told[0], ("hello", BOBS_HELLO))
        self.assertOver(wire, CloseReason.REFUSED, aborted=False)

    def test_a_dialler_closes_without_a_word(self) -> None:
        for step in (1, 2):
            self.host.answer = self.host.take
            wire = self.open(OUT, step)
            self.host.answer = Always(pairs.Unwanted(RefusalReason.DUPLICATE))
            wire.raw(STEPS[OUT][step][0])
            self.assertEqual(wire.heard(), b"")
            self.assertOver(wire, CloseReason.REFUSED, aborted=False)

    def test_a_dialler_that_is_refused_hears_why(self) -> None:
        wire = self.open(OUT, 2)
        wire.raw(b"REFUSED crossing\nPING\n")
        self.assertEqual(wire.heard(), b"")
        self.assertEqual(self.host.told[0], ("turned away", RefusalReason.CROSSING))
        self.assertOver(wire, CloseReason.TURNED_AWAY, aborted=False)


class PayloadTests(Mesh2Case):
    """Messages in pieces are taken on an established link only."""

    def test_none_before(self) -> None:
        for direction in Direction:
            for step in (1, 2):
                for data in (b"DATA 0 1 0 +1\nx", b"DATA 0 9 0 +1\nx"):
                    wire = self.open(direction, step)
                    wire.raw(data + STEPS[direction][step][0])
                    self.assertEqual(wire.heard(), b"")
                    [(_, detail)] = self.ends()
                    self.assertIn("at most 0", str(detail))
                    self.assertEqual(self.messages(), [])
                    self.assertOver(wire, CloseReason.PROTOCOL_ERROR, aborted=True)

    def test_nor_a_piece_of_none(self) -> None:
        """It belongs to nothing, so it is passed over and not kept."""
        wire = self.open(IN, 2)
        wire.raw(b"PIECE 0 +5\nhello" + READY)
        self.assertEqual(self.host.told, STORY[IN][1:])

    def test_right_behind_ready(self) -> None:
        wire = self.open(IN, 2)
        wire.raw(READY + b"DATA 0 4 0 +2\nbyPIECE 0 +2\nte")
        self.assertEqual(self.messages(), [Data(b"byte")])

    def test_at_the_bound_and_one_past_it(self) -> None:
        for direction in Direction:
            wire = self.open(direction, 3)
            wire.raw(b"DATA 0 1000 0 +1000\n" + bytes(1000))
            self.assertEqual(self.messages(), [Data(bytes(1000))])
            wire.raw(b"DATA 0 1001 0 +1\n\0")
            self.assertOver(wire, CloseReason.PROTOCOL_ERROR, aborted=True)

    def test_frames_that_say_nothing_have_their_turn(self) -> None:
        """An end of the turn after each batch, as time passes with each look."""
        wire = self.open(IN, 2)
        wire.raw(READY)
        self.patch(self.clock, "seconds", count(1).__next__)
        wire.raw(b"A\n" * 2000 + b"CHAT +6\nhello\n")
        turns = 0
        while wire.protocol.waits:
            self.assertNotIn(Chat("hello"), self.messages())
            self.clock.advance(0)
            turns += 1
        self.assertGreater(turns, 0)
        self.assertEqual(self.messages(), [Chat("hello")])

    def test_frames_that_are_answered_have_their_turn(self) -> None:
        wire = self.open(IN, 2)
        wire.raw(READY)
        wire.heard()
        self.patch(self.clock, "seconds", count(1).__next__)
        wire.raw(b"PING\n" * 10)
        self.assertTrue(wire.protocol.waits)
        self.assertEqual(bytes(wire.transport.taken), b"PONG\n")
        while wire.protocol.waits:
            self.clock.advance(0)
        self.assertEqual(bytes(wire.transport.taken), b"PONG\n" * 10)

    def test_ready_that_waits_for_the_owner(self) -> None:
        """A link that is paused while its READY is told has the rest for later."""

        class Busy(FakeHost):
            def link_ready(self, link: IPeerLink) -> None:
                super().link_ready(link)
                link.pause(self)

        self.host = Busy(self.clock, protocols=BOTH)
        wire = self.open(IN, 2)
        wire.raw(READY + b"DATA 0 4 0 +4\nbyte")
        self.assertEqual(self.messages(), [])
        wire.protocol.resume(self.host)
        self.clock.advance(0)
        self.assertEqual(self.messages(), [Data(b"byte")])


class ReaderTests(SynchronousTestCase):
    """A reader whose link is not established yet ends a batch at each message."""

    def test_one_message_at_a_time(self) -> None:
        reader = Mesh2().reader()
        self.assertEqual(reader.feed(HELLO + READY + b"\n"), [BOBS_HELLO])
        self.assertTrue(reader.waiting)
        self.assertEqual(reader.feed(b""), [Ready()])
        self.assertTrue(reader.waiting)
        self.assertRaises(RemoteProtocolError, reader.feed, b"")
        self.assertFalse(reader.waiting)

    def test_with_nothing_behind_it_nothing_waits(self) -> None:
        reader = Mesh2().reader()
        self.assertEqual(reader.feed(READY), [Ready()])
        self.assertFalse(reader.waiting)

    def test_what_says_nothing_ends_no_batch(self) -> None:
        """To stop at each frame would cost whoever is sent many small ones."""
        reader = Mesh2().reader()
        self.assertEqual(reader.feed(b"A\n" * 500 + READY), [Ready()])
        self.assertFalse(reader.waiting)

    def test_established_between_two_frames_of_one_piece(self) -> None:
        reader = Mesh2().reader()
        self.assertEqual(reader.feed(READY + b"DATA 0 4 0 +4\nbytePING\n"), [Ready()])
        reader.established()
        self.assertEqual(reader.feed(b""), [Data(b"byte"), Ping()])


class FaceToFaceTests(SynchronousTestCase):
    """Two links of ours with each other."""

    def tearDown(self) -> None:
        self.assertEqual(self.flushLoggedErrors(), [])

    def ends(
        self, dialler: tuple[str, ...], listener: tuple[str, ...]
    ) -> tuple[FakeHost, FakeHost]:
        clock = Clock()
        hosts = FakeHost(clock, protocols=dialler), FakeHost(clock, protocols=listener)
        wires = (
            Wire(clock, MeshProtocol(hosts[0], target=TARGET)),
            Wire(clock, MeshProtocol(hosts[1])),
        )
        for _ in range(10):
            for near, far in (wires, wires[::-1]):
                for byte in near.heard():
                    far.raw(bytes([byte]))
        for near, far in (wires, wires[::-1]):
            if near.closed:
                far.hang_up()
        for wire, text in zip(wires, ("from", "to"), strict=True):
            wire.protocol.send(Chat(text))
        for near, far in (wires, wires[::-1]):
            far.raw(near.heard())
        return hosts

    def test_what_they_agree_on(self) -> None:
        for dialler in (("mesh/1",), ("mesh/2",), BOTH):
            for listener in (("mesh/1",), ("mesh/2",), BOTH):
                hosts = self.ends(dialler, listener)
                common = {*dialler} & {*listener}
                for host, text in zip(hosts, ("to", "from"), strict=True):
                    if not common:
                        self.assertEqual(message_of(host.told), [])
                        self.assertIn("ended", [each[0] for each in host.told])
                        continue
                    self.assertEqual(host.told[-1], ("message", Chat(text)))
                    said = [each[1] for each in host.told if each[0] == "hello"]
                    mesh2 = "mesh/2" in common
                    self.assertIs(isinstance(said[0], Hello), mesh2)
