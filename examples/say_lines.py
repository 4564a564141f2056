"""Send every line of a file, however long, to a node and its peers.

python examples/say_lines.py HOST:PORT FILE
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.task import react

from meshproto import MeshNode, NodeConfig


async def main(reactor: Any, address: str, path: str) -> None:
    node = MeshNode(NodeConfig(port=0, name="reader"), reactor=reactor)
    await node.start()
    await node.connect(address)
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            if text := line.rstrip("\n"):
                node.broadcast(text)
                await node.drain()
    await node.stop()


if __name__ == "__main__":
    react(main, sys.argv[1:])
