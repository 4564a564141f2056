"""Chat on its way out: together where it comes together, in order always."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshproto.errors import LocalProtocolError
from meshproto.events import CloseReason, Delivery
from meshproto.mesh.fanout import FULL, PATIENCE, QUIET, Fanout
from meshproto.rules.registry import Admitted, PeerEntry, Registry
from meshproto.wire.interfaces import IWire
from meshproto.wire.mesh1 import Mesh1
from meshproto.wire.mesh2 import Mesh2
from meshproto.wire.messages import Data, Greeting
from tests.fakes import FakeLink

WIRE = Mesh1()
WIRE2 = Mesh2(max_payload=100)


class WritingLink(FakeLink):
    """Remembers each write by itself, and whether it was to leave at once."""

    def __init__(self, host: str, wire: IWire = WIRE) -> None:
        super().__init__(remote_host=host)
        self.wire = cast(Any, wire)
        self.writes: list[tuple[bytes, bool]] = []

    def send_lines(self, lines: bytes, *, at_once: bool = False) -> None:
        super().send_lines(lines, at_once=at_once)
        self.writes.append((lines, at_once))


class FanoutCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.registry = Registry("peer-8001", 20)
        self.fanout = Fanout(self.registry, self.clock, chat=Mesh1(), payloads=WIRE2)

    def tearDown(self) -> None:
        self.turns(3)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def peer(self, number: int = 2, link: WritingLink | None = None) -> WritingLink:
        link = link or WritingLink(f"192.0.2.{number}")
        verdict = self.registry.admit(link, Greeting(f"peer-{number}", "x"), 0.0)
        self.assertIsInstance(verdict, Admitted)
        return link

    def entry(self, link: FakeLink) -> PeerEntry:
        entry = self.registry.of_link(link)
        assert entry is not None
        return entry

    def turns(self, count: int) -> None:
        """Let the reactor go round, in no time."""
        for _ in range(count):
            # Unlike `advance`, without what the calls of this turn put off.
            for call in tuple(self.clock.calls):
                function, args, kw = call.func, call.args, call.kw
                call.cancel()
                function(*args, **kw)


class BurstTests(FanoutCase):
    def test_a_single_line_leaves_at_once(self) -> None:
        one, two = self.peer(2), self.peer(3)
        self.fanout.broadcast("hello")
        for link in (one, two):
            self.assertEqual(link.writes, [(b"hello\n", True)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_follows_it_leaves_together(self) -> None:
        one, two = self.peer(2), self.peer(3)
        for text in ("a", "b", "PING", "c"):
            self.fanout.broadcast(text)
        self.assertEqual(one.writes, [(b"a\n", True)])
        self.turns(2)
        for link in (one, two):
            self.assertEqual(
                link.writes,
                [(b"a\n", True), (b"b\n\xe2\x81\xa0PING\nc\n", True)],
            )
        # One object for all: what waits for many peers is there once.
        self.assertIs(one.writes[1][0], two.writes[1][0])

    def test_after_a_pause_the_next_one_is_the_first_again(self) -> None:
        link = self.peer()
        for _ in range(3):
            self.fanout.broadcast("x")
            self.clock.advance(QUIET * 1.01)
        self.assertEqual(link.writes, [(b"x\n", True)] * 3)

    def test_up_to_the_pause_it_is_not(self) -> None:
        link = self.peer()
        self.fanout.broadcast("x")
        self.clock.advance(QUIET * 0.99)
        self.fanout.broadcast("y")
        self.assertEqual(len(link.writes), 1)

    def test_lines_are_gathered_as_long_as_every_turn_brings_more(self) -> None:
        link = self.peer()
        self.fanout.broadcast("first")
        for turn in range(8):
            self.fanout.broadcast(f"{turn}")
            self.turns(1)
        self.assertEqual(link.writes, [(b"first\n", True)])
        self.turns(1)
        said = b"".join(b"%d\n" % turn for turn in range(8))
        self.assertEqual(link.writes[1:], [(said, True)])

    def test_but_no_longer_than_that(self) -> None:
        link = self.peer()
        self.fanout.broadcast("first")
        self.fanout.broadcast("a")
        self.turns(1)
        self.fanout.broadcast("b")
        self.clock.rightNow += PATIENCE * 1.01
        self.turns(1)
        self.assertEqual(link.writes[1:], [(b"a\nb\n", True)])

    def test_nor_more_than_that(self) -> None:
        link = self.peer()
        self.fanout.broadcast("first")
        line = "x" * 1023
        for _ in range(FULL // 1024 - 1):
            self.fanout.broadcast(line)
        self.assertEqual(len(link.writes), 1)
        self.fanout.broadcast(line)
        self.assertEqual([len(lines) for lines, _ in link.writes], [6, FULL])

    def test_each_wire_says_it_in_its_own_way(self) -> None:
        class Loud(Mesh1):
            def encode_chat(self, text: str) -> bytes:
                return super().encode_chat(text.upper())

        plain, loud = self.peer(2), WritingLink("192.0.2.3")
        loud.wire = Loud()
        self.peer(3, loud)
        for text in "abc":
            self.fanout.broadcast(text)
        self.turns(2)
        self.assertEqual(plain.lines, [b"a\n", b"b\n", b"c\n"])
        self.assertEqual(loud.lines, [b"A\n", b"B\n", b"C\n"])

    def test_nobody_there(self) -> None:
        self.assertFalse(self.fanout.broadcast("hello"))
        self.assertRaises(LocalProtocolError, self.fanout.broadcast, "")

    def test_a_text_that_cannot_be_sent_leaves_the_others_alone(self) -> None:
        link = self.peer()
        self.fanout.broadcast("a")
        self.fanout.broadcast("b")
        self.assertRaises(LocalProtocolError, self.fanout.broadcast, "two\nlines")
        self.fanout.broadcast("c")
        self.turns(2)
        self.assertEqual(link.lines, [b"a\n", b"b\n", b"c\n"])

    def test_whom_it_was_handed_to(self) -> None:
        self.peer(2), self.peer(3)
        for _ in range(2):
            delivery = self.fanout.broadcast("hello")
            self.assertEqual([p.id for p in delivery.peers], ["peer-2", "peer-3"])


class OrderTests(FanoutCase):
    def test_a_line_for_one_comes_after_what_was_said_to_all(self) -> None:
        one, two = self.peer(2), self.peer(3)
        self.fanout.broadcast("a")
        self.fanout.broadcast("b")
        delivery = self.fanout.send(self.entry(one), "only you")
        self.fanout.broadcast("c")
        self.turns(2)
        self.assertEqual([p.id for p in delivery.peers], ["peer-2"])
        self.assertEqual(one.lines, [b"a\n", b"b\n", b"only you\n", b"c\n"])
        self.assertEqual(two.lines, [b"a\n", b"b\n", b"c\n"])

    def test_of_many_lines_for_one_the_first_leaves_at_once(self) -> None:
        link = self.peer()
        for text in "abc":
            self.fanout.send(self.entry(link), text)
        self.assertEqual(
            link.writes, [(b"a\n", True), (b"b\n", False), (b"c\n", False)]
        )

    def test_a_newcomer_hears_nothing_from_before_it_came(self) -> None:
        old = self.peer(2)
        self.fanout.broadcast("a")
        self.fanout.broadcast("b")
        self.fanout.flush()
        new = self.peer(3)
        self.fanout.broadcast("c")
        self.turns(2)
        self.assertEqual(old.lines, [b"a\n", b"b\n", b"c\n"])
        self.assertEqual(new.lines, [b"c\n"])

    def test_stopping_says_what_is_left_and_leaves_no_timer(self) -> None:
        link = self.peer()
        self.fanout.broadcast("a")
        self.fanout.broadcast("b")
        self.fanout.stop()
        self.assertEqual(link.lines, [b"a\n", b"b\n"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_who_speaks_while_others_are_written_to_comes_later(self) -> None:
        """A link that is cut by a write, and somebody who says so to all."""
        others = [self.peer(number) for number in (2, 3, 4)]
        fanout = self.fanout
        deliveries: list[Delivery] = []
        entry = self.entry

        class Stuck(WritingLink):
            def send_lines(self, lines: bytes, *, at_once: bool = False) -> None:
                super().send_lines(lines, at_once=at_once)
                if b"last" in lines:
                    self.abort(CloseReason.SLOW_CONSUMER)
                    deliveries.append(fanout.broadcast("it is gone"))
                    for link in others:
                        deliveries.append(fanout.send(entry(link), "and you"))

        stuck = Stuck("192.0.2.9")
        self.peer(9, stuck)
        more = [self.peer(number) for number in (10, 11)]
        self.fanout.broadcast("first")
        self.fanout.broadcast("last")
        self.turns(3)
        self.assertEqual(len(deliveries), 4)
        told = [b"first\n", b"last\n", b"it is gone\n"]
        for link in others:
            self.assertEqual(link.lines, [*told, b"and you\n"])
        for link in more:
            self.assertEqual(link.lines, told)


class Mesh2Case(FanoutCase):
    def new_peer(self, number: int = 2) -> WritingLink:
        """A peer that speaks mesh/2."""
        return self.seated(number, WritingLink(f"192.0.2.{number}", WIRE2))

    def seated(self, number: int, link: WritingLink) -> WritingLink:
        self.entry(self.peer(number, link)).max_payload = 100
        return link

    def payload(self, data: Data, *links: WritingLink) -> Delivery:
        return self.fanout.payload(data, tuple(map(self.entry, links)))


class RunTests(Mesh2Case):
    """Chat on mesh/2 is in frames."""

    def test_a_line_for_one_is_a_run(self) -> None:
        link = self.new_peer()
        self.fanout.send(self.entry(link), "hello")
        self.assertEqual(link.writes, [(b"CHAT +6\nhello\n", True)])

    def test_what_is_gathered_is_one_run(self) -> None:
        old, new = self.peer(2), self.new_peer(3)
        for text in ("a", "b", "PING"):
            self.fanout.broadcast(text)
        self.turns(2)
        self.assertEqual(
            new.writes, [(b"CHAT +2\na\n", True), (b"CHAT +7\nb\nPING\n", True)]
        )
        self.assertEqual(old.writes[1:], [(b"b\n\xe2\x81\xa0PING\n", True)])


class PayloadTests(Mesh2Case):
    """What is no line of chat."""

    def test_it_leaves_at_once(self) -> None:
        links = self.new_peer(2), self.new_peer(3)
        delivery = self.payload(Data(b"\0", (("a", "1"),)), *links)
        for link in links:
            self.assertEqual(link.writes, [(b"DATA 0 6 5 +6\na: 1\n\0", True)])
        self.assertIs(links[0].writes[0][0], links[1].writes[0][0])
        self.assertEqual([p.id for p in delivery.peers], ["peer-2", "peer-3"])
        self.assertEqual(delivery.missed, ())

    def test_chat_before_it_comes_before_it(self) -> None:
        """And what is said afterwards comes after it."""
        old, new = self.peer(2), self.new_peer(3)
        for text in "ab":
            self.fanout.broadcast(text)
        self.payload(Data(b"x"), old, new)
        self.fanout.broadcast("c")
        self.turns(2)
        written = b"".join(lines for lines, _ in new.writes)
        self.assertEqual(
            written, b"CHAT +2\na\nCHAT +2\nb\nDATA 0 1 0 +1\nxCHAT +2\nc\n"
        )
        self.assertEqual(old.lines, [b"a\n", b"b\n", b"c\n"])

    def test_for_one_peer(self) -> None:
        link, other = self.new_peer(2), self.new_peer(3)
        self.payload(Data(b"x"), link)
        self.assertEqual(len(link.writes), 1)
        self.assertEqual(other.writes, [])

    def test_who_speaks_only_mesh1_misses_it(self) -> None:
        old, new = self.peer(2), self.new_peer(3)
        delivery = self.payload(Data(b"x"), old, new)
        self.assertEqual([p.id for p in delivery.peers], ["peer-3"])
        ((peer, why),) = delivery.missed
        self.assertEqual((peer.id, why), ("peer-2", "speaks only mesh/1"))
        self.assertEqual(old.writes, [])
        delivery = self.payload(Data(b"x"), old)
        self.assertFalse(delivery)
        self.assertEqual([p.id for p, _ in delivery.missed], ["peer-2"])

    def test_at_the_bound_and_one_byte_past_it(self) -> None:
        """Of what is too large nothing is sent, nor of what was said before."""
        old, new = self.peer(2), self.new_peer(3)
        self.fanout.broadcast("first")
        self.fanout.broadcast("gathered")
        sent = len(new.writes)
        for data in (Data(b"x" * 101), Data(b"x" * 96, (("a", "1"),))):
            error = self.assertRaises(LocalProtocolError, self.payload, data, old, new)
            self.assertIn("at most 100 bytes", str(error))
            self.assertEqual(len(new.writes), sent)
        self.payload(Data(b"x" * 100), old, new)
        self.assertEqual(len(new.writes), sent + 2)

    def test_a_large_one_goes_in_pieces(self) -> None:
        """Each link has them one by one, so that it can let others pass."""
        wire = Mesh2()
        taken: list[tuple[bytes, ...]] = []

        class Pieces(WritingLink):
            def send_pieces(self, pieces: Iterable[bytes]) -> None:
                taken.append(tuple(pieces))

        links = [Pieces(f"192.0.2.{number}", wire) for number in (2, 3)]
        data = Data(b"x" * 200_000)
        for number, link in enumerate(links, 2):
            self.entry(self.peer(number, link)).max_payload = data.size
        fanout = Fanout(self.registry, self.clock, chat=WIRE, payloads=wire)
        fanout.payload(data, tuple(map(self.entry, links)))
        first, second = taken
        self.assertEqual(first, second)
        self.assertEqual(len(first), 4)
        self.assertEqual(b"".join(first), wire.encode(data))

    def test_nobody_there(self) -> None:
        delivery = self.payload(Data(b"x"))
        self.assertFalse(delivery)
        self.assertEqual(delivery.missed, ())

    def test_who_leaves_while_it_is_written_did_not_get_it(self) -> None:
        registry = self.registry

        class Leaving(WritingLink):
            def send_lines(self, lines: bytes, *, at_once: bool = False) -> None:
                super().send_lines(lines, at_once=at_once)
                registry.remove(self)

        leaving = Leaving("192.0.2.2", WIRE2)
        self.seated(2, leaving)
        delivery = self.payload(Data(b"x"), leaving, self.new_peer(3))
        self.assertEqual([p.id for p in delivery.peers], ["peer-3"])
        self.assertEqual(delivery.missed, ())

    def test_who_speaks_while_it_is_written_comes_later(self) -> None:
        """On every link, whichever is written to first."""
        fanout = self.fanout

        class Stuck(WritingLink):
            def send_lines(self, lines: bytes, *, at_once: bool = False) -> None:
                super().send_lines(lines, at_once=at_once)
                if lines.startswith(b"DATA"):
                    self.abort(CloseReason.SLOW_CONSUMER)
                    fanout.broadcast("it is gone")

        links = [self.new_peer(2), Stuck("192.0.2.3", WIRE2), self.new_peer(4)]
        self.seated(3, links[1])
        self.payload(Data(b"x"), *links)
        self.turns(3)
        for link in (links[0], links[2]):
            written = b"".join(lines for lines, _ in link.writes)
            self.assertEqual(written, b"DATA 0 1 0 +1\nxCHAT +11\nit is gone\n")
