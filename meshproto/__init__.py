"""The peer mesh that you embed in Python.

Every node connects to every other node, finds new ones on its own, and
exchanges messages with all of them::

    from twisted.internet.task import react

    from meshproto import MeshNode, NodeConfig

    async def main(reactor):
        node = MeshNode(NodeConfig(port=8001, name="alice"), reactor=reactor)
        node.subscribe(print)                    # typed, frozen events
        await node.start()                       # fires when the port listens
        await node.connect("localhost:8000")     # fires when that peer said hello
        node.broadcast("Hello network!")         # to every peer
        await node.stop()                        # fires when every link is closed

    react(main)

Names are imported on first use, so a program that needs only the values
(`PeerAddress`, the events, the codec) does not import Twisted.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meshproto.config import NodeConfig
    from meshproto.errors import (
        AddressError,
        AmbiguousPeer,
        ConfigError,
        ConnectError,
        DialFailed,
        HandshakeFailed,
        HandshakeRejected,
        HandshakeTimeout,
        LocalProtocolError,
        MeshError,
        MeshFull,
        NotRunning,
        RemoteProtocolError,
        SelfConnection,
        UnknownPeer,
        WrongLoop,
    )
    from meshproto.events import (
        BootstrapFailed,
        BootstrapSucceeded,
        ChatReceived,
        ChatsReceived,
        CloseReason,
        ConnectionFailed,
        DataReceived,
        DebugEvent,
        Delivery,
        DialAttemptFailed,
        Direction,
        Event,
        KnownAddress,
        NodeError,
        NodeStarted,
        Peer,
        PeerConnected,
        PeerDisconnected,
        PeerListReceived,
        PeerReaped,
        PeerRefused,
        PeerRequestReceived,
        PeerRequestSent,
        PeersDiscovered,
        PeerThrottled,
        PingReceived,
        PingSent,
        PongReceived,
        Throttled,
    )
    from meshproto.interfaces import IMesh
    from meshproto.link.factory import MeshClientFactory, MeshServerFactory
    from meshproto.link.protocol import MeshProtocol
    from meshproto.mesh.node import MeshNode
    from meshproto.run.service import MeshService
    from meshproto.wire.address import EndpointTarget, PeerAddress

__all__ = [
    "AddressError",
    "AmbiguousPeer",
    "BootstrapFailed",
    "BootstrapSucceeded",
    "ChatReceived",
    "ChatsReceived",
    "CloseReason",
    "ConfigError",
    "ConnectError",
    "ConnectionFailed",
    "DataReceived",
    "DebugEvent",
    "Delivery",
    "DialAttemptFailed",
    "DialFailed",
    "Direction",
    "EndpointTarget",
    "Event",
    "HandshakeFailed",
    "HandshakeRejected",
    "HandshakeTimeout",
    "IMesh",
    "KnownAddress",
    "LocalProtocolError",
    "MeshClientFactory",
    "MeshError",
    "MeshFull",
    "MeshNode",
    "MeshProtocol",
    "MeshServerFactory",
    "MeshService",
    "NodeConfig",
    "NodeError",
    "NodeStarted",
    "NotRunning",
    "Peer",
    "PeerAddress",
    "PeerConnected",
    "PeerDisconnected",
    "PeerListReceived",
    "PeerReaped",
    "PeerRefused",
    "PeerRequestReceived",
    "PeerRequestSent",
    "PeerThrottled",
    "PeersDiscovered",
    "PingReceived",
    "PingSent",
    "PongReceived",
    "RemoteProtocolError",
    "SelfConnection",
    "Throttled",
    "UnknownPeer",
    "WrongLoop",
]

# Lowest layer first, so that looking up a value does not import Twisted.
_HOMES = (
    "errors",
    "wire.address",
    "events",
    "config",
    "interfaces",
    "link.protocol",
    "link.factory",
    "mesh.node",
    "run.service",
)


def __getattr__(name: str) -> Any:
    if name in __all__:
        for home in _HOMES:
            module = import_module(f"{__name__}.{home}")
            if name in vars(module):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
