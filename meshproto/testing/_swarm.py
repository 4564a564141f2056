"""Random meshes under random faults, each from one number.

Every seed gives a `Plan`: a mesh (its size, hosts, IDs, latencies, clocks) and a
schedule of faults.  While the faults last the run is *safe*, whatever happens:

* a peer connects once, then chats and leaves; nothing is told of anybody else,
  nor by a node that has ended;
* nothing that a node says, be it a line or a payload, arrives twice, overtakes
  what it said before, changes, or comes from somebody else; and between two that
  no fault has touched nothing is lost, nor late, however much others say;
* a payload misses those that speak only mesh/1, and nobody else;
* no list outgrows its bound, and no error is logged.

When the faults have stopped it is *live*: within `LIVENESS` virtual seconds the
nodes are a full mesh, and every word gets through.  A pair that speaks mesh/2 has
one link, and never has two.  One that speaks mesh/1 has two where both dialled at
once.  Both sides know of the same ones.  Then all nodes stop, and nothing of them
is left.
"""

from __future__ import annotations

import gc
import random
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import NoReturn

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from meshproto.events import ChatsReceived
from meshproto.testing._clock import SimCall
from meshproto.testing._machine import Machine
from meshproto.testing._network import SimNetwork
from meshproto.testing._plan import NEW_HOST, NEW_PORT, Draw, Fault, Place, Plan
from meshproto.testing._rules import (
    Violation,
    broken_bound,
    is_symmetric,
    is_whole,
    pairs,
    pairs_agree,
    settled_beside,
    unheard,
)
from meshproto.testing._speaker import FAIRNESS, Calm, Speaker
from meshproto.testing._tcp import Transport
from meshproto.testing._troubles import Troubles

#: Virtual seconds within which a mesh must be whole after its last fault: a
#: silent peer is noticed after 75, a dial is tried again within 60, and a slow
#: clock may take half as long again.
LIVENESS = 240.0

#: Virtual seconds after which a whole mesh must have no other links.
_SETTLING = 15.0
#: More steps than any run needs: somebody goes round in circles.
_MAX_STEPS = 500_000

#: The share of payloads in what is said.
_PAYLOADS = 0.2


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
        self.speakers: dict[int, Speaker] = {}
        self.net = SimNetwork(
            seed=seed, latency=self.plan.latency, fragment=self.plan.fragment
        )
        self.net.clock.max_steps = _MAX_STEPS
        self.net.settled = self._settled
        self.calm = Calm(self.net.clock.seconds)
        self._rng = random.Random(f"talk/{seed}")
        self._cast: dict[str, Speaker] = {}
        self._troubles = Troubles(self)
        self._stopping: dict[int, Deferred[None]] = {}
        self._moves = 0
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
            later(fault.at, self._troubles.befall, fault)

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
            protocols=place.protocols,
            **self.plan.settings,
        )
        offset, rate = place.clock
        self.net.set_clock(node, offset=offset, rate=rate)
        speaker = self._cast[name] = self.speakers[number] = Speaker(
            node=node,
            number=number,
            place=place,
            name=name,
            machine=self.net.machine(node),
            cast=self._cast,
            calm=self.calm,
            patience=FAIRNESS + 2 * max(self.plan.latency),
            broken=self._break,
            roomy=not self.plan.crowded,
        )
        node.subscribe(speaker.see)
        node.subscribe(speaker.see_run, ChatsReceived)
        speaker.alive = True
        self.net.start(node)

    # Lives that end, and the next ones

    def leave(self, who: Speaker) -> Deferred[None]:
        """Have a node stop; fires when it has."""
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

    def restart(self, old: Speaker, fault: Fault) -> None:
        """Begin the next life of a node, where it was or elsewhere."""
        place, goes = old.place, fault.value
        if fault.protocols:
            place = replace(place, protocols=fault.protocols)
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
        self._troubles.end()
        judge = is_symmetric if self.plan.crowded else is_whole
        start = self.net.clock.now
        while not self._are_all(judge):
            if self.net.clock.now > start + LIVENESS:
                self._fail("whole", f"not whole after the faults: {self._state()}")
            self._pass(0.25)
        formation = self.net.clock.now - start
        self._pass(_SETTLING)
        if self.plan.crowded:
            return formation
        if not self._are_all(is_whole):
            self._fail("whole", f"whole for a moment only: {self._state()}")
        links = self.net.connections
        self._await(
            5.0,
            lambda: pairs_agree(self.living(), links()),
            lambda: ("pairs", pairs(self.living(), links())),
        )
        everybody = self.living()
        for who in everybody:
            who.say()
            who.send()
        self._await(
            5.0,
            lambda: not unheard(everybody),
            lambda: ("heard", unheard(everybody)[0]),
        )
        return formation

    def _are_all(self, judge: Callable[[list[Speaker]], bool]) -> bool:
        """Whether every node lives, and what is asked holds for them."""
        living = self.living()
        return len(living) == len(self.plan.places) and judge(living)

    def _state(self) -> str:
        return ", ".join(
            f"{who.name}: {len(who.connected)}" for who in self.speakers.values()
        )

    def living(self) -> list[Speaker]:
        """Those that run, and may be asked to do something."""
        return [who for who in self.speakers.values() if who.alive]

    def _stop(self) -> None:
        """All leave at once, and leave nothing behind."""
        for who in self.living():
            self.leave(who)
        self._await(
            4.0,
            lambda: all(who.over for who in self.speakers.values()),
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
            who = self.speakers.get(rng.randrange(len(self.plan.places)))
            if who is not None and who.alive and not who.machine.frozen:
                for _ in range(rng.choice((1, 1, 3))):
                    if rng.random() < _PAYLOADS:
                        who.send()
                    else:
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
        for number, who in self.speakers.items():
            if not who.over:
                thorough = self._beats % len(self.speakers) == number
                outgrown = broken_bound(who, thorough=thorough)
                if outgrown is not None:
                    self._break("bound", outgrown)
        if self._broken:
            raise self._broken[0]

    def _settled(self, end: Transport) -> None:
        """READY was said or heard at one end of a connection."""
        links = settled_beside(end)
        if links > 1:
            names: dict[object, str] = {
                who.machine: who.name for who in self._cast.values()
            }
            one, other = names[end.machine], names[end.pipe.reader.machine]
            self._break("two links", f"{one} has {links} links with {other}")

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
