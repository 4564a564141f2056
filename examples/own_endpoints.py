"""Links over an endpoint of your own: here a UNIX socket besides the port.

python examples/own_endpoints.py PATH
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.endpoints import UNIXClientEndpoint, UNIXServerEndpoint
from twisted.internet.task import react

from meshproto import (
    EndpointTarget,
    MeshClientFactory,
    MeshNode,
    MeshServerFactory,
    NodeConfig,
    PeerConnected,
)


async def main(reactor: Any, path: str) -> None:
    alice = MeshNode(NodeConfig(port=0, id="alice"), reactor=reactor)
    bob = MeshNode(NodeConfig(port=0, id="bob"), reactor=reactor)
    await alice.start()
    await bob.start()
    events = bob.events()

    server = UNIXServerEndpoint(reactor, path)
    listening = await server.listen(MeshServerFactory(alice.host))

    client = UNIXClientEndpoint(reactor, path)
    await client.connect(MeshClientFactory(bob.host, EndpointTarget(f"unix:{path}")))

    async for event in events:
        if isinstance(event, PeerConnected):
            print("bob is linked to", event.peer.name)
            break

    await listening.stopListening()
    await bob.stop()
    await alice.stop()


if __name__ == "__main__":
    react(main, sys.argv[1:])
