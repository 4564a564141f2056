"""Random meshes under random faults, each from one number.

Every seed draws a mesh (its size, hosts, IDs, latencies, clocks) and a schedule
of faults.  While the faults last the run is *safe*, whatever happens:

* a peer connects before it chats or leaves, once, and never beyond the seats;
* nothing a node says arrives twice or overtakes what it said before;
* no list outgrows its bound, and no error is logged.

When the faults have stopped it is *live*: within `LIVENESS` virtual seconds the
nodes are a full mesh of one link for each pair, and every word gets through.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from zope.interface import implementer

from meshproto.events import (
    ChatReceived,
    Event,
    Peer,
    PeerConnected,
    PeerDisconnected,
    PeerReaped,
)
from meshproto.node import MeshNode
from meshproto.testing._network import SimNetwork, SimTimeout

#: Virtual seconds within which a mesh must be whole after its last fault: a
#: silent peer is noticed after 75, a dial is tried again within 60, and a slow
#: clock may take half as long again.
LIVENESS = 240.0

_SETTLING = 15.0


class Violation(AssertionError):
    """A run broke a rule; the text names the seed, the time and the rule."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a seed's run came to."""

    seed: int
    nodes: int
    seconds: float
    steps: int
    formation: float
    faults: Counter[str]
    digest: str
    violation: str | None = None


@dataclass(slots=True, eq=False)
class _Speaker:
    """A node of the run, and what its listeners must see."""

    node: MeshNode
    number: int
    settings: dict[str, Any]
    host: str
    alive: bool = False
    frozen: bool = False
    connected: dict[tuple[str, str], Peer] = field(default_factory=dict)
    heard: dict[str, int] = field(default_factory=dict)
    said: int = 0


@implementer(ILogObserver)
class Swarm:
    """One run: `run` plays it and returns what it came to."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.faults: Counter[str] = Counter()
        self._rng = rng = random.Random(f"swarm/{seed}")
        low = rng.choice((0.0, 0.0002, 0.002, 0.02, 0.08))
        self.net = SimNetwork(
            seed=seed,
            latency=(low, low + rng.choice((0.0, 0.001, 0.01, 0.1))),
            fragment=rng.choice((0.0, 0.0, 0.0, 0.3, 0.9)),
        )
        self._speakers: list[_Speaker] = []
        self._incarnations = 0
        self._errors: list[str] = []

    def run(self) -> Run:
        """Play the run.  Never raises: a violation is part of the result."""
        globalLogPublisher.addObserver(self)
        violation = None
        formation = 0.0
        try:
            self._build()
            self._misbehave()
            formation = self._settle()
        except (Violation, SimTimeout) as error:
            violation = str(error)
        finally:
            globalLogPublisher.removeObserver(self)
        return Run(
            seed=self.seed,
            nodes=len(self._speakers),
            seconds=self.net.clock.seconds(),
            steps=self.net.clock.steps,
            formation=formation,
            faults=self.faults,
            digest=self.net.digest(),
            violation=violation,
        )

    # The mesh

    def _build(self) -> None:
        rng = self._rng
        size = rng.choice((2, 2, 3, 3, 4, 5, 6, 8, 10, 14, 20, 30))
        one_host = rng.random() < 0.15
        own_ports = one_host or rng.random() < 0.5
        own_ids = rng.random() < 0.35
        shape = rng.choice(("star", "chain", "both", "all", "random"))
        odd_clocks = rng.random() < 0.25
        hosts = ["10.0.0.1" if one_host else f"10.0.0.{n + 1}" for n in range(size)]
        ports = [8001 + n if own_ports else 8001 for n in range(size)]
        places = [f"{host}:{port}" for host, port in zip(hosts, ports, strict=True)]
        for number in range(size):
            known = {
                "star": {0},
                "chain": {number - 1},
                "both": {0, number - 1},
                "all": set(range(size)),
                "random": {rng.randrange(number)} if number else set(),
            }[shape] & set(range(size)) - {number}
            settings: dict[str, Any] = {
                "port": ports[number],
                "max_peers": max(20, size),
                "bootstrap": tuple(places[other] for other in sorted(known)),
            }
            if own_ids:
                settings["id"] = f"id-{rng.getrandbits(32):x}"
            speaker = self._add(hosts[number], number, settings)
            if odd_clocks:
                self.net.set_clock(
                    speaker.node,
                    offset=rng.uniform(0.0, 1e6),
                    rate=rng.uniform(0.8, 1.25),
                )
        pause = rng.choice((0.0, 0.0, 0.001, 0.1, 2.0))
        for speaker in self._speakers:
            self._start(speaker)
            self._pass(pause * rng.random())

    def _add(self, host: str, number: int, settings: dict[str, Any]) -> _Speaker:
        self._incarnations += 1
        node = self.net.node(host, name=f"node-{self._incarnations}", **settings)
        speaker = _Speaker(node, number, settings, host)
        node.subscribe(lambda event: self._check(speaker, event))
        if number < len(self._speakers):
            self._speakers[number] = speaker
        else:
            self._speakers.append(speaker)
        return speaker

    def _start(self, speaker: _Speaker) -> None:
        speaker.alive = True
        self.net.start(speaker.node)

    # Faults

    def fault_kinds(self) -> list[Callable[[], None]]:
        """Draw the kinds of faults that the run has."""
        kinds: tuple[Callable[[], None], ...] = (
            self._clog,
            self._cut,
            self._break,
            self._crash,
            self._power_off,
            self._freeze,
            self._slow_reader,
            self._partition,
            self._swizzle,
        )
        return [kind for kind in kinds if self._rng.random() < 0.4]

    def _misbehave(self) -> None:
        rng = self._rng
        kinds = self.fault_kinds()
        for _ in range(rng.randint(0, 12) if kinds else 0):
            rng.choice(kinds)()
            self._pass(rng.choice((0.01, 0.1, 1.0, 10.0, 40.0)) * rng.random())
        self._pass(rng.choice((0.0, 5.0, 90.0)) * rng.random())

    def _later(self, seconds: float, callback: Callable[[], object]) -> None:
        self.net.clock.callLater(seconds, callback)

    def _pair(self) -> tuple[MeshNode, MeshNode]:
        one, other = self._rng.sample(self._speakers, 2)
        return one.node, other.node

    def _span(self) -> float:
        return self._rng.choice((0.05, 0.5, 5.0, 30.0, 100.0)) * self._rng.random()

    def _clog(self) -> None:
        self.faults["clog"] += 1
        one_way = self._rng.random() < 0.5
        self.net.clog(*self._pair(), self._span(), one_way=one_way)

    def _cut(self) -> None:
        self.faults["cut"] += 1
        self.net.cut(*self._pair(), one_way=self._rng.random() < 0.5)

    def _break(self) -> None:
        self.faults["break"] += self.net.break_links(*self._pair())

    def _partition(self) -> None:
        self.faults["partition"] += 1
        nodes = [speaker.node for speaker in self._speakers]
        self._rng.shuffle(nodes)
        middle = self._rng.randint(1, len(nodes) - 1)
        self.net.partition(nodes[:middle], nodes[middle:])

    def _swizzle(self) -> None:
        """Clog some links one after the other, and free them in another order."""
        self.faults["swizzle"] += 1
        for _ in range(self._rng.randint(1, 6)):
            self.net.clog(*self._pair(), self._span())
            self._pass(self._rng.random())

    def _slow_reader(self) -> None:
        self.faults["slow reader"] += 1
        speaker = self._rng.choice(self._speakers)
        self.net.set_reading_speed(speaker.node, self._rng.choice((10.0, 1000.0)))

    def _freeze(self) -> None:
        speaker = self._rng.choice(self._speakers)
        if speaker.alive and not speaker.frozen:
            self.faults["freeze"] += 1
            speaker.frozen = True
            self.net.freeze(speaker.node)
            self._later(self._span(), lambda: self._thaw(speaker))

    def _thaw(self, speaker: _Speaker) -> None:
        if speaker.frozen:
            speaker.frozen = False
            self.net.thaw(speaker.node)

    def _crash(self) -> None:
        self._end(self.net.crash, "crash")

    def _power_off(self) -> None:
        self._end(self.net.power_off, "power off")

    def _end(self, end: Callable[[MeshNode], None], kind: str) -> None:
        speaker = self._rng.choice(self._speakers)
        if speaker.alive:
            self.faults[kind] += 1
            speaker.alive = speaker.frozen = False
            end(speaker.node)
            self._later(self._span(), lambda: self._restart(speaker.number))

    def _restart(self, number: int) -> None:
        old = self._speakers[number]
        if not old.alive:
            self._start(self._add(old.host, number, old.settings))

    # The end of the faults

    def _settle(self) -> float:
        self.net.heal_all()
        for speaker in tuple(self._speakers):
            self._thaw(speaker)
            self._restart(speaker.number)
        for speaker in self._speakers:
            self.net.set_reading_speed(speaker.node, None)
        nodes = [speaker.node for speaker in self._speakers]
        start = self.net.clock.seconds()
        while not self.net.is_full_mesh(*nodes):
            if self.net.clock.seconds() > start + LIVENESS:
                counts = [len(node.peers()) for node in nodes]
                raise self._broken(f"no full mesh after the faults: {counts}")
            self._pass(0.25)
        formation = self.net.clock.seconds() - start
        self._pass(_SETTLING)
        self.net.run(1.0)
        size = len(nodes)
        if self.net.connections() != size * (size - 1) // 2:
            raise self._broken(f"{self.net.connections()} links for {size} nodes")
        self._everybody_hears_everybody()
        return formation

    def _everybody_hears_everybody(self) -> None:
        before = [dict(speaker.heard) for speaker in self._speakers]
        for speaker in self._speakers:
            self._say(speaker)
        self.net.run(2.0)
        for speaker, old in zip(self._speakers, before, strict=True):
            new = sum(speaker.heard[name] > old.get(name, 0) for name in speaker.heard)
            if new != len(self._speakers) - 1:
                raise self._broken(f"{speaker.node.name} heard {new} of the others")

    # Time and rules

    def _pass(self, seconds: float) -> None:
        """Let time pass while everybody chats."""
        end = self.net.clock.seconds() + seconds
        beat = max(seconds / 20, 0.01)
        while True:
            for speaker in self._speakers:
                if speaker.alive and not speaker.frozen:
                    self._say(speaker)
            left = end - self.net.clock.seconds()
            if left <= 0:
                break
            self.net.run(min(beat, left))
            self._check_bounds()

    def _say(self, speaker: _Speaker) -> None:
        speaker.said += 1
        speaker.node.broadcast(f"{speaker.node.name} {speaker.said}")

    def _check(self, speaker: _Speaker, event: Event) -> None:
        match event:
            case PeerConnected(peer=peer, peer_count=count):
                if (peer.host, peer.id) in speaker.connected:
                    self._errors.append(f"{peer.name} connected twice")
                speaker.connected[peer.host, peer.id] = peer
                if count != len(speaker.connected):
                    self._errors.append(f"{count} peers for {len(speaker.connected)}")
                if count > speaker.settings["max_peers"]:
                    self._errors.append(f"{count} peers are more than the seats")
            case PeerDisconnected(peer=peer):
                if speaker.connected.pop((peer.host, peer.id), None) is None:
                    self._errors.append(f"{peer.name} left but never came")
            case PeerReaped(peer=peer):
                if (peer.host, peer.id) not in speaker.connected:
                    self._errors.append(f"{peer.name} reaped but never came")
            case ChatReceived(peer=peer, text=text):
                if (peer.host, peer.id) not in speaker.connected:
                    self._errors.append(f"chat of {peer.name}, who is no peer")
                name, _, number = text.partition(" ")
                if int(number) <= speaker.heard.get(name, 0):
                    self._errors.append(f"{text} after {speaker.heard[name]}")
                speaker.heard[name] = int(number)

    def _check_bounds(self) -> None:
        for speaker in self._speakers:
            if len(speaker.node.known_addresses()) > speaker.node.config.max_addresses:
                self._errors.append("the address book is too large")
        if self._errors:
            raise self._broken(self._errors[0])

    def __call__(self, event: LogEvent) -> None:
        """Note an error that was logged."""
        if event.get("log_level", LogLevel.info) >= LogLevel.error:
            failure = event.get("log_failure")
            self._errors.append(f"logged: {failure or event.get('log_format')}")

    def _broken(self, rule: str) -> Violation:
        now = self.net.clock.seconds()
        return Violation(f"seed {self.seed} at {now:.3f} s: {rule}")
