"""The send queue of one link: its order, its bound, its clock."""

from __future__ import annotations

from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from meshproto.link.outbox import Outbox
from tests.fakes import RecordingTransport, tcp_address

FULL = RecordingTransport.FULL


class OutboxCase(SynchronousTestCase):
    limit = 100
    stall_timeout = 10.0

    def setUp(self) -> None:
        self.clock = Clock()
        self.transport = RecordingTransport(
            self.clock, tcp_address("192.0.2.1", 1), tcp_address("192.0.2.2", 2)
        )
        self.overruns = 0
        self.sizes: list[int] = []
        self.outbox = Outbox(
            self.transport,
            self.clock,
            limit=self.limit,
            stall_timeout=self.stall_timeout,
            owner=self,
        )

    def tearDown(self) -> None:
        self.outbox.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def overrun(self) -> None:
        self.overruns += 1

    def eased(self) -> None:
        self.sizes.append(self.outbox.size)

    def taken(self) -> bytes:
        data = bytes(self.transport.taken)
        self.transport.taken.clear()
        return data

    def fill(self) -> None:
        """Let the far end take nothing, until the transport says it is full."""
        self.transport.stuck = True
        self.outbox.write(bytes(FULL + 1))

    def ease(self) -> None:
        """Let the far end take everything."""
        self.transport.stuck = False
        self.transport.take()


class PiecesTests(OutboxCase):
    """A message in pieces lets others pass."""

    limit = 1_000_000

    def test_one_piece_is_a_line(self) -> None:
        self.fill()
        self.outbox.write_pieces([b"one\n"])
        self.outbox.write(b"two\n")
        self.ease()
        self.assertEqual(self.taken()[FULL + 1 :], b"one\ntwo\n")

    def test_nothing_waits_for_nothing(self) -> None:
        self.outbox.write_pieces([b"a", b"b", b"c"])
        self.assertEqual(self.taken(), b"abc")
        self.assertEqual(self.outbox.size, 0)

    def pieces(self, letter: bytes) -> list[bytes]:
        """Of which each fills the transport."""
        return [letter * (FULL + 1)] * 3

    def heard(self) -> str:
        """What leaves each time when the far end takes everything there is."""
        turns = []
        while self.transport.waiting:
            self.transport.take(len(self.transport.waiting))
            turns.append(self.taken().replace(b"A" * (FULL + 1), b"A"))
        return b" ".join(turns).replace(b"B" * (FULL + 1), b"B").decode()

    def test_lines_pass_between_them_and_urgent_ones_too(self) -> None:
        self.transport.stuck = True
        self.outbox.write_pieces(self.pieces(b"A"))
        self.outbox.write(b"later")
        self.outbox.write_urgent(b"urgent")
        self.assertEqual(self.outbox.size, 2 * (FULL + 1) + 11)
        self.assertEqual(self.heard(), "A urgentlaterA A")
        self.assertEqual(self.outbox.size, 0)

    def test_what_was_said_before_does_not(self) -> None:
        """However much that is."""
        self.fill()
        for _ in range(3):
            self.outbox.write(b"B" * (FULL + 1))
        self.outbox.write_pieces(self.pieces(b"A"))
        self.outbox.write(b"later")
        self.taken()
        self.transport.take(FULL + 1)
        self.taken()
        self.assertEqual(self.heard(), "B B BA laterA A")

    def test_a_flood_does_not_hold_it_up(self) -> None:
        self.transport.stuck = True
        self.outbox.write_pieces(self.pieces(b"A"))
        for _ in range(4):
            self.outbox.write(b"B" * (FULL + 1))
        self.assertEqual(self.heard(), "A BA BA B B")

    def test_the_next_message_waits_for_the_last_piece(self) -> None:
        self.transport.stuck = True
        self.outbox.write_pieces(self.pieces(b"A"))
        self.outbox.write_pieces([b"whole"])
        self.assertEqual(self.heard(), "A A A whole")

    def test_finishing_and_closing(self) -> None:
        flushed: list[None] = []
        self.transport.stuck = True
        self.outbox.write_pieces(self.pieces(b"A"))
        self.outbox.finish(lambda: flushed.append(None))
        self.outbox.write_pieces(self.pieces(b"B"))
        self.assertEqual(flushed, [])
        self.assertEqual(self.heard(), "A A A")
        self.assertEqual(flushed, [None])

    def test_too_many(self) -> None:
        self.transport.stuck = True
        size = self.limit // 2
        self.outbox.write_pieces([b"A" * (FULL + 1), bytes(size), bytes(size)])
        self.assertEqual((self.outbox.size, self.overruns), (self.limit, 0))
        self.outbox.write(b"x")
        self.assertEqual(self.overruns, 1)


class OrderTests(OutboxCase):
    def test_is_a_push_producer(self) -> None:
        self.assertTrue(verifyObject(IPushProducer, self.outbox))

    def test_what_can_go_goes_at_once(self) -> None:
        self.outbox.write(b"one\n")
        self.outbox.write_urgent(b"two\n")
        self.assertEqual(self.taken(), b"one\ntwo\n")
        self.assertEqual(self.outbox.size, 0)
        self.assertEqual(self.sizes, [])

    def test_a_full_transport_makes_lines_wait_here_and_counts_them(self) -> None:
        self.fill()
        self.outbox.write(b"one\n")
        self.outbox.write(b"three\n")
        self.assertEqual(self.outbox.size, 10)
        self.assertEqual(len(self.transport.waiting), FULL + 1)

    def test_at_the_mark_the_transport_is_not_full_yet(self) -> None:
        self.transport.stuck = True
        self.outbox.write(bytes(FULL))
        self.outbox.write(b"\n")
        self.assertEqual(self.outbox.size, 0)
        self.outbox.write(b"\n")
        self.assertEqual(self.outbox.size, 1)

    def test_lines_leave_in_the_order_in_which_they_came(self) -> None:
        self.fill()
        for number in range(10):
            self.outbox.write(b"%d\n" % number)
        self.ease()
        self.assertEqual(self.taken()[FULL + 1 :], b"0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n")
        self.assertEqual(self.outbox.size, 0)
        self.assertEqual(self.sizes, [0])

    def test_an_urgent_line_overtakes_the_lines_that_wait(self) -> None:
        self.fill()
        self.outbox.write(b"chat\n")
        self.outbox.write_urgent(b"PONG\n")
        self.ease()
        self.assertEqual(self.taken()[FULL + 1 :], b"PONG\nchat\n")


class UrgentOnceTests(OutboxCase):
    def test_the_same_line_waits_once(self) -> None:
        self.fill()
        self.outbox.write(b"chat\n")
        for _ in range(1000):
            self.outbox.write_urgent(b"PONG\n")
            self.outbox.write_urgent(b"PING\n")
        self.assertEqual(self.outbox.size, 15)
        self.ease()
        self.assertEqual(self.taken()[FULL + 1 :], b"PONG\nPING\nchat\n")
        self.fill()
        self.outbox.write_urgent(b"PONG\n")
        self.ease()
        self.assertEqual(self.taken()[FULL + 1 :], b"PONG\n")

    def test_of_answers_to_many_pings_the_latest_waits(self) -> None:
        self.fill()
        for number in range(1000):
            self.outbox.write_urgent(b"PONG %d\n" % number)
            self.outbox.write_urgent(b"PING\n")
        self.assertEqual(self.outbox.size, len(b"PONG 999\nPING\n"))
        self.ease()
        self.assertEqual(self.taken()[FULL + 1 :], b"PONG 999\nPING\n")
        self.assertEqual(self.outbox.size, 0)


class FinishTests(OutboxCase):
    def setUp(self) -> None:
        super().setUp()
        self.flushed = 0

    def note(self) -> None:
        self.flushed += 1

    def test_with_nothing_waiting_it_is_flushed_at_once(self) -> None:
        self.outbox.finish(self.note)
        self.assertEqual(self.flushed, 1)

    def test_by_then_the_transport_has_no_producer(self) -> None:
        """With one it would wait for more instead of closing."""

        def register_another() -> None:
            self.transport.registerProducer(Outbox.__new__(Outbox), True)
            self.note()

        self.outbox.finish(register_another)
        self.assertEqual(self.flushed, 1)

    def test_what_waits_goes_first(self) -> None:
        self.fill()
        self.outbox.write(b"last\n")
        self.outbox.finish(self.note)
        self.assertEqual(self.flushed, 0)
        self.ease()
        self.assertEqual(self.flushed, 1)
        self.assertEqual(self.taken()[FULL + 1 :], b"last\n")

    def test_nothing_more_is_taken(self) -> None:
        self.fill()
        self.outbox.write(b"last\n")
        self.outbox.finish(self.note)
        self.outbox.write(b"too late\n")
        self.outbox.write_urgent(b"too late as well\n")
        self.ease()
        self.assertEqual(self.taken()[FULL + 1 :], b"last\n")


class LimitTests(OutboxCase):
    def test_at_the_limit_nothing_happens(self) -> None:
        self.fill()
        self.outbox.write(bytes(self.limit))
        self.assertEqual(self.outbox.size, self.limit)
        self.assertEqual(self.overruns, 0)

    def test_one_byte_more_is_an_overrun(self) -> None:
        self.fill()
        self.outbox.write(bytes(self.limit))
        self.outbox.write(b"\n")
        self.assertEqual(self.overruns, 1)

    def test_urgent_lines_count_too(self) -> None:
        self.fill()
        self.outbox.write(bytes(self.limit))
        self.outbox.write_urgent(b"P\n")
        self.assertEqual(self.overruns, 1)

    def test_lines_that_have_left_do_not_count(self) -> None:
        for _ in range(3):
            self.fill()
            self.outbox.write(bytes(self.limit))
            self.ease()
        self.assertEqual(self.overruns, 0)


class StallTests(OutboxCase):
    def test_a_far_end_that_takes_nothing_for_too_long_is_an_overrun(self) -> None:
        self.fill()
        self.clock.advance(9.999)
        self.assertEqual(self.overruns, 0)
        self.clock.advance(0.001)
        self.assertEqual(self.overruns, 1)

    def test_what_the_transport_has_room_for_is_no_stall(self) -> None:
        self.transport.stuck = True
        self.outbox.write(bytes(FULL))
        self.clock.advance(1000)
        self.assertEqual(self.overruns, 0)

    def test_a_transport_that_has_emptied_does_not_stall(self) -> None:
        self.fill()
        self.clock.advance(9)
        self.ease()
        self.clock.advance(1000)
        self.assertEqual(self.overruns, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_second_stall_is_timed_from_its_own_start(self) -> None:
        self.fill()
        self.clock.advance(5)
        self.ease()
        self.fill()
        self.clock.advance(9.999)
        self.assertEqual(self.overruns, 0)
        self.clock.advance(0.001)
        self.assertEqual(self.overruns, 1)


class BacklogTests(OutboxCase):
    limit = 10 * FULL

    def test_a_backlog_leaves_in_batches_as_the_transport_takes_them(self) -> None:
        self.fill()
        line = bytes(FULL // 2)
        for _ in range(8):
            self.outbox.write(line)
        self.assertEqual(self.outbox.size, 4 * FULL)
        self.transport.take()
        self.assertEqual(self.outbox.size, 2 * FULL)
        self.assertEqual(len(self.transport.waiting), 2 * FULL)
        self.transport.take()
        self.transport.take()
        self.assertEqual(self.outbox.size, 0)
        self.assertEqual(self.sizes, [2 * FULL, 0])
        self.assertEqual(len(self.taken()), 5 * FULL + 1)

    def test_progress_starts_the_time_again(self) -> None:
        self.fill()
        for _ in range(6):
            self.outbox.write(bytes(FULL // 2))
        self.clock.advance(9)
        self.transport.take()
        self.assertTrue(self.transport.waiting)
        self.clock.advance(9.999)
        self.assertEqual(self.overruns, 0)
        self.clock.advance(0.001)
        self.assertEqual(self.overruns, 1)


class CloseTests(OutboxCase):
    def test_drops_what_waits_and_stops_the_clock(self) -> None:
        self.fill()
        self.outbox.write(b"chat\n")
        self.outbox.close()
        self.assertEqual(self.outbox.size, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.ease()
        self.assertEqual(self.taken(), bytes(FULL + 1))

    def test_takes_nothing_more(self) -> None:
        self.outbox.close()
        self.outbox.write(b"chat\n")
        self.outbox.write_urgent(b"PONG\n")
        self.assertEqual(self.taken(), b"")
        self.assertEqual(self.outbox.size, 0)

    def test_takes_nothing_more_on_a_full_transport(self) -> None:
        self.fill()
        self.outbox.close()
        self.outbox.write(bytes(self.limit + 1))
        self.assertEqual((self.outbox.size, self.overruns), (0, 0))

    def test_a_connection_that_is_gone_closes_it(self) -> None:
        self.fill()
        self.outbox.write(b"chat\n")
        self.outbox.stopProducing()
        self.assertEqual(self.outbox.size, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_twice_is_once(self) -> None:
        self.outbox.close()
        self.outbox.close()

    def test_a_transport_that_fills_afterwards_starts_no_clock(self) -> None:
        self.outbox.close()
        self.outbox.pauseProducing()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class OverrunThatClosesTests(OutboxCase):
    def overrun(self) -> None:
        super().overrun()
        self.outbox.close()

    def test_it_is_told_once_and_nothing_is_kept(self) -> None:
        self.fill()
        for _ in range(3):
            self.outbox.write(bytes(self.limit + 1))
        self.assertEqual((self.outbox.size, self.overruns), (0, 1))
