"""What tells one peer from another.

Keys are made here, and nobody else compares hosts and IDs.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from meshproto.wire.messages import Greeting, Hello, Incarnation


@dataclass(frozen=True, slots=True)
class PeerKey:
    """One peer.  Opaque: equal to the key of the same peer, and hashable."""

    _marks: tuple[str | Incarnation, ...]


def key_of(hello: Hello, *, proven: bool) -> PeerKey:
    """The key of a peer that speaks ``mesh/2``.

    Where identities are proven the key is the identity, so a peer keeps its key
    when it starts anew.  Where they are only claimed, two incarnations of one
    identity are two peers.
    """
    if proven:
        return PeerKey((hello.identity,))
    return PeerKey((hello.identity, hello.incarnation))


def key_of_greeting(greeting: Greeting, host: str) -> PeerKey:
    """The key of a peer that speaks only ``mesh/1``: its ID and its host.

    ``host`` is one value for all addresses of this machine.
    """
    return PeerKey((host, greeting.id))


@dataclass(frozen=True, slots=True)
class Looks:
    """By what one node may be taken for another that has been started anew."""

    identity: str
    id: str
    host: str

    def marks(self) -> tuple[Hashable, ...]:
        """Values of which two lives of one node have one in common."""
        return (self.identity, self.host), (self.id, self.host)
