"""Which links two nodes may have: every row of the table, and every bound."""

from __future__ import annotations

from itertools import count
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from meshproto.events import CloseReason, Direction
from meshproto.rules.identity import Looks, PeerKey, key_of, key_of_greeting
from meshproto.rules.pairs import (
    CLONE_WINDOW,
    REMEMBERED,
    REPLACEMENTS,
    Closing,
    Decision,
    Established,
    Pairs,
    SayHello,
    Unwanted,
    Verdict,
    Welcomed,
)
from meshproto.wire.messages import Greeting, Hello, Incarnation, RefusalReason
from tests.test_stateful import many

IN = Direction.INCOMING
OUT = Direction.OUTGOING

#: This node is between two peers: its dial wins against LESSER only.
LESSER, OURS, GREATER = "a" * 32, "b" * 32, "c" * 32


def life(counter: int = 1, nonce: str = "0") -> Incarnation:
    return Incarnation(counter, nonce * 32)


def hello(identity: str = GREATER, **said: Any) -> Hello:
    known: dict[str, Any] = {
        "identity": identity,
        "incarnation": life(),
        "link": 7,
        "id": "bob",
        "name": "Bob",
        "mesh": "lan",
    }
    return Hello(**(known | said))


class Node:
    """The pairs of one node, and short words for what happens to them."""

    def __init__(self, *, proven: bool = True, seats: int = 10) -> None:
        self.pairs: Pairs[str] = Pairs(OURS, life(), "lan", proven=proven)
        self.proven = proven
        self.seats = seats
        self.now = 1000.0
        self.numbers: dict[str, int] = {}

    def hears(
        self, link: str, direction: Direction, said: Hello, host: str = "192.0.2.2"
    ) -> Decision[str]:
        """HELLO on a new link."""
        self.numbers[link] = self.pairs.opened(link)
        return self.pairs.hello(
            link, direction, said, host, seats=self.seats, now=self.now
        )

    def theirs(self, at: str, identity: str = GREATER, **said: Any) -> Decision[str]:
        return self.hears(at, IN, hello(identity, **said))

    def mine(self, at: str, identity: str = GREATER, **said: Any) -> Decision[str]:
        return self.hears(at, OUT, hello(identity, **said))

    def welcome(self, link: str) -> Decision[str]:
        return self.pairs.welcome(link, seats=self.seats)

    def links_with(self, at: str, identity: str = GREATER, **said: Any) -> None:
        """Establish a link that the peer dials."""
        assert self.theirs(at, identity, **said).verdict == Welcomed()
        assert self.pairs.ready(at).verdict == Established()

    def established(self, identity: str = GREATER, **said: Any) -> str | None:
        key = key_of(hello(identity, **said), proven=self.proven)
        return self.pairs.established(key)


class PairsTestCase(SynchronousTestCase):
    def assertDecides(
        self,
        decision: Decision[str],
        verdict: Verdict | RefusalReason,
        *,
        closing: tuple[Closing[str], ...] = (),
        probing: tuple[str, ...] = (),
    ) -> None:
        if isinstance(verdict, RefusalReason):
            verdict = Unwanted(verdict)
        self.assertEqual(decision.verdict, verdict)
        self.assertEqual(decision.closing, closing)
        self.assertEqual(decision.probing, probing)


class KeyTests(SynchronousTestCase):
    """What tells one peer from another."""

    def test_a_proven_identity_is_one_peer(self) -> None:
        first, second = hello(incarnation=life(1)), hello(incarnation=life(2), id="eve")
        self.assertEqual(key_of(first, proven=True), key_of(second, proven=True))
        other = key_of(hello(LESSER), proven=True)
        self.assertNotEqual(key_of(first, proven=True), other)

    def test_a_claimed_identity_is_a_peer_for_each_life(self) -> None:
        first, second = hello(incarnation=life(1)), hello(incarnation=life(2))
        again = hello(incarnation=life(1), id="eve")
        self.assertNotEqual(key_of(first, proven=False), key_of(second, proven=False))
        self.assertEqual(key_of(first, proven=False), key_of(again, proven=False))

    def test_a_greeting_is_known_by_id_and_host(self) -> None:
        bob = Greeting("bob", "Bob")
        key = key_of_greeting(bob, "192.0.2.2")
        self.assertEqual(key, key_of_greeting(Greeting("bob", "B."), "192.0.2.2"))
        self.assertNotEqual(key, key_of_greeting(bob, "192.0.2.3"))
        self.assertNotEqual(key, key_of_greeting(Greeting("b", "Bob"), "192.0.2.2"))

    def test_keys_are_hashable(self) -> None:
        keys: set[PeerKey] = {
            key_of(hello(), proven=True),
            key_of(hello(), proven=False),
            key_of_greeting(Greeting("bob", "Bob"), "192.0.2.2"),
        }
        self.assertEqual(len(keys), 3)

    def test_looks(self) -> None:
        def common(identity: str, id: str, host: str) -> int:
            other = Looks(identity, id, host).marks()
            return len({*Looks(GREATER, "bob", "192.0.2.2").marks()} & {*other})

        self.assertEqual(common(GREATER, "bob", "192.0.2.2"), 2)
        self.assertEqual(common(GREATER, "eve", "192.0.2.2"), 1)
        self.assertEqual(common(GREATER, "eve", "192.0.2.3"), 0)
        self.assertEqual(common(LESSER, "bob", "192.0.2.2"), 1)
        self.assertEqual(common(LESSER, "bob", "192.0.2.3"), 0)
        self.assertEqual(common(LESSER, "eve", "192.0.2.2"), 0)


class TableTests(PairsTestCase):
    """The rows that decide on one handshake, and on two."""

    def test_another_mesh(self) -> None:
        for direction in Direction:
            node = Node()
            decision = node.hears("x", direction, hello(mesh="wan"))
            self.assertDecides(decision, RefusalReason.ANOTHER_MESH)
            self.assertIsNone(node.pairs.ended("x"))

    def test_ourselves(self) -> None:
        for direction in Direction:
            for proven in (True, False):
                node = Node(proven=proven)
                decision = node.hears("x", direction, hello(OURS))
                self.assertDecides(decision, RefusalReason.OURSELVES)

    def test_our_identity_in_another_life(self) -> None:
        """Proven, it is a copy of ours; claimed, it is a peer like any other."""
        other = hello(OURS, incarnation=life(2))
        decision = Node().hears("x", IN, other)
        self.assertDecides(decision, RefusalReason.CLONED)
        decision = Node(proven=False).hears("x", IN, other)
        self.assertDecides(decision, Welcomed())

    def test_a_dialler_is_welcome(self) -> None:
        for identity in (LESSER, GREATER):
            node = Node()
            self.assertDecides(node.theirs("t", identity), Welcomed())
            self.assertIsNone(node.established(identity))
            self.assertDecides(node.pairs.ready("t"), Established())
            self.assertEqual(node.established(identity), "t")

    def test_a_dial(self) -> None:
        for identity in (LESSER, GREATER):
            node = Node()
            self.assertDecides(node.mine("m", identity), SayHello(None))
            self.assertDecides(node.welcome("m"), Established())
            self.assertEqual(node.established(identity), "m")

    def test_every_decision_names_the_peer(self) -> None:
        key = key_of(hello(), proven=True)
        node = Node()
        self.assertEqual(node.mine("m").key, key)
        self.assertEqual(node.theirs("t").key, key)
        self.assertEqual(node.welcome("m").key, key)
        self.assertEqual(node.pairs.ready("t").key, key)
        self.assertEqual(node.theirs("x").key, key)

    def test_their_hello_while_my_dial_wins(self) -> None:
        node = Node()
        node.mine("m", LESSER)
        self.assertDecides(node.theirs("t", LESSER), RefusalReason.CROSSING)
        self.assertIsNone(node.pairs.ended("t"))
        self.assertDecides(node.welcome("m"), Established())

    def test_their_hello_while_my_dial_loses(self) -> None:
        node = Node()
        node.mine("m", GREATER)
        self.assertDecides(node.theirs("t", GREATER), Welcomed())

    def test_their_hello_while_nobody_knows_where_my_dial_leads(self) -> None:
        node = Node()
        node.pairs.opened("m")
        self.assertDecides(node.theirs("t", LESSER), Welcomed())

    def test_their_hello_after_my_dial_ended(self) -> None:
        node = Node()
        node.mine("m", LESSER)
        node.pairs.ended("m")
        self.assertDecides(node.theirs("t", LESSER), Welcomed())

    def test_welcome_while_their_dial_wins(self) -> None:
        node = Node()
        node.mine("m", GREATER)
        node.theirs("t", GREATER)
        self.assertDecides(node.welcome("m"), RefusalReason.CROSSING)
        self.assertIsNone(node.established())
        self.assertDecides(node.pairs.ready("t"), Established())

    def test_welcome_while_their_dial_loses(self) -> None:
        node = Node()
        node.theirs("t", LESSER)
        node.mine("m", LESSER)
        merged = Closing("t", CloseReason.CROSSED)
        self.assertDecides(node.welcome("m"), Established(), closing=(merged,))
        self.assertEqual(node.established(LESSER), "m")
        self.assertIsNone(node.pairs.ended("t"))
        self.assertEqual(node.established(LESSER), "m")

    def test_welcome_after_their_winning_dial_ended(self) -> None:
        node = Node()
        node.mine("m", GREATER)
        node.theirs("t", GREATER)
        node.pairs.ended("t")
        self.assertDecides(node.welcome("m"), Established())

    def test_ready_closes_every_other_link(self) -> None:
        """Two dials each way, by two addresses."""
        node = Node()
        for link in ("m", "n"):
            node.mine(link)
        for link in ("t", "u"):
            node.theirs(link)
        closing = tuple(Closing(link, CloseReason.CROSSED) for link in ("m", "n", "u"))
        self.assertDecides(node.pairs.ready("t"), Established(), closing=closing)
        self.assertEqual(len(node.pairs), 1)

    def test_hello_while_a_link_is_established(self) -> None:
        """One that dials has the link probed; one that we reached has not."""
        for proven in (True, False):
            node = Node(proven=proven)
            node.links_with("t")
            decision = node.theirs("x")
            self.assertDecides(decision, RefusalReason.DUPLICATE, probing=("t",))
            self.assertDecides(node.mine("m"), RefusalReason.DUPLICATE)
            self.assertEqual(node.established(), "t")

    def test_pairs_do_not_meddle_with_each_other(self) -> None:
        node = Node()
        node.mine("m", LESSER)
        node.links_with("t", GREATER, id="eve")
        self.assertDecides(node.welcome("m"), Established())
        self.assertEqual(len(node.pairs), 2)

    def test_a_link_in_no_handshake_is_a_mistake_of_the_caller(self) -> None:
        node = Node()
        self.assertRaises(KeyError, node.pairs.ready, "x")
        self.assertRaises(KeyError, node.welcome, "x")

    def test_ended_tells_the_peer_that_is_gone(self) -> None:
        node = Node()
        node.links_with("t")
        self.assertEqual(node.pairs.ended("t"), key_of(hello(), proven=True))
        self.assertIsNone(node.pairs.ended("t"))
        node.theirs("u")
        self.assertIsNone(node.pairs.ended("u"))
        node.mine("m")
        self.assertIsNone(node.pairs.ended("m"))

    def test_numbers_are_never_given_twice(self) -> None:
        node = Node()
        first = node.pairs.opened("x")
        node.pairs.ended("x")
        self.assertNotEqual(node.pairs.opened("x"), first)


class SeatTests(PairsTestCase):
    """A pair takes one seat when a link is welcomed."""

    def test_the_last_seat_and_one_more(self) -> None:
        node = Node(seats=1)
        self.assertDecides(node.theirs("t", LESSER), Welcomed())
        decision = node.theirs("x", GREATER, id="eve")
        self.assertDecides(decision, RefusalReason.FULL)
        node.pairs.ended("t")
        self.assertDecides(node.theirs("x", GREATER), Welcomed())

    def test_a_dial_takes_its_seat_when_it_is_welcome(self) -> None:
        node = Node(seats=1)
        node.mine("m", LESSER)
        node.mine("n", GREATER, id="eve")
        self.assertEqual(len(node.pairs), 0)
        self.assertDecides(node.welcome("m"), Established())
        self.assertDecides(node.welcome("n"), RefusalReason.FULL)
        self.assertEqual(len(node.pairs), 1)

    def test_a_pair_takes_one(self) -> None:
        """Whatever links it has, and whichever of them is kept."""
        node = Node(seats=1)
        node.theirs("t", LESSER)
        self.assertDecides(node.theirs("u", LESSER), Welcomed())
        node.mine("m", LESSER)
        self.assertEqual(len(node.pairs), 1)
        self.assertDecides(
            node.welcome("m"),
            Established(),
            closing=(
                Closing("t", CloseReason.CROSSED),
                Closing("u", CloseReason.CROSSED),
            ),
        )
        self.assertEqual(len(node.pairs), 1)

    def test_who_has_one(self) -> None:
        """From being welcomed on; to dial a peer is not enough."""
        node = Node()
        key = key_of(hello(LESSER), proven=True)
        self.assertFalse(node.pairs.has_seat(key))
        node.mine("m", LESSER)
        self.assertFalse(node.pairs.has_seat(key))
        node.welcome("m")
        self.assertTrue(node.pairs.has_seat(key))
        node.pairs.ended("m")
        self.assertFalse(node.pairs.has_seat(key))
        node.theirs("t", LESSER)
        self.assertTrue(node.pairs.has_seat(key))
        node.pairs.ended("t")
        self.assertFalse(node.pairs.has_seat(key))

    def test_who_comes_back_keeps_its_seat(self) -> None:
        node = Node(seats=1)
        node.links_with("t")
        decision = node.theirs("u", incarnation=life(2))
        replaced = Closing("t", CloseReason.REPLACED)
        self.assertDecides(decision, Welcomed(), closing=(replaced,))

    def test_no_seat_is_kept_for_a_later_life_of_a_dial(self) -> None:
        """Its links end all the same."""
        node = Node(seats=0)
        node.mine("m")
        decision = node.theirs("t", incarnation=life(2))
        replaced = Closing("m", CloseReason.REPLACED)
        self.assertDecides(decision, RefusalReason.FULL, closing=(replaced,))

    def test_there_may_be_fewer_seats_than_are_taken(self) -> None:
        node = Node()
        node.links_with("t", LESSER)
        node.seats = 0
        self.assertDecides(node.theirs("x", id="eve"), RefusalReason.FULL)


class ReplacementTests(PairsTestCase):
    """A proven peer comes back before its old link is known to be dead."""

    def test_it_names_the_link_that_ended(self) -> None:
        node = Node()
        node.links_with("t")
        decision = node.theirs("u", ended=node.numbers["t"])
        replaced = Closing("t", CloseReason.REPLACED)
        self.assertDecides(decision, Welcomed(), closing=(replaced,))
        self.assertIsNone(node.established())
        self.assertIsNone(node.pairs.ended("t"))
        self.assertDecides(node.pairs.ready("u"), Established())

    def test_it_names_our_own_dial(self) -> None:
        node = Node()
        node.mine("m")
        node.welcome("m")
        decision = node.theirs("t", ended=node.numbers["m"])
        replaced = Closing("m", CloseReason.REPLACED)
        self.assertDecides(decision, Welcomed(), closing=(replaced,))

    def test_it_names_another_link(self) -> None:
        node = Node()
        node.links_with("t")
        for ended in (node.numbers["t"] - 1, node.numbers["t"] + 1, 7, None):
            decision = node.theirs("u", ended=ended)
            self.assertDecides(decision, RefusalReason.DUPLICATE, probing=("t",))

    def test_only_a_dialler_is_believed(self) -> None:
        node = Node()
        node.links_with("t")
        decision = node.mine("m", ended=node.numbers["t"])
        self.assertDecides(decision, RefusalReason.DUPLICATE)

    def test_a_claim_is_not_believed(self) -> None:
        node = Node(proven=False)
        node.links_with("t")
        decision = node.theirs("u", ended=node.numbers["t"])
        self.assertDecides(decision, RefusalReason.DUPLICATE, probing=("t",))

    def test_a_later_life(self) -> None:
        """It ends every link of the life before, whoever dials."""
        for direction in Direction:
            node = Node()
            node.links_with("t")
            decision = node.hears("x", direction, hello(incarnation=life(2, "1")))
            incoming = direction is IN
            self.assertDecides(
                decision,
                Welcomed() if incoming else SayHello(None),
                closing=(Closing("t", CloseReason.REPLACED),),
            )
            self.assertIsNone(node.pairs.ended("t"))

    def test_a_later_life_ends_handshakes(self) -> None:
        """It is not refused for a dial that its former life awaits."""
        node = Node()
        node.mine("m", LESSER)
        node.mine("n", LESSER)
        decision = node.theirs("t", LESSER, incarnation=life(2))
        closing = tuple(Closing(link, CloseReason.REPLACED) for link in ("m", "n"))
        self.assertDecides(decision, Welcomed(), closing=closing)

    def test_an_older_life(self) -> None:
        node = Node()
        node.links_with("t", incarnation=life(2))
        decision = node.theirs("u", incarnation=life(1, "f"), ended=node.numbers["t"])
        self.assertDecides(decision, RefusalReason.OUTDATED, probing=("t",))
        decision = node.mine("m", incarnation=life(1, "f"))
        self.assertDecides(decision, RefusalReason.OUTDATED)
        self.assertEqual(node.established(), "t")

    def test_an_older_life_beside_a_handshake(self) -> None:
        node = Node()
        node.theirs("t", incarnation=life(2))
        decision = node.theirs("u", incarnation=life(1))
        self.assertDecides(decision, RefusalReason.OUTDATED)

    def test_two_lives_of_one_counter(self) -> None:
        """The data directory was copied, or its counter could not be written."""
        for nonce in ("0", "2"):
            node = Node()
            node.links_with("t", incarnation=life(1, "1"))
            decision = node.theirs("u", incarnation=life(1, nonce))
            self.assertDecides(decision, RefusalReason.CLONED, probing=("t",))
            node.pairs.ended("t")
            decision = node.theirs("u", incarnation=life(1, nonce))
            self.assertDecides(decision, Welcomed())

    def test_claimed_lives_are_peers(self) -> None:
        """Each newcomer has the others probed: one may be left of a former life."""
        node = Node(proven=False)
        node.links_with("t", incarnation=life(2))
        decision = node.theirs("u", incarnation=life(1))
        self.assertDecides(decision, Welcomed(), probing=("t",))
        node.pairs.ready("u")
        decision = node.theirs("v", incarnation=life(2, "f"))
        self.assertDecides(decision, Welcomed(), probing=("t", "u"))
        self.assertEqual(len(node.pairs), 3)


class CloneTests(PairsTestCase):
    """A peer that is replaced again and again is several nodes."""

    def replace(self, node: Node, counter: int) -> Decision[str]:
        decision = node.theirs(f"t{counter}", incarnation=life(counter))
        if decision.verdict == Welcomed():
            node.pairs.ready(f"t{counter}")
        return decision

    def replaced_twice(self) -> Node:
        """At 1000 and at 1010."""
        node = Node()
        node.links_with("t1")
        for counter in (2, 3):
            decision = self.replace(node, counter)
            closing = Closing(f"t{counter - 1}", CloseReason.REPLACED)
            self.assertDecides(decision, Welcomed(), closing=(closing,))
            node.now += 10
        return node

    def test_the_third_within_a_minute(self) -> None:
        self.assertEqual(REPLACEMENTS, 2)
        node = self.replaced_twice()
        node.now = 1000 + CLONE_WINDOW - 0.001
        decision = self.replace(node, 4)
        self.assertDecides(decision, RefusalReason.CLONED, probing=("t3",))
        self.assertEqual(node.established(), "t3")

    def test_the_third_after_a_minute(self) -> None:
        node = self.replaced_twice()
        node.now = 1000 + CLONE_WINDOW
        self.assertEqual(self.replace(node, 4).verdict, Welcomed())
        # And the next one again when the second is a minute ago.
        node.now = 1010 + CLONE_WINDOW - 0.001
        self.assertDecides(self.replace(node, 5), RefusalReason.CLONED, probing=("t4",))
        node.now = 1010 + CLONE_WINDOW
        self.assertEqual(self.replace(node, 5).verdict, Welcomed())

    def test_what_is_refused_does_not_count(self) -> None:
        node = self.replaced_twice()
        for _ in range(5):
            self.replace(node, 4)
        node.now = 1000 + CLONE_WINDOW
        self.assertEqual(self.replace(node, 4).verdict, Welcomed())

    def test_it_counts_however_the_peer_comes(self) -> None:
        """By its own dial, by ours, and on the same life."""
        node = Node()
        node.links_with("t")
        node.theirs("u", ended=node.numbers["t"])
        node.pairs.ready("u")
        self.assertEqual(node.mine("m", incarnation=life(2)).verdict, SayHello(None))
        node.welcome("m")
        decision = node.mine("n", incarnation=life(3))
        self.assertDecides(decision, RefusalReason.CLONED)
        decision = node.theirs("v", incarnation=life(2), ended=node.numbers["m"])
        self.assertDecides(decision, RefusalReason.CLONED, probing=("m",))

    def test_it_is_remembered_over_an_end(self) -> None:
        node = self.replaced_twice()
        node.pairs.ended("t3")
        self.assertDecides(self.replace(node, 4), Welcomed())
        decision = self.replace(node, 5)
        self.assertDecides(decision, RefusalReason.CLONED, probing=("t4",))

    def test_coming_back_is_no_replacement(self) -> None:
        node = Node()
        for counter in range(1, 10):
            self.assertEqual(self.replace(node, counter).verdict, Welcomed())
            node.pairs.ended(f"t{counter}")


class ProbeTests(PairsTestCase):
    """A newcomer that may be an old peer after a restart has its link probed."""

    def test_the_same_id_and_host(self) -> None:
        for direction in Direction:
            for proven in (True, False):
                node = Node(proven=proven)
                node.links_with("t")
                decision = node.hears("x", direction, hello(LESSER))
                self.assertNotIsInstance(decision.verdict, Unwanted)
                self.assertEqual(decision.probing, ("t",))
                self.assertEqual(decision.closing, ())

    def test_another_id_or_host(self) -> None:
        node = Node()
        node.links_with("t")
        self.assertDecides(node.theirs("u", LESSER, id="eve"), Welcomed())
        decision = node.hears("v", IN, hello("d" * 32), "192.0.2.3")
        self.assertDecides(decision, Welcomed())

    def test_without_a_seat(self) -> None:
        """So a ghost does not keep out who it was."""
        node = Node(seats=1)
        node.links_with("t")
        decision = node.theirs("u", LESSER)
        self.assertDecides(decision, RefusalReason.FULL, probing=("t",))

    def test_handshakes_are_not_probed(self) -> None:
        node = Node()
        node.theirs("t")
        self.assertDecides(node.theirs("u", LESSER), Welcomed())


class MemoryTests(PairsTestCase):
    """What a dialler says of the last link that ended."""

    def dials(self, node: Node, identity: str = GREATER, **said: Any) -> int | None:
        verdict = node.mine("dial", identity, **said).verdict
        assert isinstance(verdict, SayHello)
        node.pairs.ended("dial")
        return verdict.ended

    def test_an_established_link(self) -> None:
        node = Node()
        node.links_with("t", link=41)
        node.pairs.ended("t")
        self.assertEqual(self.dials(node), 41)
        # The dial itself was never welcomed, and changes nothing.
        self.assertEqual(self.dials(node), 41)

    def test_a_link_that_was_welcomed_here(self) -> None:
        """It may be established there."""
        node = Node()
        node.theirs("t", link=41)
        node.pairs.ended("t")
        self.assertEqual(self.dials(node), 41)

    def test_a_replaced_link(self) -> None:
        node = Node()
        node.links_with("t", link=41)
        node.theirs("u", link=42, ended=node.numbers["t"])
        self.assertEqual(self.dials(node), 41)

    def test_the_last_one(self) -> None:
        node = Node()
        for number in (41, 43, 42):
            node.links_with("t", link=number)
            node.pairs.ended("t")
        self.assertEqual(self.dials(node), 42)

    def test_a_link_with_another_life(self) -> None:
        """Its numbers mean nothing there."""
        for proven in (True, False):
            node = Node(proven=proven)
            node.links_with("t", link=41)
            node.pairs.ended("t")
            self.assertIsNone(self.dials(node, incarnation=life(2)))
            self.assertEqual(self.dials(node), 41)

    def test_the_bound(self) -> None:
        """One peer more, and the one whose link ended first is forgotten."""
        node = Node()
        names = [f"{number:032x}" for number in range(REMEMBERED + 1)]
        for number, identity in enumerate(names[:-1]):
            node.links_with("t", identity, link=number)
            node.pairs.ended("t")
        self.assertEqual(self.dials(node, names[0]), 0)
        node.links_with("t", names[-1], link=REMEMBERED)
        node.pairs.ended("t")
        self.assertIsNone(self.dials(node, names[0]))
        self.assertEqual(self.dials(node, names[1]), 1)
        self.assertEqual(self.dials(node, names[-1]), REMEMBERED)

    def test_the_bound_is_by_what_happened_last(self) -> None:
        node = Node()
        names = [f"{number:032x}" for number in range(REMEMBERED + 1)]
        for identity in (*names[:-1], names[0], names[-1]):
            node.links_with("t", identity)
            node.pairs.ended("t")
        self.assertEqual(self.dials(node, names[0]), 7)
        self.assertIsNone(self.dials(node, names[1]))


class PairsMachine(RuleBasedStateMachine):
    """Many peers, each in several lives, say what they like on any link."""

    SEATS = 2

    def __init__(self) -> None:
        super().__init__()
        self.names = (f"link{number}" for number in count())
        self.node = Node(seats=self.SEATS)
        #: What the caller knows: the peer of each link, and how far it has come.
        self.keys: dict[str, PeerKey] = {}
        self.mine: set[str] = set()
        self.theirs: set[str] = set()
        self.established: set[str] = set()

    @initialize(proven=st.booleans())
    def start(self, proven: bool) -> None:
        self.node = Node(proven=proven, seats=self.SEATS)

    def pick(self, number: int, links: set[str]) -> str:
        return sorted(links)[number % len(links)]

    def forget(self, link: str) -> None:
        self.node.pairs.ended(link)
        for links in (self.mine, self.theirs, self.established):
            links.discard(link)

    def carry_out(self, link: str, decision: Decision[str]) -> None:
        assert self.established.issuperset(decision.probing)
        assert link not in decision.probing
        for closing in decision.closing:
            other = closing.link
            assert other != link
            assert self.keys[other] == decision.key
            if other in self.established:
                # Only who proves to be the peer puts an end to its link.
                assert closing.reason is CloseReason.REPLACED
                assert self.node.proven
            else:
                assert other in self.mine | self.theirs
            self.forget(other)
        self.keys[link] = decision.key
        if isinstance(decision.verdict, Unwanted):
            self.forget(link)

    @rule(
        direction=st.sampled_from(Direction),
        identity=st.sampled_from([LESSER, GREATER, LESSER, GREATER, OURS]),
        counter=st.sampled_from([1, 1, 2, 3]),
        nonce=st.sampled_from("0001"),
        id=st.sampled_from(["bob", "eve"]),
        host=st.sampled_from(["192.0.2.2", "192.0.2.3"]),
        comes_back=st.booleans(),
    )
    def says_hello(
        self,
        direction: Direction,
        identity: str,
        counter: int,
        nonce: str,
        id: str,
        host: str,
        comes_back: bool,
    ) -> None:
        known: dict[str, Any] = {"incarnation": life(counter, nonce), "id": id}
        old = self.node.established(identity, **known)
        if comes_back and old is not None:
            known["ended"] = self.node.numbers[old]
        said = hello(identity, **known)
        link = next(self.names)
        decision = self.node.hears(link, direction, said, host)
        self.carry_out(link, decision)
        match decision.verdict:
            case SayHello():
                self.mine.add(link)
            case Welcomed():
                self.theirs.add(link)

    @precondition(lambda self: self.mine)
    @rule(number=st.integers(0))
    def says_welcome(self, number: int) -> None:
        link = self.pick(number, self.mine)
        decision = self.node.welcome(link)
        self.carry_out(link, decision)
        self.mine.discard(link)
        if decision.verdict == Established():
            self.established.add(link)

    @precondition(lambda self: self.theirs)
    @rule(number=st.integers(0))
    def says_ready(self, number: int) -> None:
        link = self.pick(number, self.theirs)
        decision = self.node.pairs.ready(link)
        self.carry_out(link, decision)
        self.theirs.discard(link)
        self.established.add(link)

    @precondition(lambda self: self.mine | self.theirs | self.established)
    @rule(number=st.integers(0))
    def ends(self, number: int) -> None:
        link = self.pick(number, self.mine | self.theirs | self.established)
        was = self.keys[link] if link in self.established else None
        assert self.node.pairs.ended(link) == was
        self.forget(link)

    @rule(seconds=st.sampled_from([1.0, 30.0, CLONE_WINDOW]))
    def waits(self, seconds: float) -> None:
        self.node.now += seconds

    @invariant()
    def each_peer_has_one_link(self) -> None:
        peers = {self.keys[link]: link for link in self.established}
        assert len(peers) == len(self.established)
        for key, link in peers.items():
            assert self.node.pairs.established(key) == link

    @invariant()
    def an_established_pair_has_nothing_under_way(self) -> None:
        linked = {self.keys[link] for link in self.established}
        under_way = {self.keys[link] for link in self.mine | self.theirs}
        assert linked.isdisjoint(under_way)

    @invariant()
    def each_welcomed_pair_has_a_seat(self) -> None:
        seated = {self.keys[link] for link in self.theirs | self.established}
        assert len(self.node.pairs) == len(seated) <= self.SEATS

    @invariant()
    def nothing_else_is_held(self) -> None:
        held = vars(self.node.pairs)
        links = self.mine | self.theirs | self.established
        assert set(held["_numbers"]) == set(held["_keys"]) == links
        assert set(held["_pairs"]) == {self.keys[link] for link in links}


class AnythingTests(SynchronousTestCase):
    def test_anything_in_any_order(self) -> None:
        run_state_machine_as_test(PairsMachine, settings=many(60, 40))
