"""Cuts a failing run down to what it takes to fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from meshproto.testing._plan import Fault
from meshproto.testing._swarm import Run, Swarm

#: Plays the seed with so many nodes and these faults.
Play = Callable[[int, tuple[int, ...]], Run]


@dataclass(frozen=True, slots=True)
class Shrunk:
    """The smallest run found that breaks the same rule; ``tried`` so many."""

    run: Run
    nodes: int
    faults: tuple[Fault, ...]
    tried: int

    @property
    def options(self) -> str:
        """The options of the command that plays it again."""
        numbers = ",".join(str(fault.number) for fault in self.faults)
        only = f"--only-faults {numbers or 'none'}"
        return f"--seeds {self.run.seed} --nodes {self.nodes} {only}"


@dataclass(slots=True)
class Shrinker:
    """Leaves out faults and nodes of one seed as long as one rule breaks."""

    seed: int
    rule: str
    tried: int = 0
    _known: dict[tuple[int, tuple[int, ...]], Run] = field(default_factory=dict)

    def shrink(self, nodes: int, faults: tuple[int, ...]) -> Shrunk:
        """Cut down a run that is known to break the rule."""
        while True:
            before = nodes, faults
            faults = self._fewer_faults(nodes, faults)
            nodes = self._fewer_nodes(nodes, faults)
            if (nodes, faults) == before:
                break
        plan = Swarm(self.seed, nodes=nodes, faults=faults).plan
        return Shrunk(self._play(nodes, faults), nodes, plan.faults, self.tried)

    def _fewer_faults(self, nodes: int, faults: tuple[int, ...]) -> tuple[int, ...]:
        """Leave out as much at once as possible: halves first, then single ones."""
        if self._breaks(nodes, ()):
            return ()
        size = max(1, len(faults) // 2)
        while faults:
            for start in range(0, len(faults), size):
                fewer = faults[:start] + faults[start + size :]
                if self._breaks(nodes, fewer):
                    faults = fewer
                    break
            else:
                if size == 1:
                    break
                size //= 2
        return faults

    def _fewer_nodes(self, nodes: int, faults: tuple[int, ...]) -> int:
        for fewer in range(2, nodes):
            if self._breaks(fewer, faults):
                return fewer
        return nodes

    def _breaks(self, nodes: int, faults: tuple[int, ...]) -> bool:
        return self._play(nodes, faults).rule == self.rule

    def _play(self, nodes: int, faults: tuple[int, ...]) -> Run:
        run = self._known.get((nodes, faults))
        if run is None:
            self.tried += 1
            run = Swarm(self.seed, nodes=nodes, faults=faults).run()
            self._known[nodes, faults] = run
        return run


def shrink(
    seed: int, *, nodes: int | None = None, faults: tuple[int, ...] | None = None
) -> Shrunk | None:
    """The smallest run of a seed that fails as it does; None when it does not."""
    swarm = Swarm(seed, nodes=nodes, faults=faults)
    run = swarm.run()
    if run.rule is None:
        return None
    numbers = tuple(fault.number for fault in swarm.plan.faults)
    return Shrinker(seed, run.rule).shrink(run.nodes, numbers)
