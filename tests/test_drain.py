"""Who is waited for, and for how long."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshproto.mesh.drain import PATIENCE, Drains
from meshproto.rules.registry import Registry
from meshproto.wire.messages import Greeting
from tests.fakes import FakeLink

MARK = 1000


class DrainsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(100)
        self.registry = Registry("peer-8001", 20)
        self.drains = Drains(self.registry, self.clock, MARK)

    def tearDown(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def peer(self, number: int, waiting: int, moved: float = 0.0) -> FakeLink:
        link = FakeLink(remote_host=f"192.0.2.{number}")
        link.waiting, link.moved_at = waiting, self.clock.seconds() - moved
        self.registry.admit(link, Greeting(f"peer-{number}", "x"), 0.0)
        return link

    def test_nobody_is_there(self) -> None:
        self.successResultOf(self.drains.wait())

    def test_at_the_mark_and_above(self) -> None:
        link = self.peer(2, MARK)
        self.successResultOf(self.drains.wait())
        link.waiting = MARK + 1
        waiting = self.drains.wait()
        self.assertNoResult(waiting)
        link.waiting = MARK
        self.drains.check()
        self.successResultOf(waiting)

    def test_a_single_peer_is_waited_for_as_long_as_it_takes(self) -> None:
        link = self.peer(2, MARK + 1, moved=1000)
        waiting = self.drains.wait()
        self.clock.advance(1000)
        self.assertNoResult(waiting)
        self.registry.remove(link)
        self.drains.check()
        self.successResultOf(waiting)

    def test_one_that_takes_nothing_holds_up_nobody(self) -> None:
        self.peer(2, MARK + 1, moved=PATIENCE / 4)
        self.peer(3, 0)
        waiting = self.drains.wait()
        self.clock.advance(PATIENCE * 0.74)
        self.assertNoResult(waiting)
        self.clock.advance(PATIENCE * 0.02)
        self.successResultOf(waiting)
        self.successResultOf(self.drains.wait())

    def test_one_that_takes_some_is_waited_for(self) -> None:
        slow = self.peer(2, MARK + 1)
        self.peer(3, 0)
        waiting = self.drains.wait()
        for _ in range(20):
            self.clock.advance(PATIENCE * 0.9)
            slow.moved_at = self.clock.seconds()
        self.assertNoResult(waiting)
        slow.waiting = 0
        self.drains.check()
        self.successResultOf(waiting)

    def test_of_two_the_one_that_moves_is_waited_for(self) -> None:
        self.peer(2, MARK + 1, moved=1000)
        slow = self.peer(3, MARK + 1)
        self.peer(4, 0)
        waiting = self.drains.wait()
        self.assertNoResult(waiting)
        slow.waiting = 0
        self.drains.check()
        self.successResultOf(waiting)

    def test_several_may_wait_and_one_may_give_up(self) -> None:
        link = self.peer(2, MARK + 1)
        first, second = self.drains.wait(), self.drains.wait()
        second.addErrback(lambda _: None)
        second.cancel()
        link.waiting = 0
        self.drains.check()
        self.successResultOf(first)
