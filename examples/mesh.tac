"""A node as a Twisted application.

twistd -n --pidfile= -y examples/mesh.tac
"""

from __future__ import annotations

from twisted.application.service import Application

from meshproto import ChatReceived, Event, MeshNode, MeshService, NodeConfig


def answer(event: Event) -> None:
    if isinstance(event, ChatReceived) and event.text == "who is there?":
        node.broadcast(", ".join(peer.name for peer in node.peers()))


node = MeshNode(NodeConfig(port=8001, name="alice"))
node.subscribe(answer)

application = Application("mesh")
MeshService(node).setServiceParent(application)
