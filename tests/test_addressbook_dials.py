"""The address book: when an address is dialled, and when it is given up."""

from __future__ import annotations

import random

from meshproto.rules.addressbook import (
    AddressBook,
    Forgotten,
    Learned,
    Retry,
    backoff_bound,
)
from meshproto.wire.address import PeerAddress
from tests.books import BOB, EVE, NEIGHBOUR, BookTestCase, Dice, address, is_own_host


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
