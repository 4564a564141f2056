"""A web application with a mesh added.

python examples/webapp.py HTTP_PORT MESH_PORT [HOST:PORT ...]

    curl localhost:8080/peers
    curl --data 'text=Hello network!' localhost:8080/say
"""

from __future__ import annotations

import json
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.task import react
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from meshproto import IMesh, LocalProtocolError, MeshNode, NodeConfig


class Home(Resource):
    """The application as it was before; it knows nothing of the mesh."""

    def render_GET(self, request: Request) -> bytes:
        return b"Welcome.\n"


class Peers(Resource):
    """``GET /peers``: who is connected."""

    def __init__(self, node: IMesh) -> None:
        super().__init__()
        self._node = node

    def render_GET(self, request: Request) -> bytes:
        peers = self._node.peers()
        return _json(request, [{"name": p.name, "where": p.where} for p in peers])


class Say(Resource):
    """``POST /say``: send ``text`` to every peer."""

    def __init__(self, node: IMesh) -> None:
        super().__init__()
        self._node = node

    def render_POST(self, request: Request) -> bytes:
        text = request.args.get(b"text", [b""])[0].decode("utf-8", "replace")
        try:
            delivery = self._node.broadcast(text)
        except LocalProtocolError as error:
            request.setResponseCode(400)
            return _json(request, {"error": str(error)})
        return _json(request, {"handed_to": [peer.name for peer in delivery.peers]})


def _json(request: Request, value: object) -> bytes:
    request.setHeader(b"content-type", b"application/json")
    return json.dumps(value).encode() + b"\n"


async def main(reactor: Any, http_port: str, port: str, *addresses: str) -> None:
    root = Resource()
    root.putChild(b"", Home())
    # The mesh: from here
    config = NodeConfig(port=int(port), name="web", bootstrap=addresses)
    node = MeshNode(config, reactor=reactor)
    root.putChild(b"peers", Peers(node))
    root.putChild(b"say", Say(node))
    await node.start()
    reactor.addSystemEventTrigger("before", "shutdown", node.stop)
    # to here.
    endpoint = TCP4ServerEndpoint(reactor, int(http_port), interface="127.0.0.1")
    listening = await endpoint.listen(Site(root))
    print("http port", listening.getHost().port, "mesh port", node.port, flush=True)
    await Deferred()


if __name__ == "__main__":
    react(main, sys.argv[1:])
