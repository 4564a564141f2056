"""Who gets a seat, and which link of a pair lives."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from meshproto.events import CloseReason, Direction, Peer
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.registry import (
    OWN_HOST,
    Admitted,
    Crossed,
    Drained,
    Duplicate,
    Full,
    Halved,
    Itself,
    Left,
    PeerEntry,
    PeerKey,
    Registry,
    Replaced,
    Stranger,
    Twin,
    Verdict,
    host_key,
)
from meshproto.wire.address import PeerAddress
from meshproto.wire.messages import (
    Greeting,
    Message,
    PeerList,
    Ping,
    Pong,
    RequestPeers,
)
from tests.fakes import FakeLink

IN = Direction.INCOMING
OUT = Direction.OUTGOING
BOB = Greeting("bob", "Bob")


def incoming(host: str = "192.0.2.2", *, here: bool = False) -> FakeLink:
    return FakeLink(IN, remote_host=host, same_machine=here)


def outgoing(host: str = "192.0.2.2", *, here: bool = False) -> FakeLink:
    return FakeLink(OUT, remote_host=host, same_machine=here)


class FakeLinkTests(SynchronousTestCase):
    """The link that these tests use is one."""

    def test_provides_the_interface(self) -> None:
        verifyObject(IPeerLink, FakeLink())


class RegistryTestCase(SynchronousTestCase):
    """A registry of two seats."""

    def setUp(self) -> None:
        self.registry = Registry("alice", max_peers=2)

    def admit(
        self,
        link: FakeLink,
        id: str = "bob",
        *,
        now: float = 0.0,
        confirmed: bool = False,
    ) -> Verdict:
        return self.registry.admit(link, Greeting(id, id), now, confirmed=confirmed)

    def seat(self, link: FakeLink, id: str = "bob") -> PeerEntry:
        verdict = self.admit(link, id)
        assert isinstance(verdict, Admitted)
        return verdict.entry


class AdmissionTests(RegistryTestCase):
    """A far end that has said who it is."""

    def test_a_newcomer_gets_a_seat(self) -> None:
        for link in (incoming("192.0.2.2"), outgoing("192.0.2.3")):
            entry = self.seat(link)
            self.assertIs(entry.link, link)
            self.assertIs(self.registry.of_link(link), entry)
            self.assertIs(self.registry.of_key(entry.key), entry)
            self.assertEqual((entry.address, entry.proven), (None, False))
            self.assertEqual(entry.links(), (link,))
            self.assertFalse(entry.asked)
        self.assertEqual(len(self.registry), 2)

    def test_snapshot(self) -> None:
        link = incoming("192.0.2.2")
        link.last_heard = 7.0
        verdict = self.registry.admit(link, BOB, 5.0)
        assert isinstance(verdict, Admitted)
        expected = Peer(
            id="bob",
            name="Bob",
            host="192.0.2.2",
            address=None,
            direction=IN,
            connected_at=5.0,
            last_heard=7.0,
        )
        self.assertEqual(verdict.entry.snapshot(), expected)
        self.assertEqual(verdict.entry.spoke_at, 5.0)
        verdict.entry.address = PeerAddress("192.0.2.2", 8002)
        self.assertEqual(
            verdict.entry.snapshot().address, PeerAddress("192.0.2.2", 8002)
        )
        self.assertIsNone(expected.address)

    def test_snapshot_of_a_peer_here_has_the_host_that_we_see(self) -> None:
        entry = self.seat(incoming("127.0.0.1", here=True))
        self.assertEqual(entry.key.host, OWN_HOST)
        self.assertEqual(entry.snapshot().host, "127.0.0.1")

    def test_the_same_id_from_the_same_host_is_a_duplicate(self) -> None:
        for first in (incoming, outgoing):
            with_seat = first("192.0.2.7")
            registry = Registry("alice", max_peers=2)
            entry = registry.admit(with_seat, BOB, 0.0)
            newcomer = incoming("192.0.2.7")
            verdict = registry.admit(newcomer, Greeting("bob", "Bobby"), 1.0)
            self.assertIsInstance(entry, Admitted)
            assert isinstance(entry, Admitted)
            self.assertEqual(verdict, Duplicate(entry.entry))
            self.assertIs(entry.entry.link, with_seat)
            self.assertIsNone(registry.of_link(newcomer))
            self.assertEqual((len(registry), entry.entry.name), (1, "Bob"))

    def test_the_same_id_from_another_host_is_another_peer(self) -> None:
        self.seat(incoming("192.0.2.2"))
        self.seat(incoming("192.0.2.3"))
        self.assertEqual(len(self.registry.of_id("bob")), 2)

    def test_another_id_from_the_same_host_is_another_peer(self) -> None:
        self.seat(incoming("192.0.2.2"), "bob")
        self.seat(incoming("192.0.2.2"), "eve")
        self.assertEqual(len(self.registry.at_host("192.0.2.2")), 2)

    def test_ids_differ_by_case(self) -> None:
        self.seat(incoming("192.0.2.2"), "bob")
        self.seat(incoming("192.0.2.2"), "Bob")
        self.assertEqual(len(self.registry), 2)

    def test_all_addresses_of_this_machine_are_one_host(self) -> None:
        entry = self.seat(incoming("127.0.0.1", here=True))
        for host in ("::1", "127.0.0.2", "192.0.2.1", "2001:db8::1"):
            self.assertEqual(self.admit(incoming(host, here=True)), Duplicate(entry))

    def test_at_the_limit(self) -> None:
        self.seat(incoming("192.0.2.2"))
        self.seat(incoming("192.0.2.3"))
        for link in (incoming("192.0.2.4"), outgoing("192.0.2.5")):
            self.assertEqual(self.admit(link), Full())
            self.assertIsNone(self.registry.of_link(link))
        self.assertEqual(len(self.registry), 2)

    def test_a_freed_seat_is_free(self) -> None:
        first = incoming("192.0.2.2")
        self.seat(first)
        self.seat(incoming("192.0.2.3"))
        self.registry.remove(first)
        self.seat(incoming("192.0.2.4"))
        self.assertEqual(len(self.registry), 2)

    def test_a_duplicate_is_one_also_when_no_seat_is_left(self) -> None:
        """The crashed peer that comes back is not told to look elsewhere."""
        entry = self.seat(incoming("192.0.2.2"))
        self.seat(incoming("192.0.2.3"))
        self.assertEqual(self.admit(incoming("192.0.2.2")), Duplicate(entry))

    def test_a_second_welcome_replaces_the_first(self) -> None:
        """A peer that has our link says ``DUPLICATE``; so it has lost it."""
        for seats in (1, 2):
            registry = Registry("alice", max_peers=seats)
            first, second = outgoing(), outgoing()
            old = registry.admit(first, BOB, 0.0)
            verdict = registry.admit(second, Greeting("bob", "Bobby"), 3.0)
            assert isinstance(old, Admitted)
            assert isinstance(verdict, Replaced)
            self.assertIs(verdict.old, old.entry)
            self.assertIs(verdict.old.link, first)
            self.assertIs(verdict.entry.link, second)
            self.assertEqual(verdict.entry.name, "Bobby")
            self.assertEqual(verdict.entry.connected_at, 3.0)
            self.assertEqual(registry.entries(), (verdict.entry,))
            # The end of the first link is the end of that peer, not of this one.
            self.assertEqual(registry.remove(first), Left(old.entry))
            self.assertEqual(registry.entries(), (verdict.entry,))
            self.assertIs(registry.of_link(second), verdict.entry)

    def test_entries_come_in_the_order_of_their_coming(self) -> None:
        registry = Registry("alice", max_peers=9)
        for host in ("192.0.2.9", "192.0.2.1", "192.0.2.5"):
            registry.admit(incoming(host), BOB, 0.0)
        self.assertEqual(
            [entry.key.host for entry in registry.entries()],
            ["192.0.2.9", "192.0.2.1", "192.0.2.5"],
        )


class FirstWordsTests(RegistryTestCase):
    """Whose address a peer tells first."""

    TOLD = PeerList(())

    def ends(self, *messages: Message, link: FakeLink | None = None) -> list[bool]:
        """What `PeerEntry.hears` says to each message of a newcomer."""
        link = link or incoming()
        entry = self.seat(link)
        return [entry.hears(link, message) for message in messages]

    def test_a_peer_that_asked_first_tells_its_own(self) -> None:
        ends = self.ends(RequestPeers(), self.TOLD, self.TOLD)
        self.assertEqual(ends, [False, True, False])

    def test_one_that_tells_first_tells_somebody_else_s(self) -> None:
        ends = self.ends(self.TOLD, RequestPeers(), self.TOLD)
        self.assertEqual(ends, [False, False, False])

    def test_so_does_one_that_says_anything_else(self) -> None:
        for other in (Ping(), Pong(), RequestPeers()):
            self.setUp()
            before = self.ends(other, RequestPeers(), self.TOLD)
            self.assertEqual(before, [False, False, False], other)
            self.setUp()
            between = self.ends(RequestPeers(), other, self.TOLD)
            self.assertEqual(between, [False, False, False], other)

    def test_a_link_that_we_dialled_has_no_introduction(self) -> None:
        ends = self.ends(RequestPeers(), self.TOLD, link=outgoing())
        self.assertEqual(ends, [False, False])

    def test_an_answer_is_no_sign_that_it_speaks(self) -> None:
        link = incoming()
        entry = self.seat(link)
        for at, message, spoke_at in (
            (1.0, Pong(), 0.0),
            (2.0, self.TOLD, 0.0),
            (3.0, Ping(), 3.0),
            (4.0, RequestPeers(), 4.0),
        ):
            link.last_heard = at
            entry.hears(link, message)
            self.assertEqual(entry.spoke_at, spoke_at)
        link.last_heard = 5.0
        entry.chats(link)
        self.assertEqual(entry.spoke_at, 5.0)


class OurselvesTests(RegistryTestCase):
    """A far end with our own ID."""

    def test_on_this_machine_it_is_us(self) -> None:
        for link in (
            incoming("127.0.0.1", here=True),
            outgoing("192.0.2.1", here=True),
        ):
            self.assertEqual(self.admit(link, "alice"), Itself())
            self.assertIsNone(self.registry.of_link(link))
        self.assertEqual(len(self.registry), 0)

    def test_the_name_does_not_matter(self) -> None:
        link = incoming("127.0.0.1", here=True)
        self.assertEqual(
            self.registry.admit(link, Greeting("alice", "x"), 0.0), Itself()
        )

    def test_another_id_on_this_machine_is_another_node(self) -> None:
        verdict = self.registry.admit(
            incoming("127.0.0.1", here=True), Greeting("bob", "alice"), 0.0
        )
        self.assertIsInstance(verdict, Admitted)

    def test_on_another_host_it_is_a_twin_until_that_is_confirmed(self) -> None:
        for link in (incoming("192.0.2.2"), outgoing("192.0.2.3")):
            self.assertEqual(self.admit(link, "alice"), Twin())
            self.assertIsNone(self.registry.of_link(link))
            verdict = self.admit(link, "alice", confirmed=True)
            assert isinstance(verdict, Admitted)
            self.assertEqual(
                verdict.entry.key, PeerKey(link.remote_host, self.registry.own_id)
            )
        self.assertEqual(len(self.registry), 2)

    def test_a_twin_needs_a_seat(self) -> None:
        """At once when none is left, else when it is confirmed."""
        twin = incoming("192.0.2.2")
        self.assertEqual(self.admit(twin, "alice"), Twin())
        self.seat(incoming("192.0.2.3"))
        self.seat(incoming("192.0.2.4"))
        self.assertEqual(self.admit(twin, "alice", confirmed=True), Full())
        self.assertEqual(self.admit(incoming("192.0.2.5"), "alice"), Full())
        self.assertEqual(len(self.registry), 2)

    def test_ourselves_is_known_also_when_no_seat_is_left(self) -> None:
        self.seat(incoming("192.0.2.3"))
        self.seat(incoming("192.0.2.4"))
        link = outgoing("127.0.0.1", here=True)
        self.assertEqual(self.admit(link, "alice"), Itself())

    def test_a_twin_that_we_have_is_a_duplicate(self) -> None:
        """At once, or when a second dial of it is confirmed."""
        for first in (incoming, outgoing):
            registry = Registry("alice", max_peers=1)
            twin = Greeting("alice", "x")
            seated = registry.admit(first("192.0.2.2"), twin, 0.0, confirmed=True)
            assert isinstance(seated, Admitted)
            newcomer = incoming("192.0.2.2")
            verdict = registry.admit(newcomer, twin, 1.0)
            self.assertEqual(verdict, Duplicate(seated.entry))
            if first is incoming:
                verdict = registry.admit(newcomer, twin, 1.0, confirmed=True)
                self.assertEqual(verdict, Duplicate(seated.entry))
            self.assertEqual(registry.entries(), (seated.entry,))

    def test_a_twin_that_welcomes_us_anew_has_lost_its_link(self) -> None:
        registry = Registry("alice", max_peers=1)
        twin = Greeting("alice", "x")
        old, new = outgoing("192.0.2.2"), outgoing("192.0.2.2")
        registry.admit(old, twin, 0.0, confirmed=True)
        self.assertEqual(registry.admit(new, twin, 1.0), Twin())
        verdict = registry.admit(new, twin, 1.0, confirmed=True)
        assert isinstance(verdict, Replaced)
        self.assertIs(verdict.old.link, old)
        self.assertIs(verdict.entry.link, new)
        self.assertEqual(len(registry), 1)


class DepartureTests(RegistryTestCase):
    """A link that has ended."""

    def test_a_peer_leaves_once(self) -> None:
        link = incoming()
        entry = self.seat(link)
        self.assertEqual(self.registry.remove(link), Left(entry))
        self.assertEqual(self.registry.remove(link), Stranger())
        self.assertIsNone(self.registry.of_key(entry.key))
        self.assertIsNone(self.registry.of_link(link))
        self.assertEqual(self.registry.entries(), ())

    def test_a_link_without_a_seat(self) -> None:
        self.seat(incoming())
        self.assertEqual(self.registry.remove(incoming()), Stranger())
        self.assertEqual(len(self.registry), 1)


class CrossedCase(RegistryTestCase):
    """Both nodes dialled at once; this is alice's side of it."""

    def cross(self, peer_id: str = "bob") -> tuple[PeerEntry, FakeLink, FakeLink]:
        """The peer, the link that alice dialled, and the one that it dialled."""
        theirs, ours = incoming(), outgoing()
        entry = self.seat(theirs, peer_id)
        verdict = self.admit(ours, peer_id)
        self.assertEqual(verdict, Crossed(entry))
        return entry, ours, theirs


class CrossingTests(CrossedCase):
    """What a crossing leaves: two links that are as good as each other."""

    def test_one_peer_has_both_links(self) -> None:
        entry, ours, theirs = self.cross()
        self.assertEqual(len(self.registry), 1)
        self.assertIs(self.registry.of_link(ours), entry)
        self.assertIs(self.registry.of_link(theirs), entry)
        self.assertEqual(entry.links(), (theirs, ours))

    def test_the_newcomer_is_the_second_and_nothing_drains(self) -> None:
        """Whichever of them is to survive."""
        for peer_id in ("bob", "Bob"):
            self.setUp()
            entry, ours, theirs = self.cross(peer_id)
            self.assertIs(entry.link, theirs)
            self.assertIs(entry.second, ours)
            self.assertIsNone(entry.draining)

    def test_a_crossing_needs_no_seat(self) -> None:
        self.seat(incoming("192.0.2.99"))
        self.cross()
        self.assertEqual(len(self.registry), 2)

    def test_when_either_of_them_ends_the_peer_goes_on_with_the_other(self) -> None:
        for ended in ("ours", "theirs"):
            self.setUp()
            entry, ours, theirs = self.cross()
            gone, left = (ours, theirs) if ended == "ours" else (theirs, ours)
            self.assertEqual(self.registry.remove(gone), Halved(entry))
            self.assertEqual(entry.links(), (left,))
            self.assertEqual(self.registry.entries(), (entry,))
            self.assertIsNone(self.registry.of_link(gone))
            self.assertIs(self.registry.of_link(left), entry)
            self.assertEqual(self.registry.remove(gone), Stranger())
            self.assertEqual(self.registry.remove(left), Left(entry))
            self.assertEqual(self.registry.entries(), ())

    def test_a_peer_that_has_lost_one_of_two_links_may_cross_again(self) -> None:
        entry, ours, _ = self.cross()
        self.registry.remove(ours)
        again = outgoing()
        self.assertEqual(self.admit(again), Crossed(entry))
        self.assertIs(entry.second, again)

    def test_a_third_link_replaces_both(self) -> None:
        entry, ours, theirs = self.cross()
        third = outgoing()
        replaced = self.admit(third)
        assert isinstance(replaced, Replaced)
        self.assertIs(replaced.old, entry)
        self.assertEqual(replaced.entry.links(), (third,))
        self.assertEqual(self.registry.remove(ours), Halved(entry))
        self.assertEqual(self.registry.remove(theirs), Left(entry))
        self.assertEqual(self.registry.entries(), (replaced.entry,))

    def test_a_newcomer_meanwhile_is_a_duplicate(self) -> None:
        entry, _, _ = self.cross()
        self.assertEqual(self.admit(incoming()), Duplicate(entry))


class LateChatTests(CrossedCase):
    """A peer with two links chats on one of them, and then on the other."""

    def test_what_comes_from_the_link_that_it_left_is_late(self) -> None:
        entry, ours, theirs = self.cross()
        self.assertTrue(entry.chats(theirs))
        self.assertTrue(entry.chats(theirs))
        self.assertTrue(entry.chats(ours))
        self.assertFalse(entry.chats(theirs))
        self.assertTrue(entry.chats(ours))

    def test_a_link_that_has_ended_was_not_left(self) -> None:
        entry, ours, theirs = self.cross()
        self.assertTrue(entry.chats(theirs))
        self.registry.remove(theirs)
        self.assertTrue(entry.chats(ours))
        self.assertTrue(entry.chats(ours))


class LostWordsTests(CrossedCase):
    """One of two links ends: which reasons the peer cannot go on after."""

    def test_of_a_drained_one(self) -> None:
        entry, _, _ = self.cross()
        fatal = {r for r in CloseReason if Drained(entry).loses_words(r)}
        self.assertEqual(fatal, {CloseReason.TIMEOUT, CloseReason.CONNECTION_LOST})

    def test_of_any_other(self) -> None:
        entry, _, _ = self.cross()
        fatal = {r for r in CloseReason if Halved(entry).loses_words(r)}
        self.assertEqual(fatal, {CloseReason.SLOW_CONSUMER, CloseReason.REPLACED})


class MergedTests(CrossedCase):
    """One of the two links is drained."""

    def merge(self, peer_id: str = "bob") -> tuple[PeerEntry, FakeLink, FakeLink]:
        """The peer, the link that survives, and the one that drains."""
        entry, _, _ = self.cross(peer_id)
        survivor, loser = self.registry.merge(entry)
        assert isinstance(survivor, FakeLink)
        assert isinstance(loser, FakeLink)
        return entry, survivor, loser

    def test_the_link_of_the_greater_id_survives(self) -> None:
        for peer_id, ours_survives in (
            ("bob", False),
            ("alicf", False),
            ("alice0", False),
            ("alicd", True),
            ("alic", True),
            ("Bob", True),
        ):
            self.setUp()
            entry, ours, theirs = self.cross(peer_id)
            pair = (ours, theirs) if ours_survives else (theirs, ours)
            self.assertEqual(self.registry.ranked(entry), pair, peer_id)
            # To ask changes nothing.
            self.assertEqual(entry.links(), (theirs, ours))
            self.assertEqual(self.registry.merge(entry), pair, peer_id)
            self.assertEqual((entry.link, entry.draining), pair)
            self.assertIsNone(entry.second)
            self.assertEqual(entry.links(), pair)

    def test_the_peer_stays_when_the_loser_is_drained(self) -> None:
        for peer_id in ("bob", "Bob"):
            self.setUp()
            entry, survivor, loser = self.merge(peer_id)
            self.assertEqual(self.registry.remove(loser), Drained(entry))
            self.assertIsNone(entry.draining)
            self.assertEqual(self.registry.entries(), (entry,))
            self.assertIsNone(self.registry.of_link(loser))
            self.assertIs(self.registry.of_link(survivor), entry)

    def test_the_peer_goes_with_the_survivor(self) -> None:
        entry, survivor, loser = self.merge()
        self.assertEqual(self.registry.remove(survivor), Left(entry))
        self.assertIs(entry.draining, loser)
        self.assertEqual(len(self.registry), 0)
        # It may come back before its old second link has ended.
        back = self.seat(outgoing())
        self.assertEqual(self.registry.remove(loser), Drained(entry))
        self.assertEqual(self.registry.entries(), (back,))

    def test_a_third_link_replaces_both(self) -> None:
        entry, survivor, loser = self.merge()
        third = outgoing()
        replaced = self.admit(third)
        assert isinstance(replaced, Replaced)
        self.assertIs(replaced.old, entry)
        self.assertIs(replaced.entry.link, third)
        self.assertIsNone(replaced.entry.draining)
        self.assertEqual(self.registry.remove(survivor), Left(entry))
        self.assertEqual(self.registry.remove(loser), Drained(entry))
        self.assertEqual(self.registry.entries(), (replaced.entry,))

    def test_a_newcomer_meanwhile_is_a_duplicate(self) -> None:
        entry, _, _ = self.merge()
        self.assertEqual(self.admit(incoming()), Duplicate(entry))


class KeptTests(CrossedCase):
    """Both links are used as one."""

    def test_the_newer_one_is_sent_on(self) -> None:
        """Whichever of them would survive a merge."""
        for peer_id in ("bob", "Bob"):
            self.setUp()
            entry, ours, theirs = self.cross(peer_id)
            self.assertEqual(self.registry.keep(entry), (ours, theirs))
            self.assertIs(entry.link, ours)
            self.assertIs(entry.second, theirs)
            self.assertIsNone(entry.draining)
            for link in (ours, theirs):
                self.assertIs(self.registry.of_link(link), entry)

    def test_when_either_of_them_ends_the_other_one_is_left(self) -> None:
        for ended in (0, 1):
            self.setUp()
            entry, _, _ = self.cross()
            pair = self.registry.keep(entry)
            self.assertEqual(self.registry.remove(pair[ended]), Halved(entry))
            self.assertEqual(entry.links(), (pair[1 - ended],))
            self.assertEqual(self.registry.entries(), (entry,))

    def test_a_third_link_replaces_both(self) -> None:
        entry, _, _ = self.cross()
        self.registry.keep(entry)
        third = outgoing()
        replaced = self.admit(third)
        assert isinstance(replaced, Replaced)
        self.assertIs(replaced.old, entry)
        self.assertEqual(replaced.entry.links(), (third,))

    def test_a_newcomer_meanwhile_is_a_duplicate(self) -> None:
        entry, _, _ = self.cross()
        self.registry.keep(entry)
        self.assertEqual(self.admit(incoming()), Duplicate(entry))


class MergeTests(RegistryTestCase):
    """The peer has ended its link: is that the losing one of two?"""

    def may_be_merged(
        self, link: FakeLink, peer_id: str, pending: tuple[str | None, ...]
    ) -> bool:
        registry = Registry("alice", max_peers=2)
        verdict = registry.admit(link, Greeting(peer_id, "x"), 0.0, confirmed=True)
        assert isinstance(verdict, Admitted)
        registry.remove(link)
        return registry.may_be_merged(verdict.entry, pending)

    def test_only_a_link_that_would_lose(self) -> None:
        """Of two, the one that the greater ID dialled is the survivor."""
        there = ("192.0.2.2",)
        for peer_id, ended, expected in (
            ("Bob", incoming(), True),
            ("Bob", outgoing(), False),
            ("bob", incoming(), False),
            ("bob", outgoing(), False),
            ("alice", incoming(), True),
            ("alice", outgoing(), True),
        ):
            self.assertIs(self.may_be_merged(ended, peer_id, there), expected, peer_id)

    def test_only_while_we_dial_that_host(self) -> None:
        for pending, expected in (
            ((), False),
            (("192.0.2.3", OWN_HOST), False),
            (("192.0.2.3", "192.0.2.2"), True),
            (("192.0.2.3", None), True),
        ):
            self.assertIs(self.may_be_merged(incoming(), "Bob", pending), expected)

    def test_on_this_machine(self) -> None:
        for pending, expected in (((OWN_HOST,), True), (("127.0.0.1",), False)):
            link = incoming("127.0.0.1", here=True)
            self.assertIs(self.may_be_merged(link, "Bob", pending), expected)


HOSTS = ("192.0.2.2", "192.0.2.3", "127.0.0.1")
IDS = ("alice", "bob", "eve")
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from([IN, OUT]),
            st.sampled_from(HOSTS),
            st.sampled_from(IDS),
            st.booleans(),
        ),
        st.integers(0, 20),
        st.sampled_from(["merge", "keep"]),
    ),
    max_size=40,
)


class InvariantTests(SynchronousTestCase):
    """What holds after any sequence of comings and goings."""

    @given(OPERATIONS, st.integers(1, 4))
    def test_seats_and_links_agree(
        self,
        operations: list[tuple[Direction, str, str, bool] | int | str],
        seats: int,
    ) -> None:
        registry = Registry("alice", seats)
        links: list[FakeLink] = []
        gone: list[FakeLink] = []
        for operation in operations:
            before = registry.entries()
            if isinstance(operation, str):
                for entry in before:
                    if entry.second is not None:
                        both = {entry.link, entry.second}
                        act = getattr(registry, operation)
                        self.assertEqual(set(act(entry)), both)
                self.assertEqual(registry.entries(), before)
            elif isinstance(operation, int):
                if links:
                    link = links.pop(operation % len(links))
                    gone.append(link)
                    departure = registry.remove(link)
                    if not isinstance(departure, Left):
                        self.assertEqual(registry.entries(), before)
            else:
                direction, host, id, confirmed = operation
                link = FakeLink(
                    direction, remote_host=host, same_machine=host == "127.0.0.1"
                )
                links.append(link)
                verdict = registry.admit(
                    link, Greeting(id, id), 0.0, confirmed=confirmed and id == "alice"
                )
                match verdict:
                    case Admitted(entry) | Replaced(entry, _) | Crossed(entry):
                        self.assertIs(registry.of_link(link), entry)
                        self.assertIs(registry.of_key(entry.key), entry)
                        self.assertEqual(entry.key, PeerKey(host_key(link), id))
                    case _:
                        self.assertIsNone(registry.of_link(link))
                        self.assertEqual(registry.entries(), before)
            self.check(registry, seats)
            for link in gone:
                self.assertIsNone(registry.of_link(link))

    def check(self, registry: Registry, seats: int) -> None:
        entries = registry.entries()
        self.assertEqual(len(registry), len(entries))
        self.assertLessEqual(len(entries), seats)
        self.assertEqual(len({entry.key for entry in entries}), len(entries))
        used = [link for entry in entries for link in entry.links()]
        self.assertEqual(len(set(used)), len(used))
        for entry in entries:
            self.assertIs(registry.of_key(entry.key), entry)
            self.assertIn(entry, registry.of_id(entry.key.id))
            self.assertIn(entry, registry.at_host(entry.key.host))
            self.assertIs(entry.links()[0], entry.link)
            self.assertLessEqual(len(entry.links()), 2)
            for link in entry.links():
                self.assertIs(registry.of_link(link), entry)
            for other in entry.links()[1:]:
                self.assertIsNot(other.direction, entry.link.direction)


class HostKeyTests(SynchronousTestCase):
    """One host for all addresses of this machine."""

    def test_host_key(self) -> None:
        self.assertEqual(host_key(incoming("192.0.2.2")), "192.0.2.2")
        self.assertEqual(host_key(incoming("192.0.2.1", here=True)), OWN_HOST)
        self.assertEqual(host_key(outgoing("::1", here=True)), OWN_HOST)
