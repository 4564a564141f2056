"""Random meshes under random faults, each from one number.

Every seed gives a `Plan`: a mesh (its size, hosts, IDs, latencies, clocks) and a
schedule of faults.  While the faults last the run is *safe*, whatever happens:

* a peer connects once, then chats and leaves; nothing is told of anybody else,
  nor by a node that has ended;
* nothing that a node says arrives twice, overtakes what it said before, or
  comes from somebody else; and between two that no fault has touched nothing
  is lost, nor late, however much others say;
* no list outgrows its bound, and no error is logged.

When the faults have stopped it is *live*: within `LIVENESS` virtual seconds the
nodes are a full mesh, and every word gets through.  A pair has one link, or two
where both dialled at once, and both sides know of the same ones.  Then all nodes
stop, and nothing of them is left.
"""

from __future__ import annotations

import gc
import random
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from math import inf
from typing import NoReturn

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from meshproto.errors import MeshError
from meshproto.events import ChatsReceived
from meshproto.testing._clock import SimCall
from meshproto.testing._machine import Machine
from meshproto.testing._network import SimNetwork
from meshproto.testing._plan import NEW_HOST, NEW_PORT, Draw, Fault, Place, Plan
from meshproto.testing._rules import (
    FAIRNESS,
    Calm,
    Speaker,
    Violation,
    broken_bound,
    links_of,
)

#: Virtual seconds within which a mesh must be whole after its last fault: a
#: silent peer is noticed after 75, a dial is tried again within 60, and a slow
#: clock may take half as long again.
LIVENESS = 240.0

#: Virtual seconds after which a whole mesh must have no other links.
_SETTLING = 15.0
#: More steps than any run needs: somebody goes round in circles.
_MAX_STEPS = 500_000

_LINE = "x" * 16_000


@dataclass(frozen=True, slots=True)
class Run:
    """What a seed's run came to.

    ``rule`` is the short name of the rule that was broken, None when all held.
    """

    seed: int
    nodes: int
    seconds: float
    steps: int
    formation: float
    faults: Counter[str]
    rule: str | None = None
    violation: str | None = None


@implementer(ILogObserver)
class Swarm:
    """One run: `run` plays it and returns what it came to.

    ``nodes`` and ``faults`` leave out the other nodes and faults of the seed.
    """

    def __init__(
        self,
        seed: int,
        *,
        nodes: int | None = None,
        faults: Collection[int] | None = None,
    ) -> None:
        self.seed = seed
        self.plan: Plan = Draw(seed).plan().cut_down(nodes=nodes, faults=faults)
        self.faults: Counter[str] = Counter()
        self.net = SimNetwork(
            seed=seed, latency=self.plan.latency, fragment=self.plan.fragment
        )
        self.net.clock.max_steps = _MAX_STEPS
        self._rng = random.Random(f"talk/{seed}")
        self._calm = Calm(self.net.clock.seconds)
        self._speakers: dict[int, Speaker] = {}
        self._cast: dict[str, Speaker] = {}
        self._active: dict[int, tuple[Fault, Callable[[], None]]] = {}
        self._stopping: dict[int, Deferred[None]] = {}
        self._moves = 0
        self._faults_over = False
        self._beats = 0
        self._broken: list[Violation] = []

    def run(self) -> Run:
        """Play the run.  Never raises: a violation is part of the result."""
        globalLogPublisher.addObserver(self)
        formation = 0.0
        try:
            self._begin()
            self._pass(self.plan.seconds)
            formation = self._settle()
            self._stop()
        except Violation:
            pass
        except Exception as error:
            endless = self.net.clock.steps >= _MAX_STEPS
            where = Failure().getBriefTraceback().splitlines()[-1]
            self._break(
                "endless" if endless else "raised",
                f"{type(error).__name__}: {error} ({where})",
            )
        finally:
            # An error that nobody has handled is logged when it is collected.
            gc.collect()
            globalLogPublisher.removeObserver(self)
        broken = self._broken[0] if self._broken else None
        return Run(
            seed=self.seed,
            nodes=len(self.plan.places),
            seconds=self.net.clock.seconds(),
            steps=self.net.clock.steps,
            formation=formation,
            faults=self.faults,
            rule=None if broken is None else broken.rule,
            violation=None if broken is None else str(broken),
        )

    # The mesh

    def _begin(self) -> None:
        later = self.net.clock.callLater
        for number, place in enumerate(self.plan.places):
            if place.start:
                later(place.start, self._start, number, place)
            else:
                self._start(number, place)
        for fault in self.plan.faults:
            later(fault.at, self._befall, fault)

    def _start(self, number: int, place: Place) -> None:
        """Begin a life of a node."""
        name = f"node-{len(self._cast) + 1}"
        places = self.plan.places
        known = [places[other] for other in place.known]
        node = self.net.node(
            place.host,
            port=place.port,
            name=name,
            id=place.id,
            bootstrap=tuple(f"{other.host}:{other.port}" for other in known),
            **self.plan.settings,
        )
        offset, rate = place.clock
        self.net.set_clock(node, offset=offset, rate=rate)
        speaker = self._cast[name] = self._speakers[number] = Speaker(
            node=node,
            number=number,
            place=place,
            name=name,
            machine=self.net.machine(node),
            cast=self._cast,
            calm=self._calm,
            patience=FAIRNESS + 2 * max(self.plan.latency),
            broken=self._break,
        )
        node.subscribe(speaker.see)
        node.subscribe(speaker.see_run, ChatsReceived)
        speaker.alive = True
        self.net.start(node)

    # Faults

    def _befall(self, fault: Fault) -> None:
        """Let a fault begin, if whom it befalls is there; it ends by itself."""
        if self._faults_over or not self._speakers.keys() >= set(fault.nodes):
            return
        pairs = [
            (self._speakers[one], self._speakers[other])
            for one, other in fault.pairs
            if one in self._speakers and other in self._speakers
        ]
        if fault.pairs and not pairs:
            return
        relief: Callable[[], None] | None
        if fault.pairs:
            relief = self._befall_pairs(fault, pairs)
        else:
            relief = self._befall_node(fault, self._speakers[fault.nodes[0]])
        if relief is None:
            return
        self.faults[fault.kind] += 1
        touched = [*fault.nodes]
        ways = [frozenset((one.place.host, other.place.host)) for one, other in pairs]
        for what in (*touched, *ways):
            self._calm.disturb(what)

        def relieve() -> None:
            relief()
            for what in (*touched, *ways):
                self._calm.relieve(what)

        self._active[fault.number] = fault, relieve
        if fault.seconds < inf:
            self.net.clock.callLater(fault.seconds, self._relieve, fault.number)

    def _relieve(self, number: int) -> None:
        fault, relieve = self._active.pop(number, (None, None))
        if relieve is not None:
            relieve()

    def _befall_pairs(
        self, fault: Fault, pairs: list[tuple[Speaker, Speaker]]
    ) -> Callable[[], None]:
        nodes = [(one.node, other.node) for one, other in pairs]
        net, one_way = self.net, fault.one_way
        match fault.kind:
            case "break":
                for one, other in nodes:
                    net.break_links(one, other)
                return lambda: None
            case "lag":
                for one, other in nodes:
                    slow = fault.value / 2, fault.value
                    net.set_latency(one, other, slow, one_way=one_way)

                def back_to_normal() -> None:
                    for one, other in nodes:
                        net.set_latency(one, other, None, one_way=one_way)

                return back_to_normal
        for one, other in nodes:
            net.cut(one, other, one_way=one_way)

        def heal() -> None:
            for one, other in nodes:
                net.heal(one, other, one_way=one_way)

        return heal

    def _befall_node(self, fault: Fault, who: Speaker) -> Callable[[], None] | None:
        """Returns what takes the fault back; None when it cannot be now."""
        node, net = who.node, self.net
        match fault.kind:
            case "refuse":
                net.refuse(node)
                return lambda: net.admit(node)
            case "swallow":
                net.swallow(node)
                return lambda: net.admit(node)
            case "slow reader":
                net.set_reading_speed(node, fault.value)
                return lambda: net.set_reading_speed(node, None)
        if not who.alive:
            return None
        match fault.kind:
            case "crash" | "power off":
                who.alive, who.over = False, True
                (net.crash if fault.kind == "crash" else net.power_off)(node)
                return lambda: self._restart(who, fault.value)
        if who.machine.frozen:
            return None
        match fault.kind:
            case "freeze":
                net.freeze(node)
                return lambda: None if who.over else net.thaw(node)
            case "busy":
                node.pause_reading()
                return lambda: node.resume_reading() if who.alive else None
            case "burst":
                for _ in range(int(fault.value)):
                    who.say(_LINE)
                return lambda: None
            case "flood":
                listeners = [each for each in self._living() if each is not who]
                for each in listeners:
                    each.floods += 1
                for _ in range(int(fault.value)):
                    who.say()

                def ebb() -> None:
                    for each in listeners:
                        each.floods -= 1

                return ebb
            case "dial":
                other = self._speakers.get(int(fault.value))
                if other is not None:
                    target = f"{other.place.host}:{other.place.port}"
                    node.connect(target).addErrback(lambda why: why.trap(MeshError))
                return lambda: None
            case "leave":
                self._leave(who)
                return lambda: self._restart(who, fault.value)
        raise ValueError(fault.kind)

    def _leave(self, who: Speaker) -> Deferred[None]:
        who.alive = False
        began = who.machine.seconds()

        def stopped(_: object) -> None:
            who.over = True
            took = who.machine.seconds() - began
            if took > who.node.config.stop_timeout + 0.01:
                self._break("stop", f"{who.name} took {took:.3f} s to stop")
            if who.connected:
                self._break("farewell", f"{who.name} stopped with {who.connected}")

        self._stopping[who.number] = stopping = who.node.stop()
        return stopping.addCallback(stopped)

    def _restart(self, old: Speaker, goes: float) -> None:
        """Begin the next life of a node, where it was or elsewhere."""
        place = old.place
        if goes == NEW_PORT:
            self._moves += 1
            place = replace(place, port=9000 + self._moves)
        elif goes == NEW_HOST:
            self._moves += 1
            place = replace(place, host=f"10.0.1.{self._moves}")
        stopping = self._stopping.pop(old.number, None)
        if stopping is None:
            self._start(old.number, place)
        else:
            # Its port is free when it has stopped.
            stopping.addCallback(lambda _: self._start(old.number, place))

    # The end of the faults

    def _settle(self) -> float:
        """The mesh must become whole, and stay so; returns how long it took."""
        self._faults_over = True
        for number in tuple(self._active):
            self._relieve(number)
        self.net.heal_all()
        whole = self._is_symmetric if self.plan.crowded else self._is_whole
        start = self.net.clock.now
        while not whole():
            if self.net.clock.now > start + LIVENESS:
                self._fail("whole", f"not whole after the faults: {self._state()}")
            self._pass(0.25)
        formation = self.net.clock.now - start
        self._pass(_SETTLING)
        if self.plan.crowded:
            return formation
        if not self._is_whole():
            self._fail("whole", f"whole for a moment only: {self._state()}")
        self._await(5.0, self._pairs_agree, lambda: ("pairs", self._pairs()))
        self._everybody_hears_everybody()
        return formation

    def _is_whole(self) -> bool:
        """Whether everybody is linked to everybody who lives, and to nobody else."""
        living = self._living()
        size = len(self.plan.places)
        if len(living) < size:
            return False
        if any(len(who.connected) != size - 1 for who in living):
            return False
        names = {who.name for who in living}
        return all({who.name, *who.connected.values()} == names for who in living)

    def _pairs_agree(self) -> bool:
        """Whether both sides of every pair have the same one or two links."""
        links = {who.name: links_of(who) for who in self._living()}
        return self.net.connections() * 2 == sum(
            count
            for name, counts in links.items()
            for other, count in counts.items()
            if links.get(other, {}).get(name) == count
        )

    def _pairs(self) -> str:
        links = {who.name: links_of(who) for who in self._living()}
        return f"{self.net.connections()} connections for the links {links}"

    def _is_symmetric(self) -> bool:
        """Whether whoever is linked to somebody is so on both sides."""
        living = self._living()
        links = {who.name: set(who.connected.values()) for who in living}
        return len(living) == len(self.plan.places) and all(
            who.name in links.get(other, ())
            for who in living
            for other in links[who.name]
        )

    def _living(self) -> list[Speaker]:
        return [who for who in self._speakers.values() if who.alive]

    def _state(self) -> str:
        return ", ".join(
            f"{who.name}: {len(who.connected)}" for who in self._speakers.values()
        )

    def _everybody_hears_everybody(self) -> None:
        living = self._living()
        words = {}
        for who in living:
            who.say()
            words[who.name] = who.said

        def missing() -> list[str]:
            return [
                f"{who.name} has not heard {name}"
                for who in living
                for name, word in words.items()
                if who.name != name and who.heard.get(name, (0, 0.0))[0] < word
            ]

        self._await(5.0, lambda: not missing(), lambda: ("heard", missing()[0]))

    def _stop(self) -> None:
        """All leave at once, and leave nothing behind."""
        for who in self._living():
            self._leave(who)
        self._await(
            4.0,
            lambda: all(who.over for who in self._speakers.values()),
            lambda: ("stop", "not all nodes have stopped"),
        )
        self.net.run(1.0)
        self._check()
        if self.net.connections():
            self._fail("stop", f"{self.net.connections()} links have stayed")
        for call in self.net.clock.getDelayedCalls():
            assert isinstance(call, SimCall)
            if isinstance(call.owner, Machine) and call.owner.alive:
                self._fail("stop", f"a timer has stayed: {call.func}")

    # Time and rules

    def _pass(self, seconds: float) -> None:
        """Let time pass while everybody chats."""
        rng, clock = self._rng, self.net.clock
        end = clock.now + seconds
        while (left := end - clock.now) > 0:
            pause = self.plan.chat * rng.choice((0.02, 0.2, 2.0)) * rng.random()
            self.net.run(min(left, pause))
            who = self._speakers.get(rng.randrange(len(self.plan.places)))
            if who is not None and who.alive and not who.machine.frozen:
                for _ in range(rng.choice((1, 1, 3))):
                    who.say()
            self._check()

    def _await(
        self,
        seconds: float,
        condition: Callable[[], bool],
        problem: Callable[[], tuple[str, str]],
    ) -> None:
        end = self.net.clock.now + seconds
        while not condition():
            if self.net.clock.now >= end:
                self._fail(*problem())
            self.net.run(0.05)
            self._check()

    def _check(self) -> None:
        """Look at every node's lists, at those of one more closely."""
        self._beats += 1
        for number, who in self._speakers.items():
            if not who.over:
                thorough = self._beats % len(self._speakers) == number
                outgrown = broken_bound(who, thorough=thorough)
                if outgrown is not None:
                    self._break("bound", outgrown)
        if self._broken:
            raise self._broken[0]

    def __call__(self, event: LogEvent) -> None:
        """Note an error that was logged."""
        if event.get("log_level", LogLevel.info) >= LogLevel.error:
            failure = event.get("log_failure")
            what = failure.getTraceback() if failure else event.get("log_format")
            self._break("logged", f"an error was logged: {what}")

    def _break(self, rule: str, text: str) -> None:
        """Note that a rule is broken; the run ends at the next look."""
        when = f"seed {self.seed} at {self.net.clock.now:.3f} s: {text}"
        self._broken.append(Violation(rule, when))

    def _fail(self, rule: str, text: str) -> NoReturn:
        self._break(rule, text)
        raise self._broken[0]
