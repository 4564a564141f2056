"""Connect to a node, say hello, leave.

python examples/hello.py HOST:PORT
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.task import react

from meshproto import MeshNode, NodeConfig


async def main(reactor: Any, address: str) -> None:
    node = MeshNode(NodeConfig(port=0, name="hello"), reactor=reactor)
    await node.start()
    peer = await node.connect(address)
    node.broadcast(f"Hello, {peer.name}!")
    await node.stop()


if __name__ == "__main__":
    react(main, sys.argv[1:])
