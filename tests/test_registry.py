"""Who gets a seat, and which link of a pair lives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from meshproto.errors import AmbiguousPeer, UnknownPeer
from meshproto.events import Direction, Peer
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.registry import (
    OWN_HOST,
    Admitted,
    Crossed,
    Duplicate,
    Full,
    Halved,
    Itself,
    Left,
    PeerEntry,
    Registry,
    Replaced,
    Stranger,
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
from tests.fakes import FakeLink, peer_key

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

    def admit(self, link: FakeLink, id: str = "bob", name: str = "") -> Verdict:
        return self.registry.admit(link, Greeting(id, name or id), 0.0)

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
            key=peer_key("192.0.2.2", "bob"),
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
        self.assertEqual(entry.key, peer_key(OWN_HOST, "bob"))
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

    def test_seats_that_are_reserved_are_taken(self) -> None:
        self.registry.reserved = 1
        link = incoming("192.0.2.2")
        self.seat(link)
        self.assertEqual(self.admit(incoming("192.0.2.3")), Full())
        # A peer that is there already needs no other one.
        self.assertIsInstance(self.admit(outgoing("192.0.2.2")), Crossed)
        self.registry.reserved = 0
        self.seat(incoming("192.0.2.3"))

    def test_a_seat_that_others_have_judged(self) -> None:
        link, key = incoming(), peer_key("elsewhere", "id")
        entry = self.registry.seat(key, Greeting("bob", "Bob"), link, 7.0)
        self.assertEqual(self.registry.entries(), (entry,))
        self.assertIs(self.registry.of_link(link), entry)
        self.assertIs(self.registry.of_key(key), entry)
        self.assertEqual(self.registry.of_id("bob"), (entry,))
        self.assertIs(self.registry.find(entry.snapshot()), entry)
        self.assertEqual((entry.connected_at, entry.spoke_at), (7.0, 7.0))
        self.assertEqual(self.registry.wires(), (link.wire,))
        self.assertEqual(self.registry.remove(link), Left(entry))
        self.assertEqual((self.registry.entries(), self.registry.wires()), ((), ()))

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
            [host_key(entry.link) for entry in registry.entries()],
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

    def test_on_another_host_it_is_somebody_else(self) -> None:
        for link in (incoming("192.0.2.2"), outgoing("192.0.2.3")):
            verdict = self.admit(link, "alice")
            assert isinstance(verdict, Admitted)
            self.assertEqual(verdict.entry.key, peer_key(link.remote_host, "alice"))
        self.assertEqual(len(self.registry), 2)
        self.assertEqual(self.admit(incoming("192.0.2.4"), "alice"), Full())

    def test_ourselves_is_known_also_when_no_seat_is_left(self) -> None:
        self.seat(incoming("192.0.2.3"))
        self.seat(incoming("192.0.2.4"))
        link = outgoing("127.0.0.1", here=True)
        self.assertEqual(self.admit(link, "alice"), Itself())


class FindTests(RegistryTestCase):
    """The peer that an application means."""

    def test_by_its_id_or_by_its_snapshot(self) -> None:
        entry = self.seat(incoming())
        for peer in ("bob", entry.snapshot()):
            self.assertIs(self.registry.find(peer), entry)

    def test_by_an_id_that_two_hosts_have(self) -> None:
        entries = [self.seat(incoming(host)) for host in ("192.0.2.2", "192.0.2.3")]
        self.assertRaises(AmbiguousPeer, self.registry.find, "bob")
        for entry in entries:
            self.assertIs(self.registry.find(entry.snapshot()), entry)

    def test_whoever_is_not_connected(self) -> None:
        link = incoming()
        gone = self.seat(link).snapshot()
        self.registry.remove(link)
        for peer in ("bob", gone):
            self.assertRaises(UnknownPeer, self.registry.find, peer)

    def test_a_peer_without_a_key_is_nobody(self) -> None:
        peer = replace(self.seat(incoming()).snapshot(), key=None)
        self.assertRaises(UnknownPeer, self.registry.find, peer)


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

    def test_the_newcomer_is_the_second_and_the_first_is_sent_on(self) -> None:
        """Whoever has the greater ID."""
        for peer_id in ("bob", "Bob"):
            self.setUp()
            entry, ours, theirs = self.cross(peer_id)
            self.assertIs(entry.link, theirs)
            self.assertIs(entry.second, ours)

    def test_a_crossing_needs_no_seat(self) -> None:
        self.seat(incoming("192.0.2.99"))
        self.cross()
        self.assertEqual(len(self.registry), 2)

    def test_when_either_of_them_ends_the_peer_has_the_other_left(self) -> None:
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

    def test_another_name_is_another_life(self) -> None:
        entry = self.seat(incoming())
        ours = outgoing()
        verdict = self.admit(ours, name="Bobby")
        assert isinstance(verdict, Replaced)
        self.assertIs(verdict.old, entry)
        self.assertEqual(verdict.entry.links(), (ours,))

    def test_only_a_link_that_it_dialled_is_crossed(self) -> None:
        self.seat(outgoing())
        self.assertIsInstance(self.admit(outgoing()), Replaced)

    def test_links_of_which_only_last_words_are_left_hold_nobody_up(self) -> None:
        for newcomer in (incoming, outgoing):
            self.setUp()
            entry, ours, theirs = self.cross()
            ours.gone = True
            if newcomer is incoming:
                self.assertEqual(self.admit(newcomer()), Duplicate(entry))
            theirs.gone = True
            verdict = self.admit(newcomer())
            assert isinstance(verdict, Replaced)
            self.assertIs(verdict.old, entry)


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


@dataclass
class Side:
    """One of two nodes that dial each other: its registry and its two links."""

    registry: Registry
    links: dict[str, FakeLink]

    def has(self) -> list[str]:
        """By which dials it has the other node, the one that it says all on first."""
        name_of: dict[IPeerLink, str] = {}
        for name, link in self.links.items():
            name_of[link] = name
        return [name_of[link] for e in self.registry.entries() for link in e.links()]


class Pair:
    """Two nodes with a link each way: ``a`` was dialled by a, ``b`` by b.

    Each step is one line that arrives at one side.  A step whose line was
    never sent, because the far end refused or ended the link, does nothing.
    """

    def __init__(self, ids: tuple[str, str], *, here: bool, seats: int) -> None:
        self.ids = dict(zip("ab", ids, strict=True))
        ip = {"a": "192.0.2.1", "b": "192.0.2.2"}
        self.sides = {
            me: Side(
                Registry(self.ids[me], seats),
                {
                    dialler: FakeLink(
                        OUT if dialler == me else IN,
                        remote_host=ip[other],
                        local_host=ip[me],
                        same_machine=here,
                    )
                    for dialler in "ab"
                },
            )
            for me, other in ("ab", "ba")
        }
        self.welcomed: set[str] = set()
        self.ended: set[str] = set()

    def judge(self, me: str, link: str) -> None:
        if link in self.ended:
            return
        side = self.sides[me]
        other = "b" if me == "a" else "a"
        verdict = side.registry.admit(
            side.links[link], Greeting(self.ids[other], "x"), 0.0
        )
        if isinstance(verdict, Duplicate | Full | Itself):
            self.ended.add(link)
            for each in self.sides.values():
                each.registry.remove(each.links[link])
        elif me != link:
            self.welcomed.add(link)

    def greeting(self, link: str) -> None:
        """The listener reads who dialled it."""
        self.judge("b" if link == "a" else "a", link)

    def answer(self, link: str) -> None:
        """The dialler reads the welcome."""
        if link in self.welcomed:
            self.judge(link, link)


STEPS = ("greeting a", "greeting b", "answer a", "answer b")


def orders() -> Iterator[tuple[str, ...]]:
    """Every order of the steps in which no answer comes before its greeting."""
    for order in permutations(STEPS):
        place = {step: number for number, step in enumerate(order)}
        if all(place[f"greeting {link}"] < place[f"answer {link}"] for link in "ab"):
            yield order


class SimultaneousDialTests(SynchronousTestCase):
    """Two nodes dial each other at once, in every order of what arrives."""

    def test_both_sides_have_the_same_links(self) -> None:
        """One where a side was quick, or both; and each says all on its first."""
        counts = set()
        for ids in (("alice", "bob"), ("bob", "alice"), ("peer-8001", "peer-8001")):
            for here, seats in ((False, 20), (True, 20), (False, 1)):
                if here and len(set(ids)) == 1:
                    continue
                for order in orders():
                    pair = Pair(ids, here=here, seats=seats)
                    for step in order:
                        what, link = step.split()
                        getattr(pair, what)(link)
                    a, b = (pair.sides[me].has() for me in "ab")
                    self.assertEqual(sorted(a), sorted(b), order)
                    self.assertEqual({"a", "b"} - pair.ended, set(a), order)
                    self.assertEqual(
                        [len(pair.sides[s].registry) for s in "ab"], [1, 1]
                    )
                    if len(a) == 2:
                        # The link that it was dialled by is what each has first.
                        self.assertEqual((a, b), (["b", "a"], ["a", "b"]), order)
                    counts.add(len(a))
        self.assertEqual(counts, {1, 2})

    def test_there_are_orders_of_every_kind(self) -> None:
        """The model loses no case."""
        self.assertEqual(len(list(orders())), 6)


HOSTS = ("192.0.2.2", "192.0.2.3", "127.0.0.1")
IDS = ("alice", "bob", "eve")
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from([IN, OUT]),
            st.sampled_from(HOSTS),
            st.sampled_from(IDS),
        ),
        st.integers(0, 20),
    ),
    max_size=40,
)


class InvariantTests(SynchronousTestCase):
    """What holds after any sequence of comings and goings."""

    @given(OPERATIONS, st.integers(1, 4))
    def test_seats_and_links_agree(
        self,
        operations: list[tuple[Direction, str, str] | int],
        seats: int,
    ) -> None:
        registry = Registry("alice", seats)
        links: list[FakeLink] = []
        gone: list[FakeLink] = []
        for operation in operations:
            before = registry.entries()
            if isinstance(operation, int):
                if links:
                    link = links.pop(operation % len(links))
                    gone.append(link)
                    departure = registry.remove(link)
                    if not isinstance(departure, Left):
                        self.assertEqual(registry.entries(), before)
            else:
                direction, host, id = operation
                link = FakeLink(
                    direction, remote_host=host, same_machine=host == "127.0.0.1"
                )
                links.append(link)
                verdict = registry.admit(link, Greeting(id, id), 0.0)
                match verdict:
                    case Admitted(entry) | Replaced(entry, _) | Crossed(entry):
                        self.assertIs(registry.of_link(link), entry)
                        self.assertIs(registry.of_key(entry.key), entry)
                        self.assertEqual(entry.key, peer_key(host_key(link), id))
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
            self.assertIn(entry, registry.of_id(entry.id))
            self.assertIn(entry, registry.at_host(host_key(entry.link)))
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
