"""An asyncio application with a node in it, on Twisted's asyncio reactor.

python examples/asyncio_app.py PORT [HOST:PORT ...]
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from twisted.internet import asyncioreactor
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from meshproto import ChatReceived, MeshNode, NodeConfig


async def application(reactor: Any, port: str, *addresses: str) -> None:
    """Everything in here is asyncio; say "bye" to it to end it."""
    loop = asyncio.get_running_loop()
    config = NodeConfig(port=int(port), name="asyncio", bootstrap=addresses)
    node = MeshNode(config, reactor=reactor)
    queue: asyncio.Queue[ChatReceived] = asyncio.Queue()
    node.subscribe(queue.put_nowait, ChatReceived)
    await node.start().asFuture(loop)
    print("listening on port", node.port, flush=True)
    try:
        while True:
            chat = await queue.get()
            if chat.text == "bye":
                break
            await asyncio.sleep(0.1)
            node.broadcast(f"{chat.peer.name} said: {chat.text}")
    finally:
        await node.stop().asFuture(loop)


if __name__ == "__main__":
    event_loop = asyncio.new_event_loop()
    asyncioreactor.install(event_loop)
    react(
        lambda reactor: Deferred.fromFuture(
            event_loop.create_task(application(reactor, *sys.argv[1:]))
        )
    )
