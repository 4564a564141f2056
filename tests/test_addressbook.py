"""The address book: what it believes, what it keeps, and when it dials."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from meshproto.events import KnownAddress
from meshproto.rules.addressbook import (
    AddressBook,
    Forgotten,
    Learned,
    Retry,
    backoff_bound,
    believable,
    disclosed,
)
from meshproto.rules.identity import PeerKey
from meshproto.rules.registry import OWN_HOST
from meshproto.wire.address import EndpointTarget, PeerAddress, Target, is_loopback
from tests.fakes import peer_key
from tests.test_address import ADDRESSES

BOB_HOST = "192.0.2.2"
BOB = peer_key(BOB_HOST, "bob")
EVE = peer_key("192.0.2.3", "eve")
#: A peer on this machine.
NEIGHBOUR = peer_key(OWN_HOST, "neighbour")
BY_IPV6 = peer_key("2001:db8::2", "bob")
#: Where they are seen; anybody else is at `BOB_HOST`.
SEEN_AT = {EVE: "192.0.2.3", NEIGHBOUR: "127.0.0.1", BY_IPV6: "2001:db8::2"}
OWN_HOSTS = {"192.0.2.1", "2001:db8::1"}


def is_own_host(host: str) -> bool:
    return is_loopback(host) or host in OWN_HOSTS


def address(text: str) -> PeerAddress:
    return PeerAddress.parse(text)


def several(count: int, host: str = "198.51.100.1") -> list[PeerAddress]:
    """That many addresses of one host."""
    return [PeerAddress(host, 2000 + number) for number in range(count)]


class Dice(random.Random):
    """Gives what the test says, and counts how often it was asked."""

    def __init__(self, value: float) -> None:
        super().__init__(0)
        self.value = value
        self.draws = 0

    def random(self) -> float:
        self.draws += 1
        return self.value


class BookTestCase(SynchronousTestCase):
    """A book of the standard size, with loaded dice."""

    def setUp(self) -> None:
        self.dice = Dice(0.5)
        self.book = self.make()

    def make(
        self, *, limit: int = 1000, limit_per_peer: int = 64, max_failures: int = 10
    ) -> AddressBook:
        return AddressBook(
            is_own_host,
            self.dice,
            limit=limit,
            limit_per_peer=limit_per_peer,
            max_failures=max_failures,
        )

    def learn(self, *texts: str, source: PeerKey = BOB, now: float = 0.0) -> Learned:
        host = SEEN_AT.get(source, BOB_HOST)
        return self.book.learn(map(address, texts), source, host, now)

    def fail_dials(
        self, target: Target, times: int, *, now: float = 0.0
    ) -> Retry | Forgotten:
        for _ in range(times):
            self.book.dial_started(target)
            result = self.book.dial_failed(target, now, lonely=False)
        return result

    def entry(self, target: Target) -> KnownAddress:
        (found,) = (each for each in self.book.known() if each.target == target)
        return found

    def targets(self) -> list[Target]:
        return [each.target for each in self.book.known()]


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
        self.assertEqual(self.learn("localhost:8003", source=BY_IPV6), Learned(1, 0))
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
            self.assertEqual(self.learn(f"{id}.example:1024", source=peer).new, 1)
            self.assertEqual(self.learn(f"x{id}.example:1024", source=peer).new, 0)

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


class BackoffTests(BookTestCase):
    """Pauses double from one second, to 60 or, without any peer, to 10."""

    def test_bounds(self) -> None:
        for cap, bounds in (
            (60.0, [1, 2, 4, 8, 16, 32, 60, 60]),
            (10.0, [1, 2, 4, 8, 10, 10]),
        ):
            self.assertEqual(
                [backoff_bound(n + 1, cap) for n in range(len(bounds))], bounds
            )
            self.assertEqual(backoff_bound(100_000, cap), cap)

    def test_the_pause_is_drawn_from_zero_to_the_bound(self) -> None:
        target = address("a.example:8001")
        for lonely, bounds in (
            (False, [1, 2, 4, 8, 16, 32, 60, 60]),
            (True, [1, 2, 4, 8, 10, 10, 10, 10]),
        ):
            for drawn in (0.0, 0.25, 0.75):
                self.dice = Dice(drawn)
                self.book = self.make()
                self.book.give(target)
                for failures, bound in enumerate(bounds, 1):
                    self.assertEqual(
                        self.book.dial_failed(target, 1000.0, lonely=lonely),
                        Retry(drawn * bound, failures),
                    )
                    self.assertEqual(self.book.next_due(), 1000.0 + drawn * bound)
                    self.assertEqual(self.dice.draws, failures)

    def test_one_seed_gives_one_run(self) -> None:
        runs = []
        for _ in range(2):
            book = AddressBook(is_own_host, random.Random(7))
            book.give(address("a.example:8001"))
            runs.append(
                [
                    book.dial_failed(address("a.example:8001"), 0.0, lonely=False)
                    for _ in range(8)
                ]
            )
        self.assertEqual(runs[0], runs[1])

    def test_the_address_is_due_when_the_pause_is_over(self) -> None:
        target = address("a.example:8001")
        self.book.give(target)
        self.fail_dials(target, 3, now=100.0)
        self.assertEqual(self.book.due(101.75), [])
        self.assertEqual(self.book.due(102.0), [target])

    def test_success_resets_it(self) -> None:
        target = address("a.example:8001")
        self.book.give(target)
        self.fail_dials(target, 5)
        self.book.link(target, BOB, proven=True)
        self.book.peer_left(BOB, 0.0)
        self.assertEqual(self.entry(target).failures, 0)
        self.assertEqual(self.fail_dials(target, 1), Retry(0.5, 1))

    def test_a_link_that_the_peer_dialled_is_no_success_of_ours(self) -> None:
        target = address("a.example:8001")
        self.book.give(target)
        self.fail_dials(target, 5)
        self.book.link(target, BOB, proven=False)
        self.assertEqual(self.entry(target).failures, 5)


class DialTests(BookTestCase):
    """An address while it is dialled, and after."""

    target = PeerAddress("a.example", 8001)

    def test_the_order_of_dialling(self) -> None:
        """The user's addresses, then proven ones, then gossip, each as it came."""
        self.learn("t1.example:8001")
        self.book.link(address("p1.example:8001"), BOB, proven=True)
        self.book.link(address("p2.example:8001"), BOB, proven=True)
        self.book.peer_left(BOB, 0.0)
        self.book.give(address("g1.example:8001"))
        self.learn("t2.example:8001")
        self.book.give(address("g2.example:8001"))
        self.book.give(address("p2.example:8001"))
        self.assertEqual(
            [str(target).partition(".")[0] for target in self.book.due(1.0)],
            ["p2", "g1", "g2", "p1", "t1", "t2"],
        )

    def test_is_not_due_while_it_is_dialled(self) -> None:
        self.learn("a.example:8001")
        self.book.dial_started(self.target)
        self.assertEqual(self.book.due(1000.0), [])
        self.assertIsNone(self.book.next_due())
        self.book.dial_ended(self.target)
        self.assertEqual(self.book.due(0.0), [self.target])

    def test_is_due_again_after_every_end_of_a_dial(self) -> None:
        self.book.give(self.target)
        self.fail_dials(self.target, 1)
        self.assertEqual(self.book.due(60.0), [self.target])
        self.book.dial_started(self.target)
        self.book.dial_ended(self.target)
        self.book.link(self.target, BOB, proven=True)
        self.book.peer_left(BOB, 60.0)
        self.assertEqual(self.book.due(120.0), [self.target])

    def test_nothing_is_due_in_an_empty_book(self) -> None:
        self.assertEqual(self.book.due(0.0), [])
        self.assertIsNone(self.book.next_due())

    def test_the_next_due_is_the_earliest(self) -> None:
        self.learn("b.example:8001")
        self.book.give(self.target)
        self.fail_dials(self.target, 2, now=10.0)
        self.fail_dials(address("b.example:8001"), 1, now=10.0)
        self.assertEqual(self.book.next_due(), 10.5)

    def test_gossip_is_forgotten_at_the_tenth_failure(self) -> None:
        self.learn("a.example:8001")
        self.assertEqual(self.fail_dials(self.target, 9), Retry(30.0, 9))
        self.assertEqual(self.fail_dials(self.target, 1), Forgotten())
        self.assertEqual(len(self.book), 0)
        self.assertEqual(self.learn("a.example:8001"), Learned(1, 0))
        self.assertEqual(self.entry(self.target).failures, 0)

    def test_a_proven_address_is_not_forgotten(self) -> None:
        self.learn("a.example:8001")
        self.book.link(self.target, BOB, proven=True)
        self.book.peer_left(BOB, 0.0)
        self.assertEqual(self.fail_dials(self.target, 50), Retry(30.0, 50))

    def test_an_address_that_nobody_told_is_forgotten_at_once(self) -> None:
        """`MeshNode.connect` dials once; the dial alone puts nothing in the book."""
        self.assertEqual(self.fail_dials(self.target, 1), Forgotten())
        self.assertEqual(len(self.book), 0)
        self.book.dial_started(self.target)
        self.book.dial_ended(self.target)
        self.assertEqual(len(self.book), 0)

    def test_the_end_of_a_dial_forgets_nothing_else(self) -> None:
        given, proven, linked, own = (
            address(f"{name}.example:8001") for name in ("g", "p", "l", "o")
        )
        self.book.give(given)
        self.book.link(proven, BOB, proven=True)
        self.book.peer_left(BOB, 0.0)
        self.book.link(linked, EVE, proven=False)
        self.book.disown(own)
        self.learn("a.example:8001")
        for target in (given, proven, linked, own, self.target):
            self.book.dial_ended(target)
        self.assertEqual(len(self.book), 5)

    def test_the_end_of_a_dial_of_an_unknown_address(self) -> None:
        self.book.dial_ended(self.target)
        self.assertEqual(len(self.book), 0)


class LinkTests(BookTestCase):
    """Addresses of peers that are connected."""

    target = PeerAddress("a.example", 8001)

    def test_are_not_dialled_while_that_lasts(self) -> None:
        self.book.give(self.target)
        self.book.link(self.target, BOB, proven=False)
        self.assertEqual(self.book.due(1000.0), [])
        self.assertIsNone(self.book.next_due())
        self.assertEqual(self.book.linked_to(self.target), (BOB,))
        self.assertTrue(self.entry(self.target).linked)

    def test_are_dialled_after_a_jitter_when_the_peer_has_left(self) -> None:
        self.book.give(self.target)
        self.book.link(self.target, BOB, proven=True)
        for drawn in (0.0, 0.25, 0.75):
            self.dice.value = drawn
            self.book.link(self.target, BOB, proven=True)
            self.book.peer_left(BOB, 100.0)
            self.assertEqual(self.book.next_due(), 100.0 + drawn)
            self.assertEqual(self.book.linked_to(self.target), ())
            self.assertEqual(self.book.due(100.0 + drawn), [self.target])

    def test_links_that_end_at_once_come_ever_more_seldom(self) -> None:
        self.dice.value = 0.5
        pauses = []
        for lived in (4.9, 0.0, 1.0, 4.9, 0.0, 0.0, 0.0, 0.0, 5.0, 4.9, 4.9):
            self.book.link(self.target, BOB, proven=True)
            self.book.peer_left(BOB, 100.0, lived)
            due = self.book.next_due()
            assert due is not None
            pauses.append(due - 100.0)
        self.assertEqual(pauses, [0.5, 1, 2, 4, 8, 16, 30, 30, 0.5, 0.5, 1])

    def test_one_that_is_forgotten_does_not_come_back(self) -> None:
        """A dial of it may fail while a peer that claims it is connected."""
        self.book = self.make(max_failures=1)
        self.book.learn([self.target], EVE, "203.0.113.9", 0.0)
        self.book.dial_started(self.target)
        self.book.link(self.target, BOB, proven=False)
        self.assertEqual(
            self.book.dial_failed(self.target, 0.0, lonely=False), Forgotten()
        )
        self.book.peer_left(BOB, 0.0)
        self.assertEqual((len(self.book), self.book.due(1000.0)), (0, []))

    def test_who_is_told_of_is_dialled_soon(self) -> None:
        """After a partition nobody waits for a long backoff to end."""
        self.dice.value = 0.5
        self.book.link(self.target, BOB, proven=True)
        self.book.peer_left(BOB, 0.0)
        self.fail_dials(self.target, 7)
        self.assertEqual(self.book.next_due(), 30.0)
        self.book.learn([self.target], EVE, "203.0.113.9", 5.0)
        self.assertEqual(self.book.next_due(), 5.5)

    def test_but_only_once_in_ten_seconds(self) -> None:
        self.dice.value = 0.5
        self.book.link(self.target, BOB, proven=True)
        self.book.peer_left(BOB, 0.0)
        self.fail_dials(self.target, 7)
        for now, due in ((5.0, 5.5), (6.0, 30.0), (14.9, 30.0), (15.0, 15.5)):
            self.book.learn([self.target], EVE, "203.0.113.9", now)
            self.assertEqual(self.book.next_due(), due)
            self.book.dial_failed(self.target, 0.0, lonely=False)

    def test_word_of_others_does_not_hasten_what_never_worked(self) -> None:
        self.dice.value = 0.5
        self.learn("a.example:8001")
        self.fail_dials(self.target, 7)
        self.book.learn([self.target], EVE, "203.0.113.9", 5.0)
        self.assertEqual(self.book.next_due(), 30.0)

    def test_all_addresses_of_a_peer_are_free_when_it_leaves(self) -> None:
        other = address("b.example:8001")
        self.book.link(self.target, BOB, proven=True)
        self.book.link(other, BOB, proven=True)
        self.book.link(address("e.example:8001"), EVE, proven=True)
        self.book.peer_left(BOB, 0.0)
        self.assertEqual(self.book.due(1.0), [self.target, other])

    def test_an_address_of_one_of_several_peers(self) -> None:
        """Which of them it is nobody knows, so it is dialled when one leaves."""
        self.book.link(self.target, BOB, proven=True)
        self.book.link(self.target, EVE, proven=True)
        self.book.link(self.target, BOB, proven=True)
        self.assertEqual(self.book.linked_to(self.target), (BOB, EVE))
        self.book.peer_left(EVE, 0.0)
        self.assertEqual(self.book.due(1.0), [self.target])
        self.book.peer_left(BOB, 50.0)
        self.assertEqual(self.book.due(1.0), [self.target])

    def test_any_spelling_of_this_machine_is_linked(self) -> None:
        self.book.link(address("localhost:8003"), NEIGHBOUR, proven=True)
        for host in ("127.0.0.1", "[::1]", "192.0.2.1"):
            self.assertEqual(self.book.linked_to(address(f"{host}:8003")), (NEIGHBOUR,))
        self.assertEqual(self.book.linked_to(address("localhost:8004")), ())

    def test_a_claim_proves_nothing(self) -> None:
        """Where a peer says it listens is gossip until a dial shows it."""
        self.book.link(self.target, BOB, proven=False)
        self.assertFalse(self.entry(self.target).proven)
        self.book.peer_left(BOB, 0.0)
        self.assertEqual(self.fail_dials(self.target, 9), Retry(30.0, 9))
        self.assertEqual(self.fail_dials(self.target, 1), Forgotten())

    def test_a_claim_makes_no_room_for_itself(self) -> None:
        self.book = self.make(limit=2)
        self.book.link(address("p.example:8001"), EVE, proven=True)
        self.book.peer_left(EVE, 0.0)
        self.learn("g.example:8001")
        self.book.link(self.target, BOB, proven=False)
        self.assertEqual(
            set(self.targets()), {address("p.example:8001"), address("g.example:8001")}
        )
        self.book.peer_left(BOB, 0.0)

    def test_a_claim_takes_nothing_from_a_proven_address(self) -> None:
        self.book.link(self.target, BOB, proven=True)
        self.book.link(self.target, EVE, proven=False)
        self.assertTrue(self.entry(self.target).proven)

    def test_a_peer_that_had_no_address_leaves(self) -> None:
        self.book.give(self.target)
        self.book.peer_left(BOB, 0.0)
        self.assertEqual(self.book.due(0.0), [self.target])
        self.assertEqual(self.dice.draws, 0)

    def test_a_link_does_not_end_the_dial(self) -> None:
        """The peer may have come by itself, while we are still dialling it."""
        self.book.dial_started(self.target)
        self.book.link(self.target, BOB, proven=True)
        self.book.peer_left(BOB, 0.0)
        self.assertEqual(self.book.due(1.0), [])
        self.assertIsNone(self.book.next_due())
        self.book.dial_ended(self.target)
        self.assertEqual(self.book.due(1.0), [self.target])

    def test_a_linked_address_that_is_forgotten_is_forgotten_in_full(self) -> None:
        """A dial of it that the user asked for may fail all the same."""
        self.book = self.make(max_failures=1)
        self.learn("a.example:8001")
        self.book.link(self.target, BOB, proven=False)
        self.assertEqual(self.fail_dials(self.target, 1), Forgotten())
        self.book.peer_left(BOB, 0.0)
        self.assertEqual(len(self.book), 0)


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


GOSSIP = st.builds(
    PeerAddress,
    st.sampled_from(["198.51.100.1", "node.example", "localhost", "192.0.2.1"]),
    st.integers(1020, 1032),
)
PEERS = st.sampled_from([BOB, EVE, NEIGHBOUR])
LIMIT = 12
LIMIT_PER_PEER = 5
MAX_FAILURES = 3


class BookMachine(RuleBasedStateMachine):
    """Anything that may happen to a book, in any order.

    What may never be pushed out (given, linked, dialled, our own) is kept
    below the limit, as it is in a node: seats and dials are bounded too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.book = AddressBook(
            is_own_host,
            random.Random(0),
            limit=LIMIT,
            limit_per_peer=LIMIT_PER_PEER,
            max_failures=MAX_FAILURES,
        )
        self.book.own_port = 1030
        self.now = 0.0
        self.given: set[Target] = set()
        self.own: set[Target] = set()
        self.dialling: set[Target] = set()
        self.linked: dict[PeerKey, set[Target]] = {}
        #: On whose word an address is in the book.
        self.sources: dict[Target, PeerKey] = {}

    def entries(self) -> dict[Target, KnownAddress]:
        return {each.target: each for each in self.book.known()}

    def is_free(self) -> bool:
        """Whether one more entry may be of the kind that stays."""
        kept = (
            self.given | self.own | self.dialling | set().union(*self.linked.values())
        )
        return len(kept) < LIMIT - 1

    @rule(gossip=st.lists(GOSSIP, max_size=8), source=PEERS)
    def learn(self, gossip: list[PeerAddress], source: PeerKey) -> None:
        host = SEEN_AT.get(source, BOB_HOST)
        before = self.entries()
        learned = self.book.learn(gossip, source, host, self.now)
        after = self.entries()
        added = set(after) - set(before)
        assert 0 <= learned.new <= len(gossip)
        assert learned.new + learned.skipped <= len(gossip)
        for target, entry in before.items():
            if entry.proven or entry.bootstrap or entry.linked:
                assert target in after, f"gossip pushed {target} out"
            if not entry.failures:
                assert target in after, f"{target} was never tried"
        ports_here = {
            each.port: each
            for each in before
            if isinstance(each, PeerAddress) and is_own_host(each.host)
        }
        for target in added:
            assert isinstance(target, PeerAddress)
            assert target.port >= 1024
            assert source is NEIGHBOUR or not is_loopback(target.host)
            spelled = ports_here.get(target.port) if is_own_host(target.host) else None
            if spelled is not None and spelled not in after:
                # The same entry in another spelling, or a new one in its place:
                # the first has its source already, the second cannot be told
                # from it here and is left out of the count.
                self.sources.pop(spelled, None)
            else:
                self.sources[target] = source

    @rule(named=GOSSIP)
    def give(self, named: PeerAddress) -> None:
        if self.is_free() and named not in self.spelled_otherwise():
            self.book.give(named)
            self.given.add(named)
            self.sources.pop(named, None)

    def spelled_otherwise(self) -> set[Target]:
        """Addresses of this machine that the book has in another spelling."""
        here = {
            each.port
            for each in self.entries() | dict.fromkeys(self.own)
            if isinstance(each, PeerAddress) and is_own_host(each.host)
        }
        return {
            PeerAddress(host, port)
            for host in ("localhost", "192.0.2.1")
            for port in here
            if PeerAddress(host, port) not in self.entries()
        }

    @rule(pick=st.integers(0, 99))
    def dial(self, pick: int) -> None:
        due = self.book.due(self.now)
        if due and self.is_free():
            target = due[pick % len(due)]
            self.book.dial_started(target)
            self.dialling.add(target)

    @rule(pick=st.integers(0, 99), lonely=st.booleans())
    def fail(self, pick: int, lonely: bool) -> None:
        if self.dialling:
            target = sorted(self.dialling, key=str)[pick % len(self.dialling)]
            self.dialling.discard(target)
            before = self.entries()[target]
            result = self.book.dial_failed(target, self.now, lonely=lonely)
            match result:
                case Retry(delay, failures):
                    assert failures == before.failures + 1
                    assert 0 <= delay <= (10 if lonely else 60)
                    assert (
                        before.proven
                        or target in self.given
                        or (failures < MAX_FAILURES)
                    )
                case Forgotten():
                    assert not before.proven
                    assert target not in self.given
                    assert target not in self.entries()

    @rule(pick=st.integers(0, 99), peer=PEERS)
    def succeed(self, pick: int, peer: PeerKey) -> None:
        if self.dialling:
            target = sorted(self.dialling, key=str)[pick % len(self.dialling)]
            self.dialling.discard(target)
            self.book.dial_ended(target)
            self.book.link(target, peer, proven=True)
            self.linked.setdefault(peer, set()).add(target)
            self.sources.pop(target, None)
            assert self.entries()[target].failures == 0

    @rule(pick=st.integers(0, 99))
    def find_ourselves(self, pick: int) -> None:
        if self.dialling and len(self.own) < 2:
            target = sorted(self.dialling, key=str)[pick % len(self.dialling)]
            self.dialling.discard(target)
            self.book.disown(target)
            self.own.add(target)

    @rule(peer=PEERS)
    def leave(self, peer: PeerKey) -> None:
        freed = self.linked.pop(peer, set())
        self.book.peer_left(peer, self.now)
        for target in freed:
            assert target in self.book.due(self.now + 1.0)
            for others in self.linked.values():
                others.discard(target)

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def the_book_is_bounded(self) -> None:
        assert len(self.book) <= LIMIT

    @invariant()
    def no_peer_has_more_than_its_part(self) -> None:
        entries = self.entries()
        told = Counter(
            source for target, source in self.sources.items() if target in entries
        )
        for source, count in told.items():
            assert count <= LIMIT_PER_PEER, source
        self.sources = {t: s for t, s in self.sources.items() if t in entries}

    @invariant()
    def given_addresses_are_kept(self) -> None:
        for target in self.given - self.own:
            assert self.entries()[target].bootstrap

    @invariant()
    def only_what_may_be_dialled_is_due(self) -> None:
        due = self.book.due(float("inf"))
        assert len(set(due)) == len(due)
        assert not set(due) & self.dialling
        assert not set(due) & self.own
        for targets in self.linked.values():
            assert not set(due) & targets
        assert set(due) | self.dialling <= set(self.entries())
        taken = self.dialling.union(self.own, *self.linked.values())
        assert set(self.entries()) - taken == set(due)

    @invariant()
    def the_next_due_tells_when(self) -> None:
        next_due = self.book.next_due()
        if next_due is None:
            assert self.book.due(float("inf")) == []
        else:
            assert self.book.due(next_due)
            assert not self.book.due(next_due - 0.001)


class AnyOrderTests(SynchronousTestCase):
    """The bounds hold whatever happens."""

    def test_any_sequence_of_events(self) -> None:
        run_state_machine_as_test(
            BookMachine,
            settings=settings(max_examples=100, stateful_step_count=40),
        )
