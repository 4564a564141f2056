"""Two nodes that dial each other at once, in every order in which lines arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations, product

from twisted.trial.unittest import SynchronousTestCase

from meshproto.events import Direction
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.registry import (
    Crossed,
    Drained,
    Duplicate,
    Full,
    Itself,
    Registry,
)
from meshproto.wire.messages import Greeting
from tests.fakes import FakeLink
from tests.slow import slow

IN = Direction.INCOMING
OUT = Direction.OUTGOING


@dataclass
class Side:
    """One of two nodes that dial each other: its registry and its two links."""

    registry: Registry
    links: dict[str, FakeLink]

    def kept(self) -> list[tuple[str, str | None]]:
        """For every peer: which link goes on, and which one is drained."""
        name_of: dict[IPeerLink, str] = {}
        for name, link in self.links.items():
            name_of[link] = name
        return [
            (name_of[entry.link], name_of[entry.draining] if entry.draining else None)
            for entry in self.registry.entries()
        ]


class Pair:
    """Two nodes with a link each way: ``a`` was dialled by a, ``b`` by b.

    The side in ``merges_at_once`` begins to merge as soon as it has two links,
    any other when the test says so.
    Each step is one line that arrives at one side.  A step whose line was
    never sent, because the far end refused or ended the link, does nothing.
    """

    def __init__(
        self,
        ids: tuple[str, str],
        ips: tuple[str, str],
        *,
        same_machine: bool = False,
        seats: int = 20,
        merges_at_once: str = "ab",
    ) -> None:
        self.ids = dict(zip("ab", ids, strict=True))
        ip = dict(zip("ab", ips, strict=True))
        self.sides = {
            me: Side(
                Registry(self.ids[me], seats),
                {
                    dialler: FakeLink(
                        OUT if dialler == me else IN,
                        remote_host=ip[other],
                        local_host=ip[me],
                        same_machine=same_machine,
                    )
                    for dialler in "ab"
                },
            )
            for me, other in ("ab", "ba")
        }
        self.welcomed: set[str] = set()
        self.ended: set[str] = set()
        self.merges_at_once = merges_at_once

    def judge(self, me: str, link: str, *, confirmed: bool = False) -> None:
        if link in self.ended:
            return
        side = self.sides[me]
        other = "b" if me == "a" else "a"
        verdict = side.registry.admit(
            side.links[link], Greeting(self.ids[other], "x"), 0.0, confirmed=confirmed
        )
        if isinstance(verdict, Duplicate | Full | Itself):
            self.ended.add(link)
            for each in self.sides.values():
                each.registry.remove(each.links[link])
            return
        if me != link:
            self.welcomed.add(link)
        if isinstance(verdict, Crossed) and me in self.merges_at_once:
            side.registry.merge(verdict.entry)

    def merge(self) -> None:
        """Both sides have waited long enough."""
        for side in self.sides.values():
            for entry in side.registry.entries():
                if entry.second is not None:
                    side.registry.merge(entry)

    def greeting(self, link: str) -> None:
        """The listener reads who dialled it."""
        self.judge("b" if link == "a" else "a", link)

    def answer(self, link: str) -> None:
        """The dialler reads the welcome."""
        if link in self.welcomed:
            self.judge(link, link)

    def confirm(self, me: str, link: str) -> None:
        """One side of a link learns that its twin is no mirror image."""
        self.judge(me, link, confirmed=True)


Step = Callable[[Pair], None]

GREETING_ANSWER: dict[str, tuple[str, ...]] = {
    "answer a": ("greeting a",),
    "answer b": ("greeting b",),
    "greeting a": (),
    "greeting b": (),
}
#: With twins each side of a link has to be convinced, after the welcome.
WITH_CONFIRMATIONS: dict[str, tuple[str, ...]] = {
    **GREETING_ANSWER,
    "a confirms a": ("answer a",),
    "b confirms a": ("answer a",),
    "a confirms b": ("answer b",),
    "b confirms b": ("answer b",),
}


def orders(steps: dict[str, tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """Every order of the steps in which nothing comes before its cause."""
    for order in permutations(steps):
        place = {step: number for number, step in enumerate(order)}
        if all(place[c] < place[s] for s in steps for c in steps[s]):
            yield order


def run(pair: Pair, order: tuple[str, ...]) -> None:
    for step in order:
        match step.split():
            case ["greeting", link]:
                pair.greeting(link)
            case ["answer", link]:
                pair.answer(link)
            case [me, "confirms", link]:
                pair.confirm(me, link)


class SimultaneousDialTests(SynchronousTestCase):
    """Two nodes dial each other at once: both sides keep the same link."""

    def agree(
        self,
        ids: tuple[str, str],
        ips: tuple[str, str],
        *,
        winner: str,
        steps: dict[str, tuple[str, ...]] = GREETING_ANSWER,
        same_machine: bool = False,
        seats: int = 20,
    ) -> set[str]:
        """Which links survived, over every order of the steps and of the merges.

        ``winner`` dialled the one that has to survive when both came about.
        """
        survivors = set()
        for order, merges in product(orders(steps), ("", "a", "b", "ab")):
            pair = Pair(
                ids,
                ips,
                same_machine=same_machine,
                seats=seats,
                merges_at_once=merges,
            )
            run(pair, order)
            pair.merge()
            kept = pair.sides["a"].kept()
            self.assertEqual(kept, pair.sides["b"].kept(), order)
            self.assertEqual(len(kept), 1, order)
            (survivor, loser) = kept[0]
            if loser is not None:
                self.assertEqual(survivor, winner, order)
                self.assertNotEqual(survivor, loser)
                # Each side reads the loser to its end; the peer stays.
                for side in pair.sides.values():
                    departure = side.registry.remove(side.links[loser])
                    self.assertIsInstance(departure, Drained)
                    self.assertEqual(side.kept(), [(survivor, None)])
            else:
                self.assertEqual(pair.ended, {"a", "b"} - {survivor}, order)
            survivors.add(survivor)
        return survivors

    def test_different_ids(self) -> None:
        """The link that the greater ID dialled, whoever has the greater IP."""
        here, there = "192.0.2.1", "192.0.2.2"
        for ids, winner in (
            (("alice", "bob"), "b"),
            (("bob", "alice"), "a"),
            (("peer-8001", "peer-8002"), "b"),
            (("peer-9", "peer-10"), "a"),
            (("bob", "Bob"), "a"),
        ):
            for ips in ((here, there), (there, here)):
                survivors = self.agree(ids, ips, winner=winner)
                # When one side was quick enough, its link is the only one.
                self.assertEqual(survivors, {"a", "b"})

    def test_on_one_machine(self) -> None:
        self.agree(
            ("alice", "bob"),
            ("127.0.0.1", "127.0.0.1"),
            winner="b",
            same_machine=True,
        )

    def test_with_one_seat_each(self) -> None:
        self.agree(("alice", "bob"), ("192.0.2.1", "192.0.2.2"), winner="b", seats=1)

    @slow
    def test_twins(self) -> None:
        """Equal IDs on two hosts: the greater IP, as a number, decides."""
        for ips, winner in (
            (("192.0.2.1", "192.0.2.2"), "b"),
            (("192.0.2.2", "192.0.2.1"), "a"),
            (("10.0.0.9", "10.0.0.10"), "b"),
            (("10.0.0.10", "9.0.0.0"), "a"),
            (("2001:db8::9", "2001:db8::10"), "b"),
            (("2001:db8::a", "2001:db8::1"), "a"),
        ):
            survivors = self.agree(
                ("peer-8001", "peer-8001"),
                ips,
                winner=winner,
                steps=WITH_CONFIRMATIONS,
            )
            self.assertEqual(survivors, {"a", "b"})

    def test_there_are_orders_of_every_kind(self) -> None:
        """The model loses no case."""
        self.assertEqual(len(list(orders(GREETING_ANSWER))), 6)
        self.assertEqual(len(list(orders(WITH_CONFIRMATIONS))), 280)

    def test_ipv6_is_greater_than_ipv4(self) -> None:
        """Twins of which one dials by IPv4 and the other by IPv6."""
        registry = Registry("twin", 20)
        hello = Greeting("twin", "twin")
        for ours, theirs, survives in (
            ("192.0.2.1", "2001:db8::2", "theirs"),
            ("2001:db8::1", "192.0.2.2", "ours"),
        ):
            registry = Registry("twin", 20)
            dialled = FakeLink(OUT, local_host=ours, remote_host="peer")
            accepted = FakeLink(IN, local_host="me", remote_host=theirs)
            dialled.remote_host = theirs
            registry.admit(dialled, hello, 0.0, confirmed=True)
            verdict = registry.admit(accepted, hello, 0.0, confirmed=True)
            assert isinstance(verdict, Crossed)
            pair = (dialled, accepted) if survives == "ours" else (accepted, dialled)
            self.assertEqual(registry.ranked(verdict.entry), pair)
