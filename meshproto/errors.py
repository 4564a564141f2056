"""Every error that meshproto raises, as one tree.

::

    MeshError
    ├── LocalProtocolError     the wire cannot carry what we were asked to send
    ├── RemoteProtocolError    a peer broke the rules of the wire
    ├── AddressError           a text is not an address
    ├── ConfigError            a setting is invalid
    ├── NotRunning             the node has not started, or has stopped
    ├── WrongLoop              the running asyncio loop is not the reactor's
    ├── UnknownPeer            no connected peer has that ID
    │   └── AmbiguousPeer      several peers have that ID
    └── ConnectError           a dial did not become a link
        ├── DialFailed         no connection could be made
        ├── HandshakeTimeout   the far side did not answer in time
        ├── HandshakeFailed    the far side closed, or does not speak our wire
        ├── HandshakeRejected  the far side refused us
        ├── SelfConnection     the address leads back to this node
        └── MeshFull           this node has no seat left

The caller's mistakes reach the caller.  A peer's mistakes
(`RemoteProtocolError`) close its link and become an event, nothing more.
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
    """A setting is invalid.

    ``setting`` is the name of the `NodeConfig` field, ``problem`` what is wrong
    with it.
    """

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"{setting}: {problem}")
        self.setting = setting
        self.problem = problem


class NotRunning(MeshError):
    """The call needs a running node: started, and not yet stopped."""


class WrongLoop(MeshError):
    """The running asyncio loop is not the reactor's, and the reactor is not running.

    The node would never do anything; the message says how to run it.
    """


class UnknownPeer(MeshError, LookupError):
    """No connected peer has that ID."""


class AmbiguousPeer(UnknownPeer):
    """Several peers have that ID; pass one of `MeshNode.peers()`."""


class ConnectError(MeshError):
    """A dial did not become a link.

    ``target`` is the address dialled, ``reason`` a short text for people.
    """

    def __init__(self, target: Target, reason: str) -> None:
        super().__init__(f"{target}: {reason}")
        self.target = target
        self.reason = reason


class DialFailed(ConnectError):
    """No connection could be made: refused, unreachable, unresolved or timed out."""


class HandshakeTimeout(ConnectError):
    """The far side accepted the connection but did not finish the handshake in time."""


class HandshakeFailed(ConnectError):
    """The far side closed the connection unanswered, or does not speak our wire."""


class HandshakeRejected(ConnectError):
    """The far side refused us: it is full, say, or has a link to us already."""


class SelfConnection(ConnectError):
    """The address leads back to this node."""


class MeshFull(ConnectError):
    """This node has no seat left for another peer."""
