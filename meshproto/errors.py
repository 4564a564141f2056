"""Everything that can go wrong, as one tree.

::

    MeshError
    ├── LocalProtocolError     what we were asked to send has no form on the wire
    ├── RemoteProtocolError    what a peer sent breaks the wire's rules
    ├── AddressError           a text is not an address
    ├── ConfigError            a setting is out of its range
    ├── NotRunning             the node is not started, or stopped already
    ├── WrongLoop              the asyncio loop that runs is not the reactor's
    ├── UnknownPeer            no link to a peer of that ID
    │   └── AmbiguousPeer      several peers have that ID
    └── ConnectError           a dial that did not become a link
        ├── DialFailed         the network said no
        ├── HandshakeTimeout   the far side did not answer in time
        ├── HandshakeFailed    the far side closed, or does not speak our wire
        ├── HandshakeRejected  the far side answered DUPLICATE or MAX_PEERS
        ├── SelfConnection     the address is the node's own
        └── MeshFull           our own seats are all taken

The caller's mistakes reach the caller.  A peer's mistakes
(`RemoteProtocolError`) close that peer's link, become an event and go no
further.
"""

from __future__ import annotations

from meshproto.wire.address import Target
from meshproto.wire.errors import (
    AddressError,
    LocalProtocolError,
    MeshError,
    RemoteProtocolError,
)

__all__ = [
    "AddressError",
    "AmbiguousPeer",
    "ConfigError",
    "ConnectError",
    "DialFailed",
    "HandshakeFailed",
    "HandshakeRejected",
    "HandshakeTimeout",
    "LocalProtocolError",
    "MeshError",
    "MeshFull",
    "NotRunning",
    "RemoteProtocolError",
    "SelfConnection",
    "UnknownPeer",
    "WrongLoop",
]


class ConfigError(MeshError, ValueError):
    """A setting is out of its range.

    ``setting`` is the name of the `NodeConfig` field.
    """

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"{setting}: {problem}")
        self.setting = setting
        self.problem = problem


class NotRunning(MeshError):
    """The call needs a node that has been started and not yet stopped."""


class WrongLoop(MeshError):
    """The asyncio loop that runs is not the reactor's, and the reactor does not run.

    Nothing would ever happen to the node; the message says how to run it.
    """


class UnknownPeer(MeshError, LookupError):
    """There is no link to a peer of that ID."""


class AmbiguousPeer(UnknownPeer):
    """Several peers have that ID; pass one of `MeshNode.peers()`."""


class ConnectError(MeshError):
    """A dial did not become a link.

    ``target`` is the address that was dialled, ``reason`` a short text for
    people.
    """

    def __init__(self, target: Target, reason: str) -> None:
        super().__init__(f"{target}: {reason}")
        self.target = target
        self.reason = reason


class DialFailed(ConnectError):
    """No TCP connection came about: refused, unreachable, unresolved, timed out."""


class HandshakeTimeout(ConnectError):
    """The far side took the connection but did not answer the handshake in time."""


class HandshakeFailed(ConnectError):
    """The far side closed before it answered, or answered something else."""


class HandshakeRejected(ConnectError):
    """The far side answered with a refusal, ``DUPLICATE`` or ``MAX_PEERS``."""


class SelfConnection(ConnectError):
    """The address leads back to this very node."""


class MeshFull(ConnectError):
    """This node has no seat left for another peer."""
