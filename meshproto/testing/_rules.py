"""What has to hold in every run, whatever happens, and at its end.

What each node has to tell of stands in `_speaker`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from meshproto.link.protocol import MeshProtocol
from meshproto.testing._speaker import Speaker
from meshproto.testing._tcp import Transport


class Violation(AssertionError):
    """A run broke a rule; ``rule`` is its short name."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(text)
        self.rule = rule


def broken_bound(speaker: Speaker, *, thorough: bool) -> str | None:
    """What has outgrown its bound at a node, if anything.

    The one place of the simulator that looks inside a node: most of its lists
    are nobody else's business.
    """
    node, config = speaker.node, speaker.node.config
    pending = node._admission.pending
    sizes: list[tuple[str, int, int]] = [
        ("peers", len(node._registry), config.max_peers),
        ("addresses", len(node._book), config.max_addresses),
        ("dials", len(node._dials), config.max_dials),
        ("SYNs", len(speaker.machine.dials), config.max_dials),
        ("handshakes", len(pending), config.max_pending),
    ]
    if thorough:
        told: dict[Any, int] = node._book._told
        sizes += [
            (f"addresses told by {peer}", count, config.max_addresses_per_peer)
            for peer, count in told.items()
        ]
        sizes += [
            (f"handshakes of {host}", count, config.max_pending_per_host)
            for host, count in pending._hosts.items()
            if host != "localhost"
        ]
        sizes += [
            (f"bytes for {entry.key}", link.queued(), config.send_queue_hard)
            for entry in node._registry.entries()
            for link in entry.links()
        ]
    for what, size, bound in sizes:
        if size > bound:
            return f"{speaker.name}: {size} {what}, allowed are {bound}"
    return None


# The one thing that no wire shows: a link that its node has given up sends what is
# queued before it closes.
def _is_kept(end: Transport) -> bool:
    link = end.protocol
    return end.settled and not (isinstance(link, MeshProtocol) and link._over)


def settled_beside(end: Transport) -> int:
    """How many links a node has to the far end of one of them, where it has that.

    Those count on which READY was said or heard, and that the node has not ended.
    """
    far = end.pipe.reader.machine
    ends = [each for each in end.machine.transports if each.pipe.reader.machine is far]
    return sum(map(_is_kept, ends)) if _is_kept(end) else 0


def is_whole(mesh: list[Speaker]) -> bool:
    """Whether everybody is linked to everybody, and to nobody else."""
    if any(len(who.connected) != len(mesh) - 1 for who in mesh):
        return False
    names = {who.name for who in mesh}
    return all({who.name, *who.connected.values()} == names for who in mesh)


def is_symmetric(mesh: list[Speaker]) -> bool:
    """Whether whoever is linked to somebody is so on both sides."""
    links = {who.name: set(who.connected.values()) for who in mesh}
    return all(
        who.name in links.get(other, ()) for who in mesh for other in links[who.name]
    )


def pairs_agree(mesh: list[Speaker], connections: int) -> bool:
    """Whether both sides of every pair have the same links, and nobody another.

    That is one for a pair that speaks mesh/2, and one or two for the others.
    """
    links = _links(mesh)
    counts = [
        _agreed(links, one, other)
        for number, one in enumerate(mesh)
        for other in mesh[:number]
    ]
    return all(counts) and sum(counts) == connections


def pairs(mesh: list[Speaker], connections: int) -> str:
    """The links of every node, for people."""
    return f"{connections} connections for the links {_links(mesh)}"


def _links(mesh: Iterable[Speaker]) -> dict[str, dict[str, int]]:
    """How many links each node has to each of its peers."""
    return {
        who.name: {
            entry.name: len(entry.links()) for entry in who.node._registry.entries()
        }
        for who in mesh
    }


def _agreed(links: dict[str, dict[str, int]], one: Speaker, other: Speaker) -> int:
    """How many links a pair has; 0 when that may not be, or one side differs."""
    count = links[one.name].get(other.name, 0)
    allowed = 1 if one.shares_mesh2_with(other) else 2
    agreed = links[other.name].get(one.name, 0) == count <= allowed
    return count if agreed else 0


def unheard(mesh: list[Speaker]) -> list[str]:
    """Who has not heard the last word of whom, payloads apart for mesh/1."""
    return [
        f"{who.name} has not heard {other.name}"
        for who in mesh
        for other in mesh
        if who is not other
        and who.heard.get(other.name, (0, 0.0))[0] < other.last_word_for(who)
    ]
