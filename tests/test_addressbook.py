"""The address book: what it believes, what it keeps, and what it tells."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshproto.events import KnownAddress
from meshproto.rules.addressbook import (
    MAX_PROVEN,
    POSTPONED,
    AddressBook,
    Forgotten,
    Learned,
    Retry,
    believable,
    disclosed,
)
from meshproto.rules.registry import OWN_HOST
from meshproto.wire.address import EndpointTarget, PeerAddress, is_loopback
from tests.books import (
    BOB,
    BOB_HOST,
    EVE,
    NEIGHBOUR,
    BookTestCase,
    address,
    is_own_host,
    several,
)
from tests.fakes import peer_key
from tests.test_address import ADDRESSES


class BelieveTests(SynchronousTestCase):
    """Gossip that makes nobody dial."""

    def test_ports(self) -> None:
        for port, expected in (
            (1, False),
            (22, False),
            (1023, False),
            (1024, True),
            (65535, True),
        ):
            self.assertIs(believable(PeerAddress(BOB_HOST, port)), expected, port)

    def test_hosts_that_are_one_machine(self) -> None:
        for host in (
            "example.org",
            "localhost",
            "127.0.0.1",
            "10.0.0.1",
            "169.254.0.1",
            "192.168.1.255",
            "1.0.0.0",
            "223.255.255.255",
            "::1",
            "2001:db8::2",
            "fd00::1",
            "fe80::1",
        ):
            self.assertTrue(believable(PeerAddress(host, 8001)), host)

    def test_hosts_that_are_not(self) -> None:
        for host in (
            "0.0.0.0",
            "0.0.0.1",
            "0.255.255.255",
            "224.0.0.0",
            "239.255.255.255",
            "240.0.0.0",
            "255.255.255.255",
            "::",
            "ff02::1",
            "ff00::",
            "fe80::1%eth0",
        ):
            self.assertFalse(believable(PeerAddress(host, 8001)), host)


class LearnTests(BookTestCase):
    """A peer tells addresses."""

    def test_new_addresses_may_be_dialled_at_once(self) -> None:
        now = 100.0
        told = self.learn("198.51.100.1:8001", "node.example:8002", now=now)
        self.assertEqual(told, Learned(new=2, skipped=0))
        expected = [address("198.51.100.1:8001"), address("node.example:8002")]
        self.assertEqual(self.book.due(now), expected)
        next_due = self.book.next_due()
        assert next_due is not None
        self.assertLessEqual(next_due, now)

    def test_known_ones_are_not_new(self) -> None:
        self.learn("198.51.100.1:8001")
        for source in (BOB, EVE):
            self.assertEqual(
                self.learn("198.51.100.1:8001", source=source), Learned(0, 0)
            )
        self.assertEqual(
            self.learn("198.51.100.2:8001", "198.51.100.2:8001"), Learned(1, 0)
        )

    def test_the_good_part_of_a_list_is_used(self) -> None:
        told = self.learn(
            "198.51.100.1:22",
            "198.51.100.1:8001",
            "0.0.0.0:8001",
            "224.0.0.1:8001",
            "198.51.100.2:8001",
        )
        self.assertEqual(told, Learned(new=2, skipped=3))
        self.assertEqual(len(self.book), 2)

    def test_a_loopback_name_told_from_elsewhere_means_that_host(self) -> None:
        for host in ("localhost", "127.0.0.1", "127.9.9.9", "[::1]", "a.localhost"):
            self.book = self.make()
            self.assertEqual(self.learn(f"{host}:8003"), Learned(1, 0))
            self.assertEqual(self.targets(), [PeerAddress(BOB_HOST, 8003)])

    def test_a_loopback_name_told_by_a_peer_at_an_ipv6_address(self) -> None:
        told = self.learn("localhost:8003", host="2001:db8::2")
        self.assertEqual(told, Learned(1, 0))
        self.assertEqual(self.targets(), [address("[2001:db8::2]:8003")])

    def test_a_loopback_name_told_on_this_machine_stays(self) -> None:
        self.assertEqual(self.learn("localhost:8003", source=NEIGHBOUR), Learned(1, 0))
        self.assertEqual(self.targets(), [address("localhost:8003")])

    def test_rewriting_comes_before_belief(self) -> None:
        """The ports of the peer's host are protected as ours are."""
        self.assertEqual(self.learn("localhost:22"), Learned(0, 1))

    def test_what_it_told_is_known_under_the_rewritten_host(self) -> None:
        self.learn("localhost:8003")
        self.assertEqual(self.learn(f"{BOB_HOST}:8003", source=EVE), Learned(0, 0))

    def test_our_own_address_is_neither_new_nor_bad(self) -> None:
        self.book.own_port = 8001
        for host in ("192.0.2.1", "[2001:db8::1]"):
            self.assertEqual(self.learn(f"{host}:8001"), Learned(0, 0))
        for host in ("localhost", "127.0.0.1", "127.0.0.2", "[::1]", "192.0.2.1"):
            self.assertEqual(
                self.learn(f"{host}:8001", source=NEIGHBOUR), Learned(0, 0)
            )
        self.assertEqual(len(self.book), 0)

    def test_another_port_of_this_machine_is_another_node(self) -> None:
        self.book.own_port = 8001
        self.assertEqual(self.learn("192.0.2.1:8002"), Learned(1, 0))

    def test_our_port_on_another_machine_is_another_node(self) -> None:
        self.book.own_port = 8001
        self.assertEqual(self.learn("localhost:8001"), Learned(1, 0))
        self.assertEqual(self.targets(), [PeerAddress(BOB_HOST, 8001)])

    def test_all_spellings_of_this_machine_are_one_entry(self) -> None:
        self.learn("localhost:8003", source=NEIGHBOUR)
        for host in ("127.0.0.1", "[::1]", "192.0.2.1", "[2001:db8::1]"):
            self.assertEqual(
                self.learn(f"{host}:8003", source=NEIGHBOUR), Learned(0, 0)
            )
        self.assertEqual(self.targets(), [address("localhost:8003")])

    def test_another_spelling_is_tried_when_the_first_fails(self) -> None:
        """A node may listen on one of the machine's addresses only."""
        self.dice.value = 0.9
        self.learn("127.0.0.1:8003", source=NEIGHBOUR)
        self.learn("192.0.2.1:8003", source=NEIGHBOUR)
        self.assertEqual(self.targets(), [address("127.0.0.1:8003")])
        self.fail_dials(address("127.0.0.1:8003"), 5, now=10.0)
        self.learn("192.0.2.1:8003", source=NEIGHBOUR, now=10.0)
        self.assertEqual(self.targets(), [address("192.0.2.1:8003")])
        self.assertEqual(self.book.next_due(), 11.0)

    def test_what_is_told_again_is_not_dialled_any_sooner(self) -> None:
        self.learn("198.51.100.1:8001")
        self.fail_dials(address("198.51.100.1:8001"), 5, now=10.0)
        for source in (BOB, EVE):
            self.learn("198.51.100.1:8001", source=source, now=10.0)
        self.assertEqual(self.book.next_due(), 18.0)

    def test_a_spelling_that_the_user_gave_or_that_worked_stays(self) -> None:
        local = address("127.0.0.1:8003")
        for prepare in ("given", "proven", "dialling"):
            self.book = self.make()
            self.learn("127.0.0.1:8003", source=NEIGHBOUR)
            match prepare:
                case "given":
                    self.book.give(local)
                case "proven":
                    self.book.link(local, NEIGHBOUR, proven=True)
                    self.book.peer_left(NEIGHBOUR, 0.0)
            self.fail_dials(local, 2)
            if prepare == "dialling":
                self.book.dial_started(local)
            self.learn("192.0.2.1:8003", source=NEIGHBOUR)
            self.assertEqual(self.targets(), [local], prepare)


class BoundTests(BookTestCase):
    """Bounded in all, and for each peer that tells."""

    def test_standard_bounds(self) -> None:
        """1000 in all, 64 on the word of one peer, 10 failures."""
        book = AddressBook(is_own_host, self.dice)
        for number in range(16):
            host = f"192.0.2.{number + 10}"
            answer = book.learn(several(65, host), peer_key(host, "p"), host, 0.0)
            expected = Learned(64, 1) if number < 15 else Learned(40, 25)
            self.assertEqual(answer, expected)
        self.assertEqual(len(book), 1000)
        target = PeerAddress("192.0.2.10", 2000)
        for attempt in range(1, 10):
            result = book.dial_failed(target, 0.0, lonely=False)
            assert isinstance(result, Retry)
            self.assertEqual(result.failures, attempt)
        self.assertEqual(book.dial_failed(target, 0.0, lonely=False), Forgotten())

    def test_one_peer_does_not_fill_the_book(self) -> None:
        self.book = self.make(limit_per_peer=3)
        self.assertEqual(self.book.learn(several(3), BOB, BOB_HOST, 0.0), Learned(3, 0))
        self.assertEqual(self.learn("203.0.113.1:8001"), Learned(0, 1))
        self.assertEqual(self.learn("203.0.113.1:8001", source=EVE), Learned(1, 0))

    def test_two_peers_of_one_host_are_two_sources(self) -> None:
        self.book = self.make(limit_per_peer=1)
        for id in ("bob", "bobby"):
            peer = peer_key(BOB_HOST, id)
            for text, new in ((f"{id}.example:1024", 1), (f"x{id}.example:1024", 0)):
                told = self.learn(text, source=peer, host=BOB_HOST)
                self.assertEqual(told.new, new)

    def test_what_is_known_already_takes_no_place(self) -> None:
        self.book = self.make(limit_per_peer=1)
        self.learn("a.example:8001")
        self.assertEqual(
            self.learn("a.example:8001", "b.example:8001", source=EVE), Learned(1, 0)
        )

    def test_a_place_is_free_again(self) -> None:
        """When the address is forgotten, proven, or given by the user."""
        target = address("a.example:8001")
        for how in ("forgotten", "proven", "given"):
            self.book = self.make(limit_per_peer=1, max_failures=1)
            self.learn("a.example:8001")
            self.assertEqual(self.learn("b.example:8001"), Learned(0, 1))
            match how:
                case "forgotten":
                    self.assertEqual(self.fail_dials(target, 1), Forgotten())
                case "proven":
                    self.book.link(target, BOB, proven=True)
                case "given":
                    self.book.give(target)
            self.assertEqual(self.learn("b.example:8001"), Learned(1, 0), how)
            self.assertEqual(self.learn("c.example:8001"), Learned(0, 1), how)

    def test_addresses_of_one_peer_that_are_proven(self) -> None:
        """One more than the bound is kept on its word: it leaves with its quota."""
        self.book = self.make(limit_per_peer=MAX_PROVEN + 2)
        targets = several(MAX_PROVEN + 2, BOB_HOST)
        self.learn(*map(str, targets))
        for _ in range(2):
            for target in targets:
                self.book.link(target, BOB, proven=True)
        proven = [self.entry(target).proven for target in targets]
        self.assertEqual(proven, [True] * MAX_PROVEN + [False] * 2)
        # Room for as many as were proven, and no more.
        more = map(str, several(MAX_PROVEN + 1, "192.0.2.4"))
        self.assertEqual(self.learn(*more), Learned(MAX_PROVEN, 1))

    def test_an_address_of_the_user_is_proven_in_any_case(self) -> None:
        for target in several(MAX_PROVEN, BOB_HOST):
            self.book.link(target, BOB, proven=True)
        given = address("bob.example:8002")
        self.book.give(given)
        self.book.link(given, BOB, proven=True)
        self.assertTrue(self.entry(given).proven)

    def test_one_for_which_there_was_no_seat(self) -> None:
        """It has not failed, and is dialled again after a while."""
        self.learn("a.example:8001")
        target = address("a.example:8001")
        self.book.dial_started(target)
        self.book.postpone(target, 100.0)
        self.assertEqual(self.book.failures(target), 0)
        due = self.book.next_due()
        assert due is not None
        self.assertTrue(100.0 + POSTPONED <= due <= 100.0 + 2 * POSTPONED)
        self.assertEqual(self.book.due(due), [target])

    def test_a_place_is_given_back_once(self) -> None:
        target = address("a.example:8001")
        self.book = self.make(limit_per_peer=2)
        self.learn("a.example:8001", "b.example:8001")
        self.book.link(target, EVE, proven=True)
        self.book.give(target)
        self.book.link(target, EVE, proven=True)
        self.assertEqual(self.learn("c.example:8001", "d.example:8001"), Learned(1, 1))

    def test_the_address_that_a_peer_claims_is_on_its_word(self) -> None:
        self.book = self.make(limit_per_peer=2)
        self.book.link(address("a.example:8001"), BOB, proven=False)
        self.assertEqual(self.learn("c.example:8001", "d.example:8001"), Learned(1, 1))

    def test_a_claim_on_what_is_known_otherwise_takes_no_place(self) -> None:
        target = address("a.example:8001")
        for how in ("told", "given", "proven"):
            self.book = self.make(limit_per_peer=2)
            match how:
                case "told":
                    self.learn("a.example:8001", source=EVE)
                case "given":
                    self.book.give(target)
                case "proven":
                    self.book.link(target, EVE, proven=True)
            self.book.link(target, BOB, proven=False)
            self.assertEqual(
                self.learn("c.example:8001", "d.example:8001"), Learned(2, 0), how
            )

    def test_a_full_book_takes_no_gossip(self) -> None:
        self.book = self.make(limit=3)
        self.assertEqual(
            self.learn("a.example:8001", "b.example:8001", "c.example:8001"),
            Learned(3, 0),
        )
        self.assertEqual(self.learn("d.example:8001", source=EVE), Learned(0, 1))
        self.assertEqual(len(self.book), 3)

    def test_of_a_full_book_gossip_pushes_out_what_fails_most(self) -> None:
        self.book = self.make(limit=3)
        self.learn("a.example:8001", "b.example:8001", "c.example:8001")
        self.fail_dials(address("a.example:8001"), 1)
        self.fail_dials(address("b.example:8001"), 2)
        self.assertEqual(self.learn("d.example:8001", source=EVE), Learned(1, 0))
        self.assertEqual(
            self.targets(),
            [address(f"{name}.example:8001") for name in ("a", "c", "d")],
        )

    def test_gossip_never_pushes_out_what_is_good(self) -> None:
        """Given, proven, linked or being dialled: also when dials have failed."""
        good = [address(f"{name}.example:8001") for name in ("a", "b", "c", "d")]
        self.book = self.make(limit=4)
        self.learn("c.example:8001", "d.example:8001")
        self.book.give(good[0])
        self.book.link(good[1], EVE, proven=True)
        self.book.peer_left(EVE, 0.0)
        for target in good:
            self.fail_dials(target, 2)
        self.book.link(good[2], EVE, proven=False)
        self.book.dial_started(good[3])
        self.assertEqual(self.learn("e.example:8001"), Learned(0, 1))
        self.assertEqual(set(self.targets()), set(good))

    def test_what_counts_more_pushes_out_gossip(self) -> None:
        """The user's word and a peer's own address find room in a full book."""
        for how in ("give", "link", "dial"):
            self.book = self.make(limit=3)
            self.learn("a.example:8001", "b.example:8001")
            self.book.link(address("p.example:8001"), BOB, proven=True)
            self.book.peer_left(BOB, 0.0)
            self.fail_dials(address("p.example:8001"), 3)
            self.fail_dials(address("b.example:8001"), 1)
            target = address("new.example:8001")
            match how:
                case "give":
                    self.book.give(target)
                case "link":
                    self.book.link(target, EVE, proven=True)
                case "dial":
                    self.book.dial_started(target)
            self.assertEqual(
                self.targets(),
                [address("a.example:8001"), address("p.example:8001"), target],
                how,
            )

    def test_what_counts_more_pushes_out_what_counts_least(self) -> None:
        """Gossip before proven addresses, and of those what fails most."""
        first, second = address("p1.example:8001"), address("p2.example:8001")
        self.book = self.make(limit=4)
        self.book.give(address("g.example:8001"))
        for target in (first, second):
            self.book.link(target, BOB, proven=True)
        self.learn("a.example:8001")
        self.book.peer_left(BOB, 0.0)
        self.fail_dials(first, 1)
        self.fail_dials(second, 2)
        self.fail_dials(address("g.example:8001"), 3)
        for newcomer, gone in (
            ("n1.example:8001", address("a.example:8001")),
            ("n2.example:8001", second),
            ("n3.example:8001", first),
        ):
            before = self.targets()
            self.book.give(address(newcomer))
            self.assertEqual(set(before) - set(self.targets()), {gone})

    def test_nothing_in_use_is_pushed_out(self) -> None:
        """Linked, being dialled, or known to be our own."""
        self.book = self.make(limit=3)
        self.book.link(address("linked.example:8001"), BOB, proven=False)
        self.book.dial_started(address("dialled.example:8001"))
        self.book.disown(address("own.example:8001"))
        self.book.give(address("new.example:8001"))
        self.assertEqual(len(self.book), 4)
        self.assertEqual(self.book.linked_to(address("linked.example:8001")), (BOB,))
        self.assertTrue(self.book.is_own(address("own.example:8001")))
        self.assertEqual(self.book.due(0.0), [address("new.example:8001")])

    def test_the_users_addresses_are_never_pushed_out(self) -> None:
        self.book = self.make(limit=2)
        names = ["a", "b", "c", "d"]
        for name in names:
            self.book.give(address(f"{name}.example:8001"))
        self.assertEqual(self.learn("e.example:8001"), Learned(0, 1))
        self.assertEqual(
            self.targets(), [address(f"{name}.example:8001") for name in names]
        )


class GivenTests(BookTestCase):
    """Addresses that the user gave."""

    def test_are_never_forgotten(self) -> None:
        for target in (address("a.example:8001"), EndpointTarget("unix:/run/mesh")):
            self.book.give(target)
            result = self.fail_dials(target, 100)
            self.assertEqual(result, Retry(delay=30.0, failures=100))
            self.assertTrue(self.book.is_given(target))
            self.assertTrue(self.entry(target).bootstrap)

    def test_also_when_a_peer_told_them_first(self) -> None:
        self.learn("a.example:8001")
        self.assertFalse(self.book.is_given(address("a.example:8001")))
        self.book.give(address("a.example:8001"))
        self.assertIsInstance(self.fail_dials(address("a.example:8001"), 10), Retry)

    def test_giving_twice_is_giving_once(self) -> None:
        self.book.give(address("a.example:8001"))
        self.fail_dials(address("a.example:8001"), 2)
        self.book.give(address("a.example:8001"))
        self.assertEqual(len(self.book), 1)
        self.assertEqual(self.entry(address("a.example:8001")).failures, 2)

    def test_an_endpoint_string_is_no_address_of_that_name(self) -> None:
        self.book.give(EndpointTarget("tcp:localhost:8001"))
        self.book.give(address("localhost:8001"))
        self.assertEqual(len(self.book), 2)
        self.assertFalse(self.book.is_given(EndpointTarget("tcp:localhost:8002")))


class OwnTests(BookTestCase):
    """Addresses that lead back to this node."""

    def test_by_port_and_host(self) -> None:
        self.book.own_port = 8001
        for text, expected in (
            ("localhost:8001", True),
            ("127.0.0.5:8001", True),
            ("[::1]:8001", True),
            ("192.0.2.1:8001", True),
            ("[2001:db8::1]:8001", True),
            ("localhost:8002", False),
            ("192.0.2.2:8001", False),
            ("node.example:8001", False),
        ):
            self.assertIs(self.book.is_own(address(text)), expected, text)
        self.assertFalse(self.book.is_own(EndpointTarget("tcp:localhost:8001")))

    def test_a_node_without_a_port_has_no_address(self) -> None:
        for port in (1, 8001, 65535):
            self.assertFalse(self.book.is_own(PeerAddress("localhost", port)))

    def test_by_experience(self) -> None:
        """A port forward, or a name of ours: seen by a dial, never dialled again."""
        for target in (address("me.example:9000"), EndpointTarget("tls:me:9000")):
            self.book.give(target)
            self.book.dial_started(target)
            self.book.disown(target)
            self.assertTrue(self.book.is_own(target))
            self.assertNotIn(target, self.book.due(10_000.0))
            self.assertIsNone(self.book.next_due())
            self.assertNotIn(target, self.targets())
        self.assertEqual(self.learn("me.example:9000"), Learned(0, 0))

    def test_where_a_dial_leads(self) -> None:
        for target, host in (
            (address("192.0.2.2:8001"), "192.0.2.2"),
            (address("[2001:db8::2]:8001"), "2001:db8::2"),
            (address("192.0.2.1:8001"), OWN_HOST),
            (address("localhost:8001"), OWN_HOST),
            (address("[::1]:8001"), OWN_HOST),
            (address("node.example:8001"), None),
            (EndpointTarget("tcp:192.0.2.2:8001"), None),
        ):
            self.assertEqual(self.book.host_of(target), host)
        self.assertTrue(self.book.is_here("127.0.0.1"))
        self.assertFalse(self.book.is_here("192.0.2.2"))


class KnownTests(BookTestCase):
    """The book, as applications see it."""

    def test_snapshot(self) -> None:
        self.learn("t.example:8001")
        self.book.give(address("g.example:8001"))
        self.book.link(address("p.example:8001"), BOB, proven=True)
        self.fail_dials(address("t.example:8001"), 3)
        self.book.disown(address("me.example:8001"))
        before = self.book.known()
        self.assertEqual(
            before,
            tuple(
                KnownAddress(
                    target=address(text),
                    linked=linked,
                    proven=proven,
                    bootstrap=given,
                    failures=failures,
                )
                for text, linked, proven, given, failures in (
                    ("t.example:8001", False, False, False, 3),
                    ("g.example:8001", False, False, True, 0),
                    ("p.example:8001", True, True, False, 0),
                )
            ),
        )
        self.book.peer_left(BOB, 0.0)
        self.assertTrue(before[2].linked)
        self.assertFalse(self.book.known()[2].linked)


class DiscloseTests(SynchronousTestCase):
    """How an address is told to somebody else."""

    def told(
        self, text: str, *, ours: bool, to_own_host: bool, local_host: str
    ) -> str | None:
        result = disclosed(
            address(text), ours=ours, to_own_host=to_own_host, local_host=local_host
        )
        return None if result is None else str(result)

    def test_on_this_machine_everything_is_told_as_it_is(self) -> None:
        for text in ("localhost:8001", "127.0.0.1:8001", "192.0.2.7:8001"):
            for ours in (True, False):
                self.assertEqual(
                    self.told(text, ours=ours, to_own_host=True, local_host="::1"), text
                )

    def test_elsewhere_ours_are_told_as_they_are_reached_from_there(self) -> None:
        for text in ("localhost:8003", "127.0.0.1:8003", "10.0.0.1:8003"):
            for local_host, expected in (
                ("192.0.2.1", "192.0.2.1:8003"),
                ("2001:db8::1", "[2001:db8::1]:8003"),
            ):
                self.assertEqual(
                    self.told(
                        text, ours=True, to_own_host=False, local_host=local_host
                    ),
                    expected,
                )

    def test_elsewhere_the_addresses_of_others_are_told_as_they_are(self) -> None:
        for text in ("198.51.100.1:8001", "[2001:db8::2]:8001", "node.example:8001"):
            self.assertEqual(
                self.told(text, ours=False, to_own_host=False, local_host="192.0.2.1"),
                text,
            )

    def test_what_means_something_only_here_is_not_told(self) -> None:
        """Loopback to another host, and zones to anybody."""
        self.assertIsNone(
            self.told(
                "localhost:8003", ours=True, to_own_host=False, local_host="127.0.0.1"
            )
        )
        for ours, to_own_host in ((False, False), (False, True), (True, True)):
            self.assertIsNone(
                self.told(
                    "[fe80::1%eth0]:8003",
                    ours=ours,
                    to_own_host=to_own_host,
                    local_host="192.0.2.1",
                )
            )
        self.assertIsNone(
            self.told(
                "localhost:8003",
                ours=True,
                to_own_host=False,
                local_host="fe80::1%eth0",
            )
        )

    @given(ADDRESSES, st.sampled_from(["127.0.0.1", "::1", "192.0.2.1", "fe80::1%a"]))
    def test_no_loopback_address_leaves_this_machine(
        self, known: PeerAddress, local_host: str
    ) -> None:
        result = disclosed(
            known,
            ours=is_own_host(known.host),
            to_own_host=False,
            local_host=local_host,
        )
        if result is not None:
            self.assertFalse(is_loopback(result.host))
            self.assertNotIn("%", result.host)
            self.assertEqual(result.port, known.port)
