"""Handshakes of one pair of nodes, in every order in which things can happen.

Two nodes run the real tables of `handshake` and `pairs`.  What travels on one link in
one direction stays in order; apart from that anything may come next.  The search
visits every state of the two nodes and the wires between them once.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any, assert_never

from twisted.trial.unittest import SynchronousTestCase

from meshproto.events import CloseReason, Direction
from meshproto.rules.effects import (
    Ask,
    Effect,
    End,
    Establish,
    Greet,
    Introduce,
    Notify,
    Send,
    TurnedAway,
)
from meshproto.rules.handshake import Handshake, State
from meshproto.rules.pairs import Decision, Pairs
from meshproto.wire.messages import (
    Chats,
    Greeting,
    Hello,
    Incarnation,
    Message,
    Ready,
    RefusalReason,
    Welcome,
)
from tests.slow import slow

SIDES = "AB"
#: A link is named after the node that dials it.
Link = str
Side = str
IDENTITIES = {
    True: {"A": "b" * 32, "B": "a" * 32},
    False: {"A": "a" * 32, "B": "b" * 32},
}
LIFE = {"A": Incarnation(1, "0" * 32), "B": Incarnation(1, "1" * 32)}
SECOND_LIFE = Incarnation(2, "2" * 32)
DATA = Chats(("data",))
GREETING = Greeting("node", "node", mesh2=True)


@dataclass(frozen=True)
class Dialled:
    """A connection that the listener has not accepted yet."""


@dataclass(frozen=True)
class Closed:
    """The end of what arrives on a link."""


On = Message | Dialled | Closed


def other(side: Side) -> Side:
    return "B" if side == "A" else "A"


def seen_whole(pairs: Pairs[Link]) -> Hashable:
    """All that a node's pairs hold, as one value."""
    return tuple(
        frozenset(value.items())
        for value in vars(pairs).values()
        if isinstance(value, dict)
    )


def forked(pairs: Pairs[Link]) -> Pairs[Link]:
    """A copy; what the dictionaries hold never changes."""
    twin = copy.copy(pairs)
    for name, value in vars(pairs).items():
        if isinstance(value, dict):
            setattr(twin, name, value.copy())
    return twin


def resumed(end: Handshake) -> Handshake:
    """A copy."""
    twin = Handshake(end.direction)
    twin.state = end.state
    return twin


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What may happen.

    ``dials`` are links that are dialled at any time.  ``anew`` are dialled when their
    dialler has had links and has lost them all, ``later`` together when nothing else
    moves and no link is left.  ``cuts`` is how many links may be cut.  The ``deaf``
    node hears of a cut only when it probes the link, or gives up a handshake.
    ``restarts`` says whether B may start anew, once.
    """

    a_wins: bool
    proven: bool
    dials: tuple[Link, ...]
    anew: tuple[Link, ...] = ()
    later: tuple[Link, ...] = ()
    cuts: int = 0
    deaf: Side | None = None
    restarts: bool = False


@dataclass
class Tally:
    """What has happened in any of the runs of a search."""

    refusals: Counter[RefusalReason] = field(default_factory=Counter)
    probes: Counter[Link] = field(default_factory=Counter)


class World:
    """Two nodes, and what is on its way between them."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        identities = IDENTITIES[scene.a_wins]
        self.pairs: dict[Side, Pairs[Link]] = {
            side: Pairs(identities[side], LIFE[side], "", proven=scene.proven)
            for side in SIDES
        }
        # Numbers tell links apart, and their order means nothing: so each link has
        # its own from the start, and there are fewer states.
        self.numbers = {
            (link, side): self.pairs[side].opened(link)
            for side in SIDES
            for link in sorted({*scene.dials, *scene.anew, *scene.later})
        }
        self.inside = {side: seen_whole(self.pairs[side]) for side in SIDES}
        self.ends: dict[tuple[Link, Side], Handshake] = {}
        self.wires: dict[tuple[Link, Side], tuple[On, ...]] = {}
        self.dialled: frozenset[Link] = frozenset()
        self.cut: frozenset[Link] = frozenset()
        self.probed: frozenset[tuple[Link, Side]] = frozenset()
        self.heard: frozenset[tuple[Link, Side]] = frozenset()
        self.restarted = False
        self.may_lose = scene.cuts > 0 or scene.restarts
        self.tally = Tally()

    def after(self, sides: str, move: Callable[..., None], *args: object) -> World:
        """The world in which something has happened, to these nodes alone."""
        twin = copy.copy(self)
        twin.pairs = self.pairs.copy()
        twin.ends = self.ends.copy()
        twin.wires = self.wires.copy()
        twin.numbers = self.numbers.copy()
        twin.inside = self.inside.copy()
        for side in sides:
            twin.pairs[side] = forked(self.pairs[side])
            for at, end in self.ends.items():
                if at[1] == side:
                    twin.ends[at] = resumed(end)
        move(twin, *args)
        for side in sides:
            twin.inside[side] = seen_whole(twin.pairs[side])
        return twin

    def key(self) -> Hashable:
        """Equal for worlds in which everything is the same."""
        return (
            *self.inside.values(),
            frozenset((at, end.state) for at, end in self.ends.items()),
            frozenset(item for item in self.wires.items() if item[1]),
            self.dialled,
            self.cut,
            self.restarted,
            self.probed,
            self.heard,
        )

    # What can happen next.

    def moves(self) -> Iterator[World]:
        scene = self.scene
        moving = False
        for (link, side), wire in self.wires.items():
            if not wire or not self.is_heard(link, side):
                continue
            moving = True
            yield self.after(side, World.arrive, link, side)
        for link in scene.dials:
            if link not in self.dialled:
                moving = True
                yield self.after(link[0], World.dial, link)
        for link in scene.anew:
            if link not in self.dialled and self.has_lost_all(link[0]):
                moving = True
                yield self.after(link[0], World.dial, link)
        if len(self.cut) < scene.cuts:
            for link in sorted(self.dialled):
                if any(self.is_live(link, side) for side in SIDES):
                    yield self.after("", World.cut_off, link)
        if scene.restarts and not self.restarted:
            yield self.after("B", World.restart)
        if moving:
            return
        for (link, side), wire in self.wires.items():
            if wire and self.ends[link, side].state is not State.ESTABLISHED:
                yield self.after(side, World.arrive, link, side)
        if not any(self.links(side) for side in SIDES):
            if not self.dialled.issuperset(scene.later):
                yield self.after(SIDES, World.dial_all, scene.later)

    def is_heard(self, link: Link, side: Side) -> bool:
        """Whether an end hears what arrives; a silent cut it does not."""
        silent = side == self.scene.deaf and link in self.cut
        return not silent or (link, side) in self.probed

    def is_live(self, link: Link, side: Side) -> bool:
        end = self.ends.get((link, side))
        return end is not None and end.state is not State.ENDED

    def has_lost_all(self, side: Side) -> bool:
        mine = [end for (_, at), end in self.ends.items() if at == side]
        return bool(mine) and all(end.state is State.ENDED for end in mine)

    def links(self, side: Side) -> list[Link]:
        """The established links of a node."""
        return [
            link
            for (link, at), end in self.ends.items()
            if at == side and end.state is State.ESTABLISHED
        ]

    # What happens.

    def dial_all(self, links: tuple[Link, ...]) -> None:
        for link in links:
            self.dial(link)

    def dial(self, link: Link) -> None:
        self.dialled |= {link}
        self.put(link, other(link[0]), Dialled())
        self.open(link, link[0], Direction.OUTGOING)

    def open(self, link: Link, side: Side, direction: Direction) -> None:
        """A connection is open at an end, and greeted.

        A dialler's greeting is what its listener accepts; the answer comes right
        before HELLO, and decides nothing.
        """
        end = self.ends[link, side] = Handshake(direction)
        self.carry_out(link, side, end.receive(GREETING))

    def cut_off(self, link: Link) -> None:
        """What is on its way is lost; each end hears of it some time."""
        self.cut |= {link}
        for side in SIDES:
            self.wires[link, side] = (Closed(),) if self.is_live(link, side) else ()

    def restart(self) -> None:
        """B dies and comes back; its system closes what it had."""
        self.restarted = True
        identity = IDENTITIES[self.scene.a_wins]["B"]
        self.pairs["B"] = Pairs(identity, SECOND_LIFE, "", proven=self.scene.proven)
        for link, side in self.numbers:
            if side == "A":
                continue
            end = self.ends.get((link, side))
            if end is None:
                self.numbers[link, side] = self.pairs[side].opened(link)
            else:
                end.end()
                self.cut_off(link)

    def arrive(self, link: Link, side: Side) -> None:
        first, *rest = self.wires[link, side]
        self.wires[link, side] = tuple(rest)
        match first:
            case Dialled():
                self.open(link, side, Direction.INCOMING)
            case Closed():
                if self.is_live(link, side):
                    self.drop(link, side)
            case _:
                end = self.ends[link, side]
                self.carry_out(link, side, end.receive(first))

    def put(self, link: Link, to: Side, what: On) -> None:
        # What is sent to an end that has closed goes nowhere.
        end = self.ends.get((link, to))
        if link in self.cut or (end is not None and end.state is State.ENDED):
            return
        self.wires[link, to] = (*self.wires.get((link, to), ()), what)

    def carry_out(self, link: Link, side: Side, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            match effect:
                case Send(message):
                    self.put(link, other(side), message)
                case Greet(mesh2):
                    assert mesh2
                case Introduce(ended):
                    self.put(link, other(side), self.hello(link, side, ended))
                case Ask(message):
                    assert isinstance(message, Hello | Welcome | Ready)
                    decision = self.ask(link, side, message)
                    for closing in decision.closing:
                        self.close(closing.link, side, closing.reason)
                    if self.scene.deaf:
                        self.probed |= {(each, side) for each in decision.probing}
                    self.tally.probes.update(decision.probing)
                    end = self.ends[link, side]
                    self.carry_out(link, side, end.judge(decision.verdict))
                case Establish():
                    self.put(link, other(side), DATA)
                case Notify():
                    self.heard |= {(link, side)}
                case TurnedAway(reason):
                    assert isinstance(reason, RefusalReason)
                    self.tally.refusals[reason] += 1
                case End(reason):
                    self.close(link, side, reason)
                case _:
                    assert_never(effect)

    def hello(self, link: Link, side: Side, ended: int | None) -> Hello:
        return Hello(
            identity=IDENTITIES[self.scene.a_wins][side],
            incarnation=self.life(side),
            link=self.numbers[link, side],
            ended=ended,
            id=side,
            name=side,
        )

    def life(self, side: Side) -> Incarnation:
        return SECOND_LIFE if side == "B" and self.restarted else LIFE[side]

    def ask(
        self, link: Link, side: Side, message: Hello | Welcome | Ready
    ) -> Decision[Link]:
        pairs = self.pairs[side]
        match message:
            case Hello():
                direction = self.ends[link, side].direction
                return pairs.hello(link, direction, message, "", seats=1, now=0.0)
            case Welcome():
                return pairs.welcome(link, seats=1)
            case Ready():
                return pairs.ready(link)

    def close(self, link: Link, side: Side, reason: CloseReason) -> None:
        """End a link here; the far end hears of it after all that was sent."""
        assert reason is not CloseReason.PROTOCOL_ERROR, f"{link} at {side}"
        self.put(link, other(side), Closed())
        self.drop(link, side)

    def drop(self, link: Link, side: Side) -> None:
        end = self.ends[link, side]
        lost = link in self.links(side) or (link, side) in self.heard
        assert self.may_lose or not lost, f"{side} loses {link} and its data"
        end.end()
        self.wires[link, side] = ()
        self.pairs[side].ended(link)

    # What is true.

    def check(self) -> None:
        """What holds at every moment."""
        for side in SIDES:
            links = self.links(side)
            assert len(links) <= 1, f"{side} has {links}"
            seats = len(self.pairs[side])
            assert seats <= 1, f"{side} has given {seats} seats"

    def check_rest(self) -> list[Link]:
        """What holds when nothing more can happen; returns the link that is left."""
        assert self.links("A") == self.links("B"), (self.links("A"), self.links("B"))
        links = self.links("A")
        for at, end in self.ends.items():
            alive = end.state is not State.ENDED
            assert alive == (at[0] in links), f"{at} is left in {end.state}"
        for side in SIDES:
            held: Any = vars(self.pairs[side])
            assert [n for n in held["_numbers"] if (n, side) in self.ends] == links
            assert list(held["_keys"]) == links
            assert len(held["_pairs"]) == len(self.pairs[side]) == len(links)
        heard = {(link, side) for link in links for side in SIDES}
        if self.may_lose:
            assert self.heard >= heard
        else:
            assert self.heard == heard
        return links


@dataclass(frozen=True)
class Found:
    """What a search has come across.

    ``ends`` counts the link that is left, or None, where nothing more can happen.
    """

    states: int
    ends: Counter[Link | None]
    tally: Tally


def search(scene: Scene) -> Found:
    """Visit every state of a scene; the world checks itself in each."""
    start = World(scene)
    seen = {start.key()}
    ahead = [start]
    ends: Counter[Link | None] = Counter()
    while ahead:
        world = ahead.pop()
        world.check()
        is_rest = True
        for after in world.moves():
            is_rest = False
            key = after.key()
            if key not in seen:
                seen.add(key)
                ahead.append(after)
        if is_rest:
            ends[next(iter(world.check_rest()), None)] += 1
    return Found(len(seen), ends, start.tally)


class CrossingTestCase(SynchronousTestCase):
    def search(
        self,
        minimum: int,
        *dials: Link,
        proven: tuple[bool, ...] = (True, False),
        a_wins: tuple[bool, ...] = (True, False),
        **scene: Any,
    ) -> list[Found]:
        """Search a scene, unless told otherwise for either order of the identities.

        There have to be so many states at least, so that the search cannot shrink
        unseen.
        """
        found = []
        for is_proven, wins in product(proven, a_wins):
            one = search(Scene(a_wins=wins, proven=is_proven, dials=dials, **scene))
            self.assertGreaterEqual(one.states, minimum)
            found.append(one)
        return found

    def assertLinked(self, found: list[Found], *links: Link | None) -> None:
        """The pair always ends with one of these links, and with each some time."""
        for one in found:
            self.assertEqual(set(one.ends), set(links))


class CrossingTests(CrossingTestCase):
    """Nothing fails: one link is left, no data is lost, and nothing is waited for."""

    def test_both_dial(self) -> None:
        found = self.search(98, "A1", "B1")
        self.assertLinked(found, "A1", "B1")
        for one in found:
            self.assertEqual(
                set(one.tally.refusals),
                {RefusalReason.CROSSING, RefusalReason.DUPLICATE},
            )

    def test_one_dials_twice(self) -> None:
        """By two addresses of the peer; nobody has to be refused."""
        found = self.search(105, "A1", "A2")
        self.assertLinked(found, "A1", "A2")

    @slow
    def test_one_dials_twice_and_the_other_once(self) -> None:
        found = self.search(987, "A1", "A2", "B1")
        self.assertLinked(found, "A1", "A2", "B1")

    @slow
    def test_both_dial_twice(self) -> None:
        """The same seen from either node."""
        links = ("A1", "A2", "B1", "B2")
        found = self.search(9711, *links, proven=(True,), a_wins=(True,))
        self.assertLinked(found, "A1", "A2", "B1", "B2")


class CutTests(CrossingTestCase):
    """Links die: one link at most is left, the same at both, and one can dial again.

    What dials again ``later`` starts from every state in which no link is left.
    """

    @slow
    def test_one_of_two_crossing_dials_is_cut(self) -> None:
        found = self.search(2153, "A1", "B1", cuts=1, later=("A2", "B2"))
        self.assertLinked(found, "A1", "B1", "A2", "B2")

    def test_one_of_two_dials_of_one_node_is_cut(self) -> None:
        found = self.search(835, "A1", "A2", cuts=1, later=("B1",))
        self.assertLinked(found, "A1", "A2", "B1")

    @slow
    def test_one_of_three_dials_is_cut(self) -> None:
        """Where the node that dials twice wins."""
        self.cut_one_of_three(11295, a_wins=True)

    @slow
    def test_one_of_three_dials_is_cut_and_the_single_one_wins(self) -> None:
        self.cut_one_of_three(11561, a_wins=False)

    def cut_one_of_three(self, minimum: int, *, a_wins: bool) -> None:
        scene: dict[str, Any] = {"cuts": 1, "later": ("B2",)}
        found = self.search(
            minimum, "A1", "A2", "B1", proven=(True,), a_wins=(a_wins,), **scene
        )
        self.assertLinked(found, "A1", "A2", "B1", "B2")

    @slow
    def test_two_links_are_cut(self) -> None:
        """Where the second cut is of the last dial nothing is left."""
        found = self.search(2429, "A1", "B1", cuts=2, later=("A2",))
        self.assertLinked(found, "A2", None)

    def test_both_dial_anew_at_once(self) -> None:
        """Each as soon as it hears of a cut, while the other has not yet."""
        found = self.search(739, "A1", anew=("A2", "B2"), cuts=1, later=("A3", "B3"))
        proven, claimed = found[:2], found[2:]
        self.assertLinked(proven, "A2", "B2")
        self.assertLinked(claimed, "A2", "B2", "A3", "B3")

    @slow
    def test_both_dial_anew_after_crossing(self) -> None:
        found = self.search(3101, "A1", "B1", anew=("A2",), cuts=1, later=("B2",))
        self.assertLinked(found, "A1", "B1", "A2", "B2")


class SilenceTests(CrossingTestCase):
    """Only one node hears that a link is cut; the other believes in it."""

    def test_the_dialler_comes_back(self) -> None:
        """Proven, it names the link that ended; claimed, the link is probed first."""
        found = self.search(99, "A1", anew=("A2",), later=("A3",), cuts=1, deaf="B")
        proven, claimed = found[:2], found[2:]
        self.assertLinked(proven, "A2")
        self.assertLinked(claimed, "A2", "A3")
        for one in proven:
            self.assertEqual(one.tally.probes["A1"], 0)
        for one in claimed:
            self.assertGreater(one.tally.probes["A1"], 0)

    def test_the_listener_comes_back(self) -> None:
        """A listener names a link that it welcomed: it may be established there."""
        found = self.search(
            266, "B1", anew=("A2",), later=("A3", "B3"), cuts=1, deaf="B"
        )
        for one in found:
            self.assertNotIn(None, one.ends)
        for one in found[:2]:
            self.assertEqual(one.tally.probes["B1"], 0)

    @slow
    def test_after_crossing(self) -> None:
        found = self.search(
            2338, "A1", "B1", anew=("A2",), later=("A3", "B3"), cuts=1, deaf="B"
        )
        self.assertLinked(found, "A1", "B1", "A2", "A3", "B3")


class RestartTests(CrossingTestCase):
    """B starts anew in the middle of it; its identity is proven."""

    @slow
    def test_it_dials_again(self) -> None:
        found = self.search(
            2831, "A1", "B1", anew=("B2",), restarts=True, proven=(True,)
        )
        self.assertLinked(found, "A1", "B1", "B2")

    def test_both_dial_again(self) -> None:
        found = self.search(558, "A1", anew=("A2", "B2"), restarts=True, proven=(True,))
        self.assertLinked(found, "A1", "A2", "B2")

    @slow
    def test_the_other_did_not_hear_of_it(self) -> None:
        found = self.search(
            2043, "A1", "B1", anew=("B2",), restarts=True, deaf="A", proven=(True,)
        )
        self.assertLinked(found, "A1", "B1", "B2")
