"""Which dials are made, how many at once, and what becomes of each."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import (
    ConnectError as TwistedConnectError,
)
from twisted.internet.error import (
    ConnectionRefusedError,
    DNSLookupError,
    NoRouteError,
    TCPTimedOutError,
    UserError,
)
from twisted.internet.error import (
    TimeoutError as TwistedTimeoutError,
)
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from meshproto.errors import (
    AddressError,
    DialFailed,
    HandshakeFailed,
    NotRunning,
    SelfConnection,
)
from meshproto.events import Direction, Peer
from meshproto.mesh.dialer import (
    Dialer,
    DialReport,
    Failed,
    Linked,
    dial_failure_text,
)
from meshproto.rules.addressbook import AddressBook, Retry
from meshproto.rules.interfaces import IPeerLink
from meshproto.wire.address import PeerAddress, Target
from tests.fakes import Dice, FakeLink, peer_key

KEY = peer_key("192.0.2.2", "bob")


def target(number: int) -> PeerAddress:
    return PeerAddress("192.0.2.2", 8000 + number)


def linked(where: Target) -> Linked:
    peer = Peer(
        id="bob",
        name="bob",
        host="192.0.2.2",
        address=None,
        direction=Direction.OUTGOING,
        connected_at=0.0,
        last_heard=0.0,
    )
    return Linked(peer, KEY)


def failed(where: Target) -> Failed:
    return Failed(HandshakeFailed(where, "closed without an answer"))


class DialerCase(SynchronousTestCase):
    max_dials = 16

    def setUp(self) -> None:
        self.clock = Clock()
        self.dice = Dice()
        self.book = AddressBook(lambda host: host == "127.0.0.1", self.dice)
        self.seats = (0, 20)
        self.reports: list[DialReport] = []
        self.dials: list[tuple[Target, Deferred[IPeerLink]]] = []
        self.unusable: set[Target] = set()
        self.dialer = Dialer(
            self.book,
            self.clock,
            max_dials=self.max_dials,
            timeout=10.0,
            connect=self.connect,
            seats=lambda: self.seats,
            on_report=self.reports.append,
        )

    def tearDown(self) -> None:
        self.dialer.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def connect(self, where: Target) -> Deferred[IPeerLink]:
        if where in self.unusable:
            raise AddressError("no usable endpoint")
        dial: Deferred[IPeerLink] = Deferred()
        self.dials.append((where, dial))
        return dial

    def dialled(self) -> list[Target]:
        return [where for where, _ in self.dials]

    def give(self, *numbers: int) -> None:
        for number in numbers:
            self.book.give(target(number))

    def tell(self, *numbers: int) -> None:
        """A peer tells addresses."""
        source = peer_key("192.0.2.9", "carol")
        addresses = [target(number) for number in numbers]
        self.book.learn(addresses, source, "192.0.2.9", self.clock.seconds())

    def refuse(self, number: int) -> None:
        """The latest dial of an address finds nobody."""
        dials = [dial for where, dial in self.dials if where == target(number)]
        dials[-1].errback(Failure(ConnectionRefusedError()))

    def take(self, number: int) -> None:
        """The latest dial of an address is taken; no hello yet."""
        dials = [dial for where, dial in self.dials if where == target(number)]
        dials[-1].callback(FakeLink(Direction.OUTGOING, target=target(number)))


class StartTests(DialerCase):
    def test_nothing_is_dialled_before_it_starts(self) -> None:
        self.give(1)
        self.dialer.pump()
        self.assertEqual(self.dialled(), [])

    def test_everything_that_is_due_is_dialled_at_once(self) -> None:
        self.tell(3)
        self.give(1, 2)
        self.dialer.start()
        self.assertEqual(self.dialled(), [target(1), target(2), target(3)])
        self.assertEqual(len(self.dialer), 3)
        self.assertEqual(self.clock.seconds(), 0)

    def test_what_is_under_way_is_not_dialled_again(self) -> None:
        self.give(1)
        self.dialer.start()
        self.dialer.pump()
        self.clock.advance(5)
        self.dialer.pump()
        self.assertEqual(self.dialled(), [target(1)])


class InFlightTests(DialerCase):
    def test_sixteen_are_under_way_and_the_seventeenth_waits(self) -> None:
        self.give(*range(1, 18))
        self.dialer.start()
        self.assertEqual(len(self.dialer), 16)
        self.assertEqual(len(self.dials), 16)
        self.refuse(1)
        self.assertEqual(len(self.dialer), 16)
        self.assertEqual(self.dialled()[16], target(17))

    def test_a_dial_that_is_taken_is_under_way_until_it_is_settled(self) -> None:
        self.give(*range(1, 18))
        self.dialer.start()
        self.take(1)
        self.assertEqual(len(self.dials), 16)
        self.dialer.settle(target(1), linked(target(1)))
        self.assertEqual(len(self.dials), 17)

    def test_what_a_caller_asks_for_waits_for_its_turn_too(self) -> None:
        self.give(*range(1, 17))
        self.dialer.start()
        self.dialer.dial(target(99)).addErrback(lambda _: None)
        self.assertEqual(len(self.dials), 16)
        self.assertIn(target(99), self.dialer.targets())
        self.refuse(1)
        self.assertEqual(self.dialled()[16], target(99))


class SeatTests(DialerCase):
    def test_a_seat_for_every_dial(self) -> None:
        self.seats = (18, 20)
        self.tell(1, 2, 3)
        self.dialer.start()
        self.assertEqual(len(self.dials), 2)
        self.refuse(1)
        self.assertEqual(self.dialled()[2:], [target(3)])

    def test_no_seat_no_dial_and_no_timer(self) -> None:
        self.seats = (20, 20)
        self.give(1)
        self.dialer.start()
        self.assertEqual(self.dialled(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.seats = (19, 20)
        self.dialer.pump()
        self.assertEqual(self.dialled(), [target(1)])


class FailureTests(DialerCase):
    def test_a_failure_is_reported_with_its_reason_and_the_pause(self) -> None:
        self.give(1)
        self.dialer.start()
        self.refuse(1)
        [report] = self.reports
        self.assertEqual(report.target, target(1))
        assert isinstance(report.outcome, Failed)
        self.assertIsInstance(report.outcome.error, DialFailed)
        self.assertEqual(str(report.outcome.error), f"{target(1)}: connection refused")
        self.assertEqual((report.wanted, report.given), (False, True))
        self.assertEqual(report.retry, Retry(0.5, 1))

    def test_it_is_tried_again_when_the_pause_is_over(self) -> None:
        self.give(1)
        self.dialer.start()
        self.refuse(1)
        self.clock.advance(0.499)
        self.assertEqual(len(self.dials), 1)
        self.clock.advance(0.001)
        self.assertEqual(len(self.dials), 2)

    def pauses(self, seats: tuple[int, int], count: int) -> list[float]:
        self.seats = seats
        self.dice.value = 1.0
        self.give(1)
        self.dialer.start()
        for _ in range(count):
            self.refuse(1)
            retry = self.reports[-1].retry
            assert retry is not None
            self.clock.advance(retry.delay)
        return [report.retry.delay for report in self.reports if report.retry]

    def test_the_pause_doubles_up_to_a_minute(self) -> None:
        self.assertEqual(self.pauses((1, 20), 8), [1, 2, 4, 8, 16, 32, 60, 60])

    def test_without_any_peer_the_pause_is_ten_seconds_at_most(self) -> None:
        self.assertEqual(self.pauses((0, 20), 6), [1, 2, 4, 8, 10, 10])

    def test_the_pause_is_drawn_from_all_of_it(self) -> None:
        self.give(1)
        self.dialer.start()
        for value in (0.25, 0.75, 0.0, 0.5):
            self.dice.value = value
            self.refuse(1)
            retry = self.reports[-1].retry
            assert retry is not None
            self.clock.advance(retry.delay)
        self.assertEqual(
            [report.retry.delay for report in self.reports if report.retry],
            [0.25, 1.5, 0.0, 4.0],
        )

    def test_a_pause_of_nothing_does_not_dial_within_the_report(self) -> None:
        self.dice.value = 0.0
        self.give(1)
        self.dialer.start()
        self.refuse(1)
        self.assertEqual(len(self.reports), 1)
        self.clock.advance(0)
        self.assertEqual(len(self.dials), 2)

    def test_a_success_starts_the_pauses_anew(self) -> None:
        self.seats = (1, 20)
        self.dice.value = 1.0
        self.give(1)
        self.dialer.start()
        for pause in (1, 2, 4):
            self.refuse(1)
            self.clock.advance(pause)
        self.dialer.settle(target(1), linked(target(1)))
        self.book.peer_left(KEY, self.clock.seconds())
        self.dialer.pump()
        self.clock.advance(1)
        self.refuse(1)
        self.assertEqual(self.reports[-1].retry, Retry(1.0, 1))

    def test_given_addresses_are_never_forgotten(self) -> None:
        self.pauses((0, 20), 50)
        self.assertEqual(len(self.dials), 51)

    def test_told_addresses_are_forgotten_after_ten_failures(self) -> None:
        self.dice.value = 1.0
        self.seats = (1, 20)
        self.tell(1)
        self.dialer.start()
        for _ in range(9):
            self.refuse(1)
            self.assertIsNotNone(self.reports[-1].retry)
            self.clock.advance(60)
        self.refuse(1)
        self.assertIsNone(self.reports[-1].retry)
        self.clock.advance(1000)
        self.assertEqual(len(self.dials), 10)
        self.assertEqual(len(self.book), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_target_without_an_endpoint_is_a_failure_like_any_other(self) -> None:
        self.unusable.add(target(1))
        self.give(1, 2)
        self.dialer.start()
        self.assertEqual(self.dialled(), [target(2)])
        [report] = self.reports
        assert isinstance(report.outcome, Failed)
        self.assertIn("no usable endpoint", str(report.outcome.error))
        self.failureResultOf(self.dialer.dial(target(1)), DialFailed)


class TimeoutTests(DialerCase):
    def test_a_connection_that_does_not_come_about_in_time(self) -> None:
        self.give(1)
        self.dialer.start()
        self.clock.advance(9.999)
        self.assertEqual(self.reports, [])
        self.clock.advance(0.001)
        [report] = self.reports
        assert isinstance(report.outcome, Failed)
        self.assertEqual(str(report.outcome.error), f"{target(1)}: timed out")

    def test_a_connection_in_time_leaves_the_rest_to_the_link(self) -> None:
        self.give(1)
        self.dialer.start()
        self.take(1)
        self.clock.advance(100)
        self.assertEqual(self.reports, [])
        self.assertEqual(len(self.dialer), 1)


class DialTests(DialerCase):
    def setUp(self) -> None:
        super().setUp()
        self.dialer.start()

    def test_a_success(self) -> None:
        waiting = self.dialer.dial(target(1))
        self.take(1)
        self.assertNoResult(waiting)
        outcome = linked(target(1))
        self.dialer.settle(target(1), outcome)
        self.assertIs(self.successResultOf(waiting), outcome.peer)
        [report] = self.reports
        self.assertEqual((report.wanted, report.given), (True, False))
        self.assertEqual(len(self.dialer), 0)

    def test_a_failure_is_not_tried_again(self) -> None:
        waiting = self.dialer.dial(target(1))
        self.refuse(1)
        self.failureResultOf(waiting, DialFailed)
        [report] = self.reports
        self.assertTrue(report.wanted)
        self.assertIsNone(report.retry)
        self.clock.advance(1000)
        self.assertEqual(len(self.dials), 1)

    def test_ourselves(self) -> None:
        """Who answers there today may be another node tomorrow."""
        self.give(1)
        waiting = self.dialer.dial(target(1))
        error = SelfConnection(target(1), "that is this node itself")
        self.dialer.settle(target(1), Failed(error))
        self.assertIs(self.failureResultOf(waiting).value, error)
        self.assertFalse(self.book.is_own(target(1)))
        self.clock.advance(1)
        self.assertEqual(len(self.dials), 2)

    def test_many_may_wait_for_one_dial(self) -> None:
        self.give(1)
        self.dialer.pump()
        waiting = [self.dialer.dial(target(1)) for _ in range(3)]
        self.assertEqual(len(self.dials), 1)
        self.dialer.settle(target(1), linked(target(1)))
        for one in waiting:
            self.assertEqual(self.successResultOf(one).id, "bob")

    def test_who_gives_up_the_wait_leaves_the_dial_and_the_others(self) -> None:
        first, second = self.dialer.dial(target(1)), self.dialer.dial(target(1))
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertEqual(len(self.dialer), 1)
        self.dialer.settle(target(1), linked(target(1)))
        self.successResultOf(second)
        self.assertTrue(self.reports[0].wanted)

    def test_with_nobody_left_to_wait_it_is_not_wanted(self) -> None:
        waiting = self.dialer.dial(target(1))
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.refuse(1)
        self.assertFalse(self.reports[0].wanted)

    def test_one_who_waits_may_stop_another(self) -> None:
        waiting: list[Deferred[Peer]] = []
        first = self.dialer.dial(target(1))
        first.addErrback(lambda _: waiting[0].cancel())
        waiting += [self.dialer.dial(target(1)), self.dialer.dial(target(1))]
        self.refuse(1)
        self.failureResultOf(waiting[0], CancelledError)
        self.failureResultOf(waiting[1], DialFailed)

    def test_it_may_be_dialled_again_by_one_who_waited(self) -> None:
        again: list[Deferred[Peer]] = []
        waiting = self.dialer.dial(target(1))
        waiting.addErrback(lambda _: again.append(self.dialer.dial(target(1))))
        self.refuse(1)
        self.assertEqual(len(self.dials), 2)
        self.dialer.settle(target(1), linked(target(1)))
        self.successResultOf(again[0])

    def test_a_caller_does_not_wait_for_a_pause(self) -> None:
        self.give(1)
        self.dialer.pump()
        self.refuse(1)
        self.dialer.dial(target(1)).addErrback(lambda _: None)
        self.assertEqual(len(self.dials), 2)

    def test_settling_what_is_not_under_way_does_nothing(self) -> None:
        self.dialer.settle(target(1), failed(target(1)))
        self.assertEqual(self.reports, [])


class StopTests(DialerCase):
    max_dials = 2

    def test_everybody_who_waits_hears_of_it(self) -> None:
        self.dialer.start()
        taken, open, queued = (self.dialer.dial(target(n)) for n in (1, 2, 3))
        self.take(1)
        self.dialer.stop()
        for waiting in (taken, open, queued):
            self.failureResultOf(waiting, NotRunning)
        self.assertEqual(len(self.dialer), 0)
        self.assertEqual(self.reports, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_connections_under_way_are_given_up(self) -> None:
        given_up: list[object] = []
        self.give(1)
        self.dialer.start()
        self.dials[0][1]._canceller = given_up.append
        self.dialer.stop()
        self.assertEqual(len(given_up), 1)
        self.assertEqual(self.reports, [])

    def test_no_retry_is_left(self) -> None:
        self.give(1)
        self.dialer.start()
        self.refuse(1)
        self.dialer.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(1000)
        self.assertEqual(len(self.dials), 1)

    def test_what_comes_late_does_nothing(self) -> None:
        self.give(1)
        self.dialer.start()
        self.take(1)
        self.dialer.stop()
        self.dialer.settle(target(1), failed(target(1)))
        self.dialer.pump()
        self.assertEqual(self.reports, [])
        self.assertEqual(len(self.dials), 1)


class TextTests(SynchronousTestCase):
    def test_short_words_for_people(self) -> None:
        for error, text in (
            (ConnectionRefusedError(), "connection refused"),
            (TCPTimedOutError(), "timed out"),
            (TwistedTimeoutError(), "timed out"),
            (CancelledError(), "timed out"),
            (
                DNSLookupError("no results for hostname lookup: x"),
                "host name not found",
            ),
            (NoRouteError(), "no route to host"),
            (OSError(101, "Network is unreachable"), None),
            (TwistedConnectError(), "An error occurred while connecting"),
            (ValueError(), "ValueError"),
        ):
            said = dial_failure_text(Failure(error))
            self.assertNotIn("\n", said)
            self.assertTrue(said)
            if text is not None:
                self.assertEqual(said, text)

    def test_any_error_has_some_words(self) -> None:
        self.assertTrue(dial_failure_text(Failure(UserError())))
