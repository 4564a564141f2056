"""`SimNetwork`: many real nodes, one virtual clock, one seed."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations
from typing import Any

from twisted.python.failure import Failure

from meshproto.config import NodeConfig
from meshproto.events import ChatReceived, Event
from meshproto.mesh.node import MeshNode
from meshproto.testing._clock import SimClock
from meshproto.testing._dial import Door
from meshproto.testing._handshake import STEPS, TROUBLES, Trouble
from meshproto.testing._machine import Host, Machine
from meshproto.testing._tcp import Transport, Way
from meshproto.wire.address import normal_host


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
        self.rng = random.Random(f"network/{seed}")
        #: Called with each end of a connection where READY is said or heard.
        self.settled: Callable[[Transport], None] = lambda end: None
        self._hosts: dict[str, Host] = {}
        self._ways: dict[tuple[str, str], Way] = {}
        self._machines: dict[MeshNode, Machine] = {}
        self._events: dict[MeshNode, list[Event]] = {}
        self._history: list[tuple[float, int, str, Event]] = []
        self._digested = 0
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
        clock, history = self.clock, self._history

        def note(event: Event) -> None:
            events.append(event)
            history.append((clock.now, number, node.name, event))

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

    def work(self, node: MeshNode, seconds: float) -> None:
        """Let a node's program compute for so long: a busy application.

        To be called by a subscriber of the node.  The node's clock goes on
        meanwhile, and nothing else of it runs; its kernel takes what arrives.
        """
        self._machines[node].work(seconds)

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
        machine = self._machines[node]
        machine.reading_speed = speed
        for transport in machine.transports:
            transport.back.schedule()

    # Faults of the network

    def refuse(self, node: MeshNode, seconds: float | None = None) -> None:
        """Refuse whoever dials a node, until `admit` or for so many seconds.

        The links that there are stay.  It is the port that refuses: so does
        that of the next node which is made there.
        """
        self._set_door(node, Door.REFUSING, seconds)

    def swallow(self, node: MeshNode, seconds: float | None = None) -> None:
        """Give no answer to whoever dials a node: else as `refuse`."""
        self._set_door(node, Door.SILENT, seconds)

    def admit(self, node: MeshNode) -> None:
        """Take back a `refuse` or a `swallow`."""
        self._set_door(node, Door.OPEN, None)

    def set_latency(
        self,
        one: MeshNode,
        other: MeshNode,
        latency: tuple[float, float] | None,
        *,
        one_way: bool = False,
    ) -> None:
        """Give the way between two nodes' hosts a latency of its own.

        None gives it that of the network again.
        """
        for way in self._between(one, other, one_way):
            way.latency = latency

    def cut(self, one: MeshNode, other: MeshNode, *, one_way: bool = False) -> None:
        """Let nothing pass between two nodes' hosts until `heal`.

        With ``one_way`` only what goes from ``one`` to ``other`` is held up.
        Cuts count: what is cut twice has to be healed twice.
        """
        for way in self._between(one, other, one_way):
            way.cuts += 1

    def heal(self, one: MeshNode, other: MeshNode, *, one_way: bool = False) -> None:
        """Take back a `cut`: what waited is on its way again."""
        for way in self._between(one, other, one_way):
            if way.cuts:
                way.cuts -= 1
                if not way.cuts:
                    way.wake()

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

    def partition(self, *groups: Iterable[MeshNode], one_way: bool = False) -> None:
        """Cut every node of each group off from those of all other groups.

        With ``one_way`` what an earlier group sends to a later one is held up,
        and what comes back is not.  Nodes in no group see everybody.
        """
        for group, others in combinations([tuple(group) for group in groups], 2):
            for one in group:
                for other in others:
                    self.cut(one, other, one_way=one_way)

    def heal_all(self) -> None:
        """Take back every cut."""
        for way in self._ways.values():
            if way.cuts:
                way.cuts = 0
                way.wake()

    def break_links(self, one: MeshNode, other: MeshNode) -> int:
        """Reset every connection between two nodes' hosts; returns how many."""
        ways = dict.fromkeys(self._between(one, other, one_way=False))
        broken = [pipe for way in ways for pipe in way.pipes]
        for pipe in broken:
            pipe.writer.broken()
        return len(broken) // 2

    def spoil(
        self,
        one: MeshNode,
        other: MeshNode,
        trouble: str,
        step: str,
        *,
        seconds: float = 0.0,
    ) -> Callable[[], None]:
        """Have a step of each mesh/2 handshake of two nodes' hosts go wrong.

        ``step`` is ``greeting``, ``answer``, ``first HELLO``, ``second HELLO``,
        ``verdict`` or ``READY``.  ``trouble`` is ``mute`` (it gets lost, and what
        its sender says afterwards), ``hang up`` (the connection ends instead),
        ``halve`` (it ends in the midst of it), ``dawdle`` (it comes late by
        ``seconds``), ``echo`` (it comes twice) or ``garble`` (it is nonsense).
        Links that there are stay.  Returns a function that takes this back.
        Raises `ValueError` for another step or trouble.
        """
        if step not in STEPS or trouble not in TROUBLES:
            raise ValueError(f"no handshake has {trouble!r} at {step!r}")
        spoiled = Trouble(trouble, step, seconds)
        ways = self._between(one, other, one_way=False)
        for way in ways:
            way.troubles[spoiled] = None

        def take_back() -> None:
            for way in ways:
                way.troubles.pop(spoiled, None)

        return take_back

    # What happened

    def events(self, node: MeshNode) -> list[Event]:
        """Every event of a node so far, in order."""
        return list(self._events[node])

    def chats(self, node: MeshNode) -> list[str]:
        """The texts that a node has received so far, in order."""
        return [e.text for e in self._events[node] if isinstance(e, ChatReceived)]

    def history(self) -> list[tuple[float, str, Event]]:
        """Every event of every node so far: when, whose, and what."""
        return [(when, name, event) for when, _, name, event in self._history]

    def digest(self) -> str:
        """A SHA-256 of every event of every node so far, with its time.

        The same seed and the same calls give the same digest, on every version
        of Python and whatever the hash seed.
        """
        for when, number, _, event in self._history[self._digested :]:
            line = f"{when!r} {number} {event!r}\n"
            self._digest.update(line.encode("utf-8", "backslashreplace"))
        self._digested = len(self._history)
        return self._digest.hexdigest()

    def host_of(self, node: MeshNode) -> str:
        """The IP address of the host that a node is on."""
        return self._machines[node].host.ip

    def connections(self) -> int:
        """How many TCP connections are open, at both ends or only at one."""
        pipes = [pipe for way in self._ways.values() for pipe in way.pipes]
        ends = sum(pipe.writer.is_open for pipe in pipes)
        halves = sum(pipe.writer.is_open and not pipe.reader.is_open for pipe in pipes)
        return (ends + halves) // 2

    def is_full_mesh(self, *nodes: MeshNode) -> bool:
        """Whether each of the nodes is linked to each other one, once."""
        places = {(self.host_of(node), node.port) for node in nodes}
        return all(len(node.peers()) == len(places) - 1 for node in nodes)

    # What the machines and their connections ask

    def host(self, ip: str) -> Host | None:
        """The host of an address, if there is one."""
        return self._hosts.get(ip)

    def way(self, source: str, sink: str) -> Way:
        """The way from one address to another."""
        way = self._ways.get((source, sink))
        if way is None:
            way = self._ways[source, sink] = Way(self)
        return way

    def fragments(self, segment: bytes) -> Iterator[bytes]:
        """The pieces in which a segment arrives."""
        while len(segment) > 1 and self.rng.random() < self.fragment:
            most = 1 if self.rng.random() < 0.5 else len(segment) - 1
            size = self.rng.randint(1, most)
            yield segment[:size]
            segment = segment[size:]
        yield segment

    def machine(self, node: MeshNode) -> Machine:
        """What a node runs on."""
        return self._machines[node]

    def _between(
        self, one: MeshNode, other: MeshNode, one_way: bool
    ) -> tuple[Way, ...]:
        a, b = self.host_of(one), self.host_of(other)
        there, back = self.way(a, b), self.way(b, a)
        return (there,) if one_way or there is back else (there, back)

    def _set_door(self, node: MeshNode, door: Door, seconds: float | None) -> None:
        machine = self._machines[node]
        machine.host.doors[machine.port] = door
        if door is Door.OPEN:
            for (_, sink), way in self._ways.items():
                if sink == machine.host.ip:
                    way.wake()
        elif seconds is not None:
            self.clock.callLater(seconds, self.admit, node)
