"""What a seed's run is made of: a mesh, and the faults that befall it.

All of it is drawn before the run begins and is plain data.  So a fault can be
left out, and a mesh be made smaller, while everything else stays as it was.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from itertools import combinations
from math import inf
from typing import Any

from meshproto.config import PROTOCOLS
from meshproto.testing._handshake import STEPS, TROUBLES

#: Places of two nodes in the mesh.
Pair = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong, or that somebody does.

    It befalls ``nodes``, or the ways between ``pairs``, ``at`` so many seconds
    after the run has begun, for ``seconds`` (for ever: until the faults end).
    ``value`` means something else for each kind.  ``step`` is the one of a handshake
    that goes wrong.  A node that comes back speaks ``protocols``.
    """

    number: int
    kind: str
    at: float
    nodes: tuple[int, ...] = ()
    pairs: tuple[Pair, ...] = ()
    one_way: bool = False
    seconds: float = inf
    value: float = 0.0
    step: str = ""
    protocols: tuple[str, ...] = ()

    def __str__(self) -> str:
        words = [f"{self.number:3}  {self.at:9.4f} s  {self.kind}"]
        if self.step:
            words.append(f"at {self.step},")
        words += [f"node {number}" for number in self.nodes]
        arrow = "->" if self.one_way else "--"
        words += [f"{one}{arrow}{other}" for one, other in self.pairs[:8]]
        if len(self.pairs) > 8:
            words.append(f"and {len(self.pairs) - 8} more")
        if 0 < self.seconds < inf:
            words.append(f"for {self.seconds:.4f} s")
        if self.value:
            words.append(f"({self.value:g})")
        if self.protocols:
            words.append(f"then {' '.join(self.protocols)}")
        return " ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One node of the mesh: where it runs, whom it knows, what its clock does, and
    what it speaks.
    """

    host: str
    port: int
    id: str | None
    known: tuple[int, ...]
    start: float
    clock: tuple[float, float] = (0.0, 1.0)
    protocols: tuple[str, ...] = PROTOCOLS


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole run.

    ``crowded`` means that there are too few seats, or too little room for
    addresses, for a full mesh.  ``chat`` is the longest pause between two words.
    """

    seed: int
    places: tuple[Place, ...]
    faults: tuple[Fault, ...]
    seconds: float
    latency: tuple[float, float]
    fragment: float
    chat: float
    crowded: bool
    settings: dict[str, Any] = field(default_factory=dict)

    def cut_down(
        self, *, nodes: int | None = None, faults: Collection[int] | None = None
    ) -> Plan:
        """The same run with the first nodes only, and with these faults only."""
        size = min(nodes or len(self.places), len(self.places))
        places = tuple(
            replace(
                place,
                known=tuple(other for other in place.known if other < size)
                or ((0,) if number else ()),
            )
            for number, place in enumerate(self.places[:size])
        )
        kept = []
        for fault in self.faults:
            pairs = tuple(pair for pair in fault.pairs if max(pair) < size)
            fits = max(fault.nodes, default=0) < size
            if fits and (pairs or not fault.pairs):
                if faults is None or fault.number in faults:
                    kept.append(replace(fault, pairs=pairs))
        return replace(self, places=places, faults=tuple(kept))


BOTH, OLD, NEW = PROTOCOLS, ("mesh/1",), ("mesh/2",)

#: What the nodes of one mesh speak.  Where one speaks only mesh/1, and another only
#: mesh/2, these two never meet.
COMPANIES = (
    (BOTH,),
    (BOTH,),
    (BOTH, NEW),
    (BOTH, BOTH, BOTH, OLD),
    (BOTH, BOTH, OLD),
    (BOTH, BOTH, OLD),
    (BOTH, OLD),
    (OLD,),
)

#: Kinds that need a mesh of some size.
LEAST_NODES = {"bridge": 3, "ring": 4}

KINDS = (
    "break",
    "bridge",
    "burst",
    "busy",
    "clog",
    "crash",
    "cut",
    "dawdle",
    "dial",
    "echo",
    "flood",
    "freeze",
    "garble",
    "halve",
    "hang up",
    "lag",
    "leave",
    "mute",
    "partition",
    "power off",
    "refuse",
    "ring",
    "slow reader",
    "swallow",
    "swizzle",
)

#: What becomes of a node that ends: it comes back as it was, or elsewhere.
SAME, NEW_PORT, NEW_HOST = 0.0, 1.0, 2.0

#: A mesh of more nodes lives faster and speaks less: its every second has the
#: price of all its pairs.
_SMALL = 8


class Draw:
    """Draws plans; everything comes from the seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rng = random.Random(f"swarm/{seed}")
        self._size = 2
        self._moves = False
        self._company: tuple[tuple[str, ...], ...] = (BOTH,)

    def plan(self) -> Plan:
        """The plan of the seed."""
        rng = self._rng
        low = rng.choice((0.0, 0.0002, 0.002, 0.02, 0.08))
        latency = low, low + rng.choice((0.0, 0.001, 0.01, 0.1))
        self._size = size = self._draw_size()
        self._moves = rng.random() < 0.3
        self._company = rng.choice(COMPANIES)
        crowded = size >= 4 and rng.random() < 0.12
        settings = self._settings(crowded)
        places = self._places()
        if crowded:
            given = max(len(place.known) for place in places)
            needed = given + settings["max_peers"] + settings["max_dials"]
            settings["max_addresses"] += needed
        start = max(place.start for place in places)
        faults, end = self._faults(start)
        return Plan(
            seed=self._seed,
            places=places,
            faults=tuple(faults),
            seconds=end,
            latency=latency,
            fragment=rng.choice((0.0, 0.0, 0.0, 0.2, 0.5 if size > _SMALL else 0.9)),
            chat=rng.choice((0.3, 1.0, 3.0)) * max(1.0, size / _SMALL),
            crowded=crowded,
            settings=settings,
        )

    def _draw_size(self) -> int:
        rng = self._rng
        dice = rng.random()
        if dice < 0.80:
            return rng.choice((2, 2, 3, 3, 3, 4, 4, 5, 6))
        if dice < 0.94:
            return rng.randint(7, 12)
        if dice < 0.98:
            return rng.randint(13, 20)
        return rng.randint(21, 30)

    def _settings(self, crowded: bool) -> dict[str, Any]:
        rng, size = self._rng, self._size
        settings: dict[str, Any] = {
            "max_peers": rng.choice((max(20, size), max(20, size), size - 1)),
            "max_dials": rng.choice((16, 16, 3)),
        }
        if rng.random() < 0.2:
            settings |= {
                "discovery_interval": 6.0,
                "maintenance_interval": 3.0,
                "peer_timeout": 10.0,
            }
        if rng.random() < 0.3:
            settings |= {
                "send_queue_soft": 64 * 1024,
                "send_queue_hard": 128 * 1024,
            }
        if crowded:
            seats = rng.randint(1, size - 2)
            settings |= {
                "max_peers": rng.choice((seats, size)),
                "max_dials": rng.choice((1, 2, 16)),
                "max_pending": rng.choice((1, 2, 64)),
                "max_pending_per_host": rng.choice((1, 8)),
                "max_addresses_per_peer": rng.choice((2, 5, 64)),
                "max_addresses_per_list": rng.choice((2, 100)),
                # Besides those that a node cannot do without.
                "max_addresses": rng.randint(2, 10),
                "max_dial_failures": rng.choice((1, 3, 10)),
            }
        return settings

    def _places(self) -> tuple[Place, ...]:
        rng, size = self._rng, self._size
        one_host = rng.random() < 0.15
        own_ports = one_host or rng.random() < 0.5
        own_ids = rng.random() < 0.35
        odd_clocks = rng.random() < 0.3
        shape = rng.choice(("star", "chain", "both", "all", "random"))
        pause = rng.choice((0.0, 0.0, 0.001, 0.1, 2.0))
        places = []
        start = 0.0
        for number in range(size):
            known = {
                "star": {0},
                "chain": {number - 1},
                "both": {0, number - 1},
                "all": set(range(size)),
                "random": {rng.randrange(number)} if number else set(),
            }[shape]
            if self._moves:
                # Whoever moves is told the first node, which stays.
                known |= {0}
            odd = rng.uniform(0.0, 1e6), rng.uniform(0.8, 1.25)
            places.append(
                Place(
                    host="10.0.0.1" if one_host else f"10.0.0.{number + 1}",
                    port=8001 + number if own_ports else 8001,
                    id=f"id-{rng.getrandbits(32):x}" if own_ids else None,
                    known=tuple(sorted(known & set(range(size)) - {number})),
                    start=start,
                    clock=odd if odd_clocks else (0.0, 1.0),
                    protocols=rng.choice(self._company),
                )
            )
            start += pause * rng.random()
        return tuple(places)

    # Faults

    def _faults(self, start: float) -> tuple[list[Fault], float]:
        """A schedule of faults, and when it ends."""
        rng, size = self._rng, self._size
        fitting = [kind for kind in KINDS if LEAST_NODES.get(kind, 2) <= size]
        kinds = [kind for kind in fitting if rng.random() < 0.35]
        haste = 1.0 if size <= _SMALL else 0.4
        faults: list[Fault] = []
        # Some things happen while the nodes still start.
        at = start * rng.random()
        for _ in range(rng.randint(0, 20) if kinds else 0):
            self._draw_fault(rng.choice(kinds), at, faults)
            at += rng.choice((0.01, 0.1, 1.0, 10.0, 40.0)) * rng.random() * haste
        at = max(at, start, *(fault.at for fault in faults), 0.0)
        return faults, at + rng.choice((0.0, 5.0, 90.0)) * rng.random() * haste

    def _draw_fault(self, kind: str, at: float, faults: list[Fault]) -> None:
        rng = self._rng

        def add(seconds: float = inf, **what: Any) -> None:
            number = len(faults)
            faults.append(
                Fault(number=number, kind=kind, at=at, seconds=seconds, **what)
            )

        match kind:
            case "break":
                add(0.0, pairs=self._pairs(rng.randint(1, 3)))
            case "burst":
                # So many lines of 16 000 bytes.
                add(0.0, nodes=self._node(), value=rng.choice((2, 8, 24)))
            case "flood":
                # So many tiny lines, and applications that are busy with them.
                add(self._span(), nodes=self._node(), value=rng.choice((300, 2000)))
            case "clog" | "cut":
                span = self._span() if kind == "clog" else inf
                add(span, pairs=self._pairs(1), one_way=rng.random() < 0.5)
            case "crash" | "power off" | "leave":
                self._draw_end(add)
            case "dial":
                other = rng.randrange(self._size)
                add(0.0, nodes=self._node(), value=float(other))
            case "busy" | "freeze" | "refuse" | "swallow":
                add(self._span(), nodes=self._node())
            case "slow reader":
                speed = rng.choice((10.0, 1000.0, 20_000.0))
                add(rng.choice((inf, self._span())), nodes=self._node(), value=speed)
            case "lag":
                add(
                    self._span(),
                    pairs=self._pairs(rng.randint(1, 2)),
                    one_way=rng.random() < 0.5,
                    value=rng.choice((0.5, 3.0, 12.0)),
                )
            case kind if kind in TROUBLES:
                # Their links are reset, so that they shake hands.
                late = rng.choice((0.05, 1.0, 12.0)) if kind == "dawdle" else 0.0
                add(
                    self._span(),
                    pairs=self._pairs(rng.randint(1, 2)),
                    step=rng.choice(STEPS),
                    value=late,
                )
            case "partition" | "bridge" | "ring":
                span = rng.choice((inf, self._span()))
                add(span, pairs=self._split(kind), one_way=rng.random() < 0.3)
            case "swizzle":
                # Some ways are clogged one after the other, and freed in
                # another order.
                start = at
                for _ in range(rng.randint(2, 5)):
                    add(self._span(), pairs=self._pairs(1))
                    at += rng.random()
                at = start

    def _draw_end(self, add: Callable[..., None]) -> None:
        rng = self._rng
        [node] = self._node()
        goes = SAME
        if self._moves and node:
            goes = rng.choice((SAME, SAME, NEW_PORT, NEW_PORT, NEW_HOST))
        # It may have been upgraded meanwhile, or the other way.
        protocols = rng.choice(self._company) if rng.random() < 0.4 else ()
        add(self._span(), nodes=(node,), value=goes, protocols=protocols)

    def _node(self) -> tuple[int, ...]:
        return (self._rng.randrange(self._size),)

    def _pairs(self, count: int) -> tuple[Pair, ...]:
        nodes = range(self._size)
        pairs = [self._rng.sample(nodes, 2) for _ in range(count)]
        return tuple(dict.fromkeys((one, other) for one, other in pairs))

    def _split(self, kind: str) -> tuple[Pair, ...]:
        """Who does not see whom."""
        nodes = list(range(self._size))
        self._rng.shuffle(nodes)
        if kind == "ring":
            # Everybody sees two others only.
            last = len(nodes) - 1
            return tuple(
                (nodes[one], nodes[other])
                for one, other in combinations(range(len(nodes)), 2)
                if other - one not in (1, last)
            )
        if kind == "bridge":
            # Two groups, and one node that sees both.
            nodes.pop()
        middle = self._rng.randint(1, len(nodes) - 1)
        return tuple(_across(nodes[:middle], nodes[middle:]))

    def _span(self) -> float:
        return self._rng.choice((0.05, 0.5, 5.0, 30.0, 100.0)) * self._rng.random()


def _across(group: Iterable[int], others: Collection[int]) -> Iterable[Pair]:
    return ((one, other) for one in group for other in others)
