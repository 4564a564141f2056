"""Events for ``async for``: all of them, in order, with a word when too many wait."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshproto.events import DataReceived, Event, NodeError
from meshproto.mesh.stream import MAX_WAITING, EventStream
from meshproto.wire.messages import NO_HEADERS
from tests.fakes import peer


def event(number: int) -> NodeError:
    return NodeError(context="test", error=str(number))


class StreamCase(SynchronousTestCase):
    limit = 4

    def setUp(self) -> None:
        self.calls: list[str] = []
        self.stream: EventStream[Event] = EventStream(
            self.limit,
            on_full=lambda stream: self.note("full", stream),
            on_caught_up=lambda stream: self.note("caught up", stream),
            on_closed=lambda stream: self.note("closed", stream),
        )

    def note(self, what: str, stream: EventStream[Event]) -> None:
        self.assertIs(stream, self.stream)
        self.calls.append(what)

    def next(self) -> Deferred[Event]:
        return Deferred.fromCoroutine(self.stream.__anext__())

    def take(self) -> Event:
        return self.successResultOf(self.next())

    def close(self) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.stream.aclose()))

    def assertEnded(self, result: Deferred[Event]) -> None:
        self.failureResultOf(result, StopAsyncIteration)


class OrderTests(StreamCase):
    def test_what_waits_is_taken_in_order(self) -> None:
        for number in range(3):
            self.stream.put(event(number))
        self.assertEqual([self.take() for _ in range(3)], [*map(event, range(3))])

    def test_who_waits_gets_the_next(self) -> None:
        first, second = self.next(), self.next()
        self.stream.put(event(1))
        self.assertEqual(self.successResultOf(first), event(1))
        self.assertNoResult(second)
        self.stream.put(event(2))
        self.assertEqual(self.successResultOf(second), event(2))

    def test_a_wait_that_is_given_up_loses_no_event(self) -> None:
        given_up, waiting = self.next(), self.next()
        given_up.cancel()
        self.failureResultOf(given_up, CancelledError)
        self.stream.put(event(1))
        self.assertEqual(self.successResultOf(waiting), event(1))

    def test_async_for(self) -> None:
        taken: list[Event] = []

        async def consume() -> None:
            async for item in self.stream:
                taken.append(item)

        done = Deferred.fromCoroutine(consume())
        for number in range(10):
            self.stream.put(event(number))
        self.assertNoResult(done)
        self.stream.end()
        self.successResultOf(done)
        self.assertEqual(taken, [*map(event, range(10))])
        self.assertEqual(self.calls, [])


class PressureTests(StreamCase):
    def test_below_the_limit_there_is_no_word(self) -> None:
        for number in range(self.limit - 1):
            self.stream.put(event(number))
        self.assertEqual(self.calls, [])

    def test_at_the_limit_it_says_so_once_and_keeps_what_still_comes(self) -> None:
        for number in range(self.limit + 3):
            self.stream.put(event(number))
        self.assertEqual(self.calls, ["full"])
        taken = [self.take() for _ in range(self.limit + 3)]
        self.assertEqual(taken, [*map(event, range(self.limit + 3))])

    def test_at_half_it_has_caught_up(self) -> None:
        for number in range(self.limit):
            self.stream.put(event(number))
        self.take()
        self.assertEqual(self.calls, ["full"])
        self.take()
        self.assertEqual(self.calls, ["full", "caught up"])
        self.take()
        self.assertEqual(self.calls, ["full", "caught up"])

    def test_between_half_and_the_limit_it_stays_as_it_was(self) -> None:
        for number in range(self.limit):
            self.stream.put(event(number))
        self.take()
        self.stream.put(event(9))
        self.assertEqual(self.calls, ["full"])

    def test_it_can_be_full_again(self) -> None:
        for _ in range(2):
            for number in range(self.limit):
                self.stream.put(event(number))
            for _ in range(self.limit):
                self.take()
        self.assertEqual(self.calls, ["full", "caught up"] * 2)


class SizeTests(StreamCase):
    """Payloads count by their bytes as well."""

    limit = 100

    def payload(self, size: int) -> DataReceived:
        return DataReceived(peer=peer(), payload=bytes(size), headers=NO_HEADERS)

    def test_at_the_bound_and_below_half_of_it(self) -> None:
        self.stream.put(self.payload(MAX_WAITING - 1))
        self.stream.put(event(1))
        self.assertEqual(self.calls, [])
        self.stream.put(self.payload(1))
        self.assertEqual(self.calls, ["full"])
        self.stream.put(self.payload(MAX_WAITING // 2))
        self.take()
        self.assertEqual(self.calls, ["full"])
        self.take()
        self.take()
        self.assertEqual(self.calls, ["full", "caught up"])
        self.take()
        self.stream.put(self.payload(MAX_WAITING - 1))
        self.assertEqual(self.calls, ["full", "caught up"])

    def test_the_number_counts_all_the_same(self) -> None:
        for _ in range(self.limit):
            self.stream.put(self.payload(1))
        self.assertEqual(self.calls, ["full"])


class SmallestTests(StreamCase):
    limit = 1

    def test_a_limit_of_one(self) -> None:
        self.stream.put(event(1))
        self.assertEqual(self.calls, ["full"])
        self.take()
        self.assertEqual(self.calls, ["full", "caught up"])


class EndTests(StreamCase):
    def test_what_waits_can_still_be_taken(self) -> None:
        self.stream.put(event(1))
        self.stream.end()
        self.assertEqual(self.take(), event(1))
        self.assertEnded(self.next())
        self.assertEnded(self.next())

    def test_everybody_who_waits_hears_of_it(self) -> None:
        waiting = [self.next(), self.next()]
        self.stream.end()
        for result in waiting:
            self.assertEnded(result)

    def test_nothing_is_taken_in_afterwards(self) -> None:
        self.stream.end()
        self.stream.put(event(1))
        self.assertEnded(self.next())

    def test_closed_it_drops_what_waits_and_lets_everybody_go_on(self) -> None:
        for number in range(self.limit):
            self.stream.put(event(number))
        self.close()
        self.assertEqual(self.calls, ["full", "caught up", "closed"])
        self.assertEnded(self.next())
        self.stream.put(event(9))
        self.assertEqual(self.calls, ["full", "caught up", "closed"])

    def test_closed_while_somebody_waits(self) -> None:
        waiting = self.next()
        self.close()
        self.assertEnded(waiting)
        self.assertEqual(self.calls, ["closed"])
