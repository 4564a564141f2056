"""What the faults of a plan do to its mesh, and how they end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import inf
from typing import Protocol

from twisted.internet.defer import Deferred

from meshproto.errors import MeshError
from meshproto.testing._network import SimNetwork
from meshproto.testing._plan import Fault
from meshproto.testing._speaker import Calm, Speaker

_LINE = "x" * 16_000


class Victims(Protocol):
    """A mesh that faults befall."""

    net: SimNetwork
    calm: Calm
    speakers: dict[int, Speaker]
    #: How many of each kind have befallen it.
    faults: Counter[str]

    def living(self) -> list[Speaker]:
        """Those that run, and may be asked to do something."""

    def leave(self, who: Speaker, /) -> Deferred[None]:
        """Have a node stop."""

    def restart(self, old: Speaker, fault: Fault, /) -> None:
        """Begin the next life of a node."""


class Troubles:
    """The faults that a mesh suffers from at present."""

    def __init__(self, swarm: Victims) -> None:
        self._swarm = swarm
        self._active: dict[int, Callable[[], None]] = {}
        self._over = False

    def end(self) -> None:
        """No fault lasts any longer, and none begins."""
        self._over = True
        for number in tuple(self._active):
            self._relieve(number)
        self._swarm.net.heal_all()

    def befall(self, fault: Fault) -> None:
        """Let a fault begin, if whom it befalls is there; it ends by itself."""
        swarm, there = self._swarm, self._swarm.speakers
        if self._over or not there.keys() >= set(fault.nodes):
            return
        pairs = [
            (there[one], there[other])
            for one, other in fault.pairs
            if one in there and other in there
            if not fault.step or there[one].shares_mesh2_with(there[other])
        ]
        if fault.pairs and not pairs:
            return
        if not fault.pairs and _is_spared(there[fault.nodes[0]], fault):
            return
        swarm.faults[fault.kind] += 1
        ways = [frozenset((one.place.host, other.place.host)) for one, other in pairs]
        touched = (*fault.nodes, *ways)
        for what in touched:
            swarm.calm.disturb(what)
        if fault.pairs:
            relief = self._befall_pairs(fault, pairs)
        else:
            relief = self._befall_node(fault, there[fault.nodes[0]])

        def relieve() -> None:
            relief()
            for what in touched:
                swarm.calm.relieve(what)

        self._active[fault.number] = relieve
        if fault.seconds < inf:
            swarm.net.clock.callLater(fault.seconds, self._relieve, fault.number)

    def _relieve(self, number: int) -> None:
        relieve = self._active.pop(number, None)
        if relieve is not None:
            relieve()

    def _befall_pairs(
        self, fault: Fault, pairs: list[tuple[Speaker, Speaker]]
    ) -> Callable[[], None]:
        nodes = [(one.node, other.node) for one, other in pairs]
        net, one_way = self._swarm.net, fault.one_way
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
            case kind if fault.step:
                seconds = fault.value
                spoiled = [
                    net.spoil(one, other, kind, fault.step, seconds=seconds)
                    for one, other in nodes
                ]
                # So that they shake hands anew.
                for one, other in nodes:
                    net.break_links(one, other)

                def shake_hands_again() -> None:
                    for take_back in spoiled:
                        take_back()

                return shake_hands_again
        for one, other in nodes:
            net.cut(one, other, one_way=one_way)

        def heal() -> None:
            for one, other in nodes:
                net.heal(one, other, one_way=one_way)

        return heal

    def _befall_node(self, fault: Fault, who: Speaker) -> Callable[[], None]:
        node, net = who.node, self._swarm.net
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
            case "crash" | "power off":
                who.alive, who.over = False, True
                (net.crash if fault.kind == "crash" else net.power_off)(node)
                return lambda: self._swarm.restart(who, fault)
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
                listeners = [each for each in self._swarm.living() if each is not who]
                for each in listeners:
                    each.floods += 1
                for _ in range(int(fault.value)):
                    who.say()

                def ebb() -> None:
                    for each in listeners:
                        each.floods -= 1

                return ebb
            case "dial":
                other = self._swarm.speakers.get(int(fault.value))
                if other is not None:
                    target = f"{other.place.host}:{other.place.port}"
                    node.connect(target).addErrback(lambda why: why.trap(MeshError))
                return lambda: None
            case "leave":
                self._swarm.leave(who)
                return lambda: self._swarm.restart(who, fault)
        raise ValueError(fault.kind)


def _is_spared(who: Speaker, fault: Fault) -> bool:
    """Whether a fault cannot befall a node now."""
    if fault.kind in ("refuse", "swallow", "slow reader"):
        # The machine or its port suffers, whoever runs there.
        return False
    ends = fault.kind in ("crash", "power off")
    return not who.alive or (who.machine.frozen and not ends)
