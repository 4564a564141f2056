"""`SimNetwork`: many real nodes, one virtual clock, one seed."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations
from typing import Any

from twisted.python.failure import Failure

from meshproto.address import normal_host
from meshproto.config import NodeConfig
from meshproto.events import ChatReceived, Event
from meshproto.node import MeshNode
from meshproto.testing._clock import SimClock
from meshproto.testing._machine import Host, Machine
from meshproto.testing._tcp import Pipe, Segment


class SimTimeout(AssertionError):
    """What a `SimNetwork.run_until` waited for did not come about in time."""


class SimNetwork:
    """A network of simulated hosts, with real nodes on them.

    ``latency`` is the range, in seconds, from which the way of each segment is
    drawn; ``fragment`` is the share of segments that arrive in pieces, some of
    them a single byte.  ``seed`` decides everything that is drawn.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        latency: tuple[float, float] = (0.001, 0.005),
        fragment: float = 0.0,
    ) -> None:
        self.seed = seed
        self.latency = latency
        self.fragment = fragment
        self.clock = SimClock()
        self._rng = random.Random(f"network/{seed}")
        self._hosts: dict[str, Host] = {}
        self._latencies: dict[tuple[str, str], tuple[float, float]] = {}
        self._cuts: dict[tuple[str, str], int] = {}
        self._pipes: dict[Pipe, None] = {}
        self._machines: dict[MeshNode, Machine] = {}
        self._events: dict[MeshNode, list[Event]] = {}
        self._history: list[tuple[float, str, Event]] = []
        self._digest = hashlib.sha256()

    # Nodes

    def node(self, host: str, **settings: Any) -> MeshNode:
        """A new node on a host (made when it is new); `start` starts it.

        ``host`` is an IP address; ``settings`` are those of `NodeConfig`.
        Several nodes on one host need different ports.
        """
        ip = normal_host(host)
        place = self._hosts.setdefault(ip, Host(self, ip))
        config = NodeConfig(**settings)
        machine = Machine(place, config)
        number = len(self._machines)
        node = MeshNode(
            config,
            reactor=machine,
            network=machine,
            rng=random.Random(f"node/{self.seed}/{ip}/{number}"),
        )
        self._machines[node] = machine
        self._events[node] = events = []

        def note(event: Event) -> None:
            events.append(event)
            self._history.append((self.clock.seconds(), node.name, event))
            line = f"{self.clock.seconds()!r} {number} {event!r}\n"
            self._digest.update(line.encode("utf-8", "backslashreplace"))

        node.subscribe(note)
        return node

    def start(self, *nodes: MeshNode) -> None:
        """Start nodes, all at the same instant; raises what stops one."""
        for node in nodes:
            failures: list[Failure] = []
            node.start().addErrback(failures.append)
            if failures:
                failures[0].raiseException()

    # Time

    def run(self, seconds: float) -> None:
        """Let that much virtual time pass."""
        self.clock.advance(seconds)

    def run_until(
        self, condition: Callable[[], object], timeout: float = 60.0
    ) -> float:
        """Let time pass until the condition holds; returns how much did.

        Raises `SimTimeout` when it does not hold within ``timeout`` virtual
        seconds.
        """
        start = self.clock.seconds()
        while not condition():
            if not self.clock.step(until=start + timeout):
                raise SimTimeout(
                    f"not within {timeout:g} virtual seconds (seed {self.seed})"
                )
        return self.clock.seconds() - start

    # Faults of machines

    def crash(self, node: MeshNode) -> None:
        """End a node as kill -9 does: its links close, nothing is flushed.

        Start a new `node` on the same host and port to bring it back.
        """
        self._machines[node].crash(powered=True)

    def power_off(self, node: MeshNode) -> None:
        """End a node without a word: its links stay half-open at the far ends.

        What is sent to it is lost, until a new `node` on its host is there to
        say that it knows of no such connection.
        """
        self._machines[node].crash(powered=False)

    def freeze(self, node: MeshNode) -> None:
        """Suspend a node, as SIGSTOP or a sleeping laptop does."""
        self._machines[node].freeze()

    def thaw(self, node: MeshNode) -> None:
        """Take back a `freeze`: what was due runs, then what has arrived."""
        self._machines[node].thaw()
        self._wake()

    def set_clock(
        self, node: MeshNode, *, offset: float = 0.0, rate: float = 1.0
    ) -> None:
        """Give a node that has not been started a clock of its own.

        It begins at ``offset`` seconds and goes ``rate`` times as fast.
        """
        machine = self._machines[node]
        machine.offset, machine.rate = offset, rate

    def set_reading_speed(self, node: MeshNode, speed: float | None) -> None:
        """Let a node read that many bytes per second of each connection."""
        self._machines[node].reading_speed = speed
        self._wake()

    # Faults of the network

    def set_latency(
        self,
        one: MeshNode,
        other: MeshNode,
        latency: tuple[float, float],
        *,
        one_way: bool = False,
    ) -> None:
        """Give the way between two nodes' hosts a latency of its own."""
        for way in self._ways(one, other, one_way):
            self._latencies[way] = latency

    def cut(self, one: MeshNode, other: MeshNode, *, one_way: bool = False) -> None:
        """Let nothing pass between two nodes' hosts until `heal`.

        With ``one_way`` only what goes from ``one`` to ``other`` is held up.
        Cuts count: what is cut twice has to be healed twice.
        """
        for way in self._ways(one, other, one_way):
            self._cuts[way] = self._cuts.get(way, 0) + 1

    def heal(self, one: MeshNode, other: MeshNode, *, one_way: bool = False) -> None:
        """Take back a `cut`: what waited is on its way again."""
        for way in self._ways(one, other, one_way):
            if self._cuts.get(way, 0) > 1:
                self._cuts[way] -= 1
            else:
                self._cuts.pop(way, None)
        self._wake()

    def clog(
        self,
        one: MeshNode,
        other: MeshNode,
        seconds: float,
        *,
        one_way: bool = False,
    ) -> None:
        """A `cut` that heals by itself."""
        self.cut(one, other, one_way=one_way)
        self.clock.callLater(seconds, self.heal, one, other, one_way=one_way)

    def partition(self, *groups: Iterable[MeshNode]) -> None:
        """Cut every node of each group off from those of all other groups."""
        for group, others in combinations([tuple(group) for group in groups], 2):
            for one in group:
                for other in others:
                    self.cut(one, other)

    def heal_all(self) -> None:
        """Take back every cut."""
        self._cuts.clear()
        self._wake()

    def break_links(self, one: MeshNode, other: MeshNode) -> int:
        """Reset every connection between two nodes' hosts; returns how many."""
        pair = {self.host_of(one), self.host_of(other)}
        broken = [p for p in tuple(self._pipes) if {p.source, p.sink} == pair]
        for pipe in broken:
            pipe.writer.broken()
        return len(broken) // 2

    # What happened

    def events(self, node: MeshNode) -> list[Event]:
        """Every event of a node so far, in order."""
        return list(self._events[node])

    def chats(self, node: MeshNode) -> list[str]:
        """The texts that a node has received so far, in order."""
        return [e.text for e in self._events[node] if isinstance(e, ChatReceived)]

    def history(self) -> list[tuple[float, str, Event]]:
        """Every event of every node so far: when, whose, and what."""
        return list(self._history)

    def digest(self) -> str:
        """A SHA-256 of every event of every node so far, with its time.

        The same seed and the same calls give the same digest, on every version
        of Python and whatever the hash seed.
        """
        return self._digest.hexdigest()

    def host_of(self, node: MeshNode) -> str:
        """The IP address of the host that a node is on."""
        return self._machines[node].host.ip

    def connections(self) -> int:
        """How many TCP connections are open, at both ends or only at one."""
        ends = sum(pipe.writer.is_open for pipe in self._pipes)
        halves = sum(
            pipe.writer.is_open and not pipe.reader.is_open for pipe in self._pipes
        )
        return (ends + halves) // 2

    def is_full_mesh(self, *nodes: MeshNode) -> bool:
        """Whether each of the nodes is linked to each other one, once."""
        places = {(self.host_of(node), node.port) for node in nodes}
        return all(len(node.peers()) == len(places) - 1 for node in nodes)

    # What the machines and their connections ask

    def host(self, ip: str) -> Host | None:
        """The host of an address, if there is one."""
        return self._hosts.get(ip)

    def passes(self, source: str, sink: str) -> bool:
        """Whether anything gets from one host to another."""
        return (source, sink) not in self._cuts

    def delay(self, source: str, sink: str) -> float:
        """How long the next segment is on its way."""
        low, high = self._latencies.get((source, sink), self.latency)
        return self._rng.uniform(low, high)

    def fragments(self, segment: Segment) -> Iterator[Segment]:
        """The pieces in which a segment arrives."""
        while (
            self.fragment
            and isinstance(segment, bytes)
            and len(segment) > 1
            and self._rng.random() < self.fragment
        ):
            most = 1 if self._rng.random() < 0.5 else len(segment) - 1
            size = self._rng.randint(1, most)
            yield segment[:size]
            segment = segment[size:]
        yield segment

    def opened(self, *pipes: Pipe) -> None:
        """A connection came about."""
        self._pipes.update(dict.fromkeys(pipes))

    def closed(self, *pipes: Pipe) -> None:
        """Both ends of a connection are closed."""
        for pipe in pipes:
            self._pipes.pop(pipe, None)

    def _ways(
        self, one: MeshNode, other: MeshNode, one_way: bool
    ) -> tuple[tuple[str, str], ...]:
        a, b = self.host_of(one), self.host_of(other)
        return ((a, b),) if one_way else ((a, b), (b, a))

    def _wake(self) -> None:
        for pipe in tuple(self._pipes):
            pipe.reschedule()
        for host in self._hosts.values():
            host.retry_dials()
