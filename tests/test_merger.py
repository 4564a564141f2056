"""When one link is made of two, and when both are kept."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshproto.events import CloseReason, Direction
from meshproto.mesh.merger import Merger
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.registry import Admitted, Crossed, PeerEntry, Registry
from meshproto.wire.address import PeerAddress
from meshproto.wire.messages import Greeting
from tests.fakes import FakeLink

TARGET = PeerAddress("192.0.2.2", 8002)
#: The IDs of peers, and how long a node with the ID between them waits.
GRACE = {"aaron": 0.75, "zoe": 0.25}


class MergerCase(SynchronousTestCase):
    """The node is called ``bob``."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.registry = Registry("bob", 20)
        self.dialled: list[str | None] = []
        self.introduced: list[IPeerLink] = []
        self.probed: list[IPeerLink] = []
        self.merger = Merger(
            self.registry,
            self.clock,
            pending=lambda: self.dialled,
            introduce=self.introduced.append,
            probe=self.probed.append,
        )

    def tearDown(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def pair(
        self, id: str, *, asked: bool = False
    ) -> tuple[PeerEntry, FakeLink, FakeLink]:
        """A peer, the link that we dialled, which is new, and its own."""
        theirs = FakeLink(Direction.INCOMING)
        ours = FakeLink(Direction.OUTGOING, target=TARGET)
        verdict = self.registry.admit(theirs, Greeting(id, id), 0.0, confirmed=True)
        assert isinstance(verdict, Admitted)
        verdict.entry.asked = asked
        crossed = self.registry.admit(ours, Greeting(id, id), 0.0, confirmed=True)
        self.assertEqual(crossed, Crossed(verdict.entry))
        self.merger.crossed(verdict.entry)
        return verdict.entry, ours, theirs

    def ranked(
        self, id: str, ours: FakeLink, theirs: FakeLink
    ) -> tuple[FakeLink, FakeLink]:
        """The link that has to survive, and the other one."""
        return (theirs, ours) if id > "bob" else (ours, theirs)

    def assertUntouched(
        self, entry: PeerEntry, ours: FakeLink, theirs: FakeLink
    ) -> None:
        """Both links work, and what is said goes where it went before."""
        self.assertEqual(entry.links(), (theirs, ours))
        self.assertIsNone(entry.draining)
        for link in (ours, theirs):
            self.assertFalse(link.draining)
            self.assertTrue(link.reading)
            self.assertFalse(link.over)
            self.assertEqual(link.sent, [])
        self.assertEqual((self.introduced, self.probed), ([], []))

    def assertMerged(
        self, entry: PeerEntry, survivor: FakeLink, loser: FakeLink
    ) -> None:
        """The loser drains, and the survivor waits for its end."""
        self.assertIs(entry.link, survivor)
        self.assertIs(entry.draining, loser)
        self.assertIsNone(entry.second)
        self.assertTrue(loser.draining)
        self.assertEqual(survivor.holds, {loser})
        self.assertFalse(survivor.draining)
        self.assertEqual(loser.holds, set())
        # Only its dialler has anything to say first.
        expected = [survivor] if survivor.target else []
        self.assertEqual(self.introduced, expected)
        self.assertEqual(self.probed, [])

    def assertKept(self, entry: PeerEntry, ours: FakeLink, theirs: FakeLink) -> None:
        """Both links work, and what is said goes on the newer one."""
        self.assertEqual(entry.links(), (ours, theirs))
        self.assertIsNone(entry.draining)
        for link in (ours, theirs):
            self.assertFalse(link.draining)
            self.assertTrue(link.reading)
            self.assertFalse(link.over)
        self.assertEqual((self.introduced, self.probed), ([ours], [theirs]))


class GraceTests(MergerCase):
    """Nothing is heard that would say what the far end is."""

    def test_it_begins_when_the_grace_is_over_and_not_before(self) -> None:
        for id, grace in GRACE.items():
            self.setUp()
            entry, ours, theirs = self.pair(id)
            self.clock.advance(grace - 0.001)
            self.assertUntouched(entry, ours, theirs)
            self.clock.advance(0.001)
            self.assertMerged(entry, *self.ranked(id, ours, theirs))
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_all_is_settled_within_a_second(self) -> None:
        """Whoever the peer is, each side has begun well before that."""
        self.assertLess(max(GRACE.values()), 1.0)
        self.assertLess(GRACE["zoe"], GRACE["aaron"])

    def test_peers_are_waited_for_one_by_one(self) -> None:
        one = self.pair("zoe")
        self.clock.advance(0.125)
        two = self.pair("yves")
        self.clock.advance(0.125)
        self.assertMerged(one[0], one[2], one[1])
        self.assertIsNone(two[0].draining)
        self.clock.advance(0.125)
        self.assertIs(two[0].draining, two[1])

    def test_twins_merge_at_once(self) -> None:
        """An original draws its ID, so a twin is a node like us."""
        for host, ours_survives in (("192.0.2.1", False), ("192.0.2.3", True)):
            self.setUp()
            theirs = FakeLink(Direction.INCOMING, remote_host="192.0.2.2")
            ours = FakeLink(Direction.OUTGOING, local_host=host, target=TARGET)
            hello = Greeting("bob", "another")
            verdict = self.registry.admit(theirs, hello, 0.0, confirmed=True)
            assert isinstance(verdict, Admitted)
            entry = verdict.entry
            # Its question was asked before it was known for a twin.
            entry.asked = True
            self.registry.admit(ours, hello, 0.0, confirmed=True)
            self.merger.crossed(entry)
            survivor, loser = (ours, theirs) if ours_survives else (theirs, ours)
            self.assertMerged(entry, survivor, loser)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_waited_for_no_more(self) -> None:
        for id in GRACE:
            self.setUp()
            entry, ours, theirs = self.pair(id)
            self.assertTrue(self.merger.forget(entry))
            self.assertFalse(self.merger.forget(entry))
            self.assertEqual(self.clock.getDelayedCalls(), [])
            self.assertUntouched(entry, ours, theirs)

    def test_what_has_begun_is_not_waited_for(self) -> None:
        entry, _, _ = self.pair("zoe")
        self.clock.advance(0.25)
        self.assertFalse(self.merger.forget(entry))

    def test_a_peer_with_one_link_is_not_waited_for(self) -> None:
        link = FakeLink()
        verdict = self.registry.admit(link, Greeting("zoe", "zoe"), 0.0)
        assert isinstance(verdict, Admitted)
        self.assertFalse(self.merger.forget(verdict.entry))


class HalfCloseTests(MergerCase):
    """The far end half-closes one of the links."""

    def test_of_the_loser_it_begins_the_merge(self) -> None:
        for id in GRACE:
            self.setUp()
            entry, ours, theirs = self.pair(id)
            survivor, loser = self.ranked(id, ours, theirs)
            self.assertTrue(self.merger.far_end_finished(entry, loser))
            self.assertMerged(entry, survivor, loser)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_of_the_survivor_it_begins_nothing(self) -> None:
        for id, grace in GRACE.items():
            self.setUp()
            entry, ours, theirs = self.pair(id)
            survivor, loser = self.ranked(id, ours, theirs)
            self.assertFalse(self.merger.far_end_finished(entry, survivor))
            self.assertUntouched(entry, ours, theirs)
            self.clock.advance(grace)
            self.assertMerged(entry, survivor, loser)

    def test_of_one_of_two_that_are_kept_it_is_no_merge(self) -> None:
        for id in GRACE:
            self.setUp()
            entry, ours, theirs = self.pair(id, asked=True)
            for link in (ours, theirs):
                self.assertFalse(self.merger.far_end_finished(entry, link))
            self.assertKept(entry, ours, theirs)


class LingeringTests(MergerCase):
    """The far end half-closes the only link, while ours may be on its way."""

    def setUp(self) -> None:
        super().setUp()
        self.theirs = FakeLink(Direction.INCOMING)
        self.ours = FakeLink(Direction.OUTGOING, target=TARGET)
        hello = Greeting("aaron", "aaron")
        verdict = self.registry.admit(self.theirs, hello, 0.0, confirmed=True)
        assert isinstance(verdict, Admitted)
        self.entry = verdict.entry
        self.dialled = [self.entry.key.host]

    def cross(self) -> None:
        """Ours is complete."""
        hello = Greeting("aaron", "aaron")
        crossed = self.registry.admit(self.ours, hello, 0.0, confirmed=True)
        self.assertEqual(crossed, Crossed(self.entry))
        self.merger.crossed(self.entry)

    def test_it_is_merged_as_soon_as_ours_is_complete(self) -> None:
        self.assertTrue(self.merger.far_end_finished(self.entry, self.theirs))
        self.cross()
        self.assertMerged(self.entry, self.ours, self.theirs)
        self.dialled = []
        self.merger.review()
        self.assertIsNone(self.theirs.closed)

    def test_it_is_closed_when_our_dial_has_failed(self) -> None:
        self.assertTrue(self.merger.far_end_finished(self.entry, self.theirs))
        self.merger.review()
        self.assertIsNone(self.theirs.closed)
        self.dialled = []
        self.merger.review()
        self.assertIs(self.theirs.closed, CloseReason.CLOSED_BY_PEER)

    def test_one_that_has_ended_is_forgotten(self) -> None:
        self.assertTrue(self.merger.far_end_finished(self.entry, self.theirs))
        self.registry.remove(self.theirs)
        self.dialled = []
        self.merger.review()
        self.assertIsNone(self.theirs.closed)

    def test_it_is_no_merge_while_we_dial_nobody_there(self) -> None:
        self.dialled = ["192.0.2.3"]
        self.assertFalse(self.merger.far_end_finished(self.entry, self.theirs))
        self.cross()
        self.assertUntouched(self.entry, self.ours, self.theirs)
        self.merger.forget(self.entry)


class OriginalTests(MergerCase):
    """The far end asks for peers on the link that it dialled."""

    def test_before_there_were_two_links(self) -> None:
        for id in GRACE:
            self.setUp()
            entry, ours, theirs = self.pair(id, asked=True)
            self.assertKept(entry, ours, theirs)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_during_the_grace(self) -> None:
        for id, grace in GRACE.items():
            for waited in (0.0, grace - 0.001):
                self.setUp()
                entry, ours, theirs = self.pair(id)
                self.clock.advance(waited)
                self.merger.asked(entry)
                self.assertKept(entry, ours, theirs)
                self.assertEqual(self.clock.getDelayedCalls(), [])
                self.clock.advance(10)
                self.assertKept(entry, ours, theirs)

    def test_once_more_it_means_nothing(self) -> None:
        entry, ours, theirs = self.pair("zoe")
        for _ in range(3):
            self.merger.asked(entry)
        self.assertKept(entry, ours, theirs)

    def test_after_the_merge_it_is_what_every_dialler_does(self) -> None:
        for id, grace in GRACE.items():
            self.setUp()
            entry, ours, theirs = self.pair(id)
            self.clock.advance(grace)
            self.merger.asked(entry)
            self.assertMerged(entry, *self.ranked(id, ours, theirs))

    def test_of_a_peer_with_one_link_it_is_so_as_well(self) -> None:
        link = FakeLink()
        verdict = self.registry.admit(link, Greeting("zoe", "zoe"), 0.0)
        assert isinstance(verdict, Admitted)
        self.merger.asked(verdict.entry)
        self.assertEqual(verdict.entry.links(), (link,))
        self.assertEqual((self.introduced, self.probed), ([], []))
