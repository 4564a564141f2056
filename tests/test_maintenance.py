"""Who is pinged, who is probed, and who is dropped."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshproto.events import CloseReason, Direction, Event, PeerReaped, PingSent
from meshproto.mesh.maintenance import Maintenance
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.registry import Admitted, Registry
from meshproto.wire.messages import Greeting, Ping
from tests.fakes import FakeLink


class MaintenanceCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.registry = Registry("peer-8001", 20)
        self.events: list[Event] = []
        self.maintenance = Maintenance(
            self.registry,
            self.clock,
            self.events.append,
            interval=15.0,
            peer_timeout=60.0,
            probe_timeout=3.0,
        )
        self.maintenance.start()

    def tearDown(self) -> None:
        self.maintenance.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def peer(self, name: str, link: FakeLink | None = None) -> FakeLink:
        link = link or FakeLink()
        link.last_heard = self.clock.seconds()
        hello = Greeting(name, name)
        verdict = self.registry.admit(link, hello, self.clock.seconds())
        self.assertIsInstance(verdict, Admitted)
        return link

    def hear(self, link: FakeLink) -> None:
        link.last_heard = self.clock.seconds()

    def reaped(self) -> list[tuple[str, float]]:
        return [
            (event.peer.id, event.silent_for)
            for event in self.events
            if isinstance(event, PeerReaped)
        ]


class PingTests(MaintenanceCase):
    def test_every_peer_every_fifteen_seconds(self) -> None:
        one, two = self.peer("one"), self.peer("two")
        self.clock.advance(14.999)
        self.assertEqual((one.sent, two.sent), ([], []))
        self.clock.advance(0.001)
        self.assertEqual((one.sent, two.sent), ([Ping("1")], [Ping("1")]))
        self.clock.advance(15)
        self.assertEqual(one.sent, [Ping("1"), Ping("2")])
        self.assertEqual(one.urgent, one.sent)

    def test_each_is_told(self) -> None:
        self.peer("one")
        self.clock.advance(15)
        [event] = self.events
        assert isinstance(event, PingSent)
        self.assertEqual(event.peer.id, "one")

    def test_nobody_is_pinged_after_the_stop(self) -> None:
        one = self.peer("one")
        self.maintenance.stop()
        self.clock.advance(100)
        self.assertEqual(one.sent, [])


class ReapTests(MaintenanceCase):
    def two_links(self) -> tuple[FakeLink, FakeLink]:
        """A peer with which both dialled at once."""
        older = self.peer("one")
        newer = FakeLink(Direction.OUTGOING)
        self.registry.admit(newer, Greeting("one", "one"), self.clock.seconds())
        return older, newer

    def test_of_two_links_the_one_that_is_sent_on_has_to_live(self) -> None:
        used, other = self.two_links()
        for _ in range(8):
            self.hear(used)
            self.clock.advance(15)
        self.assertEqual(self.reaped(), [])
        for _ in range(4):
            self.hear(other)
            self.clock.advance(15)
        self.assertEqual(self.reaped(), [("one", 75)])
        self.assertTrue(used.over and other.over)

    def test_a_peer_that_is_silent_on_both_is_dropped_with_both(self) -> None:
        older, newer = self.two_links()
        self.clock.pump([15] * 5)
        self.assertEqual(self.reaped(), [("one", 75)])
        self.assertIs(older.aborted, CloseReason.TIMEOUT)
        self.assertIs(newer.aborted, CloseReason.TIMEOUT)

    def test_sixty_seconds_of_silence_are_borne(self) -> None:
        one = self.peer("one")
        self.clock.pump([15] * 4)
        self.assertEqual(self.reaped(), [])
        self.assertFalse(one.over)
        self.assertEqual(len(one.sent), 4)

    def test_more_are_not(self) -> None:
        one = self.peer("one")
        self.clock.pump([15] * 5)
        self.assertEqual(self.reaped(), [("one", 75)])
        self.assertIs(one.aborted, CloseReason.TIMEOUT)
        self.assertEqual(len(one.sent), 4)

    def test_a_little_more_is_enough(self) -> None:
        one = self.peer("one")
        self.clock.pump([15] * 3)
        one.last_heard = -0.001
        self.clock.advance(15)
        self.assertEqual(self.reaped(), [("one", 60.001)])
        self.assertTrue(one.over)

    def test_it_is_told_before_the_link_is_cut(self) -> None:
        order: list[object] = []

        class Noting(FakeLink):
            def abort(self, reason: CloseReason) -> None:
                order.append(reason)

        self.maintenance._emit = order.append
        self.peer("one", Noting())
        self.clock.pump([15] * 5)
        self.assertIsInstance(order[-2], PeerReaped)
        self.assertEqual(order[-1], CloseReason.TIMEOUT)

    def test_who_is_heard_lives(self) -> None:
        one, two = self.peer("one"), self.peer("two")
        for _ in range(20):
            self.clock.advance(15)
            self.hear(one)
            if two.over:
                self.registry.remove(two)
        self.assertEqual([name for name, _ in self.reaped()], ["two"])
        self.assertFalse(one.over)

    def test_who_is_not_read_cannot_be_heard(self) -> None:
        one = self.peer("one")
        one.pause("slow")
        self.clock.pump([15] * 20)
        self.assertEqual(self.reaped(), [])
        self.assertEqual(len(one.sent), 20)

    def test_a_sweep_that_comes_late_excuses_everybody(self) -> None:
        one = self.peer("one")
        self.clock.advance(3600)
        self.assertEqual(self.reaped(), [])
        self.assertEqual(one.sent, [Ping("1")])
        self.clock.pump([15] * 4)
        self.assertEqual(self.reaped(), [])
        self.clock.advance(15)
        self.assertEqual(self.reaped(), [("one", 3675)])

    def test_a_first_sweep_that_comes_late_does_so_too(self) -> None:
        self.maintenance.stop()
        self.clock.advance(1000)
        one = self.peer("one")
        self.maintenance.start()
        self.clock.advance(600)
        self.assertFalse(one.over)

    def test_a_peer_that_leaves_in_the_midst_of_a_round_is_left_alone(self) -> None:
        links: list[FakeLink] = []

        def leave(event: Event) -> None:
            if isinstance(event, PingSent) and event.peer.id == "one":
                self.registry.remove(links[1])

        self.maintenance._emit = leave
        links += [self.peer("one"), self.peer("two")]
        self.clock.advance(15)
        self.assertEqual(links[1].sent, [])

    def test_a_subscriber_that_removes_the_silent_one_first(self) -> None:
        one = self.peer("one")

        def remove(event: Event) -> None:
            if isinstance(event, PeerReaped):
                self.registry.remove(one)

        self.maintenance._emit = remove
        self.clock.pump([15] * 5)
        self.assertIs(one.aborted, CloseReason.TIMEOUT)


class ProbeTests(MaintenanceCase):
    def setUp(self) -> None:
        super().setUp()
        self.link = self.peer("one")
        self.clock.advance(1)

    def spoke(self, at: float, link: FakeLink | None = None) -> None:
        """When the peer last said anything that is no answer."""
        entry = self.registry.of_link(link or self.link)
        assert entry is not None
        entry.spoke_at = at

    def test_no_answer_for_three_seconds(self) -> None:
        self.maintenance.probe(self.link)
        self.assertEqual(self.link.urgent, [Ping()])
        self.clock.advance(2.999)
        self.assertFalse(self.link.over)
        self.clock.advance(0.001)
        self.assertIs(self.link.aborted, CloseReason.PROBE_UNANSWERED)

    def test_anything_is_an_answer(self) -> None:
        self.maintenance.probe(self.link)
        self.clock.advance(2.999)
        self.hear(self.link)
        self.clock.advance(10)
        self.assertFalse(self.link.over)

    def test_what_was_heard_before_is_none(self) -> None:
        self.hear(self.link)
        self.clock.advance(0.5)
        self.maintenance.probe(self.link)
        self.clock.advance(3)
        self.assertTrue(self.link.over)

    def test_one_probe_at_a_time_which_is_not_put_off(self) -> None:
        self.maintenance.probe(self.link)
        self.clock.advance(2)
        self.maintenance.probe(self.link)
        self.assertEqual(self.link.urgent, [Ping()])
        self.clock.advance(1)
        self.assertTrue(self.link.over)

    def test_after_an_answer_it_can_be_probed_again(self) -> None:
        self.maintenance.probe(self.link)
        self.clock.advance(1)
        self.hear(self.link)
        self.clock.advance(2)
        self.maintenance.probe(self.link)
        self.assertEqual(len(self.link.urgent), 2)
        self.clock.advance(3)
        self.assertTrue(self.link.over)

    def test_who_is_not_read_cannot_answer(self) -> None:
        self.maintenance.probe(self.link)
        self.link.pause("slow")
        self.clock.advance(3)
        self.assertFalse(self.link.over)

    def test_one_that_only_answers_has_forgotten_us(self) -> None:
        """Nothing but answers for 35 seconds is borne, more is not."""
        for spoke_at, closed in (
            (0.0, None),
            (-0.001, CloseReason.FORGOTTEN),
            (-1000.0, CloseReason.FORGOTTEN),
        ):
            self.setUp()
            self.spoke(spoke_at)
            self.clock.pump([15, 15, 1])
            self.assertEqual(self.clock.seconds(), 32)
            self.maintenance.probe(self.link)
            self.clock.advance(1)
            self.hear(self.link)
            self.clock.advance(1.999)
            self.assertFalse(self.link.over)
            self.clock.advance(0.001)
            self.assertIs(self.link.closed, closed, spoke_at)
            self.assertIsNone(self.link.aborted)

    def test_only_mesh1_forgets(self) -> None:
        entry = self.registry.of_link(self.link)
        assert entry is not None
        entry.said = ()
        self.spoke(-1000.0)
        self.maintenance.probe(self.link)
        self.clock.advance(1)
        self.hear(self.link)
        self.clock.advance(2)
        self.assertFalse(self.link.over)

    def test_without_a_probe_it_is_left_alone(self) -> None:
        """It has not come anew, so there is nothing to doubt."""
        self.spoke(-1000.0)
        for _ in range(10):
            self.clock.advance(15)
            self.hear(self.link)
        self.assertFalse(self.link.over)

    def test_one_that_does_not_even_answer_is_cut(self) -> None:
        self.spoke(-1000.0)
        self.maintenance.probe(self.link)
        self.clock.advance(3)
        self.assertIs(self.link.aborted, CloseReason.PROBE_UNANSWERED)
        self.assertIsNone(self.link.closed)

    def test_who_is_not_read_may_have_spoken(self) -> None:
        self.spoke(-1000.0)
        self.maintenance.probe(self.link)
        self.hear(self.link)
        self.link.pause("slow")
        self.clock.advance(3)
        self.assertFalse(self.link.over)

    def test_a_link_that_has_lost_its_seat_is_left_alone(self) -> None:
        for heard in (True, False):
            link = self.peer(f"two-{heard}", FakeLink(remote_host="192.0.2.3"))
            self.spoke(-1000.0, link)
            self.clock.advance(1)
            self.maintenance.probe(link)
            if heard:
                self.hear(link)
            self.registry.remove(link)
            self.clock.advance(3)
            self.assertFalse(link.over)

    def test_a_link_that_has_ended_is_forgotten(self) -> None:
        self.maintenance.probe(self.link)
        self.maintenance.link_ended(self.link)
        self.maintenance.link_ended(self.link)
        self.clock.advance(10)
        self.assertFalse(self.link.over)

    def test_a_link_that_ends_because_it_is_probed(self) -> None:
        maintenance = self.maintenance

        class Ending(FakeLink):
            def send_urgent(self, message: object) -> None:
                link: IPeerLink = self
                maintenance.link_ended(link)

        link = Ending(Direction.INCOMING)
        maintenance.probe(link)
        maintenance.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_stop_ends_every_probe(self) -> None:
        self.maintenance.probe(self.link)
        self.maintenance.probe(self.peer("two"))
        self.maintenance.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(10)
        self.assertFalse(self.link.over)
