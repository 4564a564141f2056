"""An echo node: repeats to each peer what it says, until one says "bye".

python examples/events_async.py PORT [HOST:PORT ...]
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.task import react

from meshproto import (
    ChatReceived,
    MeshNode,
    NodeConfig,
    NodeStarted,
    PeerConnected,
    PeerDisconnected,
    UnknownPeer,
)


async def main(reactor: Any, port: str, *addresses: str) -> None:
    config = NodeConfig(port=int(port), name="echo", bootstrap=addresses)
    node = MeshNode(config, reactor=reactor)
    events = node.events()
    await node.start()
    async for event in events:
        match event:
            case NodeStarted(port=listening):
                print("listening on port", listening, flush=True)
            case PeerConnected(peer=peer):
                print("+", peer.name, flush=True)
            case PeerDisconnected(peer=peer, reason=reason):
                print("-", peer.name, f"({reason.value})", flush=True)
            case ChatReceived(text="bye"):
                await node.stop()
            case ChatReceived(peer=peer, text=text):
                try:
                    node.send(peer, f"you said: {text}")
                except UnknownPeer:
                    print(peer.name, "has gone", flush=True)


if __name__ == "__main__":
    react(main, sys.argv[1:])
