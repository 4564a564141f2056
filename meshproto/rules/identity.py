"""How peers are told apart.

Only this module makes keys and compares hosts and IDs.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from meshproto.wire.messages import Greeting, Hello, Incarnation


@dataclass(frozen=True, slots=True)
class PeerKey:
    """Identifies one peer.  Opaque and hashable; one peer's keys are equal."""

    _marks: tuple[str | Incarnation, ...]


def key_of(hello: Hello, *, proven: bool) -> PeerKey:
    """The key of a peer that speaks ``mesh/2``.

    Where identities are proven, the key is the identity, so a peer keeps its key
    when it restarts.  Where they are only claimed, each incarnation of an identity
    is a peer of its own.
    """
    if proven:
        return PeerKey((hello.identity,))
    return PeerKey((hello.identity, hello.incarnation))


def key_of_greeting(greeting: Greeting, host: str) -> PeerKey:
    """The key of a peer that speaks only ``mesh/1``: its ID and its host.

    ``host`` is the same value for all addresses of this machine.
    """
    return PeerKey((host, greeting.id))


@dataclass(frozen=True, slots=True)
class Looks:
    """What makes a restarted node look like a peer that we know."""

    identity: str
    id: str
    host: str

    def marks(self) -> tuple[Hashable, ...]:
        """Values of which two incarnations of one node share at least one."""
        return (self.identity, self.host), (self.id, self.host)
