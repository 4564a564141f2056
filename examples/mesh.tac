"""A node as a Twisted application.

twistd -n --pidfile= -y examples/mesh.tac
"""

from __future__ import annotations

from twisted.application.service import Application

from meshproto import ChatReceived, MeshNode, MeshService, NodeConfig


def answer(chat: ChatReceived) -> None:
    if chat.text == "who is there?":
        node.broadcast(", ".join(peer.name for peer in node.peers()))


node = MeshNode(NodeConfig(port=8001, name="alice"))
node.subscribe(answer, ChatReceived)

application = Application("mesh")
MeshService(node).setServiceParent(application)
